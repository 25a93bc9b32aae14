"""The seam between the ledger and a database: one verb is one transaction.

A store is synchronous and safe to call from any thread. Writes of a driver arrive as a batch in
:meth:`Store.apply`; the order inside a batch is kept, and each write has an outcome of its own, so
that one stale writer never spoils the commit it happens to share with others.

Every write is guarded by ``(run_id, lease_epoch)`` and idempotent: applying it again after an
interrupted or ambiguous commit changes nothing and reports success.
"""

from typing import Any, Protocol

from milepost.store.by_hand import ByHand, Execution, HandRun
from milepost.store.queues import Queues, Schedules, Waits
from milepost.store.runs import Runs
from milepost.store.tracking import (
    HandClaim,
    HandEnd,
    NewWorkflowRun,
    Refused,
    StatusReport,
    Tracking,
    WorkflowFilter,
)
from milepost.store.writes import (
    CheckpointWrite,
    ClaimedTask,
    EdgeWrite,
    FaultHook,
    NewRun,
    NewTask,
    NewWait,
    ProgressWrite,
    Rescued,
    RunEnd,
    RunFilter,
    RunWrite,
    StepInput,
    StepRow,
    StepWrite,
    Submitted,
    Write,
)

__all__ = [
    "CheckpointWrite",
    "ClaimedTask",
    "EdgeWrite",
    "Execution",
    "FaultHook",
    "HandClaim",
    "HandEnd",
    "HandRun",
    "NewRun",
    "NewTask",
    "NewWait",
    "NewWorkflowRun",
    "ProgressWrite",
    "Refused",
    "Rescued",
    "RunEnd",
    "RunFilter",
    "RunWrite",
    "StatusReport",
    "StepInput",
    "StepRow",
    "StepWrite",
    "Store",
    "Submitted",
    "WorkflowFilter",
    "Write",
]


class Store(Runs, Queues, Waits, Schedules, ByHand, Tracking, Protocol):
    """What a database must do to be a ledger.

    Attributes:
        url: Where it is, without a password.
        is_read_only: Whether it refuses writes.
        is_shared: Whether workers on several machines may use it.
    """

    url: str
    is_read_only: bool
    is_shared: bool

    def await_news(self, seen: Any, timeout: float) -> Any:
        """Return once something may have changed in the queues since ``seen``, or after so many seconds.

        Args:
            seen: What an earlier call returned; None returns at once.
            timeout: Seconds to wait at most.
        """
        ...
