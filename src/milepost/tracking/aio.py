"""The client for event loops: the same verbs, awaited; one hop to a thread for each, never for each statement."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from milepost.ledger import Ledger
from milepost.tracking.client import Client

__all__ = ["AsyncClient"]

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(
    verb: Callable[Concatenate[Client, P], T],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    @functools.wraps(verb)
    async def perform(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        # Cancelling the wait must not abandon a transaction: the thread finishes on its own.
        return await asyncio.shield(asyncio.to_thread(verb, self.client, *args, **kwargs))

    return perform


class AsyncClient:
    """The verbs of :class:`Client`, awaited. Same names, arguments, results and errors.

    ``conn`` is a connection of psycopg, or of sqlite3 that was opened with ``check_same_thread=False``: a verb works on
    it in a thread, so leave it alone until the verb returns.

    Args:
        queue_name: The queue of its tasks and events; None means ``MILEPOST_QUEUE``, else ``default``.
        worker_id: Who claims; None means ``MILEPOST_WORKER_ID``, else ``worker_1``.
        ledger: An open ledger, a path or a URL; None means ``MILEPOST_LEDGER``, else ``milepost.db``.

    Example:
        >>> async def work() -> str:
        ...     client = AsyncClient(ledger=":memory:")
        ...     await client.spawn_task(task_name="send", params={"to": "ada"})
        ...     (claim,) = await client.claim_task()
        ...     await client.complete_task(run_id=claim.run_id)
        ...     return (await client.get_task_status(task_id=claim.task_id))["state"]
        >>> asyncio.run(work())
        'completed'
    """

    def __init__(
        self,
        queue_name: str | None = None,
        worker_id: str | None = None,
        ledger: Ledger | str | os.PathLike[str] | None = None,
    ) -> None:
        """Check the names; nothing is opened yet."""
        self.client = Client(queue_name, worker_id, ledger)

    @property
    def queue_name(self) -> str:
        """The queue of its tasks and events."""
        return self.client.queue_name

    @property
    def worker_id(self) -> str:
        """Who claims."""
        return self.client.worker_id

    @property
    def ledger(self) -> Ledger:
        """The ledger that is used where no connection is given."""
        return self.client.ledger

    create_workflow_run = _awaited(Client.create_workflow_run)
    update_workflow_run_status = _awaited(Client.update_workflow_run_status)
    get_workflow_run = _awaited(Client.get_workflow_run)
    list_workflow_runs = _awaited(Client.list_workflow_runs)
    get_tasks_of_workflow = _awaited(Client.get_tasks_of_workflow)
    wait_for_workflow_run = _awaited(Client.wait_for_workflow_run)

    spawn_task = _awaited(Client.spawn_task)
    spawn_tasks = _awaited(Client.spawn_tasks)
    claim_task = _awaited(Client.claim_task)
    complete_task = _awaited(Client.complete_task)
    fail_task = _awaited(Client.fail_task)
    cancel_task = _awaited(Client.cancel_task)
    retry_task = _awaited(Client.retry_task)
    extend_claim = _awaited(Client.extend_claim)
    schedule_task = _awaited(Client.schedule_task)
    get_task_status = _awaited(Client.get_task_status)
    get_run_status = _awaited(Client.get_run_status)

    set_checkpoint = _awaited(Client.set_checkpoint)
    save_checkpoint_for_run = _awaited(Client.save_checkpoint_for_run)
    get_checkpoint = _awaited(Client.get_checkpoint)
    get_all_checkpoints = _awaited(Client.get_all_checkpoints)
    get_checkpoints_for_run = _awaited(Client.get_checkpoints_for_run)
    get_run_checkpoint = _awaited(Client.get_run_checkpoint)

    emit_event = _awaited(Client.emit_event)
    await_event = _awaited(Client.await_event)
    wait_for_event = _awaited(Client.wait_for_event)
    set_run_sleeping = _awaited(Client.set_run_sleeping)
    sleep = _awaited(Client.sleep)

    create_queue = _awaited(Client.create_queue)
    list_queues = _awaited(Client.list_queues)
    drop_queue = _awaited(Client.drop_queue)
    cleanup_tasks = _awaited(Client.cleanup_tasks)
    cleanup_events = _awaited(Client.cleanup_events)

    close = _awaited(Client.close)

    async def __aenter__(self) -> Self:
        """Return the client; leaving the block closes it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()
