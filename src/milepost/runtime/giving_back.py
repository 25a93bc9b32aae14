"""What becomes of a claimed run that a worker does not execute to its end. Never raises: leases run out anyway."""

from __future__ import annotations

import logging

from milepost.errors import MilepostError, StoreError
from milepost.ledger import Ledger
from milepost.model import Run
from milepost.runtime.landing import describe_error
from milepost.states import RunStatus
from milepost.store import RunEnd, RunWrite

__all__ = ["give_back", "give_up"]

_LOG = logging.getLogger("milepost.worker")


def give_back(ledger: Ledger, run: Run, kind: str, message: str, pause: float = 0.0) -> None:
    """Return a run to its queue; nothing counts against it.

    Args:
        ledger: The open ledger.
        run: The run as it was claimed.
        kind: One word for the reason, kept with the claim.
        message: The reason.
        pause: Seconds until it may be claimed again.
    """
    now = ledger.shared_now()
    available_at = now + int(pause * 1e6) if pause else None
    try:
        ledger.store.release_task(
            run.run_id, run.lease_epoch, now=now, available_at=available_at, reason=(kind, message)
        )
    except StoreError as error:
        _LOG.warning("run %s could not be given back, so its lease will run out: %s", run.run_id, error)
    else:
        _LOG.info("run %s put back: %s", run.run_id, message)


def give_up(ledger: Ledger, run: Run, error: Exception) -> None:
    """End a run as failed that no worker could execute: tried again, it would fail for ever."""
    end = RunEnd(RunStatus.FAILED, ledger.clock.now(), None, *describe_error(error))
    try:
        ledger.commit(RunWrite(run.run_id, run.lease_epoch, end=end))
    except MilepostError:
        pass  # it has ended already, or its lease will
