"""What every part of the client stands on: names, the ledger, the caller's connection, and what a refusal means.

The ledger is the one that was given, else that of ``MILEPOST_LEDGER``, else the one in the database that the caller's
connection leads to, else ``milepost.db``. It is opened when it is first needed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from milepost.clock import to_datetime
from milepost.errors import (
    ConfigurationError,
    InvalidTransition,
    LeaseLost,
    RunBusy,
    TaskCancelled,
    TaskNotFound,
)
from milepost.ledger import Ledger
from milepost.ledger.opening import ENVIRONMENT, url_of_connection
from milepost.model import Run
from milepost.names import DEFAULT_QUEUE, check_name
from milepost.owner import HAND, describe_owner
from milepost.runtime.lifecycle import open_ledger
from milepost.states import RunStatus
from milepost.store import Refused
from milepost.tracking.beats import Beats
from milepost.tracking.ids import ClaimId, as_id, claim_id, read_claim_id, text_of

__all__ = ["Desk"]

LOG: Final = logging.getLogger("milepost.tracking")

QUEUE: Final = "MILEPOST_QUEUE"
WORKER: Final = "MILEPOST_WORKER_ID"
_REMEMBERED: Final = 10_000  # claims whose tasks are known without a look

T = TypeVar("T")


class Desk:
    """The base of :class:`milepost.tracking.Client`."""

    def __init__(
        self,
        queue_name: str | None = None,
        worker_id: str | None = None,
        ledger: Ledger | str | os.PathLike[str] | None = None,
    ) -> None:
        """Check the names; nothing is opened yet."""
        self.queue_name = check_name("queue", queue_name or os.environ.get(QUEUE) or DEFAULT_QUEUE)
        self.worker_id = check_name("worker", worker_id or os.environ.get(WORKER) or "worker_1")
        self._given = ledger
        self._ledgers: dict[str, Ledger] = {}
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        self._asked: dict[tuple[str, str | None], tuple[str, int | None]] = {}
        self._sleeps: dict[str, tuple[int, int]] = {}
        self._beats = Beats()

    @property
    def ledger(self) -> Ledger:
        """The ledger that is used where no connection is given."""
        return self._ledger(None)

    def close(self) -> None:
        """End the heartbeats of this client's claims; their leases run out. The ledger it opened is given back."""
        self._beats.close()
        with self._lock:
            given_back = list(self._ledgers.values())
            self._ledgers.clear()
        for opened in given_back:
            opened.close()

    def _ledger(self, conn: Any) -> Ledger:
        if isinstance(self._given, Ledger):
            return self._given
        key = ""
        url: Any = self._given
        if url is None and conn is not None and not os.environ.get(ENVIRONMENT):
            url = key = url_of_connection(conn)
        opened = self._ledgers.get(key)
        if opened is None:
            with self._lock:  # threads that come first at once share one
                opened = self._ledgers.get(key)
                if opened is None:
                    opened = self._ledgers[key] = open_ledger(url)
        return opened

    # --- tasks and claims --------------------------------------------------------------------

    def _remember(self, run_id: Any, task_id: str) -> None:
        if len(self._known) >= _REMEMBERED:
            for old in list(self._known)[: _REMEMBERED // 2]:
                self._known.pop(old, None)  # another thread may be at it as well
        self._known[str(run_id)] = task_id

    def _claim_of(self, ledger: Ledger, conn: Any, run_id: Any) -> tuple[str, int]:
        """Return the task's id in the ledger and the generation that a claim's id names.

        Raises:
            TaskNotFound: There is no such task.
        """
        named = read_claim_id(run_id, "run_id")
        known = self._known.get(str(run_id))
        if known is not None:
            return known, named.generation
        run = self._find(ledger, conn, named)
        if run is None:
            raise TaskNotFound(run_id)
        self._remember(run_id, run.run_id)
        return run.run_id, named.generation

    def _find(self, ledger: Ledger, conn: Any, named: ClaimId) -> Run | None:
        return ledger.store.find_task(named.first, named.last, conn=conn)

    def _find_either(self, ledger: Ledger, conn: Any, value: Any, name: str) -> Run | None:
        """Return the run that a task's id, or a claim's, names."""
        text = text_of(value, name)
        return ledger.store.find_task(text, text, conn=conn) or self._find(ledger, conn, read_claim_id(value, name))

    def _find_task(self, ledger: Ledger, conn: Any, task_id: Any) -> Run | None:
        text = text_of(task_id, "task_id")
        return ledger.store.find_task(text, text, conn=conn)

    def _expect(self, refused: Refused | None, run_id: Any, generation: int, verb: str) -> None:
        """Raise what a refusal means, if it is one."""
        if refused is None:
            return
        run = refused.run
        self._beats.forget(str(run_id))
        if run is None or generation > run.generation or generation < 1:
            raise TaskNotFound(run_id)
        if refused.is_cancelled or run.status == RunStatus.CANCELLED:
            raise TaskCancelled(as_id(run.run_id))
        if generation < run.generation:
            raise LeaseLost(run.run_id, run.lease_epoch)
        if run.status == RunStatus.RUNNING and not (run.lease_owner or "").startswith(HAND):
            until = to_datetime(run.lease_until or 0).isoformat(timespec="seconds")
            raise RunBusy(run.run_id, describe_owner(run.lease_owner or ""), until)
        remedy = "" if run.finished_at is not None else "Claim it first: claim_task()."
        raise InvalidTransition(f"Task {run.run_id}", run.status.value, verb, remedy)

    def _guarded(
        self, conn: Any, run_id: Any, verb: str, write: Callable[[Ledger, str, int], Refused | T | None]
    ) -> T | None:
        """Perform a write of a claim, and raise what keeps it from being done."""
        ledger = self._ledger(conn)
        task_id, generation = self._claim_of(ledger, conn, run_id)
        outcome = write(ledger, task_id, generation)
        if isinstance(outcome, Refused):
            self._expect(outcome, run_id, generation, verb)
            return None
        return outcome

    def _own_task(self, ledger: Ledger, conn: Any, task_id: Any, run_id: Any, name: str) -> str:
        """Return the id of the task that a claim is of.

        Raises:
            ConfigurationError: It is another task's.
        """
        text = text_of(task_id, "task_id")
        found, _ = self._claim_of(ledger, conn, run_id)
        if found != text:
            raise ConfigurationError(f"{name} {run_id} is a claim of task {found}, not of {text}. Give its own task.")
        return found

    @staticmethod
    def _claim_id(run: Run) -> Any:
        return claim_id(run.run_id, run.generation)
