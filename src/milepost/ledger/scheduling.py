"""What a ledger does with schedules: look at them, pause and resume them, run them outside their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice, takewhile
from typing import Final

from milepost.clock import Clock, to_datetime, to_micros
from milepost.engine.ticks import moment_of, next_tick, rule_ticks
from milepost.errors import ConfigurationError, ScheduleNotFound
from milepost.ledger.tick_tasks import tick_tasks, trigger_task
from milepost.model import Run, Schedule, TickRun
from milepost.store import Store

__all__ = ["Scheduling"]

_BATCH: Final = 200  # runs of a backfill that one transaction submits
_MOST_TICKS: Final = 100_000  # of one backfill: more is a mistake in a date


class Scheduling:
    """Mixed into :class:`milepost.Ledger`; ``Dag.schedule`` adds a schedule."""

    store: Store
    clock: Clock
    shared_now: Callable[[], int]

    # --- looking -----------------------------------------------------------------------------

    def list_schedules(self) -> list[Schedule]:
        """Return every schedule, by name.

        Example:
            >>> from milepost import Dag, Ledger
            >>> dag = Dag("greet")
            >>> _ = dag.node(lambda: "hello", label="hello")
            >>> ledger = Ledger.open(":memory:")
            >>> _ = dag.schedule("hourly", cron="0 * * * *", ledger=ledger)
            >>> [(schedule.name, schedule.cron) for schedule in ledger.list_schedules()]
            [('hourly', '0 * * * *')]
        """
        return self.store.list_schedules()

    def get_schedule(self, name: str) -> Schedule | None:
        """Return the schedule of this name, or None.

        Example:
            >>> from milepost import Ledger
            >>> Ledger.open(":memory:").get_schedule("hourly") is None
            True
        """
        return self.store.get_schedule(name)

    def require_schedule(self, name: str) -> Schedule:
        """Return the schedule of this name.

        Raises:
            ScheduleNotFound: There is none.
        """
        schedule = self.store.get_schedule(name)
        if schedule is None:
            raise ScheduleNotFound(name, [known.name for known in self.store.list_schedules()])
        return schedule

    def next_ticks(self, name: str, n: int = 5) -> list[datetime]:
        """Return the next ticks of a schedule in its time zone, at most ``n``.

        Of a paused schedule they are those that would come if it were resumed now.

        Raises:
            ScheduleNotFound: There is none of this name.

        Example:
            >>> from milepost import Dag, Ledger
            >>> dag = Dag("greet")
            >>> _ = dag.node(lambda: "hello", label="hello")
            >>> ledger = Ledger.open(":memory:")
            >>> _ = dag.schedule("hourly", cron="0 * * * *", ledger=ledger)
            >>> [tick.minute for tick in ledger.next_ticks("hourly", 3)]
            [0, 0, 0]
        """
        schedule = self.require_schedule(name)
        first = resumed_at(schedule, self.shared_now())
        ticks = [] if first is None else [first, *islice(rule_ticks(schedule, first), max(0, n - 1))]
        return [moment_of(schedule, tick) for tick in ticks[:n]]

    def last_run_of_schedule(self, name: str) -> Run | None:
        """Return the newest run that a schedule started, or None.

        Raises:
            ScheduleNotFound: There is none of this name.
        """
        return self.store.last_run_of(self.require_schedule(name).creator)

    # --- pausing -----------------------------------------------------------------------------

    def pause_schedule(self, name: str) -> Schedule:
        """Let a schedule fire no more until it is resumed; its runs go on. Return it.

        Raises:
            ScheduleNotFound: There is none of this name.
        """
        self.require_schedule(name)
        self.store.pause_schedule(name, self.shared_now())
        return self.require_schedule(name)

    def resume_schedule(self, name: str) -> Schedule:
        """Let a paused schedule fire again, and return it.

        What it would have fired while it was paused is made up for where it catches up, and else is not.

        Raises:
            ScheduleNotFound: There is none of this name.
        """
        schedule = self.require_schedule(name)
        self.store.resume_schedule(name, resumed_at(schedule, self.shared_now()))
        return self.require_schedule(name)

    def remove_schedule(self, name: str) -> None:
        """Remove a schedule. Its runs stay, and those that have not finished go on.

        Raises:
            ScheduleNotFound: There is none of this name.
        """
        self.require_schedule(name)
        self.store.delete_schedule(name)

    # --- outside its time --------------------------------------------------------------------

    def trigger_schedule(self, name: str) -> Run:
        """Submit a run of a schedule now, outside its ticks, and return it.

        Its interval is the newest one that has ended, so that it does what the newest tick's run did, or
        should have done. Pauses and ``max_active`` do not hold it back.

        Raises:
            ScheduleNotFound: There is none of this name.

        Example:
            >>> from milepost import Dag, Ledger
            >>> dag = Dag("greet")
            >>> _ = dag.node(lambda: "hello", label="hello")
            >>> ledger = Ledger.open(":memory:")
            >>> _ = dag.schedule("hourly", cron="0 * * * *", ledger=ledger)
            >>> run = ledger.trigger_schedule("hourly")
            >>> run.workflow, run.created_by
            ('greet', 'schedule:hourly')
        """
        task = trigger_task(self.require_schedule(name), self.shared_now())
        outcome = self.store.submit_tasks([task])[0]
        run = self.store.get_run(outcome.run_id)
        assert run is not None
        return run

    def backfill_schedule(self, name: str, start: datetime, end: datetime) -> list[TickRun]:
        """Submit the runs of every tick from ``start`` up to and without ``end``, and return them, oldest first.

        A tick has one run, ever: one that had its run before gets no second one. The rule counts, be it
        before the schedule's start; pauses and ``max_active`` do not hold the runs back.

        Args:
            name: The schedule.
            start: The earliest tick (aware).
            end: Later than the latest tick (aware), and not in the future.

        Raises:
            ScheduleNotFound: There is none of this name.
            ConfigurationError: The interval is empty, in the future, or has more than 100,000 ticks.

        Example:
            >>> from datetime import UTC, datetime
            >>> from milepost import Dag, Ledger
            >>> dag = Dag("greet")
            >>> _ = dag.node(lambda: "hello", label="hello")
            >>> ledger = Ledger.open(":memory:")
            >>> _ = dag.schedule("daily", cron="0 2 * * *", ledger=ledger)
            >>> start, end = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 4, tzinfo=UTC)
            >>> [run.is_new for run in ledger.backfill_schedule("daily", start, end)]
            [True, True, True]
            >>> [run.is_new for run in ledger.backfill_schedule("daily", start, end)]
            [False, False, False]
        """
        schedule = self.require_schedule(name)
        runs: list[TickRun] = []
        ticks = iter(self._past_ticks(schedule, start, end))
        now = 0
        while batch := list(islice(ticks, _BATCH)):
            now = max(self.shared_now(), now + _BATCH)  # the ids of one batch sort before those of the next
            tasks = tick_tasks(schedule, batch, now)
            outcomes = self.store.submit_tasks(tasks)
            runs += [
                TickRun(tick, outcome.run_id, outcome.is_new) for tick, outcome in zip(batch, outcomes, strict=True)
            ]
        return runs

    def list_past_ticks(self, name: str, start: datetime, end: datetime) -> list[datetime]:
        """Return the ticks that ``backfill_schedule`` would submit runs for, in the schedule's time zone.

        Raises:
            ScheduleNotFound: There is none of this name.
            ConfigurationError: As for :meth:`backfill_schedule`.
        """
        schedule = self.require_schedule(name)
        return [moment_of(schedule, tick) for tick in self._past_ticks(schedule, start, end)]

    def _past_ticks(self, schedule: Schedule, start: datetime, end: datetime) -> list[int]:
        first, last = _bound("start", start), _bound("end", end)
        if first >= last:
            raise ConfigurationError(
                f"A backfill ends after it starts: {start.isoformat()} to {end.isoformat()} is empty."
            )
        now = self.shared_now()
        if last > now:
            raise ConfigurationError(
                f"A backfill is of the past, and {end.isoformat()} has not come: what comes is the schedule's own. "
                f"End it at {to_datetime(now).isoformat(timespec='seconds')} or before."
            )
        ticks = list(islice(_ticks_from(schedule, first, last), _MOST_TICKS + 1))
        if len(ticks) > _MOST_TICKS:
            raise ConfigurationError(
                f"Schedule {schedule.name!r} ticks more than {_MOST_TICKS:,} times from {start.isoformat()} to "
                f"{end.isoformat()}. Backfill a shorter interval at a time."
            )
        return ticks


def resumed_at(schedule: Schedule, now: int) -> int | None:
    """Return the tick that a schedule goes on with when it is resumed: where it left off, or what comes next."""
    if schedule.paused_at is None or schedule.catch_up:
        return schedule.next_at
    return next_tick(schedule, now)


def _ticks_from(schedule: Schedule, first: int, end: int) -> Iterator[int]:
    return takewhile(lambda tick: tick < end, rule_ticks(schedule, first - 1))


def _bound(name: str, moment: datetime) -> int:
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ConfigurationError(f"{name} must be an aware datetime, such as datetime.now(UTC), not {moment!r}.")
    return to_micros(moment)
