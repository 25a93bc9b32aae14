"""A worker that is told to stop: it drains, hands back at the deadline, and stops at once when told twice."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from milepost import Dag, Ledger, RunStatus, StepContext, Worker


class Gate:
    """A step that waits until it is let through, and does not care whether anybody still waits for it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.dag = Dag("gate")
        self.dag.node(self.pass_through, label="gate")

    def pass_through(self) -> int:
        self.entered.set()
        assert self.open.wait(60)
        return 7


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()


def _started(worker: Worker, until: Callable[[], bool]) -> threading.Thread:
    thread = threading.Thread(target=worker.run)
    thread.start()
    _wait_until(until)
    return thread


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_runs_may_finish_before_the_deadline(ledger: Ledger, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    handle = gate.dag.submit(ledger=ledger)
    worker = Worker([gate.dag], ledger=ledger, drain=60, heartbeat_process=False)
    thread = _started(worker, gate.entered.is_set)
    caplog.set_level(logging.INFO, logger="milepost.worker")
    worker.stop()
    _wait_until(lambda: "stopping: 1 running" in caplog.text)
    late = gate.dag.submit(ledger=ledger)
    gate.open.set()
    thread.join(30)
    assert not thread.is_alive()
    assert handle.result(0) == 7
    assert late.status() == RunStatus.PENDING  # a worker that stops claims nothing more


def test_a_run_whose_step_does_not_listen_is_handed_back_at_the_deadline(
    ledger: Ledger, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milepost.runtime.async_driver.GRACE", 0.0)
    handle = gate.dag.submit(ledger=ledger)
    worker = Worker([gate.dag], ledger=ledger, drain=0.05, heartbeat_process=False)
    thread = _started(worker, gate.entered.is_set)
    worker.stop()
    thread.join(30)
    assert not thread.is_alive()
    run = handle.record
    assert (run.status, run.attempt, run.available_at) == (RunStatus.PENDING, 1, None)
    (attempt,) = ledger.list_attempts(handle.run_id)
    assert (attempt.status, attempt.error_type) == ("cancelled", "Released")
    gate.open.set()
    Worker([gate.dag], ledger=ledger, heartbeat_process=False).run_until_idle()
    assert handle.result(0) == 7


def test_told_twice_it_hands_back_at_once(ledger: Ledger, gate: Gate) -> None:
    handle = gate.dag.submit(ledger=ledger)
    worker = Worker([gate.dag], ledger=ledger, drain=3600, heartbeat_process=False)
    thread = _started(worker, gate.entered.is_set)
    worker.stop()
    worker.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert handle.status() == RunStatus.PENDING


def test_a_step_that_listens_is_told_to_stop_at_the_deadline(ledger: Ledger) -> None:
    entered, heard = threading.Event(), threading.Event()

    def listen(ctx: StepContext) -> None:
        entered.set()
        try:
            while True:
                ctx.heartbeat()
                time.sleep(0.005)
        finally:
            heard.set()

    dag = Dag("listen")
    dag.node(listen)
    handle = dag.submit(ledger=ledger)
    worker = Worker([dag], ledger=ledger, drain=0.05, heartbeat_process=False)
    thread = _started(worker, entered.is_set)
    worker.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert heard.is_set()
    assert handle.status() == RunStatus.PENDING


def test_it_says_in_one_line_each_what_happens_to_its_runs(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no")

    good, bad, waiting = Dag("good"), Dag("bad"), Dag("waiting")
    good.node(lambda: 1, label="one")
    bad.node(fail)
    waiting.wait_event("go")
    handles = [
        good.submit(ledger=ledger, run_id="good"),
        bad.submit(ledger=ledger, run_id="bad", max_attempts=2),
        waiting.submit(ledger=ledger, run_id="waiting"),
    ]
    with caplog.at_level(logging.INFO, logger="milepost.worker"):
        Worker([good, bad, waiting], ledger=ledger, heartbeat_process=False).run_until_idle()
    told = [record.getMessage() for record in caplog.records]
    assert [handle.status() for handle in handles] == ["completed", "pending", "suspended"]
    assert "run good of 'good' claimed" in told
    assert any(line.startswith("run good completed after 0.") for line in told)
    (retry,) = [line for line in told if line.startswith("run bad failed")]
    assert " in step 'fail': ValueError: no; attempt 2 of 2 in " in retry
    assert any(line.startswith("run waiting suspended after ") for line in told)
    assert [record.levelname for record in caplog.records if "failed" in record.getMessage()] == ["WARNING"]


def test_a_worker_that_was_idle_works_again_when_it_is_asked_to(ledger: Ledger) -> None:
    dag = Dag("greet")
    dag.node(lambda: "hello", label="hello")
    worker = Worker([dag], ledger=ledger, heartbeat_process=False)
    for _ in range(2):
        handle = dag.submit(ledger=ledger)
        assert worker.run_until_idle() == 1
        assert handle.result(0) == "hello"
