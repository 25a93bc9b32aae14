"""The data of staged tasks: a stage's state and its history, and what a batch of records came to."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, Generic, List, TypeVar  # noqa: UP035 - pydantic reads the annotations as written

from pydantic import BaseModel, ConfigDict, Field

from milepost.states import ACTIVE_STATES, CANCELABLE_STATES, INACTIVE_STATES, StageStatus

__all__ = [
    "ACTIVE_STATES",
    "CANCELABLE_STATES",
    "INACTIVE_STATES",
    "STAGE_NAME_MAX_LENGTH",
    "STAGE_RESULT",
    "BaseStageState",
    "RecordStatus",
    "RetryPolicy",
    "SimpleRecordsResult",
    "StageStateHistoryEntry",
    "StageStatus",
]

STAGE_NAME_MAX_LENGTH: Final = 150
STAGE_RESULT = TypeVar("STAGE_RESULT", bound=BaseModel)


class RetryPolicy(Enum):
    """What the retries of a task's stages are counted against.

    Example:
        >>> RetryPolicy("STAGE")
        <RetryPolicy.STAGE: 'STAGE'>
    """

    GLOBAL = "GLOBAL"  # one budget for all stages; each execution of a stage consumes one, also a successful one
    NONE = "NONE"  # the first failure of a stage fails the task
    STAGE = "STAGE"  # a budget of its own for each stage


class RecordStatus(Enum):
    """What became of one record of a batch."""

    ERROR = "error"
    SUCCESS = "success"
    UNPROCESSED = "unprocessed"


class StageStateHistoryEntry(BaseModel):
    """One change in the life of a stage: an execution from its start to its end, a rerun by hand, an undo."""

    attempt: int = Field(
        ..., ge=0, title="Attempt", description="Run attempt number corresponding to this history entry"
    )
    begin_status: StageStatus = Field(..., title="Begin Status", description="Status of the stage prior to the run")
    begin_ts: str = Field(..., title="Start Timestamp", description="Run start timestamp")
    end_status: StageStatus = Field(..., title="End Status", description="Status of the stage after the run")
    end_ts: str = Field(..., title="End Timestamp", description="Run end timestamp")
    message: str = Field(..., title="Message", description="Status message")
    run_time_seconds: float = Field(..., title="Run Time", description="Stage run time in seconds")


class BaseStageState(BaseModel, Generic[STAGE_RESULT]):
    """The state of a stage; subclass it with the fields of your task.

    All stages of a task share one state class, so that each stage sees everything that the stages
    before it set. The fields below are each stage's own; every other field goes on into the next
    stage's state when that stage begins.

    Example:
        >>> class Cities(BaseStageState[SimpleRecordsResult]):
        ...     path: str = ""
        >>> Cities(path="cities.csv").status
        <StageStatus.UNBOUND: 'UNBOUND'>
    """

    model_config = ConfigDict(extra="forbid", strict=False, arbitrary_types_allowed=False)

    attempts: int = Field(
        default=0,
        ge=0,
        title="Run attempts",
        description="Number of times the stage has been run: 0 means not yet. Primarily used to track retries.",
    )
    history: List[StageStateHistoryEntry] = Field(  # noqa: UP006 - see the import
        default=[], title="History", description="Stage state history"
    )
    result: STAGE_RESULT | None = Field(
        default=None,
        title="Result",
        description=(
            "What the stage made. Meant for the output of the final stage, so that other systems can inspect it to "
            "learn the overall result of the task. None: the stage has not completed successfully."
        ),
    )
    stage_name: str = Field(
        "",
        max_length=STAGE_NAME_MAX_LENGTH,
        title="Stage Name",
        description="Unique stage name: the state is stored under it during execution.",
    )
    status: StageStatus = Field(
        default=StageStatus.UNBOUND,
        title="Stage Status",
        description="By this the task engine determines whether the stage has to be executed or is skipped.",
    )
    task_id: str = Field(default="", title="Task ID", description="Task ID")

    @classmethod
    def upgrade_state(cls, old: dict[str, Any]) -> dict[str, Any]:
        """Return an older stored state in the form of this class; override it when fields change.

        Called only where a stored state does not fit the class.

        Args:
            old: The state as it was stored, as plain JSON data.
        """
        return old


class SimpleRecordsResult(BaseModel):
    """What a batch of records came to.

    Example:
        >>> SimpleRecordsResult(total_count=3, success_count=2, fail_count=1).unprocessed_count
        0
    """

    fail_count: int = Field(default=0, ge=0, title="Fail Count", description="Number of failed records")
    message: str | None = Field(default=None, title="Message", description="Result message")
    success_count: int = Field(default=0, ge=0, title="Success Count", description="Number of successful records")
    total_count: int = Field(default=0, ge=0, title="Total Count", description="Total number of records")
    unprocessed_count: int = Field(
        default=0, ge=0, title="Unprocessed Count", description="Number of unprocessed records"
    )
