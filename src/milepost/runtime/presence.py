"""That a worker is there: its registration and its heartbeat.

It owns the worker's row and the helper process that beats where the worker cannot. One statement extends
all leases of the worker. Invariant: a lease that the ledger says the worker holds, and that no slot of it
knows of, is given back: the answer to its claim was lost on the way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from milepost.errors import StoreError, WorkerExists
from milepost.ledger import Ledger
from milepost.model import WorkerInfo
from milepost.owner import current_owner, describe_owner, is_owner_gone
from milepost.runtime.heartbeat import BEATS_PER_LEASE, HeartbeatProcess
from milepost.runtime.keeper import is_executing_here

__all__ = ["Presence"]

_LOG = logging.getLogger("milepost.worker")

CLOCK_LIMIT: Final = 5.0  # seconds that this machine's clock may differ from the server's without a word


class Presence:
    """Enters a worker, keeps it and its leases alive, and takes its name off.

    Args:
        ledger: The open ledger.
        worker_id: The worker's name.
        queues: Where it takes tasks from.
        workflows: What it knows.
        concurrency: How many runs at once.
        has_helper: Beat from a process of its own as well.
        holds: Whether the worker executes a run under this epoch.
    """

    def __init__(
        self,
        ledger: Ledger,
        worker_id: str,
        *,
        queues: Sequence[str],
        workflows: Sequence[str],
        concurrency: int,
        has_helper: bool,
        holds: Callable[[tuple[str, int]], bool],
    ) -> None:
        """Prepare; nothing is written until :meth:`enter`."""
        self._ledger = ledger
        self._worker_id = worker_id
        self._queues = tuple(queues)
        self._workflows = tuple(workflows)
        self._concurrency = concurrency
        self._has_helper = has_helper and ledger.url != ":memory:"
        self._holds = holds
        self._owner = current_owner()
        self._lease = int(ledger.lease * 1e6)
        self._helper: HeartbeatProcess | None = None
        self._unknown: set[tuple[str, int]] = set()  # leases that nobody here executed at the last beat

    def enter(self) -> None:
        """Enter the worker and start its helper.

        Raises:
            WorkerExists: A live worker has this id.
        """
        store, now = self._ledger.store, self._ledger.shared_now()
        info = WorkerInfo(
            worker_id=self._worker_id,
            owner=self._owner,
            queues=self._queues,
            workflows=self._workflows,
            concurrency=self._concurrency,
            lease=self._lease,
            started_at=now,
            heartbeat_at=now,
            stopped_at=None,
        )
        former = store.get_worker(self._worker_id)
        gone = former.owner if former is not None and is_owner_gone(former.owner) else None
        other = store.register_worker(info, owner_gone=gone)
        if other is not None:
            raise WorkerExists(self._worker_id, describe_owner(other.owner))
        ahead = (self._ledger.clock.now() - now) / 1e6
        if abs(ahead) > CLOCK_LIMIT:
            _LOG.warning("this machine's clock is %.0f s off that of the ledger's server: set it (NTP)", abs(ahead))
        self._start_helper()

    def leave(self) -> None:
        """End the helper and note that the worker has stopped."""
        if self._helper is not None:
            self._helper.close()
        try:
            self._ledger.store.stop_worker(self._worker_id, self._owner, self._ledger.shared_now())
        except StoreError:
            pass  # its silence will tell

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(self._ledger.lease / BEATS_PER_LEASE)
            try:
                await asyncio.to_thread(self.beat_once)
            except StoreError as error:
                _LOG.warning("heartbeat failed: %s", error)
            except Exception:  # this task must outlive whatever one beat meets
                _LOG.exception("heartbeat met a defect")

    def beat_once(self) -> None:
        """Extend every lease of the worker, and give back what it does not execute."""
        store, now = self._ledger.store, self._ledger.clock.now()
        store.heartbeat_worker(self._worker_id, self._owner, self._ledger.shared_now())
        held = store.heartbeat_owner(self._owner, now=now, lease=self._lease)
        unknown = {
            (run_id, epoch)
            for run_id, epoch in held
            if not self._holds((run_id, epoch)) and not is_executing_here(self._ledger, run_id)
        }
        for run_id, epoch in unknown & self._unknown:  # seen once, a claim may still be on its way to its slot
            reason = ("Released", "its claim was lost on the way")
            store.release_task(run_id, epoch, now=now, available_at=None, reason=reason)
        self._unknown = unknown
        if self._helper is not None and not self._helper.is_running:
            _LOG.warning("the heartbeat process has ended; another one is started")
            self._helper.close()
            self._start_helper()

    def _start_helper(self) -> None:
        if self._has_helper:
            url, lease = self._ledger.full_url, self._ledger.lease
            self._helper = HeartbeatProcess(url, self._owner, lease, self._worker_id)
