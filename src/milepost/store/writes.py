"""What is written and found through a store, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from milepost.model import Run, RunPayload
from milepost.states import RunStatus

__all__ = [
    "CheckpointWrite",
    "ClaimedTask",
    "EdgeWrite",
    "FaultHook",
    "NewRun",
    "NewTask",
    "NewWait",
    "ProgressWrite",
    "Rescued",
    "RunEnd",
    "RunFilter",
    "RunWrite",
    "StepInput",
    "StepRow",
    "StepWrite",
    "Submitted",
    "Write",
]

FaultHook = Callable[[str], None]
"""Called with the name of a point in a commit; tests use it to kill the process there."""


class StepWrite(NamedTuple):
    """A step's start or end, in the order of the columns that the statement binds."""

    run_id: str
    label: str
    attempt: int
    seq: int
    lease_epoch: int
    kind: str
    parent: str | None
    status: str
    input: str | None
    output: str | None
    storage: str
    output_hash: str | None
    error_type: str | None
    error_message: str | None
    error_traceback: str | None
    progress_total: int | None
    started_at: int
    finished_at: int | None


class EdgeWrite(NamedTuple):
    """A downstream step took an upstream's output."""

    run_id: str
    upstream: str
    downstream: str
    traversed_at: int


class ProgressWrite(NamedTuple):
    """How far a running step says it is."""

    run_id: str
    label: str
    attempt: int
    lease_epoch: int
    progress_done: int | None
    progress_total: int | None
    progress_message: str | None


class CheckpointWrite(NamedTuple):
    """A value that user code saves by name."""

    run_id: str
    label: str
    name: str
    value: str
    lease_epoch: int
    saved_at: int


@dataclass(slots=True)
class RunEnd:
    """How a run ends, or goes back to its queue.

    ``outcome`` is None for an end; with status ``pending`` it is ``"retry"`` (this attempt failed,
    the next is due at ``available_at``) or ``"release"`` (given back unfinished); with status
    ``suspended`` it is ``"pause"`` (nobody goes on with it until somebody restarts it).
    """

    status: RunStatus
    now: int
    error_step: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    error_traceback: str | None = None
    outcome: str | None = None
    available_at: int | None = None


@dataclass(slots=True)
class RunWrite:
    """Everything one driver commits at once for one run."""

    run_id: str
    lease_epoch: int
    starts: Sequence[StepWrite] = ()
    ends: Sequence[StepWrite] = ()
    edges: Sequence[EdgeWrite] = ()
    progress: Sequence[ProgressWrite] = ()
    checkpoints: Sequence[CheckpointWrite] = ()
    end: RunEnd | None = None

    @property
    def is_plain(self) -> bool:
        """Whether this holds ends of steps and nothing else."""
        return not (self.edges or self.starts or self.progress or self.checkpoints or self.end)


@dataclass(slots=True)
class NewRun:
    """A run that starts in this process, with everything it begins with."""

    run_id: str
    workflow: str
    kind: str
    definition_hash: str
    definition: str
    inputs: str
    owner: str
    now: int
    lease_until: int
    version: str | None = None
    target: str | None = None
    tags: str = "{}"
    headers: str = "{}"
    correlation_id: str | None = None
    parent_run_id: str | None = None
    parent_step: str | None = None
    root_run_id: str | None = None
    replay_of: str | None = None
    created_by: str | None = None
    attempt: int = 1


Write = NewRun | RunWrite


@dataclass(slots=True, kw_only=True)
class NewTask:
    """A run that is put into a queue, for whoever claims it. Texts are JSON."""

    run_id: str
    workflow: str
    kind: str
    queue: str
    inputs: str
    now: int
    definition_hash: str | None = None
    definition: str | None = None
    priority: int = 0
    available_at: int | None = None
    max_attempts: int = 1
    idempotency_key: str | None = None
    version: str | None = None
    target: str | None = None
    tags: str = "{}"
    headers: str = "{}"
    policies: str = "{}"
    correlation_id: str | None = None
    parent_run_id: str | None = None
    parent_step: str | None = None
    root_run_id: str | None = None
    replay_of: str | None = None
    created_by: str | None = None


class Submitted(NamedTuple):
    """What became of a task that was submitted.

    ``is_new`` is False where its idempotency key was used before; then ``is_same`` says whether the
    workflow and the inputs are those of the first run.
    """

    run_id: str
    is_new: bool
    is_same: bool = True


class ClaimedTask(NamedTuple):
    """A run that was leased, with what it takes to execute it."""

    run: Run
    payload: RunPayload


class NewWait(NamedTuple):
    """What a run begins to wait for: a time (``sleep``), or an event until an optional time."""

    run_id: str
    lease_epoch: int
    label: str
    kind: str
    scope: str | None
    event: str | None
    wake_at: int | None


class Rescued(NamedTuple):
    """A run that was taken from an owner that died; ``is_over``: it ended failed instead of going back."""

    run_id: str
    owner: str
    is_over: bool


class StepRow(NamedTuple):
    """One attempt of a step, as a restart needs it."""

    label: str
    parent: str | None
    attempt: int
    status: str
    storage: str
    run_attempt: int
    started_at: int
    kind: str
    seq: int


class StepInput(NamedTuple):
    """What a completed step was given, and under which claim; skipped ones were executed by another run."""

    label: str
    input: str | None
    lease_epoch: int
    origin_run_id: str | None


@dataclass(slots=True)
class RunFilter:
    """Which runs to list, newest first.

    ``before`` is the (created_at, run_id) of the last run of the page before.
    """

    status: RunStatus | None = None
    workflow: str | None = None
    since: int | None = None
    parent_run_id: str | None = None
    created_by: str | None = None
    is_top: bool = False  # no runs inside other runs
    before: tuple[int, str] | None = None
    limit: int = field(default=50)
