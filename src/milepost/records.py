"""Execution records: one flat, immutable row for each pipeline, process and step that has ended.

Fields, their order, their types and what may be missing are those of the execution records that analysts know; the
three tables have a column for every field but ``event``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from milepost.schema import ColumnSchema, ColumnType, DatetimeType, Dtype

__all__ = [
    "EventName",
    "ExecutionRecord",
    "PipelineRunRecord",
    "ProcessRunRecord",
    "RecordField",
    "RunContext",
    "RunStatus",
    "StepRunRecord",
    "get_record_schema",
    "get_record_table_name",
    "to_row",
]


class RunStatus(StrEnum):
    """How a pipeline, process or step has ended."""

    SUCCESS = "success"
    FAILED = "failed"


class EventName(StrEnum):
    """What happens in the life of a run."""

    PIPELINE_START = "pipeline_start"
    PIPELINE_END = "pipeline_end"
    PROCESS_START = "process_start"
    PROCESS_END = "process_end"
    STEP_START = "step_start"
    STEP_END = "step_end"
    STEP_ERROR = "step_error"


class RecordField(StrEnum):
    """The names of the tables and of the fields of records."""

    PIPELINE_RUNS = "pipeline_runs"
    PROCESS_RUNS = "process_runs"
    STEP_RUNS = "step_runs"
    EVENT = "event"
    RUN_ID = "run_id"
    CORRELATION_ID = "correlation_id"
    ATTEMPT = "attempt"
    STARTED_AT = "started_at"
    STATUS = "status"
    DURATION_MS = "duration_ms"
    ERROR = "error"
    ERROR_TYPE = "error_type"
    ERROR_MESSAGE = "error_message"
    FAILED_STEP_RUN_ID = "failed_step_run_id"
    FAILED_STEP = "failed_step"
    PIPELINE = "pipeline"
    PROCESS_RUN_ID = "process_run_id"
    PROCESS = "process"
    STEP_RUN_ID = "step_run_id"
    STEP = "step"


@dataclass(frozen=True)
class RunContext:
    """What all events of one attempt of a pipeline share.

    Attributes:
        run_id: New for every attempt.
        correlation_id: Groups the attempts of one job.
        attempt: Counted from 1.
        last_attempt: Whether no further attempt follows.
        process_run_id: The process that a step belongs to.
    """

    run_id: str
    correlation_id: str | None = None
    attempt: int = 1
    last_attempt: bool = True
    process_run_id: str | None = None


def to_row(record: ExecutionRecord) -> dict[str, Any]:
    """Return the row of a record's table: every field but ``event``, in order, its status as plain text.

    Example:
        >>> now = datetime(2026, 1, 2)
        >>> record = StepRunRecord(EventName.STEP_END, "r", None, 1, "s", "Load", now, RunStatus.SUCCESS, 12, None)
        >>> list(to_row(record).items())[:4]
        [('run_id', 'r'), ('correlation_id', None), ('attempt', 1), ('step_run_id', 's')]
    """
    row = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    del row["event"]
    row["status"] = str(row["status"])
    return row


@dataclass(frozen=True)
class PipelineRunRecord:
    """A pipeline that has ended."""

    event: EventName
    run_id: str
    correlation_id: str | None
    attempt: int
    pipeline: str
    started_at: datetime
    status: RunStatus
    duration_ms: int
    error: str | None
    error_type: str | None = None
    error_message: str | None = None
    failed_step_run_id: str | None = None
    failed_step: str | None = None

    def to_row(self) -> dict[str, Any]:
        """Return the row of its table: every field but ``event``, in order."""
        return to_row(self)


@dataclass(frozen=True)
class ProcessRunRecord:
    """A process that has ended."""

    event: EventName
    run_id: str
    correlation_id: str | None
    attempt: int
    process_run_id: str
    process: str
    started_at: datetime
    status: RunStatus
    duration_ms: int
    error: str | None
    error_type: str | None = None
    error_message: str | None = None
    failed_step_run_id: str | None = None
    failed_step: str | None = None

    def to_row(self) -> dict[str, Any]:
        """Return the row of its table: every field but ``event``, in order."""
        return to_row(self)


@dataclass(frozen=True)
class StepRunRecord:
    """A step that has ended."""

    event: EventName
    run_id: str
    correlation_id: str | None
    attempt: int
    step_run_id: str
    step: str
    started_at: datetime
    status: RunStatus
    duration_ms: int
    error: str | None
    process_run_id: str | None = None
    error_type: str | None = None
    error_message: str | None = None

    def to_row(self) -> dict[str, Any]:
        """Return the row of its table: every field but ``event``, in order."""
        return to_row(self)


ExecutionRecord = PipelineRunRecord | ProcessRunRecord | StepRunRecord

_TABLES: Final[dict[type[ExecutionRecord], RecordField]] = {
    PipelineRunRecord: RecordField.PIPELINE_RUNS,
    ProcessRunRecord: RecordField.PROCESS_RUNS,
    StepRunRecord: RecordField.STEP_RUNS,
}
_NUMBERS: Final = ("attempt", "duration_ms")
_NULLABLE: Final = ("correlation_id", "error", "error_type", "error_message", "failed_step_run_id", "failed_step")


def _schema(record_type: type[ExecutionRecord]) -> tuple[ColumnSchema, ...]:
    columns = []
    for field in dataclasses.fields(record_type):
        name = field.name
        if name == "event":
            continue
        dtype: ColumnType = Dtype.INT64 if name in _NUMBERS else Dtype.UTF8
        if name == "started_at":
            dtype = DatetimeType("us", "UTC")
        is_nullable = name in _NULLABLE or (record_type is StepRunRecord and name == "process_run_id")
        columns.append(ColumnSchema(name, dtype, nullable=is_nullable))
    return tuple(columns)


_SCHEMAS: Final = {record_type: _schema(record_type) for record_type in _TABLES}


def get_record_schema(record_type: type[ExecutionRecord]) -> tuple[ColumnSchema, ...]:
    """Return the columns of the table that records of a type go to, in order.

    Raises:
        KeyError: It is none of the three record types.

    Example:
        >>> [column.name for column in get_record_schema(StepRunRecord)][:4]
        ['run_id', 'correlation_id', 'attempt', 'step_run_id']
    """
    return _SCHEMAS[record_type]


def get_record_table_name(record_type: type[ExecutionRecord]) -> str:
    """Return the name of the table that records of a type go to.

    Raises:
        KeyError: It is none of the three record types.

    Example:
        >>> str(get_record_table_name(PipelineRunRecord))
        'pipeline_runs'
    """
    return _TABLES[record_type]
