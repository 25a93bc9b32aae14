"""Where a ledger in PostgreSQL is, and how that may be shown: without its password. Loads no driver."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from milepost.errors import ConfigurationError

__all__ = ["DEFAULT_SCHEMA", "Address", "hide_password", "is_postgres"]

DEFAULT_SCHEMA: Final = "milepost"
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")

# Up to the last "@": a password with an unescaped "/", "#" or "@" in it must not be shown either.
_USER_INFO: Final = re.compile(r"^(?P<before>\w+://[^:@/?#]*):(?P<password>.*)@(?=[^@]*$)", re.DOTALL)
_OPTION: Final = re.compile(r"(?P<before>[?&](?:ssl)?password=)(?P<password>[^&]*)", re.IGNORECASE)


def is_postgres(url: str) -> bool:
    """Return whether a URL leads to PostgreSQL."""
    return url.startswith(("postgresql://", "postgres://"))


def hide_password(url: str) -> str:
    """Return a URL as it may be printed.

    Example:
        >>> hide_password("postgresql://ada:secret@db/work?sslpassword=other")
        'postgresql://ada:***@db/work?sslpassword=***'
    """
    return _OPTION.sub(r"\g<before>***", _USER_INFO.sub(r"\g<before>:***@", url))


class Address:
    """Where a ledger is: what the driver connects to, and the schema in it.

    Attributes:
        conninfo: What the driver takes, with the password.
        schema: The schema that holds the ledger's tables.
        url: The address as it may be printed.

    Args:
        url: ``postgresql://user@host/database``, with ``?schema=name`` for another schema than ``milepost``.

    Raises:
        ConfigurationError: It is not a URL, or the schema's name breaks the rule.
    """

    def __init__(self, url: str) -> None:
        """Take the schema out of the URL."""
        self.url = hide_password(url)
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise ConfigurationError(
                f"{self.url!r} is not a URL ({error}). Write postgresql://user@host/database; characters such as "
                "'@', '/' and '[' in a password are escaped: %40, %2F, %5B."
            ) from None
        # As they stand: in the driver's own URLs a "+" is a plus and "%20" a space.
        options = [part.partition("=") for part in parts.query.split("&") if part]
        self.schema = next((value for name, _, value in options if name == "schema"), DEFAULT_SCHEMA)
        if _SCHEMA.fullmatch(self.schema) is None:
            message = f"{self.schema!r} is not a schema's name. Use lower-case letters, digits and '_'."
            raise ConfigurationError(message)
        query = "&".join("".join(option) for option in options if option[0] != "schema")
        self.conninfo = urlunsplit(parts._replace(query=query))
        found = [match["password"] for pattern in (_USER_INFO, _OPTION) for match in pattern.finditer(url)]
        self._secrets = {form for text in found if text for form in (text, unquote(text))}

    def scrub(self, text: str) -> str:
        """Return what a driver or a server said, without the password."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text
