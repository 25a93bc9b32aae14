"""Runs that leave no trace: the same engine and the same driver, with nothing written and nothing encoded.

What a step saves by name and what it waits for is kept in memory for as long as its run lasts.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from milepost.engine import History
from milepost.graph import Graph
from milepost.ledger import Ledger
from milepost.model import Wait, new_run_id
from milepost.runtime.async_driver import AsyncDriver
from milepost.runtime.flight import Flight
from milepost.runtime.landing import check_value
from milepost.runtime.lifecycle import finish
from milepost.runtime.outcome import FinishedRun
from milepost.runtime.session import RunSession
from milepost.store import NewWait, RunWrite, Write

__all__ = ["run_unrecorded"]


async def run_unrecorded(
    graph: Graph,
    inputs: Mapping[str, Any],
    *,
    max_concurrency: int = 32,
    on_session: Callable[[RunSession], None] | None = None,
) -> FinishedRun:
    """Drive a run of the graph to its end on the running loop and record nothing."""
    ledger = _nowhere()
    run_id = new_run_id(ledger.clock.now())
    session = UnrecordedSession(ledger, run_id, 1, graph, inputs, history=History(keep_maps=True))
    if on_session is not None:
        on_session(session)
    try:
        await AsyncDriver(session, max_concurrency=max_concurrency).drive()
        return finish(session)
    finally:
        ledger.store.forget(run_id)  # type: ignore[attr-defined]


class UnrecordedSession(RunSession):
    """A session whose values stay what they are."""

    is_recorded = False

    def accept(self, flight: Flight, value: Any) -> None:
        """Take a body's value: check it against the annotation, and nothing more."""
        check_value(flight, value)
        flight.finished_at = self._now()


@cache
def _nowhere() -> Ledger:
    return _Nowhere()


class _Nowhere(Ledger):
    """A ledger that keeps nothing, and has nothing to wait for."""

    def __init__(self) -> None:
        store: Any = _NoStore()
        super().__init__(store)
        self.commit = store.take
        self.commit_many = store.take_many
        self.commit_async = store.take_async


class _NoStore:
    """What the drivers ask of a store, answered without one."""

    url = ":memory:"
    is_read_only = False
    is_shared = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._saved: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
        self._waits: dict[str, dict[str, Wait]] = defaultdict(dict)

    def take(self, write: Write) -> None:
        if isinstance(write, RunWrite):
            for saved in write.checkpoints:
                self._saved[write.run_id][saved.label, saved.name] = saved.value

    def take_many(self, writes: Sequence[Write]) -> list[Exception | None]:
        for write in writes:
            self.take(write)
        return [None] * len(writes)

    async def take_async(self, write: Write) -> None:
        self.take(write)

    def forget(self, run_id: str) -> None:
        self._saved.pop(run_id, None)
        self._waits.pop(run_id, None)

    def get_run(self, run_id: str) -> None:
        """Nothing: no run is known."""

    def get_checkpoint(self, run_id: str, label: str, name: str) -> str | None:
        return self._saved[run_id].get((label, name))

    def heartbeat(self, owner: str, leases: Sequence[tuple[str, int]], *, now: int, lease: int) -> set[Any]:
        return set()

    def list_stop_requests(self, owner: str) -> list[Any]:
        return []

    def register_waits(self, waits: Sequence[NewWait], now: int) -> list[Wait]:
        with self._lock:
            for new in waits:
                wait = Wait(new.run_id, new.label, new.kind, new.scope, new.event, new.wake_at, now, None, None, None)
                self._waits[new.run_id].setdefault(new.label, wait)
            return [self._waits[new.run_id][new.label] for new in waits]

    def resolve_due_waits(self, run_id: str, now: int) -> list[Wait]:
        with self._lock:
            waits = self._waits[run_id]
            for label, wait in waits.items():
                if wait.outcome is None and wait.wake_at is not None and wait.wake_at <= now:
                    outcome = "woken" if wait.kind == "sleep" else "timed_out"
                    waits[label] = replace(wait, outcome=outcome, resolved_at=now)
            return list(waits.values())

    def close(self) -> None:
        """Nothing to close."""
