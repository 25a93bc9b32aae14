"""What an observer is told, in which order, and what a store of records must do."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from milepost.records import ExecutionRecord, RunContext, RunStatus

__all__ = ["ExecutionRecordStore", "RunObserver"]


@runtime_checkable
class RunObserver(Protocol):
    """Told of the life of a run. Arguments are passed by position.

    The order is: start of the pipeline, of a process, of a step, perhaps the step's error, end of the step, of the
    process, of the pipeline. A plan is anything with ``pipeline_type``, ``process_type`` or ``step_type``.
    """

    def on_pipeline_start(self, plan: Any, params: Any, ctx: RunContext) -> None:
        """Hear that a pipeline has started."""
        ...

    def on_pipeline_end(self, ctx: RunContext, status: RunStatus, duration_ms: int) -> None:
        """Hear that a pipeline has ended."""
        ...

    def on_process_start(self, plan: Any, ctx: RunContext, process_run_id: str) -> None:
        """Hear that a process has started; ``ctx`` is its pipeline's."""
        ...

    def on_process_end(self, process_run_id: str, status: RunStatus, duration_ms: int) -> None:
        """Hear that a process has ended."""
        ...

    def on_step_start(self, plan: Any, ctx: RunContext, step_run_id: str) -> None:
        """Hear that a step has started; ``ctx`` names its process."""
        ...

    def on_step_error(self, step_run_id: str, exc: BaseException) -> None:
        """Hear what a step has raised; its end follows."""
        ...

    def on_step_end(self, step_run_id: str, status: RunStatus, duration_ms: int) -> None:
        """Hear that a step has ended."""
        ...


class ExecutionRecordStore(Protocol):
    """Where records go. May be called by several threads at once."""

    def write_record(self, record: ExecutionRecord, /) -> None:
        """Keep a record."""
        ...
