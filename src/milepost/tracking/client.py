"""The client, the one that a process shares, and two ways to spawn."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Any, Self

from milepost.errors import ConfigurationError
from milepost.ledger import Ledger
from milepost.tracking.shapes import Spawned
from milepost.tracking.tasks import Tasks
from milepost.tracking.waiting import Waiting
from milepost.tracking.workflows import Workflows

__all__ = ["Client", "get_client", "spawn_cancellable_task", "spawn_retry_task"]


class Client(Tasks, Waiting, Workflows):
    """Records workflow runs, spawns and claims tasks, saves checkpoints, waits for events: in the caller's transaction.

    Every verb takes a connection first (psycopg or sqlite3, to the ledger's own database), joins its open transaction
    and never commits; without one the client uses its ledger and commits. It may be shared by threads; a connection
    may not be used by two at once.

    Args:
        queue_name: The queue of its tasks and events; None means ``MILEPOST_QUEUE``, else ``default``.
        worker_id: Who claims; None means ``MILEPOST_WORKER_ID``, else ``worker_1``.
        ledger: An open ledger, a path or a URL; None means ``MILEPOST_LEDGER``, else the ledger in the database
            that the connection leads to, else ``milepost.db``.

    Raises:
        ConfigurationError: A name breaks its rule.

    Example:
        >>> client = Client(queue_name="workflow_queue", ledger=":memory:")
        >>> workflow_run_id = client.create_workflow_run(workflow_name="etl", workflow_version="1.0.0")
        >>> spawned = client.spawn_task(task_name="extract", params={"workflow_run_id": workflow_run_id})
        >>> spawned.workflow_run_id == workflow_run_id
        True
        >>> client.get_workflow_run(workflow_run_id=workflow_run_id)["task_count"]
        1
    """

    def __enter__(self) -> Self:
        """Return the client; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


_lock = threading.Lock()
_shared: list[tuple[tuple[Any, ...], Client]] = []


def get_client(
    queue_name: str | None = None,
    worker_id: str | None = None,
    ledger: Ledger | str | os.PathLike[str] | None = None,
) -> Client:
    """Return the one client that the process shares; the first call makes it.

    Raises:
        ConfigurationError: An argument differs from what it was made with.
    """
    with _lock:
        if not _shared:
            made = Client(queue_name, worker_id, ledger)
            _shared.append(((made.queue_name, made.worker_id, ledger), made))
        (queue, worker, where), client = _shared[0]
        for name, asked, has in (
            ("queue_name", queue_name, queue),
            ("worker_id", worker_id, worker),
            ("ledger", ledger, where),
        ):
            if asked is not None and asked != has:
                raise ConfigurationError(
                    f"The client of this process was made with {name}={has!r}, not {asked!r}. Make one of your own: "
                    "Client(...)."
                )
    return client


def spawn_retry_task(
    client: Client,
    conn: Any = None,
    task_name: str = "",
    params: Any = None,
    max_attempts: int = 3,
    retry_kind: str = "exponential",
    base_seconds: float = 30,
    factor: float = 2.0,
    max_seconds: float | None = None,
) -> Spawned:
    """Spawn a task that is tried again after a failure; see :meth:`Client.spawn_task`.

    Example:
        >>> client = Client(ledger=":memory:")
        >>> task_id, *_ = spawn_retry_task(client, task_name="send", params={})
        >>> client.get_task_status(task_id=task_id)["max_attempts"]
        3
    """
    strategy: dict[str, Any] = {"kind": retry_kind, "base_seconds": base_seconds, "factor": factor}
    if max_seconds is not None:
        strategy["max_seconds"] = max_seconds
    return client.spawn_task(conn, task_name, params, retry_strategy=strategy, max_attempts=max_attempts)


def spawn_cancellable_task(
    client: Client,
    conn: Any = None,
    task_name: str = "",
    params: Any = None,
    max_delay_seconds: float | None = None,
    max_duration_seconds: float | None = None,
) -> Spawned:
    """Spawn a task that is cancelled when it does not start or finish in time; see :meth:`Client.spawn_task`.

    Example:
        >>> client = Client(ledger=":memory:")
        >>> task_id, *_ = spawn_cancellable_task(client, task_name="send", params={}, max_delay_seconds=60)
        >>> client.get_task_status(task_id=task_id)["cancellation"]
        {'max_delay': 60}
    """
    given = {"max_delay": max_delay_seconds, "max_duration": max_duration_seconds}
    limits = {name: value for name, value in given.items() if value is not None}
    return client.spawn_task(conn, task_name, params, cancellation=limits or None)
