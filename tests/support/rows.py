"""Rows as a driver would write them, for tests that talk to a store or a ledger directly."""

from __future__ import annotations

import time
from typing import Any

from milepost.states import RunStatus
from milepost.store import CheckpointWrite, EdgeWrite, NewRun, ProgressWrite, RunEnd, RunWrite, StepWrite, Store
from milepost.values import content_hash

OWNER = "17@here#0-1"
NOW = 1_700_000_000_000_000  # microseconds
LEASE = 30_000_000  # microseconds


def new_run(run_id: str = "run", **changes: Any) -> NewRun:
    """Return a new run; ``changes`` are fields of NewRun."""
    fields: dict[str, Any] = {
        "run_id": run_id,
        "workflow": "workflow",
        "kind": "dag",
        "definition_hash": "hash",
        "definition": "{}",
        "inputs": "{}",
        "owner": OWNER,
        "now": NOW,
        "lease_until": NOW + LEASE,
    }
    return NewRun(**{**fields, **changes})


def start(label: str = "step", run_id: str = "run", **changes: Any) -> StepWrite:
    """Return the start of a step; ``changes`` are fields of StepWrite."""
    fields: dict[str, Any] = {
        "run_id": run_id,
        "label": label,
        "attempt": 1,
        "seq": 1,
        "lease_epoch": 1,
        "kind": "step",
        "parent": None,
        "status": "running",
        "input": "{}",
        "output": None,
        "storage": "inline",
        "output_hash": None,
        "error_type": None,
        "error_message": None,
        "error_traceback": None,
        "progress_total": None,
        "started_at": NOW + 1,
        "finished_at": None,
    }
    return StepWrite(**{**fields, **changes})


def end(label: str = "step", run_id: str = "run", **changes: Any) -> StepWrite:
    """Return the completion of a step; ``changes`` are fields of StepWrite."""
    fields: dict[str, Any] = {"status": "completed", "output": "1", "finished_at": NOW + 2, **changes}
    if fields["output"] is not None and "output_hash" not in fields:
        fields["output_hash"] = content_hash(fields["output"])
    return start(label, run_id, **fields)


def failure(label: str = "step", run_id: str = "run", **changes: Any) -> StepWrite:
    """Return the failure of a step; ``changes`` are fields of StepWrite."""
    error = {"error_type": "ValueError", "error_message": "no", "error_traceback": "Traceback ..."}
    return end(label, run_id, **{"status": "failed", "output": None, **error, **changes})


def edge(upstream: str, downstream: str, run_id: str = "run", at: int = NOW + 2) -> EdgeWrite:
    """Return an edge."""
    return EdgeWrite(run_id, upstream, downstream, at)


def progress(label: str = "step", run_id: str = "run", **changes: Any) -> ProgressWrite:
    """Return the progress of a step; ``changes`` are fields of ProgressWrite."""
    fields: dict[str, Any] = {
        "run_id": run_id,
        "label": label,
        "attempt": 1,
        "lease_epoch": 1,
        "progress_done": 1,
        "progress_total": 2,
        "progress_message": "half",
    }
    return ProgressWrite(**{**fields, **changes})


def checkpoint(name: str, value: str, run_id: str = "run", label: str = "step", epoch: int = 1) -> CheckpointWrite:
    """Return a saved value."""
    return CheckpointWrite(run_id, label, name, value, epoch, NOW + 3)


def write(run_id: str = "run", epoch: int = 1, **parts: Any) -> RunWrite:
    """Return a write to a run; ``parts`` are fields of RunWrite."""
    return RunWrite(run_id, epoch, **parts)


def completed(now: int = NOW + 9) -> RunEnd:
    """Return the end of a run that completed."""
    return RunEnd(RunStatus.COMPLETED, now)


def failed(now: int = NOW + 9, step: str = "step") -> RunEnd:
    """Return the end of a run that failed."""
    return RunEnd(RunStatus.FAILED, now, step, "ValueError", "no", "Traceback ...")


def lease_end(store: Store, found: int | None, lease: int) -> int | None:
    """Return when a lease of this length ends as the test counts time.

    Leases on a shared database follow its server's clock, which no test can stop: there, an end that is
    where it should be, within a minute, is returned as if it had been counted from ``NOW``.
    """
    if found is None or not store.is_shared:
        return found
    return NOW + lease if abs(found - lease - time.time_ns() // 1000) < 60_000_000 else found
