"""What an engine finds of a task whose process died: executions that nobody told of, ends that only a file tells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from milepost.clock import to_micros
from milepost.model import StepAttempt, StepKind, Storage
from milepost.stages.book import TaskBook
from milepost.stages.models import StageStatus
from milepost.stages.stage import BaseStage
from milepost.states import StepStatus
from milepost.store import StepWrite

__all__ = ["missing_rows", "note_crashes"]


def note_crashes(book: TaskBook, rows: Iterable[StepAttempt], now: int) -> list[BaseStage[Any]]:
    """Write into the histories which executions a death or a request cut short; return the stages concerned.

    Args:
        book: The task's stages, as they are stored.
        rows: The ledger's rows of the task's steps. One that was cancelled, and that no entry tells of,
            is such an execution.
        now: Ledger time.
    """
    touched: dict[str, BaseStage[Any]] = {}
    for row in rows:
        stage = book.by_name.get(row.label)
        if stage is None or row.status != StepStatus.CANCELLED or _is_told(stage, row.started_at):
            continue
        state = stage.state
        if state.status not in (StageStatus.CREATED, StageStatus.RETRY, StageStatus.RUNNING):
            continue  # the file of its state was written before the ledger could hear of it
        if state.status != StageStatus.RUNNING:  # stored before that execution, and so without what it began with
            if state.attempts == 0:
                book.carry_forward(stage)
            state.attempts += 1
        before = StageStatus.CREATED if state.attempts <= 1 else StageStatus.RETRY
        state.status = StageStatus.RUNNING
        is_death = row.error_type == "ProcessDied"
        book.change(stage, "interrupt" if is_death else "cancel")
        message = "cut short: its process died" if is_death else f"canceled: {row.error_message}"
        book.note(stage, (before, row.started_at), (state.status, row.finished_at or now), message)
        touched[stage.stage_name] = stage
    for stage in book.stages:
        if stage.state.status == StageStatus.RUNNING:  # died before the ledger heard of its start
            book.change(stage, "interrupt")
            before = StageStatus.CREATED if stage.state.attempts <= 1 else StageStatus.RETRY
            book.note(stage, (before, now), (stage.state.status, now), "cut short: its process died")
            touched[stage.stage_name] = stage
    return list(touched.values())


def missing_rows(book: TaskBook, rows: Sequence[StepAttempt]) -> list[StepWrite]:
    """Return the rows of stages whose end stands in a file that was written just before its process died."""
    completed = {row.label for row in rows if row.status == StepStatus.COMPLETED}
    seq = max((row.seq for row in rows), default=0)
    missing = []
    for stage in book.stages:
        name = stage.stage_name
        if stage.state.status != StageStatus.COMPLETE or name in completed:
            continue
        last = stage.state.history[-1]
        attempt = max((row.attempt for row in rows if row.label == name), default=0) + 1
        seq += 1
        row = StepWrite(
            run_id=book.task_id,
            label=name,
            attempt=attempt,
            seq=seq,
            lease_epoch=book.lease_epoch,
            kind=StepKind.STEP,
            parent=None,
            status=StepStatus.COMPLETED.value,
            input="{}",
            output=None,
            storage=Storage.NONE,
            output_hash=None,
            error_type=None,
            error_message=None,
            error_traceback=None,
            progress_total=None,
            started_at=_micros(last.begin_ts),
            finished_at=_micros(last.end_ts),
        )
        missing.append(row)
    return missing


def _is_told(stage: BaseStage[Any], started_at: int) -> bool:
    return any(_micros(entry.begin_ts) == started_at for entry in stage.state.history)


def _micros(timestamp: str) -> int:
    return to_micros(datetime.fromisoformat(timestamp))
