"""Tasks, claims, waits and workers as tests write them, and a hand on the clock that leases follow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from rows import LEASE, NOW, OWNER

from milepost.model import Run, WorkerInfo
from milepost.store import ClaimedTask, NewTask, NewWait, Store, Submitted
from milepost.stores.postgres import PostgresStore

OTHER = "18@there#1-2"
DIED = ("WorkerDied", "the worker is gone")
SECOND = 1_000_000  # microseconds


def task(run_id: str = "task", **changes: Any) -> NewTask:
    """Return a task; ``changes`` are fields of NewTask."""
    fields: dict[str, Any] = {
        "run_id": run_id,
        "workflow": "workflow",
        "kind": "dag",
        "queue": "default",
        "inputs": "{}",
        "now": NOW,
        "definition_hash": "hash",
        "definition": "{}",
    }
    return NewTask(**{**fields, **changes})


def submit(store: Store, *tasks: NewTask) -> list[Submitted]:
    """Submit tasks in one transaction."""
    return store.submit_tasks(tasks)


def claim(
    store: Store,
    *queues: str,
    owner: str = OWNER,
    now: int = NOW,
    lease: int = LEASE,
    limit: int = 100,
) -> list[ClaimedTask]:
    """Claim from queues (from ``default`` where none is named)."""
    return store.claim_tasks(queues or ("default",), owner=owner, now=now, lease=lease, limit=limit)


def claimed_ids(store: Store, *queues: str, **options: Any) -> list[str]:
    """Claim, and return the ids in the order they came."""
    return [one.run.run_id for one in claim(store, *queues, **options)]


def started(store: Store, run_id: str = "task", **changes: Any) -> Run:
    """Submit one task and claim it."""
    submit(store, task(run_id, **changes))
    (one,) = claim(store, changes.get("queue", "default"))
    return one.run


def get(store: Store, run_id: str = "task") -> Run:
    """Return a run that must be there."""
    run = store.get_run(run_id)
    assert run is not None
    return run


def wait(label: str = "wait", run_id: str = "task", **changes: Any) -> NewWait:
    """Return a wait for the event ``paid`` of scope ``default``; ``changes`` are fields of NewWait."""
    fields: dict[str, Any] = {
        "run_id": run_id,
        "lease_epoch": 1,
        "label": label,
        "kind": "event",
        "scope": "default",
        "event": "paid",
        "wake_at": None,
    }
    return NewWait(**{**fields, **changes})


def sleep(label: str = "sleep", run_id: str = "task", *, wake_at: int, **changes: Any) -> NewWait:
    """Return a wait for a time."""
    return wait(label, run_id, **{"kind": "sleep", "scope": None, "event": None, "wake_at": wake_at, **changes})


def worker(worker_id: str = "w", **changes: Any) -> WorkerInfo:
    """Return a worker's registration; ``changes`` are fields of WorkerInfo."""
    fields: dict[str, Any] = {
        "worker_id": worker_id,
        "owner": OWNER,
        "queues": ("default", "mail"),
        "workflows": ("a", "b"),
        "concurrency": 4,
        "lease": LEASE,
        "started_at": NOW,
        "heartbeat_at": NOW,
        "stopped_at": None,
    }
    return WorkerInfo(**{**fields, **changes})


class Hands:
    """The hands of the clock that leases follow.

    SQLite takes the time it is given. PostgreSQL reads its server's clock, which a setting of the session
    shifts: there, the hands move every connection of the stores.
    """

    def __init__(self, *stores: Store) -> None:
        self._stores = stores
        self.now = NOW
        self.advance(0)

    def advance(self, micros: int) -> int:
        """Move on, and return the time."""
        self.now += micros
        for store in self._stores:
            if isinstance(store, PostgresStore):
                shift_server_clock(store, self.now - time.time_ns() // 1000)
        return self.now


def shift_server_clock(store: PostgresStore, micros: int) -> None:
    """Let the server tell this store another time, on every connection that it has."""
    setting = "SELECT set_config('milepost.clock_shift', %s, false)"
    assert store._writer is not None
    store._writer.connection.execute(setting, [str(micros)])
    store._pool.wait()
    borrowed = [store._pool.getconn() for _ in range(store._pool.get_stats()["pool_size"])]
    for connection in borrowed:
        connection.execute(setting, [str(micros)])
        store._pool.putconn(connection)


def in_parallel(*works: Callable[[], Any]) -> list[Any]:
    """Do everything at once, each in a thread that starts when all are ready; return what they returned."""
    barrier = threading.Barrier(len(works))
    outcomes: list[Any] = [None] * len(works)

    def run(n: int, work: Callable[[], Any]) -> None:
        barrier.wait(30)
        try:
            outcomes[n] = work()
        except BaseException as error:
            outcomes[n] = error

    threads = [threading.Thread(target=run, args=(n, work), daemon=True) for n, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread has not ended"
    return outcomes


def until(condition: Callable[[], Any], patience: float = 30.0, pause: float = 0.005) -> Any:
    """Look until a condition holds, and return what it returned."""
    over = threading.Event()
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition never came true"
        over.wait(pause)
    return found


def ids(found: Iterable[Any]) -> list[str]:
    """Return the run ids of rows."""
    return [one.run_id for one in found]
