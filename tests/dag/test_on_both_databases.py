"""Sub-runs, restarts, replays and pauses on SQLite files and on PostgreSQL, by a driver here and by a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from postgres import new_schema, server_url

from milepost import Dag, DagPause, DagRunner, Ledger, RunStatus, StepStatus, Worker


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    url = str(tmp_path / "runs.db") if request.param == "sqlite" else new_schema(server_url())
    with Ledger.open(url) as opened:
        yield opened


Perform = Callable[[Dag], str]


@pytest.fixture(params=["here", "worker"])
def perform(request: pytest.FixtureRequest, ledger: Ledger) -> Perform:
    """Run a Dag and return the run's id."""

    def run(dag: Dag) -> str:
        if request.param == "here":
            return asyncio.run(DagRunner(dag, ledger).run()).run_id
        handle = dag.submit(ledger=ledger)
        Worker([dag], ledger=ledger, heartbeat_process=False).run_until_idle()
        return handle.run_id

    return run


class Job:
    """A map over a sub-DAG and a map of a switch, joined; what its steps do is changed from outside."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.hurt: Callable[[int], None] = lambda n: None
        inner = Dag("inner")
        inner.node(self.second, n=inner.node(self.first))
        self.dag = Dag("job")
        numbers = self.dag.node(self.numbers)
        parts = self.dag.map(inner, numbers, label="part", concurrency=1)
        routed = self.dag.map(self.route, numbers, label="route")
        ways = self.dag.map(self.dag.switch({"even": self.first, "odd": inner}, label="way"), routed, concurrency=1)
        self.dag.node(self.join, parts=parts, ways=ways)

    def numbers(self) -> list[int]:
        return [1, 2, 3]

    def first(self, n: int) -> int:
        self.ran.append(f"first {n}")
        return n

    def second(self, n: int) -> int:
        self.ran.append(f"second {n}")
        self.hurt(n)
        return 10 * n

    def route(self, number: int) -> tuple[str, int]:
        return "odd" if number % 2 else "even", number

    def join(self, parts: list[int], ways: list[int]) -> list[int]:
        return [*parts, *ways]

    RESULT = [10, 20, 30, 10, 2, 30]


def test_everything_inside_everything_completes_and_is_linked(ledger: Ledger, perform: Perform) -> None:
    job = Job()
    run_id = perform(job.dag)
    assert ledger.get_result(run_id) == Job.RESULT
    inside = ledger.list_runs(parent_run_id=run_id)
    assert {run.parent_step for run in inside} == {
        *(f"part[{n}]" for n in range(3)),
        "way[0]:odd",
        "way[1]:even",
        "way[2]:odd",
    }
    assert {run.root_run_id for run in inside} == {run_id}
    assert list(ledger.check()) == []


def test_a_failure_inside_is_restarted_from_what_had_completed(ledger: Ledger, perform: Perform) -> None:
    job = Job()

    def fail(n: int) -> None:
        if n == 2:
            raise ValueError("two")

    job.hurt = fail
    run_id = perform(job.dag)
    run = ledger.require_run(run_id)
    assert (run.status, run.error_step, run.error_type) == (RunStatus.FAILED, "part[1]", "ValueError")
    job.hurt = lambda n: None
    done = {step.label for step in ledger.list_steps(run_id) if step.status == StepStatus.COMPLETED}
    job.ran.clear()
    assert asyncio.run(DagRunner(job.dag, ledger).restart(run_id)).outputs == {"join": Job.RESULT}
    assert job.ran.count("first 2") == (1 if "way[1]" not in done else 0)  # that of the switch; part[1]'s had completed
    assert list(ledger.check()) == []


def test_a_pause_inside_suspends_the_whole_family_and_the_restart_completes_it(
    ledger: Ledger, perform: Perform
) -> None:
    job = Job()

    def pause(n: int) -> None:
        if n == 3:
            raise DagPause("look at three")

    job.hurt = pause
    run_id = perform(job.dag)
    run = ledger.require_run(run_id)
    assert (run.status, run.error_message) == (RunStatus.SUSPENDED, "look at three")
    assert ledger.why(run_id).code == "paused"
    job.hurt = lambda n: None
    assert asyncio.run(DagRunner(job.dag, ledger).restart(run_id)).outputs == {"join": Job.RESULT}
    assert {run.status for run in ledger.list_runs(inner=True)} == {RunStatus.COMPLETED}
    assert list(ledger.check()) == []


def test_a_replay_runs_one_element_and_what_depends_on_it(ledger: Ledger, perform: Perform) -> None:
    job = Job()
    run_id = perform(job.dag)
    job.ran.clear()
    again = job.dag.submit_replay(run_id, ["part[1]"], ledger=ledger)
    Worker([job.dag], ledger=ledger, heartbeat_process=False).run_until_idle()
    assert again.result(0) == Job.RESULT
    assert job.ran == ["first 2", "second 2"]
    ran = {step.label for step in ledger.list_steps(again.run_id) if step.status == StepStatus.COMPLETED}
    assert ran == {"part", "part[1]", "join"}
    assert list(ledger.check()) == []


def test_a_family_is_deleted_together(ledger: Ledger, perform: Perform) -> None:

    perform(Job().dag)
    ledger.delete_runs(older_than=timedelta(0))
    assert ledger.list_runs(inner=True) == []


def test_a_sub_run_is_written_by_its_newest_holder_alone(ledger: Ledger, perform: Perform) -> None:
    job = Job()

    def fail(n: int) -> Any:
        raise ValueError("no")

    job.hurt = fail
    run_id = perform(job.dag)
    job.hurt = lambda n: None
    job.dag.resume(run_id, ledger=ledger)
    child = next(run for run in ledger.list_runs(parent_run_id=run_id) if run.parent_step == "part[0]")
    assert (child.lease_epoch, child.attempt, child.status) == (2, 2, RunStatus.COMPLETED)
    assert [claim.status for claim in ledger.list_attempts(child.run_id)] == ["failed", "completed"]


def waiting(*, nested: bool = False) -> Dag:
    """A Dag with an event and a sleep inside its sub-DAGs."""
    inner = Dag("inner")
    given = inner.wait_event("go", label="go")
    inner.node(lambda given, n: given + n, label="sum", given=given)
    if nested:
        middle = Dag("middle")
        middle.node(inner, label="inner")
        inner = middle
    dag = Dag("waiting")
    dag.node(sum, label="total", iterable=dag.map(inner, [1, 2], label="part"), start=0)
    return dag


@pytest.mark.parametrize("nested", [False, True])
def test_a_run_whose_sub_runs_wait_for_an_event_holds_no_worker_and_goes_on_with_it(
    ledger: Ledger, nested: bool
) -> None:
    dag = waiting(nested=nested)
    handle = dag.submit(ledger=ledger)
    worker = Worker([dag], ledger=ledger, heartbeat_process=False)
    assert worker.run_until_idle() == 1  # it comes back, although nothing has ended
    assert {run.status for run in ledger.list_runs(inner=True)} == {RunStatus.SUSPENDED}
    assert {run.lease_owner for run in ledger.list_runs(inner=True)} == {None}
    assert ledger.why(handle.run_id).code == "waiting_for_event"
    ledger.emit_event("go", 10)
    worker.run_until_idle()
    assert handle.result(0) == 23
    assert {run.status for run in ledger.list_runs(inner=True)} == {RunStatus.COMPLETED}
    assert list(ledger.check()) == []


def test_a_sleep_inside_a_sub_run_wakes_the_run_around_it(ledger: Ledger) -> None:
    inner = Dag("inner")
    inner.node(lambda n: n, label="after", after=inner.sleep(0.3))
    dag = Dag("sleeping")
    dag.node(inner, label="inner", n=5)
    handle = dag.submit(ledger=ledger)
    worker = Worker([dag], ledger=ledger, heartbeat_process=False)
    deadline = time.monotonic() + 30
    while handle.status() != RunStatus.COMPLETED:
        assert time.monotonic() < deadline
        worker.run_until_idle()
    assert handle.result(0) == 5


def test_an_event_that_was_emitted_before_lets_a_sub_run_pass(ledger: Ledger) -> None:
    ledger.emit_event("go", 1)
    dag = waiting()
    handle = dag.submit(ledger=ledger)
    Worker([dag], ledger=ledger, heartbeat_process=False).run_until_idle()
    assert handle.result(0) == 5
