"""The ledger: opens a store by URL, commits in groups, and is what everybody reads from."""

from milepost.ledger.aio import AsyncLedger
from milepost.ledger.gate import Gate, is_worker_alive
from milepost.ledger.group_commit import GroupCommit
from milepost.ledger.ledger import Ledger
from milepost.ledger.opening import ENVIRONMENT, default_ledger

__all__ = ["ENVIRONMENT", "AsyncLedger", "Gate", "GroupCommit", "Ledger", "default_ledger", "is_worker_alive"]
