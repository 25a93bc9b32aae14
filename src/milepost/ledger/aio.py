"""The ledger's reading verbs for event loops: one hop to a thread per verb, never per statement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from milepost.ledger.gate import Gate
from milepost.ledger.ledger import Ledger
from milepost.model import (
    Attempt,
    Checkpoint,
    Edge,
    Event,
    Problem,
    QueueInfo,
    Run,
    RunPayload,
    Schedule,
    StepAttempt,
    TickRun,
    Wait,
    WorkerInfo,
)
from milepost.names import DEFAULT_QUEUE
from milepost.states import RunStatus

__all__ = ["AsyncLedger"]

P = ParamSpec("P")
T = TypeVar("T")


async def _hop(verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    # Cancelling the wait must not abandon a transaction: the thread finishes on its own.
    return await asyncio.shield(asyncio.to_thread(verb, *args, **kwargs))


class AsyncLedger:
    """The verbs of :class:`Ledger`, awaited. Same names, arguments, results and errors.

    Args:
        ledger: The open ledger underneath.

    Example:
        >>> import asyncio
        >>> ledger = Ledger.open(":memory:")
        >>> asyncio.run(AsyncLedger(ledger).list_runs())
        []
    """

    def __init__(self, ledger: Ledger) -> None:
        """Put the face on an open ledger."""
        self.ledger = ledger

    async def get_run(self, run_id: str) -> Run | None:
        """See :meth:`Ledger.get_run`."""
        return await _hop(self.ledger.get_run, run_id)

    async def require_run(self, run_id: str) -> Run:
        """See :meth:`Ledger.require_run`."""
        return await _hop(self.ledger.require_run, run_id)

    async def find_run(self, text: str) -> Run:
        """See :meth:`Ledger.find_run`."""
        return await _hop(self.ledger.find_run, text)

    async def list_runs(
        self,
        *,
        status: RunStatus | str | None = None,
        workflow: str | None = None,
        since: datetime | timedelta | None = None,
        parent_run_id: str | None = None,
        created_by: str | None = None,
        inner: bool = False,
        limit: int = 50,
        before: Run | None = None,
    ) -> list[Run]:
        """See :meth:`Ledger.list_runs`."""
        return await _hop(
            self.ledger.list_runs,
            status=status,
            workflow=workflow,
            since=since,
            parent_run_id=parent_run_id,
            created_by=created_by,
            inner=inner,
            limit=limit,
            before=before,
        )

    async def get_payload(self, run_id: str) -> RunPayload:
        """See :meth:`Ledger.get_payload`."""
        return await _hop(self.ledger.get_payload, run_id)

    async def get_inputs(self, run_id: str) -> dict[str, Any]:
        """See :meth:`Ledger.get_inputs`."""
        return await _hop(self.ledger.get_inputs, run_id)

    async def get_tags(self, run_id: str) -> dict[str, Any]:
        """See :meth:`Ledger.get_tags`."""
        return await _hop(self.ledger.get_tags, run_id)

    async def get_definition(self, run_id: str) -> str | None:
        """See :meth:`Ledger.get_definition`."""
        return await _hop(self.ledger.get_definition, run_id)

    async def list_attempts(self, run_id: str) -> list[Attempt]:
        """See :meth:`Ledger.list_attempts`."""
        return await _hop(self.ledger.list_attempts, run_id)

    async def list_steps(self, run_id: str) -> list[StepAttempt]:
        """See :meth:`Ledger.list_steps`."""
        return await _hop(self.ledger.list_steps, run_id)

    async def get_step(self, run_id: str, label: str) -> list[StepAttempt]:
        """See :meth:`Ledger.get_step`."""
        return await _hop(self.ledger.get_step, run_id, label)

    async def list_edges(self, run_id: str) -> list[Edge]:
        """See :meth:`Ledger.list_edges`."""
        return await _hop(self.ledger.list_edges, run_id)

    async def list_checkpoints(self, run_id: str) -> list[Checkpoint]:
        """See :meth:`Ledger.list_checkpoints`."""
        return await _hop(self.ledger.list_checkpoints, run_id)

    async def get_output(self, run_id: str, label: str, *, known: Iterable[type] = ()) -> Any:
        """See :meth:`Ledger.get_output`."""
        return await _hop(self.ledger.get_output, run_id, label, known=known)

    async def get_result(self, run_id: str) -> Any:
        """See :meth:`Ledger.get_result`."""
        return await _hop(self.ledger.get_result, run_id)

    async def delete_runs(self, *, older_than: timedelta) -> int:
        """See :meth:`Ledger.delete_runs`."""
        return await _hop(self.ledger.delete_runs, older_than=older_than)

    async def emit_event(self, name: str, payload: Any = None, *, scope: str = DEFAULT_QUEUE, conn: Any = None) -> bool:
        """See :meth:`Ledger.emit_event`; a ``conn`` of sqlite3 belongs to its thread, so open it for all threads."""
        return await _hop(self.ledger.emit_event, name, payload, scope=scope, conn=conn)

    async def get_event(self, name: str, *, scope: str = DEFAULT_QUEUE) -> Event | None:
        """See :meth:`Ledger.get_event`."""
        return await _hop(self.ledger.get_event, name, scope=scope)

    async def list_events(
        self, *, scope: str = DEFAULT_QUEUE, prefix: str | None = None, limit: int = 100
    ) -> list[Event]:
        """See :meth:`Ledger.list_events`."""
        return await _hop(self.ledger.list_events, scope=scope, prefix=prefix, limit=limit)

    async def list_waits(self, run_id: str) -> list[Wait]:
        """See :meth:`Ledger.list_waits`."""
        return await _hop(self.ledger.list_waits, run_id)

    async def pause_queue(self, name: str) -> None:
        """See :meth:`Ledger.pause_queue`."""
        await _hop(self.ledger.pause_queue, name)

    async def resume_queue(self, name: str) -> bool:
        """See :meth:`Ledger.resume_queue`."""
        return await _hop(self.ledger.resume_queue, name)

    async def list_queues(self) -> list[QueueInfo]:
        """See :meth:`Ledger.list_queues`."""
        return await _hop(self.ledger.list_queues)

    async def list_workers(self) -> list[WorkerInfo]:
        """See :meth:`Ledger.list_workers`."""
        return await _hop(self.ledger.list_workers)

    async def list_schedules(self) -> list[Schedule]:
        """See :meth:`Ledger.list_schedules`."""
        return await _hop(self.ledger.list_schedules)

    async def get_schedule(self, name: str) -> Schedule | None:
        """See :meth:`Ledger.get_schedule`."""
        return await _hop(self.ledger.get_schedule, name)

    async def require_schedule(self, name: str) -> Schedule:
        """See :meth:`Ledger.require_schedule`."""
        return await _hop(self.ledger.require_schedule, name)

    async def next_ticks(self, name: str, n: int = 5) -> list[datetime]:
        """See :meth:`Ledger.next_ticks`."""
        return await _hop(self.ledger.next_ticks, name, n)

    async def last_run_of_schedule(self, name: str) -> Run | None:
        """See :meth:`Ledger.last_run_of_schedule`."""
        return await _hop(self.ledger.last_run_of_schedule, name)

    async def pause_schedule(self, name: str) -> Schedule:
        """See :meth:`Ledger.pause_schedule`."""
        return await _hop(self.ledger.pause_schedule, name)

    async def resume_schedule(self, name: str) -> Schedule:
        """See :meth:`Ledger.resume_schedule`."""
        return await _hop(self.ledger.resume_schedule, name)

    async def remove_schedule(self, name: str) -> None:
        """See :meth:`Ledger.remove_schedule`."""
        await _hop(self.ledger.remove_schedule, name)

    async def trigger_schedule(self, name: str) -> Run:
        """See :meth:`Ledger.trigger_schedule`."""
        return await _hop(self.ledger.trigger_schedule, name)

    async def backfill_schedule(self, name: str, start: datetime, end: datetime) -> list[TickRun]:
        """See :meth:`Ledger.backfill_schedule`."""
        return await _hop(self.ledger.backfill_schedule, name, start, end)

    async def list_past_ticks(self, name: str, start: datetime, end: datetime) -> list[datetime]:
        """See :meth:`Ledger.list_past_ticks`."""
        return await _hop(self.ledger.list_past_ticks, name, start, end)

    async def shared_now(self) -> int:
        """See :meth:`Ledger.shared_now`."""
        return await _hop(self.ledger.shared_now)

    async def why(self, run_id: str) -> Gate:
        """See :meth:`Ledger.why`."""
        return await _hop(self.ledger.why, run_id)

    async def delete_events(self, *, older_than: timedelta) -> int:
        """See :meth:`Ledger.delete_events`."""
        return await _hop(self.ledger.delete_events, older_than=older_than)

    async def delete_workers(self, *, older_than: timedelta) -> int:
        """See :meth:`Ledger.delete_workers`."""
        return await _hop(self.ledger.delete_workers, older_than=older_than)

    async def check(self) -> list[Problem]:
        """See :meth:`Ledger.check`; everything at once."""
        return await _hop(lambda: list(self.ledger.check()))
