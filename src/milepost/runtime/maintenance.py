"""What any worker does for all: rescue runs whose worker died, fire schedules.

Nobody is elected: every verb is guarded in the ledger, so that of many who try, one succeeds, and the
death of any of them stops nothing.
"""

from __future__ import annotations

import logging
from typing import Final

from milepost.ledger import Ledger
from milepost.owner import current_owner, is_owner_gone
from milepost.runtime.firing import Firing

__all__ = ["DIED", "Maintenance"]

_LOG = logging.getLogger("milepost.worker")
_BATCH: Final = 100
_LONGEST_PAUSE: Final = 1.0  # seconds between looks; a dead process on this machine is found this quickly
_WAITING_PAUSE: Final = 0.25  # the same where ticks are due and wait until runs have ended
_SHORTEST_PAUSE: Final = 0.005

DIED: Final = ("WorkerDied", "the worker that executed this attempt is gone")


class Maintenance:
    """The rounds of one worker.

    Args:
        ledger: The open ledger.
        max_rescues: A run that was rescued so often in a row without completing a step fails.
    """

    def __init__(self, ledger: Ledger, *, max_rescues: int) -> None:
        """Begin; nothing happens until :meth:`run_once`."""
        self._ledger = ledger
        self._max_rescues = max_rescues
        self._firing = Firing(ledger)
        self._fired = 0

    def run_once(self) -> None:
        """Cancel what is past its limits, rescue what was left behind, and fire what is due."""
        self._ledger.store.enforce_limits(self._ledger.shared_now(), _BATCH)
        self._rescue(None)
        for owner in self._ledger.store.list_owners():
            if owner != current_owner() and is_owner_gone(owner):
                self._rescue(owner)
        self._fired = self._firing.fire_due()

    def _rescue(self, owner_gone: str | None) -> None:
        while True:
            rescued = self._ledger.store.rescue_tasks(
                now=self._ledger.clock.now(),
                limit=_BATCH,
                max_rescues=self._max_rescues,
                owner_gone=owner_gone,
                reason=DIED,
                sparing=current_owner(),  # held up by a step, it may be late; that is for others to judge
            )
            for one in rescued:
                _LOG.warning(
                    "run %s was %s after its worker died", one.run_id, "given up" if one.is_over else "rescued"
                )
            if len(rescued) < _BATCH:
                return

    def pause(self) -> float:
        """Return the seconds until the next round: a second, or less where a schedule is due before."""
        next_at = self._ledger.store.next_schedule_at()
        if next_at is None:
            return _LONGEST_PAUSE
        left = (next_at - self._ledger.shared_now()) / 1e6
        if left <= 0 and not self._fired:
            return _WAITING_PAUSE  # it is due and was not fired: looking without a pause would help nobody
        return min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, left))
