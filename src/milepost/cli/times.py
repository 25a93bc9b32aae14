"""Spans and moments as people type them and as they like to read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from milepost.clock import to_datetime
from milepost.draw.looks import duration_text
from milepost.errors import ConfigurationError

__all__ = ["ago_text", "iso", "parse_moment", "parse_seconds", "parse_since", "parse_span", "tick_text"]

_UNITS: Final = {
    "s": "seconds",
    "sec": "seconds",
    "m": "minutes",
    "min": "minutes",
    "h": "hours",
    "d": "days",
    "w": "weeks",
}
_LONGEST: Final = 1e10  # seconds: some three centuries
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


def parse_span(text: str, option: str) -> timedelta:
    """Return the span that a text such as ``30d`` or ``1h30m`` means.

    Raises:
        ConfigurationError: It means none.

    Example:
        >>> parse_span("1h30m", "--since")
        datetime.timedelta(seconds=5400)
    """
    rest, total = text.strip().lower(), timedelta()
    if not rest:
        raise _not_a_span(text, option)
    while rest:
        part = _PART.match(rest)
        if part is None or part[2] not in _UNITS:
            raise _not_a_span(text, option)
        try:
            total += timedelta(**{_UNITS[part[2]]: float(part[1])})
        except OverflowError:
            raise ConfigurationError(f"{option} {text!r} is longer than time itself. Use less.") from None
        rest = rest[part.end() :]
    return total


def parse_seconds(text: str, option: str) -> float:
    """Return the seconds that a number of seconds or a span such as ``30s`` or ``1h30m`` means.

    Raises:
        ConfigurationError: It means none, or less than nothing.

    Example:
        >>> parse_seconds("1.5", "--delay"), parse_seconds("2m", "--delay")
        (1.5, 120.0)
    """
    try:
        seconds = float(text)
    except ValueError:
        return parse_span(text, option).total_seconds()
    if not 0 <= seconds < _LONGEST:
        raise ConfigurationError(f"{option} must be 0 or more seconds, or a span such as 30s or 2h, not {text!r}.")
    return seconds


def parse_since(text: str) -> datetime | timedelta:
    """Return the moment or the span that ``--since`` means: ``2h``, ``3d``, or an ISO date or time.

    A time without a zone is local time.

    Raises:
        ConfigurationError: It means neither.

    Example:
        >>> parse_since("2026-05-01T12:00:00+00:00").isoformat()
        '2026-05-01T12:00:00+00:00'
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        pass
    else:
        try:
            return moment.astimezone(UTC)
        except (OverflowError, OSError) as error:
            raise ConfigurationError(f"--since {text!r} is out of range. Use a later date.") from error
    try:
        return parse_span(text, "--since")
    except ConfigurationError as error:
        if "longer" in str(error):
            raise
        raise ConfigurationError(
            f"--since must be a span such as 30m, 2h or 3d, or a date such as 2026-05-31, not {text!r}."
        ) from None


def parse_moment(text: str, option: str, zone: tzinfo) -> datetime:
    """Return the moment that an ISO date or time means; without an offset of its own it is in the zone.

    Raises:
        ConfigurationError: It means none.

    Example:
        >>> parse_moment("2026-05-01", "--start", UTC).isoformat()
        '2026-05-01T00:00:00+00:00'
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigurationError(
            f"{option} must be a date or a time such as 2026-05-31 or 2026-05-31T02:30, not {text!r}."
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)


def tick_text(moment: datetime) -> str:
    """Return a tick as people of its time zone read it; seconds only where there are some.

    Example:
        >>> tick_text(datetime(2026, 5, 1, 2, 30, tzinfo=UTC))
        '2026-05-01 02:30 UTC'
    """
    clock = f"{moment:%H:%M:%S}" if moment.second or moment.microsecond else f"{moment:%H:%M}"
    zone = f"{moment:%z}"
    return f"{moment:%Y-%m-%d} {clock} {'UTC' if zone == '+0000' else f'{zone[:3]}:{zone[3:5]}'}"


def iso(micros: int | None) -> str | None:
    """Return ledger time as ISO 8601 text in UTC, to the microsecond; None stays None.

    Example:
        >>> iso(1_500_000)
        '1970-01-01T00:00:01.500000+00:00'
    """
    return None if micros is None else to_datetime(micros).isoformat(timespec="microseconds")


def ago_text(micros: int, now: int) -> str:
    """Return how long ago a moment was, or the moment itself when that says more.

    Example:
        >>> ago_text(0, 90_000_000)
        '1 min ago'
    """
    seconds = (now - micros) / 1e6
    if seconds < 0 or seconds >= 7 * 86400:
        return f"{to_datetime(micros).astimezone():%Y-%m-%d %H:%M}"
    if seconds < 1:
        return "just now"
    if seconds < 60:
        return f"{int(seconds)} s ago"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 86400:
        return duration_text(seconds) + " ago"
    return f"{int(seconds // 86400)} d ago"


def _not_a_span(text: str, option: str) -> ConfigurationError:
    return ConfigurationError(f"{option} must be a span such as 45s, 30m, 2h, 30d or 1h30m, not {text!r}.")
