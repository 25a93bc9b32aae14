"""The state machines of runs and steps, as data.

Everything that says which state may follow which lives here. The tables draw the diagrams in the
docs, the ledger repeats the state names as CHECKs, and every UPDATE names the state it expects.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = [
    "RUN_TRANSITIONS",
    "STEP_TRANSITIONS",
    "TERMINAL_RUN",
    "TERMINAL_STEP",
    "RunStatus",
    "StepStatus",
    "next_run_status",
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


# (state, verb) -> state
RUN_TRANSITIONS: Final[dict[tuple[RunStatus, str], RunStatus]] = {
    (RunStatus.PENDING, "claim"): RunStatus.RUNNING,
    (RunStatus.PENDING, "cancel"): RunStatus.CANCELLED,
    (RunStatus.RUNNING, "complete"): RunStatus.COMPLETED,
    (RunStatus.RUNNING, "fail"): RunStatus.FAILED,
    (RunStatus.RUNNING, "cancel"): RunStatus.CANCELLED,
    (RunStatus.RUNNING, "suspend"): RunStatus.SUSPENDED,
    (RunStatus.RUNNING, "rescue"): RunStatus.RUNNING,
    (RunStatus.SUSPENDED, "claim"): RunStatus.RUNNING,
    (RunStatus.SUSPENDED, "cancel"): RunStatus.CANCELLED,
    (RunStatus.FAILED, "resume"): RunStatus.RUNNING,
    (RunStatus.CANCELLED, "resume"): RunStatus.RUNNING,
}

STEP_TRANSITIONS: Final[dict[tuple[StepStatus, str], StepStatus]] = {
    (StepStatus.PENDING, "start"): StepStatus.RUNNING,
    (StepStatus.PENDING, "skip"): StepStatus.SKIPPED,
    (StepStatus.PENDING, "cancel"): StepStatus.CANCELLED,
    (StepStatus.RUNNING, "complete"): StepStatus.COMPLETED,
    (StepStatus.RUNNING, "fail"): StepStatus.FAILED,
    (StepStatus.RUNNING, "cancel"): StepStatus.CANCELLED,
}

TERMINAL_RUN: Final = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
TERMINAL_STEP: Final = frozenset({StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.SKIPPED})


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
