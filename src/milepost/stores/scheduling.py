"""The verbs of schedules, for every dialect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from milepost.model import Run, Schedule
from milepost.store import NewTask, Submitted
from milepost.stores.queueing import QueueVerbs
from milepost.stores.reading import to_run
from milepost.stores.transaction import TASKS, repeatable

__all__ = ["SCHEDULE_COLUMNS", "SchedulingVerbs"]

SCHEDULE_COLUMNS = ", ".join(Schedule.__dataclass_fields__)


class SchedulingVerbs(QueueVerbs):
    """Keep schedules, and fire each tick once."""

    @repeatable
    def insert_schedule(self, schedule: Schedule, definition: str | None) -> bool:
        """Add a schedule; return False where one of its name exists."""
        with self.transaction() as tx:
            if schedule.hash is not None and definition is not None:
                tx.execute(
                    "insert_definition",
                    hash=schedule.hash,
                    workflow=schedule.workflow,
                    document=definition,
                    now=schedule.created_at,
                )
            fields = {name: getattr(schedule, name) for name in Schedule.__dataclass_fields__}
            fields["catch_up"] = int(schedule.catch_up)
            fields["now"] = fields.pop("created_at")
            if tx.execute("insert_schedule", **fields):
                return True
            # This very schedule is there where a commit went through and its answer was lost.
            return schedule in map(_schedule, tx.rows("get_schedule", name=schedule.name))

    def get_schedule(self, name: str) -> Schedule | None:
        """Return a schedule, or None."""
        rows = self._rows("get_schedule", name=name)
        return _schedule(rows[0]) if rows else None

    def list_schedules(self) -> list[Schedule]:
        """Return every schedule, by name."""
        return [_schedule(row) for row in self._rows("list_schedules")]

    def list_due_schedules(self, now: int, limit: int = 100, *, after: Schedule | None = None) -> list[Schedule]:
        """Return schedules whose next tick has come, the earliest first; ``after``: the last one of the page before."""
        page = {"after_at": after.next_at, "after_name": after.name} if after is not None else {}
        return [_schedule(row) for row in self._rows("list_due_schedules", now=now, limit=limit, **page)]

    def read_clock(self, now: int) -> int:
        """Return the time of the database's clock, or ``now`` where the database is this machine's own file."""
        return int(self._rows("read_clock", now=now)[0][0])

    def next_schedule_at(self) -> int | None:
        """Return when the earliest tick of all schedules is, or None."""
        tick = self._rows("next_schedule_at")[0][0]
        return None if tick is None else int(tick)

    @repeatable
    def fire_schedule(self, schedule: Schedule, next_at: int | None, tasks: Sequence[NewTask]) -> list[Submitted]:
        """Move a schedule on from the tick that was read and submit its runs, in one transaction.

        Returns nothing where somebody else moved it on first. Each task's idempotency key names its
        tick, so that even a repeat fires it once.
        """
        with self.transaction() as tx:
            moved = tx.execute(
                "advance_schedule",
                name=schedule.name,
                created_at=schedule.created_at,
                next_at=next_at,
                expected_at=schedule.next_at,
            )
            if not moved:
                return []
            outcomes = self._insert_tasks(tx, tasks)
            if outcomes:
                tx.notify(TASKS)
        return outcomes

    @repeatable
    def pause_schedule(self, name: str, now: int) -> bool:
        """Let a schedule fire no more; return whether it was active."""
        with self.transaction() as tx:
            return bool(tx.execute("pause_schedule", name=name, now=now))

    @repeatable
    def resume_schedule(self, name: str, next_at: int | None) -> bool:
        """Let a paused schedule fire again from a tick on; return whether it was paused."""
        with self.transaction() as tx:
            return bool(tx.execute("resume_schedule", name=name, next_at=next_at))

    @repeatable
    def delete_schedule(self, name: str) -> bool:
        """Remove a schedule; its runs stay. Return whether it existed."""
        with self.transaction() as tx:
            return bool(tx.execute("delete_schedule", name=name))

    def count_active_runs(self, creator: str) -> int:
        """Return how many runs of a creator have not finished."""
        return int(self._rows("count_active_runs", created_by=creator)[0][0])

    def last_run_of(self, creator: str) -> Run | None:
        """Return the newest run of a creator, or None."""
        rows = self._rows("last_run_of_schedule", created_by=creator)
        return to_run(rows[0]) if rows else None


def _schedule(row: tuple[Any, ...]) -> Schedule:
    fields = dict(zip(Schedule.__dataclass_fields__, row, strict=True))
    fields["catch_up"] = bool(fields["catch_up"])
    return Schedule(**fields)
