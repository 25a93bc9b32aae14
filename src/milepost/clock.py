"""Time as a value that is handed in, so that tests decide what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["FOR_EVER", "Clock", "SystemClock", "to_datetime", "to_micros"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FOR_EVER = (datetime(9000, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
"""A lease that does not run out, as a time that can be shown."""


class Clock(Protocol):
    """Where the engine's drivers and the ledger get the time from."""

    def now(self) -> int:
        """Return the wall-clock time in microseconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never run backwards."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        """Return the wall-clock time in microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never run backwards."""
        return time.monotonic()


def to_datetime(micros: int) -> datetime:
    """Turn ledger time (microseconds since 1970) into an aware UTC datetime.

    Example:
        >>> to_datetime(1_500_000).isoformat()
        '1970-01-01T00:00:01.500000+00:00'
    """
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(moment: datetime) -> int:
    """Turn an aware datetime into ledger time (microseconds since 1970).

    Raises:
        ValueError: The datetime is naive, so nobody can say which moment it means.
    """
    if moment.tzinfo is None:
        message = f"{moment!r} has no time zone. Pass an aware datetime, such as datetime.now(UTC)."
        raise ValueError(message)
    return (moment - _EPOCH) // timedelta(microseconds=1)
