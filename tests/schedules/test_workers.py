"""Schedules under a worker that runs: fired on time, and whatever a round of maintenance meets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from milepost import Dag, Ledger, Worker
from milepost.runtime.maintenance import Maintenance


def await_(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        threading.Event().wait(0.01)


@pytest.fixture
def working(ledger: Ledger, dag: Dag) -> Any:
    """Let a worker run in a thread for as long as the test does."""
    worker = Worker([dag], ledger=ledger, heartbeat_process=False, drain=5)
    thread = threading.Thread(target=worker.run)
    yield thread.start
    worker.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_a_worker_fires_a_tick_when_it_comes_and_runs_it(ledger: Ledger, dag: Dag, working: Callable[[], None]):
    made = dag.schedule("s", every=1, ledger=ledger)
    assert made.next_at is not None
    working()
    await_(lambda: (run := ledger.last_run_of_schedule("s")) is not None and run.finished_at is not None)
    run = ledger.last_run_of_schedule("s")
    assert run is not None
    assert run.created_at >= made.next_at


def test_what_one_round_of_maintenance_meets_does_not_end_the_rounds(
    ledger: Ledger,
    dag: Dag,
    working: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    rounds: list[int] = []
    run_once = Maintenance.run_once

    def fail_twice(self: Maintenance) -> None:
        rounds.append(1)
        if len(rounds) == 1:
            raise KeyError("a defect")
        run_once(self)

    def unreachable(self: Maintenance) -> float:
        if len(rounds) == 2:
            raise ValueError("another, where it asks how long to pause")
        return 0.01

    monkeypatch.setattr(Maintenance, "run_once", fail_twice)
    monkeypatch.setattr(Maintenance, "pause", unreachable)
    dag.schedule("s", every=1, ledger=ledger)
    working()
    await_(lambda: len(rounds) > 3 and ledger.last_run_of_schedule("s"))
    assert caplog.text.count("maintenance met a defect") == 2
