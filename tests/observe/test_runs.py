"""Every kind of run tells those who observe it: starts as they happen, ends once they are durable."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from milepost import Dag, Ledger, Worker, step
from milepost.observe import (
    CompositeObserver,
    ExecutionRecordsObserver,
    LoggingObserver,
    MemoryRecordStore,
    observing,
)
from milepost.records import ExecutionRecord, RunStatus


@pytest.fixture
def ledger() -> Any:
    with Ledger.open(":memory:") as opened:
        yield opened


@pytest.fixture(params=["sync", "async"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(way: str, dag: Dag, **options: Any) -> Any:
    return asyncio.run(dag.run_async(**options)) if way == "async" else dag.run(**options)


def numbers(count: int) -> list[int]:
    return list(range(count))


def double(n: int) -> int:
    if n == 2:
        raise ValueError("two")
    return 2 * n


def total(items: list[int]) -> int:
    return sum(items)


def sums() -> Dag:
    with Dag("sums") as dag:
        dag.node(total, items=dag.map(double, dag.node(numbers)))
    return dag


def test_a_dag_run_is_a_pipeline_and_its_steps_are_steps(way: str, ledger: Ledger) -> None:
    store = MemoryRecordStore()
    with observing(ExecutionRecordsObserver(store)):
        made = run(way, sums(), count=2, ledger=ledger)
    (pipeline,) = store.pipelines()
    assert (pipeline.pipeline, pipeline.run_id, pipeline.status, pipeline.attempt) == (
        "sums",
        made.run_id,
        RunStatus.SUCCESS,
        1,
    )
    assert sorted(record.step for record in store.steps()) == ["double[0]", "double[1]", "numbers", "total"]
    assert all(record.run_id == made.run_id for record in store.records)
    assert store.records[-1] is pipeline


def test_the_first_failure_is_on_the_pipelines_record(way: str, ledger: Ledger) -> None:
    store = MemoryRecordStore()
    with observing(ExecutionRecordsObserver(store)):
        run(way, sums(), count=3, ledger=ledger, max_concurrency=1)
    (pipeline,) = store.pipelines()
    assert (pipeline.status, pipeline.error, pipeline.error_type) == ("failed", "ValueError('two')", "ValueError")
    assert pipeline.failed_step == "double[2]"


def test_every_attempt_of_a_step_has_a_record_of_its_own(way: str, ledger: Ledger) -> None:
    tries: list[int] = []

    @step(retries=2)
    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")
        return 1

    with Dag("retried") as dag:
        dag.node(flaky)
    store = MemoryRecordStore()
    with observing(ExecutionRecordsObserver(store)):
        run(way, dag, ledger=ledger).result()
    assert [str(record.status) for record in store.steps()] == ["failed", "failed", "success"]
    assert len({record.step_run_id for record in store.steps()}) == 3


def test_an_end_is_told_when_it_is_durable(way: str, ledger: Ledger) -> None:
    seen: list[tuple[str, str]] = []

    class Store:
        def write_record(self, record: ExecutionRecord, /) -> None:
            found = ledger.require_run(record.run_id)
            seen.append((record.event, found.status.value))

    with observing(ExecutionRecordsObserver(Store())):
        run(way, sums(), count=1, ledger=ledger)
    assert seen[-1] == ("pipeline_end", "completed")


def test_an_interrupt_is_a_failure_of_its_type(ledger: Ledger) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with Dag("interrupted") as dag:
        dag.node(interrupted)
    store = MemoryRecordStore()
    with observing(ExecutionRecordsObserver(store)), pytest.raises(KeyboardInterrupt):
        dag.run(ledger=ledger)
    assert [str(record.status) for record in store.records] == ["failed", "failed"]
    assert {record.error_type for record in store.records} == {"KeyboardInterrupt"}


def test_a_run_that_is_resumed_tells_its_next_attempt(way: str, ledger: Ledger) -> None:
    broken = {"is": True}

    def fail(n: int) -> int:
        if broken["is"]:
            raise ValueError("no")
        return n

    with Dag("resumed") as dag:
        dag.node(fail)
    store = MemoryRecordStore()
    with observing(ExecutionRecordsObserver(store)):
        made = run(way, dag, n=1, ledger=ledger)
        broken["is"] = False
        dag.resume(made.run_id, ledger=ledger)
    assert [(record.attempt, str(record.status)) for record in store.pipelines()] == [(1, "failed"), (2, "success")]


def test_a_worker_tells_of_the_runs_it_executes(ledger: Ledger) -> None:
    dag = sums()
    store = MemoryRecordStore()
    handle = dag.submit({"count": 2}, ledger=ledger, correlation_id="job")
    with observing(ExecutionRecordsObserver(store)):
        Worker([dag], ledger=ledger, heartbeat_process=False).run_until_idle()
    assert handle.result(10) == 2
    assert {record.correlation_id for record in store.records} == {"job"}
    assert len(store.pipelines()) == 1


def test_an_observer_that_fails_harms_no_run(way: str, ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError(name)

    store = MemoryRecordStore()
    with observing(Broken(), ExecutionRecordsObserver(store)) as told:  # type: ignore[arg-type]
        assert run(way, sums(), count=2, ledger=ledger).result() == 2
    assert isinstance(told, CompositeObserver)
    assert told.failures == 10
    assert len(store.records) == 5
    assert "observer_error" in caplog.text


def test_nobody_is_told_outside(way: str, ledger: Ledger) -> None:
    store = MemoryRecordStore()
    with observing(ExecutionRecordsObserver(store)):
        pass
    run(way, sums(), count=1, ledger=ledger)
    assert store.records == []


def test_observers_within_observers_are_all_told(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    outer, inner = MemoryRecordStore(), MemoryRecordStore()
    with caplog.at_level(logging.INFO, "milepost.runs"), observing(ExecutionRecordsObserver(outer), LoggingObserver()):
        with observing(ExecutionRecordsObserver(inner)):
            sums().run(count=1, ledger=ledger)
        sums().run(count=1, ledger=ledger)
    assert (len(outer.pipelines()), len(inner.pipelines())) == (2, 1)
    assert caplog.text.count("pipeline_end") == 2


def test_runs_inside_a_run_are_told_of_too(way: str, ledger: Ledger) -> None:
    with Dag("inner") as inner:
        inner.node(double)
    with Dag("outer") as outer:
        outer.node(total, items=outer.map(inner, outer.node(numbers), label="each"))
    store = MemoryRecordStore()
    with observing(ExecutionRecordsObserver(store)):
        assert run(way, outer, count=2, ledger=ledger).result() == 2
    assert sorted(record.pipeline for record in store.pipelines()) == ["inner", "inner", "outer"]
