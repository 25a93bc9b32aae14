"""Names that people choose, and the rule they keep to."""

from __future__ import annotations

import re
from typing import Final

from milepost.errors import ConfigurationError

__all__ = ["DEFAULT_QUEUE", "check_event", "check_name"]

DEFAULT_QUEUE: Final = "default"

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,62}")


def check_name(kind: str, name: object) -> str:
    """Return the name of a queue, worker or schedule, or raise where it breaks the rule.

    Raises:
        ConfigurationError: It is not 1 to 63 letters, digits, ``_`` and ``-``, or begins with a digit or ``-``.

    Example:
        >>> check_name("queue", "mail-out")
        'mail-out'
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        message = (
            f"{name!r} is not a {kind} name. Use 1 to 63 letters, digits, '_' or '-', beginning with a letter or '_'."
        )
        raise ConfigurationError(message)
    return name


def check_event(name: object) -> str:
    """Return the name of an event, or raise where it breaks the rule.

    Raises:
        ConfigurationError: It is not a text of 1 to 255 characters without control characters.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= 255 or not name.isprintable() or not name.strip():
        message = f"{name!r} is not an event name. Use 1 to 255 printable characters, such as 'order-42-paid'."
        raise ConfigurationError(message)
    return name
