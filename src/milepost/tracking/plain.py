"""Values as plain JSON, which is what this face stores and gives back; and arguments that are checked."""

from __future__ import annotations

import enum
import math
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from milepost.clock import to_datetime, to_micros
from milepost.errors import ConfigurationError, ValueNotStorable
from milepost.tracking.ids import REQUIRED
from milepost.values import decode_plain, encode

__all__ = ["aware", "iso_now", "load", "moment", "name_of", "plain", "seconds", "store", "whole"]

_REMEDY: Final = "Give it plain JSON: texts, numbers, true, false, None, lists and dicts with text keys."
_LONGEST: Final = 10**11  # seconds: what it leads to still has a date


def plain(value: Any, name: str, path: str = "$") -> Any:
    """Return a value as plain JSON: UUIDs, moments, decimals and enums as texts or what they stand for.

    Raises:
        TypeError: The argument is left out.
        ValueNotStorable: A part of it has no place in JSON; the error names the path.

    Example:
        >>> plain({"id": uuid.UUID(int=1), "at": (1, 2)}, "params")
        {'id': '00000000-0000-0000-0000-000000000001', 'at': [1, 2]}
    """
    if value is REQUIRED:
        raise TypeError(f"the argument {name}= is missing")
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        if math.isfinite(value):
            return value
        raise _refused(value, name, path, "JSON has no NaN and no infinity")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise _refused(value, name, path, f"its key {key!r} is no text, and would come back as one")
        return {str(key): plain(part, name, f"{path}.{key}") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part, name, f"{path}[{place}]") for place, part in enumerate(value)]
    if isinstance(value, enum.Enum):
        return plain(value.value, name, path)
    if isinstance(value, datetime):
        return aware(value).isoformat()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (uuid.UUID, Decimal)):
        return str(value)
    if isinstance(value, (bool, int, str)):  # a subclass of one
        return kind.__mro__[-2](value)
    raise _refused(value, name, path, None)


def _refused(value: Any, name: str, path: str, reason: str | None) -> ValueNotStorable:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return ValueNotStorable(kind, f"{name}{path[1:]}", reason, remedy=_REMEDY)


def store(value: Any, name: str) -> str:
    """Return a value as the ledger's text."""
    try:
        return encode(plain(value, name))
    except RecursionError as error:
        raise _refused(value, name, "$", "it is nested too deep, or holds itself") from error


def load(text: str | None) -> Any:
    """Return a stored value as plain JSON, None where there is none."""
    return None if text is None else decode_plain(text)


# --- moments -------------------------------------------------------------------------------------


def aware(value: datetime) -> datetime:
    """Return a moment in UTC; one without a time zone is the local time of this process."""
    return value.astimezone(UTC)


def moment(value: Any, name: str) -> int | None:
    """Return a moment in ledger time, None where none is given.

    Raises:
        ConfigurationError: It is no datetime.
    """
    if value is None:
        return None
    if value is REQUIRED:
        raise TypeError(f"the argument {name}= is missing")
    if not isinstance(value, datetime):
        raise ConfigurationError(f"{name} must be a datetime, not {value!r}.")
    try:
        return to_micros(aware(value))
    except (OverflowError, ValueError, OSError) as error:
        raise ConfigurationError(f"{name} must be a moment that this machine can tell, not {value!r}.") from error


def iso_now(now: int) -> str:
    """Return ledger time as ISO text."""
    return to_datetime(now).isoformat()


# --- numbers and names ---------------------------------------------------------------------------


def seconds(value: Any, name: str, *, at_least: float = 0) -> int:
    """Return a duration in microseconds.

    Raises:
        ConfigurationError: It is no number of seconds, or less than it may be.
    """
    if value is REQUIRED:
        raise TypeError(f"the argument {name}= is missing")
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not at_least <= value < _LONGEST:
        raise ConfigurationError(f"{name} must be a number of seconds, {at_least:g} or more, not {value!r}.")
    return int(value * 1_000_000)


def whole(value: Any, name: str, *, at_least: int = 1) -> int:
    """Return a whole number.

    Raises:
        ConfigurationError: It is none, or less than it may be.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value < 2**31:
        raise ConfigurationError(f"{name} must be a whole number of {at_least} or more, not {value!r}.")
    return value


def name_of(value: Any, name: str) -> str:
    """Return a task's or step's name.

    Raises:
        ConfigurationError: It is no printable text of 1 to 255 characters.
    """
    if value is REQUIRED:
        raise TypeError(f"the argument {name}= is missing")
    if not isinstance(value, str) or not 1 <= len(value) <= 255 or not value.isprintable() or not value.strip():
        raise ConfigurationError(f"{name} must be 1 to 255 printable characters, not all blank, not {value!r}.")
    return value
