"""Durable runs for Python: every step of a run leaves a milepost in a ledger."""

from milepost.dag import Dag, DagRunner, DagRunResult
from milepost.errors import DagPause, MilepostError, NonRetryable, RunCancelled, RunFailed
from milepost.ledger import AsyncLedger, Ledger
from milepost.model import Retry
from milepost.runtime import FinishedRun, RunEvent, RunHandle, Step, StepContext, Worker, step
from milepost.states import RunStatus, StepStatus

__version__ = "0.1.0"

__all__ = [
    "AsyncLedger",
    "Dag",
    "DagPause",
    "DagRunResult",
    "DagRunner",
    "FinishedRun",
    "Ledger",
    "MilepostError",
    "NonRetryable",
    "Retry",
    "RunCancelled",
    "RunEvent",
    "RunFailed",
    "RunHandle",
    "RunStatus",
    "Step",
    "StepContext",
    "StepStatus",
    "Worker",
    "step",
]
