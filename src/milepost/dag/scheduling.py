"""Let a Dag's runs start by themselves, at the ticks of a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from milepost.dag.face import Face, LedgerLike, options_of
from milepost.model import Schedule
from milepost.names import DEFAULT_QUEUE
from milepost.runtime.scheduling import ScheduleOptions, add_schedule

__all__ = ["Scheduling"]


class Scheduling(Face):
    """What a Dag does with schedules. Mixed into :class:`milepost.Dag`."""

    def schedule(
        self,
        name: str,
        *,
        cron: str | None = None,
        every: float | timedelta | None = None,
        timezone: str = "UTC",
        start_at: datetime | None = None,
        catch_up: bool = False,
        max_active: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        ledger: LedgerLike = None,
        target: str | None = None,
    ) -> Schedule:
        """Add a schedule to a ledger: at each of its ticks, any worker submits a run of this Dag, once.

        The run at tick T works on the interval that has just ended: from the tick before T to T. Texts in
        the inputs may name it: ``"{data_interval_start}"`` and ``"{data_interval_end}"`` (aware datetimes in
        the schedule's time zone; ``"{data_interval_end:%Y-%m-%d}"`` is a text), and ``"{schedule}"``.

        Adding the same schedule again changes nothing, so that a program may declare its schedules whenever
        it starts. To change one, remove it first.

        Args:
            name: The schedule's name, unique in the ledger.
            cron: When it fires, as a cron line: minute, hour, day, month, weekday (before them seconds,
                where there are six fields).
            every: When it fires, as an interval: a timedelta or seconds, 1 or more. Ticks are counted from
                the start, so they never drift.
            timezone: The time zone that the cron line means.
            start_at: No tick before this moment (aware); now if left out. Of an interval it is the first tick.
            catch_up: Whether ticks that were missed, while no worker ran or the schedule was paused, are
                made up for, each by a run of its own and in order. Without it the newest one alone is.
            max_active: At most so many of its runs unfinished at once. A tick that comes when there are so
                many is skipped; where the schedule catches up, it waits.
            inputs: The inputs of each run by name: a template. The inputs of the first tick are checked now.
            queue: The queue its runs wait in.
            priority: A lower number goes first; among equals, the older.
            ledger: An open ledger, a path or a URL; None means ``MILEPOST_LEDGER``, else ``milepost.db``.
            target: Where ``milepost resume`` finds this Dag; found by itself where it is a module's variable.

        Raises:
            ConfigurationError: An argument cannot work, or no tick ever comes.
            InputError: What the inputs become does not fit this Dag's inputs; nothing was added.
            ScheduleExists: Another schedule has this name.

        Example:
            >>> from milepost import Dag, Ledger
            >>> dag = Dag("report")
            >>> _ = dag.node(lambda day: f"report of {day}", label="write")
            >>> ledger = Ledger.open(":memory:")
            >>> _ = dag.schedule(
            ...     "nightly", cron="0 2 * * *", inputs={"day": "{data_interval_start:%Y-%m-%d}"}, ledger=ledger
            ... )
            >>> [tick.hour for tick in ledger.next_ticks("nightly", 2)]
            [2, 2]
        """
        options = options_of(ScheduleOptions, locals(), target=self._locate(target))
        return add_schedule(ledger, self._build().graph, self.kind, inputs or {}, options)
