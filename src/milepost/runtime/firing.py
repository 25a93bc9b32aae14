"""Fire schedules: each tick becomes a run, exactly once, whoever gets there first.

A schedule's row names its next tick. Whoever moves that on submits the tick's runs in the same
transaction, so a death in between is no state that can be; each run has its tick in its idempotency key, so
that no two ways to a tick (a clock set back, a backfill) give it two.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from milepost.engine.ticks import latest_tick, moment_of, next_tick, ticks_between
from milepost.errors import StoreError
from milepost.ledger import Ledger
from milepost.ledger.tick_tasks import tick_tasks
from milepost.model import Schedule

__all__ = ["Firing"]

_LOG = logging.getLogger("milepost.worker")

_AT_ONCE: Final = 100  # ticks that one round makes up for of one schedule
_PAGE: Final = 100  # due schedules that are read at once


class Firing:
    """Fires the schedules of a ledger, round by round.

    Args:
        ledger: The open ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Begin; nothing is fired yet."""
        self._ledger = ledger
        self._told: dict[str, str] = {}  # what was said of a schedule that cannot be fired: once is enough

    def fire_due(self) -> int:
        """Submit a run for every tick that has come; return how many were submitted.

        A schedule that cannot be fired, because this machine does not know its time zone or its graph was
        deleted, is logged and holds up no other.

        Raises:
            StoreError: The ledger is out of reach; what was not fired stays due.
        """
        now = self._ledger.shared_now()
        fired = 0
        for schedule in list(self._due(now)):  # read before any is fired: each gets one turn a round
            try:
                fired += self._fire(schedule, now)
                self._told.pop(schedule.name, None)
            except StoreError:
                raise
            except Exception as error:
                message = f"{type(error).__name__}: {error}"
                if self._told.get(schedule.name) != message:
                    self._told[schedule.name] = message
                    _LOG.warning("schedule %s could not be fired: %s", schedule.name, message)
        return fired

    def _due(self, now: int) -> Iterator[Schedule]:
        """Yield all that are due, page by page: those that wait with a tick must not hide the others."""
        page = self._ledger.store.list_due_schedules(now, _PAGE)
        while page:
            yield from page
            page = self._ledger.store.list_due_schedules(now, _PAGE, after=page[-1]) if len(page) == _PAGE else []

    def _fire(self, schedule: Schedule, now: int) -> int:
        assert schedule.next_at is not None
        if schedule.catch_up:
            limit = _AT_ONCE if schedule.max_active is None else min(_AT_ONCE, self._free(schedule))
            due = ticks_between(schedule, schedule.next_at, now, limit)
            if not due:
                return 0  # the ticks wait until runs have ended
            next_at = next_tick(schedule, due[-1])
        else:
            # Of the ticks that were missed only the newest counts.
            due = [latest_tick(schedule, schedule.next_at, now)]
            next_at = next_tick(schedule, due[-1])
            if schedule.max_active is not None and self._free(schedule) <= 0:
                at = moment_of(schedule, due[-1]).isoformat()
                _LOG.info("schedule %s skips its tick %s: runs of earlier ones go on", schedule.name, at)
                due = []
        tasks = tick_tasks(schedule, due, now)
        return sum(outcome.is_new for outcome in self._ledger.store.fire_schedule(schedule, next_at, tasks))

    def _free(self, schedule: Schedule) -> int:
        assert schedule.max_active is not None
        return schedule.max_active - self._ledger.store.count_active_runs(schedule.creator)
