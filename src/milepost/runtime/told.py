"""What a worker says about its runs, one line for each thing that happens."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from milepost.model import Run
from milepost.states import RunStatus
from milepost.store import RunEnd

__all__ = ["tell_claimed", "tell_end", "tell_started"]

_LOG: Final = logging.getLogger("milepost.worker")


def tell_started(worker_id: str, workflows: Iterable[str], queues: Iterable[str], concurrency: int) -> None:
    """Say what a worker takes from where."""
    known = ", ".join(map(repr, sorted(workflows)))
    _LOG.info("worker %s takes %s from %s, %d at once", worker_id, known, ", ".join(queues), concurrency)


def tell_claimed(run: Run) -> None:
    """Say that a run was claimed."""
    if _LOG.isEnabledFor(logging.INFO):
        attempt = f", attempt {run.attempt} of {run.max_attempts}" if run.attempt > 1 else ""
        again = " again" if run.lease_epoch > 1 else ""
        _LOG.info("run %s of %r claimed%s%s", run.run_id, run.workflow, again, attempt)


def tell_end(run: Run, end: RunEnd, seconds: float) -> None:
    """Say how a claimed run left the worker's hands.

    Args:
        run: The run as it was claimed.
        end: How it ended, or why it goes back.
        seconds: How long the worker had it.
    """
    level = logging.WARNING if end.status == RunStatus.FAILED or end.outcome == "retry" else logging.INFO
    if not _LOG.isEnabledFor(level):
        return
    where = f" in step {end.error_step!r}" if end.error_step else ""
    error = f"{where}: {end.error_type}: {end.error_message}" if end.error_type else ""
    if end.outcome == "retry":
        assert end.available_at is not None
        pause = (end.available_at - end.now) / 1e6
        then = f"; attempt {run.attempt + 1} of {run.max_attempts} in {pause:.3f} s"
        _LOG.warning("run %s failed after %.3f s%s%s", run.run_id, seconds, error, then)
    elif end.outcome == "release":
        _LOG.info("run %s handed back after %.3f s: %s", run.run_id, seconds, end.error_message)
    elif end.status == RunStatus.SUSPENDED:
        _LOG.info("run %s suspended after %.3f s: it waits, and holds no slot", run.run_id, seconds)
    else:
        _LOG.log(level, "run %s %s after %.3f s%s", run.run_id, end.status.value, seconds, error)
