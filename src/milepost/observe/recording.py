"""From what an observer is told to records in a store."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from milepost.observe.protocol import ExecutionRecordStore
from milepost.records import (
    EventName,
    ExecutionRecord,
    PipelineRunRecord,
    ProcessRunRecord,
    RunContext,
    RunStatus,
    StepRunRecord,
)

__all__ = ["ExecutionRecordsObserver"]


@dataclass(frozen=True, slots=True)
class _Begun:
    ctx: RunContext
    name: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class _Error:
    """What a step raised; ``place`` counts errors, so that the first can be told from the last."""

    place: int
    error: str
    error_type: str
    error_message: str


@dataclass(frozen=True, slots=True)
class _Failure:
    step_run_id: str
    step: str
    error: _Error


class ExecutionRecordsObserver:
    """Writes a record into a store at each end of a pipeline, process or step; nothing at starts.

    A step that fails gives its error to its process and its pipeline; of several, the one that failed first. The store
    is called outside the observer's lock, so that steps that run in parallel do not wait for each other. Nothing is
    kept of a run once its outermost unit has ended.

    Args:
        store: Where the records go.

    Example:
        >>> from milepost.observe import ExecutionRecordsObserver, MemoryRecordStore
        >>> from milepost.records import RunContext, RunStatus
        >>> class Load: ...
        >>> class Plan:
        ...     step_type = Load
        >>> store = MemoryRecordStore()
        >>> observer = ExecutionRecordsObserver(store)
        >>> observer.on_step_start(Plan, RunContext("r1"), "s1")
        >>> observer.on_step_end("s1", RunStatus.SUCCESS, 12)
        >>> store.steps()[0].step, store.steps()[0].duration_ms
        ('Load', 12)
    """

    def __init__(self, store: ExecutionRecordStore) -> None:
        """Begin with nothing heard."""
        self._store = store
        self._lock = threading.Lock()
        self._pipelines: dict[str, _Begun] = {}
        self._processes: dict[str, _Begun] = {}
        self._steps: dict[str, _Begun] = {}
        self._errors: dict[str, _Error] = {}
        self._failed_pipelines: dict[str, _Failure] = {}
        self._failed_processes: dict[str, _Failure] = {}
        self._count = 0

    def on_pipeline_start(self, plan: Any, params: Any, ctx: RunContext) -> None:
        """Note when a pipeline started."""
        self._begin(self._pipelines, ctx.run_id, plan.pipeline_type, ctx)

    def on_process_start(self, plan: Any, ctx: RunContext, process_run_id: str) -> None:
        """Note when a process started."""
        self._begin(self._processes, process_run_id, plan.process_type, ctx)

    def on_step_start(self, plan: Any, ctx: RunContext, step_run_id: str) -> None:
        """Note when a step started."""
        self._begin(self._steps, step_run_id, plan.step_type, ctx)

    def _begin(self, begun: dict[str, _Begun], key: str, unit: type, ctx: RunContext) -> None:
        now = datetime.now(tz=UTC)
        with self._lock:
            begun[key] = _Begun(ctx, unit.__name__, now)

    def on_step_error(self, step_run_id: str, exc: BaseException) -> None:
        """Note what a step has raised; the error of an unknown step is dropped."""
        with self._lock:
            if step_run_id in self._steps:
                self._count += 1
                self._errors[step_run_id] = _Error(self._count, repr(exc), type(exc).__name__, str(exc))

    def on_step_end(self, step_run_id: str, status: RunStatus, duration_ms: int) -> None:
        """Write the record of a step."""
        with self._lock:
            begun = self._steps.pop(step_run_id, None)
            error = self._errors.pop(step_run_id, None)
            if begun is None:
                return
            ctx = begun.ctx
            if status == RunStatus.FAILED and error is not None:
                failure = _Failure(step_run_id, begun.name, error)
                # Only of what is open: a step that runs alone must leave nothing behind.
                if ctx.process_run_id in self._processes:
                    _keep_first(self._failed_processes, ctx.process_run_id, failure)
                if ctx.run_id in self._pipelines:
                    _keep_first(self._failed_pipelines, ctx.run_id, failure)
        self._write(
            StepRunRecord(
                event=EventName.STEP_END,
                run_id=ctx.run_id,
                correlation_id=ctx.correlation_id,
                attempt=ctx.attempt,
                step_run_id=step_run_id,
                step=begun.name,
                started_at=begun.started_at,
                status=status,
                duration_ms=duration_ms,
                error=None if error is None else error.error,
                process_run_id=ctx.process_run_id,
                error_type=None if error is None else error.error_type,
                error_message=None if error is None else error.error_message,
            )
        )

    def on_process_end(self, process_run_id: str, status: RunStatus, duration_ms: int) -> None:
        """Write the record of a process."""
        with self._lock:
            begun = self._processes.pop(process_run_id, None)
            failure = self._failed_processes.pop(process_run_id, None)
        if begun is None:
            return
        self._write(
            ProcessRunRecord(
                event=EventName.PROCESS_END,
                run_id=begun.ctx.run_id,
                correlation_id=begun.ctx.correlation_id,
                attempt=begun.ctx.attempt,
                process_run_id=process_run_id,
                process=begun.name,
                started_at=begun.started_at,
                status=status,
                duration_ms=duration_ms,
                **_told(failure),
            )
        )

    def on_pipeline_end(self, ctx: RunContext, status: RunStatus, duration_ms: int) -> None:
        """Write the record of a pipeline."""
        with self._lock:
            begun = self._pipelines.pop(ctx.run_id, None)
            failure = self._failed_pipelines.pop(ctx.run_id, None)
        if begun is None:
            return
        self._write(
            PipelineRunRecord(
                event=EventName.PIPELINE_END,
                run_id=begun.ctx.run_id,
                correlation_id=begun.ctx.correlation_id,
                attempt=begun.ctx.attempt,
                pipeline=begun.name,
                started_at=begun.started_at,
                status=status,
                duration_ms=duration_ms,
                **_told(failure),
            )
        )

    def _write(self, record: ExecutionRecord) -> None:
        self._store.write_record(record)


def _keep_first(failures: dict[str, _Failure], key: str | None, failure: _Failure) -> None:
    assert key is not None
    known = failures.get(key)
    if known is None or failure.error.place < known.error.place:
        failures[key] = failure


def _told(failure: _Failure | None) -> dict[str, Any]:
    if failure is None:
        return {"error": None}
    return {
        "error": failure.error.error,
        "error_type": failure.error.error_type,
        "error_message": failure.error.error_message,
        "failed_step_run_id": failure.step_run_id,
        "failed_step": failure.step,
    }
