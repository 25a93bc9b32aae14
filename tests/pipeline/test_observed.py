"""Observers hear of a pipeline's processes and steps by the plans of their classes, children first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from milepost import Ledger
from milepost.observe import ExecutionRecordsObserver, MemoryRecordStore, observing
from milepost.pipeline import Pipeline, Process, Step
from milepost.records import RunStatus


class Params(BaseModel, frozen=True):
    failing: str = ""


class Load(Step[Params]):
    result = "loaded"

    def execute(self, params: Params) -> list[int]:
        return [1, 2]


class Left(Step[Params]):
    def execute(self, params: Params, *, loaded: list[int]) -> int:
        if params.failing == "interrupt":
            raise KeyboardInterrupt
        if params.failing:
            raise ValueError(params.failing)
        return len(loaded)


class Right(Step[Params]):
    async def execute(self, params: Params, *, loaded: list[int]) -> int:
        return sum(loaded)


class Reading(Process[Params]):
    steps = [Load]


class Lefts(Process[Params]):
    steps = [Left]


class Rights(Process[Params]):
    steps = [Right]


class Work(Pipeline[Params]):
    processes = [Reading, [Lefts, Rights]]


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger.open(":memory:") as opened:
        yield opened


@pytest.fixture(params=["sync", "async"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def records_of(way: str, params: Params, **options: Any) -> list[Any]:
    store = MemoryRecordStore()
    with observing(ExecutionRecordsObserver(store)):
        try:
            if way == "sync":
                Work.run(params, **options)
            else:
                asyncio.run(Work.run_async(params, **options))
        except KeyboardInterrupt:
            pass
    return list(store.records)


def name_of(record: Any) -> str:
    return str(getattr(record, "step", None) or getattr(record, "process", None) or getattr(record, "pipeline", None))


def test_a_run_leaves_a_record_of_each_step_process_and_pipeline(way: str, ledger: Ledger) -> None:
    records = records_of(way, Params(), ledger=ledger, run_id="r", correlation_id="job", attempt=2)
    names = [name_of(record) for record in records]
    assert names[:2] == ["Load", "Reading"]
    assert sorted(names[2:6]) == ["Left", "Lefts", "Right", "Rights"]
    assert names[6:] == ["Work"]
    assert {(record.run_id, record.correlation_id, record.attempt) for record in records} == {("r", "job", 2)}
    assert {record.status for record in records} == {RunStatus.SUCCESS}
    by_name = dict(zip(names, records, strict=True))
    assert by_name["Left"].process_run_id == by_name["Lefts"].process_run_id == "r/Lefts"


def test_the_failing_steps_details_are_on_its_process_and_its_pipeline(way: str, ledger: Ledger) -> None:
    by_name = {name_of(record): record for record in records_of(way, Params(failing="no disk"), ledger=ledger)}
    for name in ("Left", "Lefts", "Work"):
        assert (by_name[name].status, by_name[name].error_type) == (RunStatus.FAILED, "ValueError")
    assert by_name["Work"].failed_step == by_name["Lefts"].failed_step == "Left"
    assert by_name["Work"].failed_step_run_id == by_name["Left"].step_run_id
    assert by_name["Reading"].status is RunStatus.SUCCESS


def test_an_interrupt_in_a_step_is_recorded_as_failed_with_its_type(ledger: Ledger) -> None:
    by_name = {name_of(record): record for record in records_of("sync", Params(failing="interrupt"), ledger=ledger)}
    for name in ("Left", "Lefts", "Work"):
        assert (by_name[name].status, by_name[name].error_type) == (RunStatus.FAILED, "KeyboardInterrupt")


def test_a_resumed_run_tells_of_what_it_does_and_not_of_what_was_done(ledger: Ledger) -> None:
    records_of("sync", Params(failing="no disk"), ledger=ledger, run_id="again")
    store = MemoryRecordStore()
    with observing(ExecutionRecordsObserver(store)):
        Work.resume("again", ledger=ledger)
    assert [name_of(record) for record in store.records] == ["Left", "Lefts", "Work"]
    assert {record.attempt for record in store.records} == {2}
