"""Durable runs for Python: every step of a run leaves a milepost in a ledger."""

from milepost.dag import Dag
from milepost.errors import MilepostError, NonRetryable, RunCancelled, RunFailed
from milepost.ledger import AsyncLedger, Ledger
from milepost.model import Retry
from milepost.runtime import FinishedRun, Step, StepContext, step
from milepost.states import RunStatus, StepStatus

__version__ = "0.1.0"

__all__ = [
    "AsyncLedger",
    "Dag",
    "FinishedRun",
    "Ledger",
    "MilepostError",
    "NonRetryable",
    "Retry",
    "RunCancelled",
    "RunFailed",
    "RunStatus",
    "Step",
    "StepContext",
    "StepStatus",
    "step",
]
