"""When a schedule fires: cron lines in a time zone, or a fixed interval. Pure: the time is handed in.

Cron lines follow Debian's cron, as the cronsim library does: a time that a change to summer time skips
fires right after the change; a time that comes twice fires once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from milepost.errors import ConfigurationError
from milepost.model import Schedule

__all__ = ["check_cron", "check_zone", "next_tick", "ticks_between"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def check_zone(name: str) -> str:
    """Return the name of a time zone.

    Raises:
        ConfigurationError: This system knows no such zone.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f"{name!r} is not a time zone this system knows. Use a name such as 'Europe/Berlin' or 'UTC'."
        raise ConfigurationError(message) from error
    return name


def check_cron(line: str, zone: str) -> str:
    """Return a cron line that fires some day.

    Raises:
        ConfigurationError: It is not a cron line, or no day is ever meant by it (30 February).
    """
    try:
        next(CronSim(line, datetime(2024, 1, 1, tzinfo=ZoneInfo(zone))))
    except CronSimError as error:
        message = f"{line!r} is not a cron line ({error}). Use five fields: minute hour day month weekday."
        raise ConfigurationError(message) from error
    except StopIteration:
        raise ConfigurationError(f"The cron line {line!r} never fires: no such day exists. Correct it.") from None
    return line


def next_tick(schedule: Schedule, after: int) -> int | None:
    """Return the first tick after a moment and not before the schedule's start, or None where there is none.

    Args:
        schedule: The rule.
        after: Ledger time (microseconds since 1970).

    Example:
        >>> from milepost.model import Schedule
        >>> rule = Schedule(
        ...     "s", "w", None, None, "default", 0, "0 2 * * *", None, "UTC", 0, False, None, "{}", None, None, 0
        ... )
        >>> next_tick(rule, 0)
        7200000000
    """
    if schedule.every is not None:
        if after < schedule.start_at:
            return schedule.start_at
        return schedule.start_at + ((after - schedule.start_at) // schedule.every + 1) * schedule.every
    assert schedule.cron is not None
    base = max(after, schedule.start_at - 1)
    moment = (_EPOCH + timedelta(microseconds=base)).astimezone(ZoneInfo(schedule.timezone))
    try:
        return _micros(next(CronSim(schedule.cron, moment)))
    except StopIteration:
        return None


def ticks_between(schedule: Schedule, first: int, last: int, limit: int) -> list[int]:
    """Return the ticks from ``first`` (a tick itself) up to ``last``, at most so many."""
    ticks: list[int] = []
    tick: int | None = first
    while tick is not None and tick <= last and len(ticks) < limit:
        ticks.append(tick)
        tick = next_tick(schedule, tick)
    return ticks


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
