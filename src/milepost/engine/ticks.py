"""When a schedule fires: cron lines in a time zone, or a fixed interval. Pure: the time is handed in.

Cron lines follow Debian's cron, as the cronsim library does. Where the clocks change, a line that names
its hours fires once for each wall time it names: a time that is skipped fires right after the change, a
time that comes twice fires the first time. A line whose minute or hour begins with ``*`` fires by elapsed
time: ``0 * * * *`` is every hour, also on those days.

Times are ledger times (microseconds since 1970); ``moment_of`` turns a tick into what its zone calls it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from milepost.errors import ConfigurationError, did_you_mean
from milepost.model import Schedule

__all__ = [
    "check_cron",
    "check_zone",
    "latest_tick",
    "moment_of",
    "next_tick",
    "previous_tick",
    "rule_ticks",
    "ticks_between",
    "zone_of",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SOME_DAY: Final = datetime(2024, 1, 1, tzinfo=UTC)
_SECOND: Final = 1_000_000
_FIRST_LOOK: Final = 60 * _SECOND  # how far back the search for a tick begins ...
_LONGEST_LOOK: Final = 36_525 * 86_400 * _SECOND  # ... and ends: no rule fires less than once in a hundred years


# --- checking ------------------------------------------------------------------------------------


def check_zone(name: str) -> str:
    """Return the name of a time zone.

    Raises:
        ConfigurationError: This system knows no such zone.

    Example:
        >>> check_zone("Europe/Berlin")
        'Europe/Berlin'
    """
    try:
        zone_of(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        zones = available_timezones()
        if not zones:
            message = f"{name!r} cannot be looked up: this system has no time zones. Install them: pip install tzdata."
        else:
            near = did_you_mean(str(name), zones) or " Use a name such as 'Europe/Berlin' or 'UTC'."
            message = f"{name!r} is not a time zone this system knows.{near}"
        raise ConfigurationError(message) from error
    return name


def check_cron(line: str, zone: str) -> str:
    """Return a cron line that fires some day.

    Raises:
        ConfigurationError: It is not a cron line, or no day is ever meant by it (30 February).

    Example:
        >>> check_cron("30 2 * * mon-fri", "Europe/Berlin")
        '30 2 * * mon-fri'
    """
    if not isinstance(line, str):
        raise ConfigurationError(f"A cron line must be text such as '0 2 * * *', not {line!r}.")
    try:
        never = next(CronSim(line, _SOME_DAY.astimezone(zone_of(zone))), None) is None
    except CronSimError as error:
        # Where it is a line once the month does not matter, its days are what no such month has.
        never = "day-of-month" in str(error) and _is_cron(_in_any_month(line))
        if not never:
            message = (
                f"{line!r} is not a cron line ({error}). "
                "Use five fields: minute hour day month weekday, such as '0 2 * * *'."
            )
            raise ConfigurationError(message) from error
    if never:
        raise ConfigurationError(f"The cron line {line!r} never fires: no such day exists. Correct its day or month.")
    return line


def _is_cron(line: str) -> bool:
    try:
        CronSim(line, _SOME_DAY)
    except CronSimError:
        return False
    return True


def _in_any_month(line: str) -> str:
    fields = line.split()
    return " ".join([*fields[:-2], "*", *fields[-1:]])


def zone_of(name: str) -> tzinfo:
    """Return a time zone that ``check_zone`` has let pass; UTC needs no database of zones."""
    return UTC if name == "UTC" else ZoneInfo(name)


# --- ticks ---------------------------------------------------------------------------------------


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
    return next(rule_ticks(schedule, max(after, schedule.start_at - 1)), None)


def rule_ticks(schedule: Schedule, after: int) -> Iterator[int]:
    """Yield every tick that the rule means after a moment, in order, be it before the schedule's start.

    A cron line ends where nothing comes for fifty years, or where the calendar does.
    """
    if schedule.every is not None:
        tick = schedule.start_at + ((after - schedule.start_at) // schedule.every + 1) * schedule.every
        while True:
            yield tick
            tick += schedule.every
    assert schedule.cron is not None
    tick = after
    try:
        for moment in CronSim(schedule.cron, moment_of(schedule, after)):
            # Two wall times can be one moment (both skipped by a change), and asked during a repeated
            # hour the line names times of its first pass: a tick is only what comes later.
            found = _micros(moment)
            if found > tick:
                tick = found
                yield tick
    except OverflowError:
        return


def previous_tick(schedule: Schedule, before: int) -> int | None:
    """Return the last tick that the rule means before a moment, be it before the schedule's start, or None.

    It is found by looking forward from earlier and earlier moments, so that it can never disagree with
    ``next_tick`` about what a tick is.
    """
    if schedule.every is not None:
        return schedule.start_at + ((before - schedule.start_at - 1) // schedule.every) * schedule.every
    span, quiet = _FIRST_LOOK, before - 1
    while (tick := next(rule_ticks(schedule, before - span), before)) >= before:
        if span > _LONGEST_LOOK:
            return None
        span, quiet = span * 4, before - span
    while quiet - tick >= _SECOND:  # `tick` fires before the moment; nothing fires after `quiet` and before it
        middle = (tick + quiet) // 2
        later = next(rule_ticks(schedule, middle), before)
        if later >= before:
            quiet = middle
        else:
            tick = later
    return tick


def latest_tick(schedule: Schedule, first: int, now: int) -> int:
    """Return the newest tick that has come, where ``first`` has come and may be it."""
    return max(first, previous_tick(schedule, now + 1) or first)


def ticks_between(schedule: Schedule, first: int, last: int, limit: int) -> list[int]:
    """Return the ticks from ``first`` (a tick itself) up to ``last``, at most so many."""
    later = takewhile(lambda tick: tick <= last, rule_ticks(schedule, first))
    return [first, *islice(later, limit - 1)] if first <= last and limit > 0 else []


def moment_of(schedule: Schedule, tick: int) -> datetime:
    """Return a tick as the datetime that it is in the schedule's time zone."""
    return (_EPOCH + timedelta(microseconds=tick)).astimezone(zone_of(schedule.timezone))


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
