"""Execution records: their fields, their tables, and what an observer makes of what it is told."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from milepost.observe import (
    CompositeObserver,
    ExecutionRecordsObserver,
    LoggingObserver,
    MemoryRecordStore,
    RunObserver,
)
from milepost.records import (
    EventName,
    PipelineRunRecord,
    ProcessRunRecord,
    RecordField,
    RunContext,
    RunStatus,
    StepRunRecord,
    get_record_schema,
    get_record_table_name,
    to_row,
)
from milepost.schema import ColumnSchema, DatetimeType, Dtype


class Nightly: ...


class Extract: ...


class Load: ...


class Plan:
    pipeline_type = Nightly
    process_type = Extract
    step_type = Load


@pytest.fixture
def store() -> MemoryRecordStore:
    return MemoryRecordStore()


@pytest.fixture
def observer(store: MemoryRecordStore) -> ExecutionRecordsObserver:
    return ExecutionRecordsObserver(store)


CTX = RunContext("r1", "job", 2)
INNER = dataclasses.replace(CTX, process_run_id="p1")


def tell(observer: RunObserver, *, status: RunStatus = RunStatus.SUCCESS, error: BaseException | None = None) -> None:
    observer.on_pipeline_start(Plan, object(), CTX)
    observer.on_process_start(Plan, CTX, "p1")
    observer.on_step_start(Plan, INNER, "s1")
    if error is not None:
        observer.on_step_error("s1", error)
    observer.on_step_end("s1", status, 10)
    observer.on_process_end("p1", status, 11)
    observer.on_pipeline_end(CTX, status, 12)


# --- the records ---------------------------------------------------------------------------------


def test_the_fields_of_records_are_the_ones_analysts_know_in_their_order() -> None:
    shared = ["event", "run_id", "correlation_id", "attempt"]
    ends = ["started_at", "status", "duration_ms", "error"]
    failed = ["error_type", "error_message", "failed_step_run_id", "failed_step"]
    names = {cls: [field.name for field in dataclasses.fields(cls)] for cls in ALL}
    assert names[PipelineRunRecord] == [*shared, "pipeline", *ends, *failed]
    assert names[ProcessRunRecord] == [*shared, "process_run_id", "process", *ends, *failed]
    assert names[StepRunRecord] == [
        *shared,
        "step_run_id",
        "step",
        *ends,
        "process_run_id",
        "error_type",
        "error_message",
    ]


ALL = (PipelineRunRecord, ProcessRunRecord, StepRunRecord)


def test_the_enumerations_say_what_they_always_said() -> None:
    assert [str(status) for status in RunStatus] == ["success", "failed"]
    assert all(member.value == member.name.lower() for enum in (EventName, RecordField) for member in enum)
    assert (len(EventName), len(RecordField)) == (7, 20)


@pytest.mark.parametrize("cls", ALL)
def test_a_table_has_a_column_for_every_field_but_the_event(cls: type[Any]) -> None:
    columns = get_record_schema(cls)
    assert [column.name for column in columns] == [field.name for field in dataclasses.fields(cls)][1:]
    kinds = {column.name: column for column in columns}
    assert kinds["started_at"] == ColumnSchema("started_at", DatetimeType("us", "UTC"), nullable=False)
    assert kinds["attempt"] == ColumnSchema("attempt", Dtype.INT64, nullable=False)
    nullable = {column.name for column in columns if column.nullable}
    expected = {"correlation_id", "error", "error_type", "error_message"}
    expected |= {"process_run_id"} if cls is StepRunRecord else {"failed_step_run_id", "failed_step"}
    assert nullable == expected


def test_a_row_is_the_same_from_the_record_and_from_the_module() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    record = StepRunRecord(EventName.STEP_END, "r", None, 2, "s1", "Load", now, RunStatus.FAILED, 12, "E()")
    row = to_row(record)
    assert row == record.to_row()
    assert list(row) == [field.name for field in dataclasses.fields(record)][1:]
    assert type(row["status"]) is str
    assert row["started_at"] is now


def test_any_other_type_has_no_table() -> None:
    class Sub(StepRunRecord): ...

    for cls in (Sub, dict):
        with pytest.raises(KeyError):
            get_record_schema(cls)  # type: ignore[arg-type]
        with pytest.raises(KeyError):
            get_record_table_name(cls)  # type: ignore[arg-type]
    assert [get_record_table_name(cls) for cls in ALL] == ["pipeline_runs", "process_runs", "step_runs"]


def test_a_row_has_plain_text_for_the_status_and_the_moment_as_it_is(store: MemoryRecordStore) -> None:
    tell(ExecutionRecordsObserver(store))
    row = store.steps()[0].to_row()
    assert "event" not in row
    assert type(row["status"]) is str
    assert row["started_at"].tzinfo is UTC
    assert list(row) == [column.name for column in get_record_schema(StepRunRecord)]


def test_records_and_observers_load_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import milepost.records, milepost.observe;"
        "print(sorted({'pydantic', 'pyarrow', 'psycopg', 'opentelemetry'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the observer --------------------------------------------------------------------------------


def test_one_record_is_written_at_each_end_children_first(
    observer: ExecutionRecordsObserver, store: MemoryRecordStore
) -> None:
    before = datetime.now(tz=UTC)
    tell(observer)
    step, process, pipeline = store.records
    assert isinstance(step, StepRunRecord)
    assert isinstance(process, ProcessRunRecord)
    assert isinstance(pipeline, PipelineRunRecord)
    assert (step.event, process.event, pipeline.event) == ("step_end", "process_end", "pipeline_end")
    assert (step.step, process.process, pipeline.pipeline) == ("Load", "Extract", "Nightly")
    assert (step.duration_ms, process.duration_ms, pipeline.duration_ms) == (10, 11, 12)
    assert before <= pipeline.started_at <= process.started_at <= step.started_at
    for record in store.records:
        assert (record.run_id, record.correlation_id, record.attempt) == ("r1", "job", 2)
        assert (record.status, record.error) == (RunStatus.SUCCESS, None)
    assert step.process_run_id == "p1"


@pytest.mark.parametrize("error", [ValueError("no\nway"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failed_step_is_told_of_on_its_process_and_pipeline(
    observer: ExecutionRecordsObserver, store: MemoryRecordStore, error: BaseException
) -> None:
    tell(observer, status=RunStatus.FAILED, error=error)
    for record in store.records:
        assert record.status == RunStatus.FAILED
        assert record.error == repr(error)
        assert (record.error_type, record.error_message) == (type(error).__name__, str(error))
    pipeline, process = store.pipelines()[0], store.processes()[0]
    assert (pipeline.failed_step, pipeline.failed_step_run_id) == ("Load", "s1")
    assert (process.failed_step, process.failed_step_run_id) == ("Load", "s1")


def test_of_several_failures_the_first_is_the_pipelines(
    observer: ExecutionRecordsObserver, store: MemoryRecordStore
) -> None:
    observer.on_pipeline_start(Plan, None, CTX)
    observer.on_process_start(Plan, CTX, "p1")
    for name in ("s1", "s2"):
        observer.on_step_start(Plan, INNER, name)
    observer.on_step_error("s2", ValueError("first"))
    observer.on_step_error("s1", ValueError("second"))
    observer.on_step_end("s1", RunStatus.FAILED, 1)  # though it ends first
    observer.on_step_end("s2", RunStatus.FAILED, 1)
    observer.on_process_end("p1", RunStatus.FAILED, 1)
    observer.on_pipeline_end(CTX, RunStatus.FAILED, 1)
    assert store.pipelines()[0].error_message == store.processes()[0].error_message == "first"


def test_an_end_without_a_start_and_a_second_end_write_nothing(
    observer: ExecutionRecordsObserver, store: MemoryRecordStore
) -> None:
    observer.on_step_end("nowhere", RunStatus.SUCCESS, 1)
    observer.on_process_end("nowhere", RunStatus.SUCCESS, 1)
    observer.on_pipeline_end(RunContext("nowhere"), RunStatus.SUCCESS, 1)
    observer.on_step_error("nowhere", ValueError())
    tell(observer)
    count = len(store.records)
    observer.on_step_end("s1", RunStatus.SUCCESS, 1)
    assert len(store.records) == count


def test_a_second_start_replaces_the_first(observer: ExecutionRecordsObserver, store: MemoryRecordStore) -> None:
    observer.on_step_start(Plan, CTX, "s1")
    observer.on_step_start(Plan, RunContext("r2"), "s1")
    observer.on_step_end("s1", RunStatus.SUCCESS, 1)
    assert store.steps()[0].run_id == "r2"


def test_a_failed_end_without_an_error_says_no_more_than_that(
    observer: ExecutionRecordsObserver, store: MemoryRecordStore
) -> None:
    tell(observer, status=RunStatus.FAILED)
    assert all(record.status == RunStatus.FAILED and record.error is None for record in store.records)


def test_an_error_before_a_success_stays_on_the_step_alone(
    observer: ExecutionRecordsObserver, store: MemoryRecordStore
) -> None:
    tell(observer, error=ValueError("handled"))
    assert store.steps()[0].error_message == "handled"
    assert store.pipelines()[0].error is None


def test_a_pipeline_that_succeeds_after_a_failed_step_carries_the_failure(
    observer: ExecutionRecordsObserver, store: MemoryRecordStore
) -> None:
    observer.on_pipeline_start(Plan, None, CTX)
    observer.on_step_start(Plan, CTX, "s1")
    observer.on_step_error("s1", ValueError("no"))
    observer.on_step_end("s1", RunStatus.FAILED, 1)
    observer.on_pipeline_end(CTX, RunStatus.SUCCESS, 1)
    assert (store.pipelines()[0].status, store.pipelines()[0].error_message) == ("success", "no")


def test_nothing_is_kept_once_everything_has_ended(observer: ExecutionRecordsObserver) -> None:
    tell(observer, status=RunStatus.FAILED, error=ValueError())
    observer.on_step_start(Plan, RunContext("alone", process_run_id="px"), "alone")
    observer.on_step_error("alone", ValueError())
    observer.on_step_end("alone", RunStatus.FAILED, 1)
    observer.on_step_error("unknown", ValueError())
    state = [value for value in vars(observer).values() if isinstance(value, dict)]
    assert len(state) == 6
    assert not any(state)


def test_the_store_is_called_outside_the_lock() -> None:
    meeting = threading.Barrier(2, timeout=10)

    class Slow:
        def write_record(self, record: Any, /) -> None:
            meeting.wait()  # passes only if two writes are under way at once

    observer = ExecutionRecordsObserver(Slow())
    for name in ("s1", "s2"):
        observer.on_step_start(Plan, CTX, name)
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(observer.on_step_end, name, RunStatus.SUCCESS, 1) for name in ("s1", "s2")]:
            future.result()


def test_many_threads_lose_no_record(observer: ExecutionRecordsObserver, store: MemoryRecordStore) -> None:
    def work(number: int) -> None:
        for place in range(50):
            observer.on_step_start(Plan, RunContext(f"r{number}"), f"{number}-{place}")
            observer.on_step_end(f"{number}-{place}", RunStatus.SUCCESS, 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len({record.step_run_id for record in store.steps()}) == 400


# --- several observers ----------------------------------------------------------------------------


class Broken:
    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any) -> None:
            raise OSError(f"{name} is broken")

        return fail


def test_an_observer_that_fails_is_reported_and_the_others_are_told(
    store: MemoryRecordStore, caplog: pytest.LogCaptureFixture
) -> None:
    both = CompositeObserver([Broken(), ExecutionRecordsObserver(store)])
    tell(both, error=ValueError())
    assert len(store.records) == 3
    assert both.failures == 7
    assert "observer_error observer=Broken error=OSError('on_pipeline_start is broken')" in caplog.text


def test_a_strict_one_tells_all_and_raises_the_first_failure(store: MemoryRecordStore) -> None:
    both = CompositeObserver([Broken(), ExecutionRecordsObserver(store)], strict=True)
    with pytest.raises(OSError, match="on_pipeline_start"):
        both.on_pipeline_start(Plan, None, CTX)
    with pytest.raises(OSError, match="on_pipeline_end"):
        both.on_pipeline_end(CTX, RunStatus.SUCCESS, 1)
    assert len(store.pipelines()) == 1


def test_what_is_logged_is_one_line_an_event_with_names_and_a_warning_of_slow_steps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "milepost.runs"):
        tell(LoggingObserver(slow_step_threshold_ms=9), status=RunStatus.FAILED, error=ValueError("no"))
    assert [record.event for record in caplog.records] == [  # type: ignore[attr-defined]
        "pipeline_start",
        "process_start",
        "step_start",
        "step_error",
        "step_end",
        "slow_step",
        "process_end",
        "pipeline_end",
    ]
    assert "step=Load" in caplog.text
    assert caplog.records[3].levelno == logging.ERROR
    assert caplog.records[5].levelno == logging.WARNING


def test_observers_are_told_apart_from_what_is_none(store: MemoryRecordStore) -> None:
    for observer in (ExecutionRecordsObserver(store), CompositeObserver([]), LoggingObserver()):
        assert isinstance(observer, RunObserver)
    assert not isinstance(store, RunObserver)


# --- the store in memory ---------------------------------------------------------------------------


def test_the_store_in_memory_answers_what_one_asks_of_it(
    observer: ExecutionRecordsObserver, store: MemoryRecordStore
) -> None:
    tell(observer)
    tell(observer, status=RunStatus.FAILED, error=ValueError("no"))
    assert len(store.of_run("r1")) == len(store.of_correlation("job")) == 6
    assert len(store.failures()) == 3
    last = store.last_run("Nightly")
    assert last is not None
    assert last.status == RunStatus.FAILED
    assert store.last_run("Other") is None
    assert store.steps("Load") == store.steps()
    with pytest.raises(TypeError, match="dict"):
        store.write_record({})  # type: ignore[arg-type]
    store.clear()
    assert store.records == []
