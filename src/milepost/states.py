"""The state machines of runs and steps, as data.

Everything that says which state may follow which lives here. The tables draw the diagrams in the
docs, the ledger repeats the state names as CHECKs, and every UPDATE names the state it expects.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Final

__all__ = [
    "ACTIVE_STATES",
    "CANCELABLE_STATES",
    "INACTIVE_STATES",
    "RUN_TRANSITIONS",
    "STAGE_TRANSITIONS",
    "STEP_TRANSITIONS",
    "TERMINAL_RUN",
    "TERMINAL_STEP",
    "WORKFLOW_TRANSITIONS",
    "RunStatus",
    "StageStatus",
    "StepStatus",
    "next_run_status",
    "next_stage_status",
    "next_step_status",
]


class RunStatus(StrEnum):
    """Where a run stands.

    Example:
        >>> RunStatus.COMPLETED == "completed"
        True
    """

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepStatus(StrEnum):
    """Where one attempt of a step stands.

    ``cancelled`` is an attempt that was stopped from outside (a request, Ctrl-C, the death of its
    process): it says nothing against the step and uses up none of its retries.
    """

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class StageStatus(Enum):
    """Where a stage of a staged task stands. ``CANCELED`` has one l, as in the records it comes from.

    Example:
        >>> StageStatus("COMPLETE")
        <StageStatus.COMPLETE: 'COMPLETE'>
    """

    UNBOUND = "UNBOUND"  # not bound to a task engine
    CREATED = "CREATED"  # bound, and not begun
    RUNNING = "RUNNING"
    RETRY = "RETRY"  # an execution failed or was cut short, and another may follow
    ERROR = "ERROR"  # failed for good
    COMPLETE = "COMPLETE"
    CANCELED = "CANCELED"


# (state, verb) -> state
RUN_TRANSITIONS: Final[dict[tuple[RunStatus, str], RunStatus]] = {
    (RunStatus.PENDING, "claim"): RunStatus.RUNNING,
    (RunStatus.PENDING, "cancel"): RunStatus.CANCELLED,
    (RunStatus.RUNNING, "complete"): RunStatus.COMPLETED,
    (RunStatus.RUNNING, "fail"): RunStatus.FAILED,
    (RunStatus.RUNNING, "cancel"): RunStatus.CANCELLED,
    (RunStatus.RUNNING, "suspend"): RunStatus.SUSPENDED,
    (RunStatus.RUNNING, "retry"): RunStatus.PENDING,
    (RunStatus.RUNNING, "release"): RunStatus.PENDING,
    (RunStatus.RUNNING, "rescue"): RunStatus.PENDING,
    (RunStatus.RUNNING, "resume"): RunStatus.RUNNING,
    (RunStatus.SUSPENDED, "wake"): RunStatus.PENDING,
    (RunStatus.FAILED, "requeue"): RunStatus.PENDING,
    (RunStatus.CANCELLED, "requeue"): RunStatus.PENDING,
    (RunStatus.SUSPENDED, "resume"): RunStatus.RUNNING,
    (RunStatus.SUSPENDED, "cancel"): RunStatus.CANCELLED,
    (RunStatus.FAILED, "resume"): RunStatus.RUNNING,
    (RunStatus.CANCELLED, "resume"): RunStatus.RUNNING,
    (RunStatus.COMPLETED, "roll back"): RunStatus.RUNNING,
    (RunStatus.FAILED, "roll back"): RunStatus.RUNNING,
    (RunStatus.CANCELLED, "roll back"): RunStatus.RUNNING,
}

STEP_TRANSITIONS: Final[dict[tuple[StepStatus, str], StepStatus]] = {
    (StepStatus.PENDING, "start"): StepStatus.RUNNING,
    (StepStatus.PENDING, "skip"): StepStatus.SKIPPED,
    (StepStatus.PENDING, "cancel"): StepStatus.CANCELLED,
    (StepStatus.RUNNING, "complete"): StepStatus.COMPLETED,
    (StepStatus.RUNNING, "fail"): StepStatus.FAILED,
    (StepStatus.RUNNING, "cancel"): StepStatus.CANCELLED,
}

# A stage's verbs, in the order of its life. ``interrupt``: the process died in it. ``refuse``: the task's budget
# is used up before it begins. ``rerun``: somebody runs the task again by hand. ``undo`` and ``reset``: a rollback
# undid it, or took back what it had begun.
STAGE_TRANSITIONS: Final[dict[tuple[StageStatus, str], StageStatus]] = {
    (StageStatus.UNBOUND, "bind"): StageStatus.CREATED,
    (StageStatus.UNBOUND, "cancel"): StageStatus.CANCELED,
    (StageStatus.CREATED, "start"): StageStatus.RUNNING,
    (StageStatus.CREATED, "refuse"): StageStatus.ERROR,
    (StageStatus.CREATED, "cancel"): StageStatus.CANCELED,
    (StageStatus.RUNNING, "complete"): StageStatus.COMPLETE,
    (StageStatus.RUNNING, "retry"): StageStatus.RETRY,
    (StageStatus.RUNNING, "interrupt"): StageStatus.RETRY,
    (StageStatus.RUNNING, "fail"): StageStatus.ERROR,
    (StageStatus.RUNNING, "cancel"): StageStatus.CANCELED,
    (StageStatus.RETRY, "start"): StageStatus.RUNNING,
    (StageStatus.RETRY, "refuse"): StageStatus.ERROR,
    (StageStatus.RETRY, "cancel"): StageStatus.CANCELED,
    (StageStatus.RETRY, "reset"): StageStatus.CREATED,
    (StageStatus.ERROR, "rerun"): StageStatus.CREATED,
    (StageStatus.ERROR, "reset"): StageStatus.CREATED,
    (StageStatus.CANCELED, "rerun"): StageStatus.CREATED,
    (StageStatus.CANCELED, "reset"): StageStatus.CREATED,
    (StageStatus.COMPLETE, "undo"): StageStatus.CREATED,
}

ACTIVE_STATES: Final = {StageStatus.CREATED, StageStatus.RUNNING, StageStatus.RETRY}
CANCELABLE_STATES: Final = {StageStatus.UNBOUND, StageStatus.CREATED, StageStatus.RUNNING, StageStatus.RETRY}
INACTIVE_STATES: Final = {StageStatus.COMPLETE, StageStatus.CANCELED, StageStatus.ERROR}

TERMINAL_RUN: Final = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
TERMINAL_STEP: Final = frozenset({StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.SKIPPED})

# A workflow run that is tracked from outside: which status may be reported next. The same again may add fields; of two
# reports of an end the later one stands; nothing comes back to life.
WORKFLOW_TRANSITIONS: Final[dict[RunStatus, frozenset[RunStatus]]] = {
    RunStatus.PENDING: frozenset({RunStatus.PENDING, RunStatus.RUNNING}) | TERMINAL_RUN,
    RunStatus.RUNNING: frozenset({RunStatus.RUNNING}) | TERMINAL_RUN,
    **dict.fromkeys(TERMINAL_RUN, TERMINAL_RUN),
}


def next_run_status(status: RunStatus, verb: str) -> RunStatus | None:
    """Return the state that the verb leads to, or None where it is not allowed.

    Example:
        >>> next_run_status(RunStatus.RUNNING, "complete")
        <RunStatus.COMPLETED: 'completed'>
        >>> next_run_status(RunStatus.COMPLETED, "resume") is None
        True
    """
    return RUN_TRANSITIONS.get((status, verb))


def next_step_status(status: StepStatus, verb: str) -> StepStatus | None:
    """Return the state that the verb leads to, or None where it is not allowed."""
    return STEP_TRANSITIONS.get((status, verb))


def next_stage_status(status: StageStatus, verb: str) -> StageStatus | None:
    """Return the state that the verb leads to, or None where it is not allowed.

    Example:
        >>> next_stage_status(StageStatus.CREATED, "start")
        <StageStatus.RUNNING: 'RUNNING'>
        >>> next_stage_status(StageStatus.COMPLETE, "start") is None
        True
    """
    return STAGE_TRANSITIONS.get((status, verb))
