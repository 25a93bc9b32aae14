"""Heartbeats of claims without a time limit (``claim_timeout=0``): a thread extends their leases while they are held.

It lives as long as there is something to extend. What it cannot extend any more it lets go; the next write of that
claim says why.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from milepost.errors import MilepostError
from milepost.ledger import Ledger

__all__ = ["Beats"]

_LOG: Final = logging.getLogger("milepost.tracking")
_PER_LEASE: Final = 3


class Beats:
    """The leases that one client keeps alive."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._held: dict[str, tuple[Ledger, str, str, int]] = {}  # claim: ledger, owner, task, epoch
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def keep(self, claim: str, ledger: Ledger, owner: str, task_id: str, epoch: int) -> None:
        """Extend a claim's lease from now on."""
        with self._lock:
            self._held[claim] = (ledger, owner, task_id, epoch)
            if self._thread is None or not self._thread.is_alive():
                self._over = threading.Event()
                self._thread = threading.Thread(
                    target=self._beat, args=(ledger.lease, self._over), name="milepost-tracking-beats", daemon=True
                )
                self._thread.start()

    def forget(self, claim: str) -> None:
        """Extend a claim's lease no more."""
        if self._held:
            with self._lock:
                self._held.pop(claim, None)

    def close(self) -> None:
        """Let everything go."""
        with self._lock:
            self._held.clear()
            thread, self._thread = self._thread, None
            self._over.set()
        if thread is not None:
            thread.join()

    def _beat(self, lease: float, over: threading.Event) -> None:
        while not over.wait(lease / _PER_LEASE):
            with self._lock:
                held = dict(self._held)
                if not held:
                    self._thread = None
                    return
            for claim, (ledger, owner, task_id, epoch) in held.items():
                try:
                    now = ledger.clock.now()
                    micros = int(ledger.lease * 1e6)
                    if ledger.store.heartbeat(owner, [(task_id, epoch)], now=now, lease=micros):
                        self.forget(claim)
                except MilepostError as error:
                    _LOG.warning("the lease of task %s could not be extended: %s", task_id, error)
