"""Add schedules: what every face's ``schedule`` calls."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from milepost.clock import SystemClock, to_micros
from milepost.engine.templates import check_template
from milepost.engine.ticks import check_cron, check_zone, moment_of, next_tick
from milepost.errors import ConfigurationError, InputError, MilepostError, ScheduleExists
from milepost.graph import Graph
from milepost.ledger import Ledger
from milepost.ledger.tick_tasks import fill_inputs
from milepost.model import Schedule
from milepost.names import DEFAULT_QUEUE, check_name
from milepost.runtime.lifecycle import open_ledger
from milepost.values import decode, encode

__all__ = ["ScheduleOptions", "add_schedule"]

LedgerLike = Ledger | str | os.PathLike[str] | None

_SECOND: Final = 1_000_000
_LONGEST: Final = 36_525 * 86_400 * _SECOND
_LAST_YEAR: Final = 9000  # a start after it leaves no room for ticks before the calendar ends

_COMPARED: Final = {
    "workflow": "its workflow",
    "kind": "its kind",
    "queue": "its queue",
    "priority": "its priority",
    "cron": "its cron line",
    "every": "its interval",
    "timezone": "its time zone",
    "start_at": "its start",
    "catch_up": "whether it catches up",
    "max_active": "max_active",
    "inputs": "its inputs",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions:
    """When a schedule fires, and where its runs wait.

    Args:
        name: The schedule's name.
        cron: A cron line of five fields (six where the first is seconds).
        every: Seconds between ticks, 1 or more.
        timezone: The zone that the cron line means, and in which templates show times.
        start_at: No tick before this moment (aware).
        catch_up: Whether ticks that were missed are made up for.
        max_active: At most so many unfinished runs at once.
        queue: The queue its runs wait in.
        priority: A lower number goes first.
        target: Where the workflow is found again.
        is_paused: It is added paused.

    Raises:
        ConfigurationError: A value cannot work; the message says which and why.
    """

    name: str
    cron: str | None = None
    every: float | timedelta | None = None
    timezone: str = "UTC"
    start_at: datetime | None = None
    catch_up: bool = False
    max_active: int | None = None
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    target: str | None = None
    is_paused: bool = False

    def __post_init__(self) -> None:
        """Refuse what could never work, before anything is written."""
        check_name("schedule", self.name)
        check_name("queue", self.queue)
        check_zone(self.timezone)
        if (self.cron is None) == (self.every is None):
            raise ConfigurationError("A schedule has a cron line or an interval: give cron= or every=, and not both.")
        if self.cron is not None:
            check_cron(self.cron, self.timezone)
        elif not (_is_span(self.every) and _SECOND <= self.every_micros <= _LONGEST):
            given = f"{self.every_micros / _SECOND:g} s" if _is_span(self.every) else repr(self.every)
            raise ConfigurationError(
                f"An interval (every) must be from 1 second to 100 years, as seconds or a timedelta, not {given}."
            )
        start = self.start_at
        if start is not None and (not isinstance(start, datetime) or start.tzinfo is None):
            raise ConfigurationError(f"start_at must be an aware datetime, such as datetime.now(UTC), not {start!r}.")
        if start is not None and not 1970 <= start.year < _LAST_YEAR:
            raise ConfigurationError(f"start_at must be from 1970 to {_LAST_YEAR}, not {start.isoformat()}.")
        if isinstance(self.priority, bool) or not isinstance(self.priority, int):
            raise ConfigurationError(f"priority must be a whole number (lower goes first), not {self.priority!r}.")
        most = self.max_active
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ConfigurationError(f"max_active must be a whole number of 1 or more, not {most!r}.")
        if not isinstance(self.catch_up, bool):
            raise ConfigurationError(f"catch_up must be True or False, not {self.catch_up!r}.")

    @property
    def every_micros(self) -> int:
        """The interval in microseconds."""
        every = self.every
        if isinstance(every, timedelta):
            return every // timedelta(microseconds=1)
        return round((every or 0) * _SECOND)


def add_schedule(
    ledger: LedgerLike, graph: Graph, kind: str, inputs: Mapping[str, Any], options: ScheduleOptions
) -> Schedule:
    """Add a schedule and return it; one that is there already, and the same, is returned as it is.

    Args:
        ledger: Where it is kept; opened, and so perhaps made, only once everything is in order.
        graph: What its runs execute.
        kind: The kind of its runs.
        inputs: The template of their inputs.
        options: When it fires.

    Raises:
        ScheduleExists: Another one has this name.
        ConfigurationError: The template names what no tick has, or no tick ever comes.
        InputError: What the template becomes does not fit the inputs of the graph.
        ValueNotStorable: A value of the template cannot be stored.
    """
    now = (ledger.clock if isinstance(ledger, Ledger) else SystemClock()).now()
    # On the second, so that ticks are on seconds as well.
    start = now // _SECOND * _SECOND if options.start_at is None else to_micros(options.start_at)
    schedule = Schedule(
        name=options.name,
        workflow=graph.name,
        target=options.target,
        hash=graph.fingerprint,
        queue=options.queue,
        priority=options.priority,
        cron=None if options.cron is None else " ".join(options.cron.split()),
        every=None if options.every is None else options.every_micros,
        timezone=options.timezone,
        start_at=start,
        catch_up=options.catch_up,
        max_active=options.max_active,
        inputs=encode(dict(inputs)),
        next_at=None,
        paused_at=now if options.is_paused else None,
        created_at=now,
        kind=kind,
    )
    is_from_start = options.start_at is not None and options.catch_up
    first = next_tick(schedule, start - 1 if is_from_start else now)
    if first is None:
        raise ConfigurationError(f"Schedule {schedule.name!r} never fires: no tick comes after its start. Correct it.")
    _check_inputs(schedule, first, graph)
    schedule = dataclasses.replace(schedule, next_at=first)
    opened = open_ledger(ledger)
    if opened.store.insert_schedule(schedule, graph.definition):
        return schedule
    return _same(opened, schedule, has_start=options.start_at is not None)


def _check_inputs(schedule: Schedule, tick: int, graph: Graph) -> None:
    check_template(schedule.inputs)
    try:
        given = decode(fill_inputs(schedule, tick))
    except ValueError as error:
        if isinstance(error, MilepostError):
            raise
        raise ConfigurationError(f"The inputs of schedule {schedule.name!r} cannot be filled: {error}.") from error
    try:
        if graph.check_inputs is not None:
            graph.check_inputs(given)
    except InputError as error:
        at = moment_of(schedule, tick).isoformat()
        raise InputError(f"Schedule {schedule.name!r} at its tick {at}: {error}") from error


def _same(ledger: Ledger, new: Schedule, *, has_start: bool) -> Schedule:
    """Return the schedule that has the name, where it says the same: declaring it again changes nothing."""
    old = ledger.store.get_schedule(new.name)
    if old is None:  # removed in this very moment
        raise ScheduleExists(new.name)
    changes = [told for field, told in _COMPARED.items() if getattr(old, field) != getattr(new, field)]
    if not has_start and _COMPARED["start_at"] in changes:
        changes.remove(_COMPARED["start_at"])
    if changes:
        raise ScheduleExists(new.name, changes)
    return old


def _is_span(value: object) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return math.isfinite(value)
    return isinstance(value, timedelta)
