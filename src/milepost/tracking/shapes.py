"""What the client gives back: tuples and dicts with the names of the system it is a face of."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple, Self, TypedDict

__all__ = ["CheckpointRow", "Claim", "RunRow", "Spawned", "StatusChange", "TaskRow", "WorkflowRunRow"]


class Spawned(tuple[Any, Any, Any]):  # noqa: SLOT001 - a tuple has no room for slots
    """``(task_id, run_id, workflow_run_id)``; ``is_new`` is False where the idempotency key had been used.

    Example:
        >>> spawned = Spawned("task", "run", "workflow", is_new=True)
        >>> task_id, run_id, workflow_run_id = spawned
        >>> spawned.run_id, spawned.is_new
        ('run', True)
    """

    is_new: bool

    def __new__(cls, task_id: Any, run_id: Any, workflow_run_id: Any, *, is_new: bool) -> Self:
        """Make the triple."""
        made = super().__new__(cls, (task_id, run_id, workflow_run_id))
        made.is_new = is_new
        return made

    @property
    def task_id(self) -> Any:
        """The task: one run of the ledger, whatever becomes of its claims."""
        return self[0]

    @property
    def run_id(self) -> Any:
        """The claim that comes next."""
        return self[1]

    @property
    def workflow_run_id(self) -> Any:
        """The workflow run it is linked to, else ``run_id``."""
        return self[2]


class Claim(NamedTuple):
    """A claimed task. ``params``, ``headers`` and ``event_payload`` are plain JSON."""

    run_id: Any
    task_id: Any
    attempt: int
    task_name: str
    params: Any
    retry_strategy: dict[str, Any] | None
    max_attempts: int
    headers: Any
    wake_event: str | None
    event_payload: Any


class TaskRow(TypedDict):
    """A task as it stands."""

    task_id: Any
    task_name: str
    params: Any
    headers: Any
    retry_strategy: dict[str, Any] | None
    max_attempts: int
    cancellation: dict[str, Any] | None
    enqueue_at: datetime
    first_started_at: datetime | None
    state: str
    attempts: int
    last_attempt_run: Any
    completed_payload: Any
    cancelled_at: datetime | None
    idempotency_key: str | None
    workflow_run_id: Any
    tenant_id: None


class RunRow(TypedDict):
    """One claim of a task, or the one that comes next."""

    run_id: Any
    task_id: Any
    attempt: int
    state: str
    claimed_by: str | None
    claim_expires_at: datetime | None
    available_at: datetime | None
    wake_event: str | None
    event_payload: Any
    started_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    result: Any
    failure_reason: dict[str, Any] | None
    created_at: datetime
    last_heartbeat: datetime | None
    tenant_id: None


class CheckpointRow(TypedDict):
    """A checkpoint of a task."""

    checkpoint_name: str
    state: Any
    status: str
    owner_run_id: Any
    updated_at: datetime


class StatusChange(TypedDict):
    """One report of a workflow run's status."""

    status: str
    result: Any
    error: Any
    reported_at: datetime


class WorkflowRunRow(TypedDict):
    """A workflow run; ``tasks`` counts its tasks by state, ``progress`` is the share of them that is over."""

    workflow_run_id: Any
    workflow_name: str
    workflow_version: str | None
    workflow_hash: str | None
    status: str
    absurd_run_id: Any
    absurd_queue: str | None
    inputs: Any
    created_by: str | None
    tags: Any
    result: Any
    error: Any
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    task_count: int
    tasks: dict[str, int]
    progress: float | None
    history: list[StatusChange]
