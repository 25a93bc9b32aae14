"""Durations and moments as workflow files write them: ISO 8601, and the older forms that are still read."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

__all__ = ["Duration", "Span", "WaitFor", "duration_text", "parse_duration", "parse_wait"]

_ISO: Final = re.compile(
    r"(?P<sign>[-+]?)P(?=\d|T\d)(?:(?P<years>\d+)Y)?(?:(?P<months>\d+)M)?(?:(?P<weeks>\d+(?:\.\d+)?)W)?"
    r"(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_CLOCK: Final = re.compile(r"(?P<hours>\d+):(?P<minutes>[0-5]?\d):(?P<seconds>[0-5]?\d(?:\.\d+)?)")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")
_DAYS: Final = {"years": 365, "months": 30, "weeks": 7, "days": 1}


class Duration:
    """Makes timedeltas in the words of the builder.

    Example:
        >>> Duration.minutes(5)
        datetime.timedelta(seconds=300)
    """

    @staticmethod
    def seconds(n: float) -> timedelta:
        """Return so many seconds."""
        return timedelta(seconds=n)

    @staticmethod
    def minutes(n: float) -> timedelta:
        """Return so many minutes."""
        return timedelta(minutes=n)

    @staticmethod
    def hours(n: float) -> timedelta:
        """Return so many hours."""
        return timedelta(hours=n)

    @staticmethod
    def days(n: float) -> timedelta:
        """Return so many days."""
        return timedelta(days=n)

    @staticmethod
    def weeks(n: float) -> timedelta:
        """Return so many weeks."""
        return timedelta(weeks=n)


def duration_text(span: timedelta) -> str:
    """Return a duration in ISO 8601; a year is 365 days.

    Example:
        >>> duration_text(timedelta(days=400)), duration_text(timedelta(hours=25)), duration_text(timedelta(seconds=-5))
        ('P1Y35D', 'P1DT1H', '-PT5S')
    """
    sign = "-" if span < timedelta(0) else ""
    span = abs(span)
    years, days = divmod(span.days, 365)
    hours, rest = divmod(span.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    day = (f"{years}Y" if years else "") + (f"{days}D" if days else "")
    fraction = f".{span.microseconds:06d}".rstrip("0") if span.microseconds else ""
    clock = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    clock += f"{seconds}{fraction}S" if seconds or fraction else ""
    if not day and not clock:
        clock = "0S"
    return f"{sign}P{day}" + (f"T{clock}" if clock else "")


def parse_duration(value: Any) -> timedelta:
    """Return a duration from ISO 8601 text, ``HH:MM:SS``, or a number of seconds.

    Raises:
        ValueError: The text is none of these, whole and to its end.

    Example:
        >>> parse_duration("P1DT1H"), parse_duration(90), parse_duration("00:01:30")
        (datetime.timedelta(days=1, seconds=3600), datetime.timedelta(seconds=90), datetime.timedelta(seconds=90))
    """
    if isinstance(value, timedelta):
        return value
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return timedelta(seconds=value)
        if isinstance(value, str):
            found = _parse_text(value.removeprefix("duration:") if value.startswith("duration:") else value)
            if found is not None:
                return found
    except OverflowError:
        raise ValueError(f"{value!r} is longer than a duration can be (999,999,999 days)") from None
    raise ValueError(f"{value!r} is no duration. Write ISO 8601, such as PT30S, PT1H30M or P1D, or a number of seconds")


def _parse_text(text: str) -> timedelta | None:
    if _NUMBER.fullmatch(text):
        return timedelta(seconds=float(text))
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        return timedelta(**{unit: float(part) for unit, part in clock.groupdict().items()})
    iso = _ISO.fullmatch(text)
    if iso is None:
        return None
    parts = {unit: part for unit, part in iso.groupdict().items() if part and unit != "sign"}
    days = sum((float(part) if "." in part else int(part)) * _DAYS[u] for u, part in parts.items() if u in _DAYS)
    clocked = {unit: float(part) for unit, part in parts.items() if unit not in _DAYS}
    span = timedelta(days=days, **clocked)
    return -span if iso["sign"] == "-" else span


def parse_wait(value: Any) -> timedelta | datetime:
    """Return what a wait waits for: a duration, or a moment (naive: the process's local time).

    Raises:
        ValueError: It can be read as neither.

    Example:
        >>> parse_wait("P8D"), parse_wait("2026-01-01")
        (datetime.timedelta(days=8), datetime.datetime(2026, 1, 1, 0, 0))
    """
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - a date in a file is local time, as written
    if isinstance(value, str):
        text = value.removeprefix("datetime:")
        if text[:4].isdigit() and text[4:5] == "-":
            try:
                return datetime.fromisoformat(text)
            except ValueError:
                raise ValueError(f"{value!r} is no ISO 8601 moment. Write 2026-01-31T12:00:00Z") from None
    return parse_duration(value)


def wait_text(value: timedelta | datetime) -> str:
    """Return what a file holds for a wait."""
    if isinstance(value, timedelta):
        return duration_text(value)
    return moment_text(value)


def moment_text(value: datetime) -> str:
    """Return a moment in ISO 8601: naive without an offset, UTC with ``Z``."""
    return value.isoformat().replace("+00:00", "Z")


Span = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(duration_text, return_type=str),
    WithJsonSchema(
        {
            "description": "ISO 8601 (PT30S), HH:MM:SS, or seconds",
            "anyOf": [{"type": "string"}, {"type": "number"}],
        }
    ),
]
WaitFor = Annotated[
    timedelta | datetime,
    BeforeValidator(parse_wait),
    PlainSerializer(wait_text, return_type=str),
    WithJsonSchema({"description": "a duration or a moment", "anyOf": [{"type": "string"}, {"type": "number"}]}),
]
Moment = Annotated[datetime, PlainSerializer(moment_text, return_type=str)]
