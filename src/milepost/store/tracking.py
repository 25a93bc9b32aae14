"""The verbs of workflow runs and of tasks that are claimed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from milepost.model import Run, RunPayload, Wait
from milepost.store.writes import NewTask, NewWait, Submitted

__all__ = ["HandClaim", "HandEnd", "NewWorkflowRun", "Refused", "StatusReport", "Tracking", "WorkflowFilter"]


class HandClaim(NamedTuple):
    """A task that was claimed by hand; ``wait`` is what it waited for last, where it was suspended before."""

    run: Run
    payload: RunPayload
    wait: Wait | None


class Refused(NamedTuple):
    """Why a claim by hand could not write: the run as it is, None where there is none.

    ``is_cancelled``: it was held, and somebody had asked to cancel it, which has happened now.
    """

    run: Run | None
    is_cancelled: bool = False


class HandEnd(NamedTuple):
    """How a claim by hand failed: ``available_at`` says when the next attempt is due, where ``is_retried``."""

    error_type: str
    error_message: str
    reason: str
    is_retried: bool
    available_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkflowRun:
    """A workflow run that is tracked from outside. Texts are JSON, as are the values of ``tags``."""

    run_id: str
    workflow: str
    version: str
    inputs: str
    tags_text: str
    tags: Sequence[tuple[str, str]]
    headers: str
    created_by: str | None
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """What somebody says of a workflow run; None leaves what is there."""

    run_id: str
    status: str
    now: int
    result: str | None = None
    error: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    started_at: int | None = None
    completed_at: int | None = None
    task_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowFilter:
    """Which workflow runs to list, newest first."""

    run_id: str | None = None
    workflow: str | None = None
    version: str | None = None
    status: str | None = None
    created_by: str | None = None
    since: int | None = None
    until: int | None = None
    tag: str | None = None
    tag_name: str | None = None
    tag_value: str | None = None
    before_at: int | None = None
    before_id: str | None = None
    limit: int = 50


class Tracking(Protocol):
    """What programs outside the engine do; with ``conn``, in the caller's own transaction."""

    def look(self, statement: str, /, *, conn: Any = None, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a reading statement, on the caller's connection where one is given; nothing is locked."""
        ...

    def find_task(self, first: str, last: str, *, conn: Any = None) -> Run | None:
        """Return the run whose id lies between the two, or None."""
        ...

    def spawn_task(
        self, task: NewTask, *, start_by: int | None = None, max_duration: int | None = None, conn: Any = None
    ) -> Submitted:
        """Put a task into a queue, linked to its parent, which must be a workflow run."""
        ...

    def spawn_tasks(
        self, tasks: Sequence[NewTask], limits: Sequence[tuple[int | None, int | None]], *, conn: Any = None
    ) -> list[Submitted]:
        """Put tasks into queues in one transaction."""
        ...

    def claim_by_hand(
        self,
        queue: str,
        *,
        owner: str,
        now: int,
        lease: int,
        limit: int,
        max_rescues: int,
        reason: tuple[str, str],
        conn: Any = None,
    ) -> list[HandClaim]:
        """Enforce limits, rescue what was left behind, and lease up to ``limit`` due tasks of a queue."""
        ...

    def complete_by_hand(
        self, run_id: str, generation: int, *, result: str, now: int, conn: Any = None
    ) -> Refused | None:
        """End a task as completed; return None, or why not."""
        ...

    def fail_by_hand(self, run_id: str, generation: int, end: HandEnd, *, now: int, conn: Any = None) -> Refused | None:
        """End an attempt as failed, running or suspended; return None, or why not."""
        ...

    def cancel_by_hand(self, run_id: str, *, now: int, reason: tuple[str, str], conn: Any = None) -> bool | None:
        """Cancel a task, or ask its holder to stop; False where it is over, None where there is none."""
        ...

    def extend_by_hand(self, run_id: str, generation: int, *, now: int, lease: int, conn: Any = None) -> Refused | None:
        """Move the end of a lease to so long from now; return None, or why not."""
        ...

    def save_by_hand(
        self,
        run_id: str,
        generation: int,
        name: str,
        value: str,
        *,
        now: int,
        lease: int | None,
        conn: Any = None,
    ) -> Refused | None:
        """Save a checkpoint under a name, and extend the lease where one is given; return None, or why not."""
        ...

    def wait_by_hand(
        self, run_id: str, generation: int, wait: NewWait, *, now: int, is_look: bool, conn: Any = None
    ) -> Refused | Wait:
        """Register a wait and suspend the run, in one step; a wait that is resolved is returned as it is.

        With ``is_look`` nothing waits: what has not happened is recorded as timed out.
        """
        ...

    def move_by_hand(
        self, run_id: str, generation: int | None, *, wake_at: int, now: int, conn: Any = None
    ) -> Refused | None:
        """Let a task be due at a time: one that waits is moved, one that runs is suspended until then."""
        ...

    def requeue_by_hand(self, run_id: str, *, now: int, conn: Any = None) -> Run | None:
        """Give a failed or cancelled task one more attempt; return it as it was found, or None."""
        ...

    def enforce_limits(self, now: int, limit: int) -> int:
        """Cancel what did not start or finish in time; return how many."""
        ...

    def create_queue(self, name: str, *, now: int, conn: Any = None) -> None:
        """Remember a queue's name."""
        ...

    def drop_queue(self, name: str, *, now: int, conn: Any = None) -> None:
        """Delete a queue with its events and its finished tasks."""
        ...

    def delete_tasks(self, queue: str, *, before: int, limit: int, conn: Any = None) -> int:
        """Delete finished tasks of a queue with all that belongs to them, oldest first; return how many."""
        ...

    def delete_queue_events(self, scope: str, *, before: int, limit: int, force: bool, conn: Any = None) -> int:
        """Delete events of a queue that no unfinished task of it may still ask for; return how many."""
        ...

    def create_workflow_run(self, new: NewWorkflowRun, *, conn: Any = None) -> None:
        """Record a workflow run."""
        ...

    def report_status(self, report: StatusReport, *, conn: Any = None) -> Run | None:
        """Change a workflow run's status; return it as it was found, None where there is none.

        Raises:
            InvalidTransition: The change is not legal; nothing was written.
        """
        ...

    def list_workflow_runs(self, filter_: WorkflowFilter, *, conn: Any = None) -> list[Run]:
        """Return a page of workflow runs, newest first."""
        ...
