"""Staged tasks: long operations whose stages share one typed state, with checkpoints, retries and rollback."""

from milepost.engine import RollbackPlan
from milepost.errors import (
    AttemptsExhausted,
    BindError,
    MissingStateError,
    RollbackRefused,
    StateMismatch,
    StateNotFoundError,
    TaskBusy,
    TaskEngineError,
)
from milepost.stages.engine import TaskEngine
from milepost.stages.models import (
    ACTIVE_STATES,
    CANCELABLE_STATES,
    INACTIVE_STATES,
    STAGE_NAME_MAX_LENGTH,
    STAGE_RESULT,
    BaseStageState,
    RecordStatus,
    RetryPolicy,
    SimpleRecordsResult,
    StageStateHistoryEntry,
    StageStatus,
)
from milepost.stages.records import FailedRecord, TooManyErrors, list_failed_records, record_status
from milepost.stages.stage import BaseStage
from milepost.stages.state_io import FileStateIO, LedgerStateIO, StateIO

__all__ = [
    "ACTIVE_STATES",
    "CANCELABLE_STATES",
    "INACTIVE_STATES",
    "STAGE_NAME_MAX_LENGTH",
    "STAGE_RESULT",
    "AttemptsExhausted",
    "BaseStage",
    "BaseStageState",
    "BindError",
    "FailedRecord",
    "FileStateIO",
    "LedgerStateIO",
    "MissingStateError",
    "RecordStatus",
    "RetryPolicy",
    "RollbackPlan",
    "RollbackRefused",
    "SimpleRecordsResult",
    "StageStateHistoryEntry",
    "StageStatus",
    "StateIO",
    "StateMismatch",
    "StateNotFoundError",
    "TaskBusy",
    "TaskEngine",
    "TaskEngineError",
    "TooManyErrors",
    "list_failed_records",
    "record_status",
]
