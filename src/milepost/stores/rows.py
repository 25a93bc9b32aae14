"""Rows as statements bind them: tuples, in the order of the fields, which spares a dictionary for each.

A statement names its row type in its head, ``-- name: insert_run (RunRow)``; what the fields are in a
database follows from their annotations.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, get_type_hints

from milepost.store import CheckpointWrite, EdgeWrite, NewRun, NewTask, ProgressWrite, RunWrite, StepWrite

__all__ = [
    "ROW_TYPES",
    "AttemptRow",
    "EndRow",
    "FenceRow",
    "PayloadRow",
    "RunRow",
    "TaskRow",
    "end_row",
    "fields_of",
    "is_number",
    "payload_row",
    "run_row",
    "task_row",
]


class RunRow(NamedTuple):
    """A run that begins claimed."""

    run_id: str
    workflow: str
    version: str | None
    hash: str
    kind: str
    owner: str
    now: int
    lease: int
    lease_until: int
    correlation_id: str | None
    parent_run_id: str | None
    root_run_id: str
    replay_of: str | None
    created_by: str | None
    parent_step: str | None
    attempt: int


class TaskRow(NamedTuple):
    """A run that waits in a queue."""

    run_id: str
    workflow: str
    version: str | None
    hash: str | None
    kind: str
    queue: str
    priority: int
    available_at: int | None
    max_attempts: int
    idempotency_key: str | None
    correlation_id: str | None
    parent_run_id: str | None
    root_run_id: str
    replay_of: str | None
    created_by: str | None
    parent_step: str | None
    now: int


class PayloadRow(NamedTuple):
    """What a run begins with."""

    run_id: str
    inputs: str
    target: str | None
    tags: str
    headers: str
    policies: str


class AttemptRow(NamedTuple):
    """A claim of a run."""

    run_id: str
    lease_epoch: int
    attempt: int
    owner: str
    now: int


class EndRow(NamedTuple):
    """How a run, and its last claim, ends."""

    run_id: str
    lease_epoch: int
    status: str
    now: int
    error_step: str | None
    error_type: str | None
    error_message: str | None


class FenceRow(NamedTuple):
    """A run, and the epoch under which it is written to."""

    run_id: str
    lease_epoch: int


ROW_TYPES: Final[dict[str, Any]] = {
    row.__name__: row
    for row in (
        StepWrite,
        EdgeWrite,
        ProgressWrite,
        CheckpointWrite,
        RunRow,
        TaskRow,
        PayloadRow,
        AttemptRow,
        EndRow,
        FenceRow,
    )
}


def fields_of(row_type: str) -> tuple[str, ...]:
    """Return the names of a row type's fields."""
    fields: tuple[str, ...] = ROW_TYPES[row_type]._fields
    return fields


def is_number(row_type: str) -> tuple[bool, ...]:
    """Return for each field of a row type whether it is a whole number; what is not is a text."""
    hints = get_type_hints(ROW_TYPES[row_type])
    return tuple(hints[field] in (int, int | None) for field in fields_of(row_type))


def run_row(new: NewRun) -> RunRow:
    """Return the row of a run that begins claimed."""
    return RunRow(
        new.run_id,
        new.workflow,
        new.version,
        new.definition_hash,
        new.kind,
        new.owner,
        new.now,
        new.lease_until - new.now,
        new.lease_until,
        new.correlation_id,
        new.parent_run_id,
        new.root_run_id or new.run_id,
        new.replay_of,
        new.created_by,
        new.parent_step,
        new.attempt,
    )


def task_row(task: NewTask) -> TaskRow:
    """Return the row of a run that waits."""
    return TaskRow(
        task.run_id,
        task.workflow,
        task.version,
        task.definition_hash,
        task.kind,
        task.queue,
        task.priority,
        task.available_at,
        task.max_attempts,
        task.idempotency_key,
        task.correlation_id,
        task.parent_run_id,
        task.root_run_id or task.run_id,
        task.replay_of,
        task.created_by,
        task.parent_step,
        task.now,
    )


def payload_row(new: NewRun | NewTask) -> PayloadRow:
    """Return the row beside a run's own."""
    if isinstance(new, NewTask):
        return PayloadRow(new.run_id, new.inputs, new.target, new.tags, new.headers, new.policies)
    return PayloadRow(new.run_id, new.inputs, new.target, new.tags, new.headers, "{}")


def end_row(write: RunWrite) -> EndRow:
    """Return the row of a run's end."""
    end = write.end
    assert end is not None
    return EndRow(
        write.run_id,
        write.lease_epoch,
        end.status.value,
        end.now,
        end.error_step,
        end.error_type,
        end.error_message,
    )
