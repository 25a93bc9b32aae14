"""A step pauses its run: what is left, and how it goes on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from milepost import Dag, Ledger, RunStatus, StepStatus, Worker, step
from milepost.errors import DagPause, RunPaused
from milepost.runtime.keeper import keeper_of


@pytest.fixture
def ledger() -> Ledger:
    return Ledger.open(":memory:")


def latest(ledger: Ledger, run_id: str) -> dict[str, str]:
    return {step.label: step.status.value for step in ledger.list_steps(run_id)}


class Gate:
    """A step that pauses its run until it is opened."""

    def __init__(self) -> None:
        self.is_open = False
        self.calls = 0

    def __call__(self, n: int) -> int:
        self.calls += 1
        if not self.is_open:
            raise DagPause("look at it first")
        return n + 1


def double(n: int) -> int:
    return 2 * n


def test_a_step_that_pauses_leaves_its_row_pending_and_runs_again_when_the_run_goes_on(
    way: Any, ledger: Ledger
) -> None:
    gate = Gate()
    dag = Dag("gated")
    first = dag.node(double, n=2)
    dag.node(double, label="after", n=dag.node(gate, label="gate", n=first))
    run = way.run(dag, ledger=ledger)
    assert (run.status, run.failed_step, run.error) == (RunStatus.SUSPENDED, "gate", "DagPause: look at it first")
    assert latest(ledger, run.run_id) == {"double": "completed", "gate": "pending"}
    with pytest.raises(RunPaused, match=r"is paused \(look at it first\)"):
        run.result()
    gate.is_open = True
    assert way.resume(dag, run.run_id, ledger=ledger).result() == 10
    assert gate.calls == 2
    tries = [(s.label, s.attempt, s.status) for s in ledger.list_steps(run.run_id) if s.label == "gate"]
    assert tries == [("gate", 1, StepStatus.CANCELLED), ("gate", 2, StepStatus.COMPLETED)]
    assert list(ledger.check()) == []


def test_siblings_that_run_already_finish_before_the_run_is_paused(
    way: Any, ledger: Ledger, release: threading.Event
) -> None:
    began = threading.Event()

    def slow() -> int:
        began.set()
        assert release.wait(10)
        return 7

    def pause() -> None:
        assert began.wait(10)
        release.set()
        raise DagPause

    dag = Dag("siblings")
    dag.node(double, n=dag.node(slow), label="next")
    dag.node(pause)
    run = way.run(dag, ledger=ledger)
    assert run.status == RunStatus.SUSPENDED
    assert run.error == "DagPause: step 'pause' asked for it"
    assert latest(ledger, run.run_id) == {"slow": "completed", "pause": "pending"}


def test_a_map_with_a_pausing_element_goes_on_with_the_elements_that_are_left(way: Any, ledger: Ledger) -> None:
    gate = Gate()
    ran: list[int] = []

    def check(n: int) -> int:
        ran.append(n)
        return gate(n) if n == 3 else n

    dag = Dag("mapped")
    dag.node(sum, label="sum", iterable=dag.map(check, [1, 2, 3, 4, 5], concurrency=1, label="check"))
    run = way.run(dag, ledger=ledger)
    assert latest(ledger, run.run_id) == {
        "check": "pending",
        "check[0]": "completed",
        "check[1]": "completed",
        "check[2]": "pending",
    }
    gate.is_open = True
    assert way.resume(dag, run.run_id, ledger=ledger).result() == 1 + 2 + 4 + 4 + 5
    assert ran == [1, 2, 3, 3, 4, 5]


def test_a_failure_beside_a_pause_fails_the_run(way: Any, ledger: Ledger) -> None:
    paused = threading.Event()

    def pause() -> None:
        paused.set()
        raise DagPause

    def fail() -> None:
        assert paused.wait(10)
        raise ValueError("no")

    dag = Dag("both")
    dag.node(fail)
    dag.node(pause)
    run = way.run(dag, ledger=ledger)
    assert (run.status, run.failed_step) == (RunStatus.FAILED, "fail")


def test_a_pause_inside_a_task_group_is_still_a_pause(way: Any, ledger: Ledger) -> None:
    async def part() -> None:
        raise DagPause("from a task")

    async def whole() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(part())

    dag = Dag("group")
    dag.node(whole)
    run = way.run(dag, ledger=ledger)
    assert (run.status, run.error) == (RunStatus.SUSPENDED, "DagPause: from a task")


def test_a_pause_is_no_failure_that_a_retry_repeats(way: Any, ledger: Ledger) -> None:
    calls: list[int] = []

    @step(retries=3)
    def pause() -> None:
        calls.append(1)
        raise DagPause

    dag = Dag("retried")
    dag.node(pause)
    assert way.run(dag, ledger=ledger).status == RunStatus.SUSPENDED
    assert calls == [1]


def test_a_submitted_run_that_pauses_waits_for_somebody_to_take_it_up(ledger: Ledger) -> None:
    gate = Gate()
    dag = Dag("queued")
    dag.node(gate, label="gate", n=1)
    handle = dag.submit(ledger=ledger)
    worker = Worker([dag], ledger=ledger, heartbeat_process=False)
    worker.run_until_idle()
    assert handle.status() == RunStatus.SUSPENDED
    assert worker.run_until_idle() == 0
    gate.is_open = True
    dag.resume(handle.run_id, ledger=ledger)
    assert handle.result(0) == 2


def test_a_run_that_was_asked_to_pause_from_elsewhere_pauses_after_the_step_that_runs(
    way: Any, ledger: Ledger, eventually: Any
) -> None:
    dag = Dag("asked")

    def ask() -> int:
        (run,) = ledger.list_runs()
        assert ledger.store.request_pause(run.run_id, ledger.clock.now())
        return 1

    def wait(n: int) -> int:
        eventually(lambda: heard)
        return n

    heard: list[int] = []
    first = dag.node(ask)
    second = dag.node(wait, n=first)
    dag.node(double, n=second)

    def listen() -> None:
        eventually(lambda: any(s.pause_reason for s, _ in keeper_of(ledger)._sessions.values()))
        heard.append(1)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    run = way.run(dag, ledger=ledger)
    listener.join(10)
    assert (run.status, run.error) == (RunStatus.SUSPENDED, "DagPause: somebody asked to pause the run")
    assert latest(ledger, run.run_id) == {"ask": "completed", "wait": "completed"}
    assert way.resume(dag, run.run_id, ledger=ledger).result() == 2
