"""One batch of writes inside one transaction: rows of many runs in few statements.

Invariants: a write counts whole or not at all, as far as the fence decides; a stale writer changes
no row, and never spoils the others in its batch; what stands already is not written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from milepost.errors import LeaseLost, RunExists
from milepost.states import RunStatus
from milepost.store import EdgeWrite, NewRun, RunEnd, RunWrite, StepWrite, Write
from milepost.stores.transaction import TASKS, Transaction

__all__ = ["write_batch"]

Outcomes = list[Exception | None]
Numbered = list[tuple[int, RunWrite]]


def write_batch(tx: Transaction, batch: Sequence[Write]) -> Outcomes:
    """Write a batch inside the open transaction; return each write's error, or None where it stands."""
    outcomes: Outcomes = [None] * len(batch)
    writes: Numbered = []
    suspects: Numbered = []
    ended: set[tuple[str, int]] = set()
    late: list[int] = []  # writes that come after one that may end their run
    starts: list[StepWrite] = []
    ends: list[StepWrite] = []
    edges: list[EdgeWrite] = []
    for position, write in enumerate(batch):
        if isinstance(write, NewRun):
            outcomes[position] = _insert_run(tx, write)
            continue
        fence = write.run_id, write.lease_epoch
        if ended and fence in ended:
            late.append(position)
            continue
        if write.end is not None:
            ended.add(fence)
        if not (write.starts or write.ends) and (write.edges or write.progress or write.end is None):
            suspects.append((position, write))  # no row that comes first carries the fence
        writes.append((position, write))
        starts += write.starts
        ends += write.ends
        edges += write.edges
    written = tx.write_rows("start_step", starts) if starts else 0
    if ends:
        written += tx.write_rows("end_step", ends)
    if written < len(starts) + len(ends):
        # The rare path. A row was refused: either it stands already (an idempotent repeat), or its
        # writer is stale, and then nothing of it may count.
        suspects = writes
    if suspects:
        stale = _find_stale(tx, suspects)
        for position, write in suspects:
            if position in stale:
                outcomes[position] = LeaseLost(write.run_id, write.lease_epoch)
        writes = [numbered for numbered in writes if numbered[0] not in stale]
        edges = [edge for _, write in writes for edge in write.edges]
    if edges:
        tx.write_rows("insert_edge", edges)
    ending: Numbered = []
    for position, write in writes:
        if write.progress:
            tx.write_rows("save_progress", write.progress)
        if write.checkpoints:
            tx.write_rows("save_checkpoint", write.checkpoints)
        if write.end is not None:
            ending.append((position, write))
    completed = [(position, write) for position, write in ending if _is_completion(write)]
    if len(completed) > 1:
        _complete_runs(tx, completed, outcomes)
        ending = [numbered for numbered in ending if not _is_completion(numbered[1])]
    for position, write in ending:
        outcomes[position] = _end_run(tx, write)
    if late:
        for position, outcome in zip(late, write_batch(tx, [batch[n] for n in late]), strict=True):
            outcomes[position] = outcome
    return outcomes


def _is_completion(write: RunWrite) -> bool:
    return write.end is not None and write.end.status == RunStatus.COMPLETED


def _complete_runs(tx: Transaction, completed: Numbered, outcomes: Outcomes) -> None:
    """End many runs that completed by few statements; those that were refused are looked at one by one."""
    parameters = [_end_parameters(write) for _, write in completed]
    if tx.many("end_run", parameters) < len(completed):
        for position, write in completed:
            if _find_stale(tx, [(position, write)]):
                outcomes[position] = LeaseLost(write.run_id, write.lease_epoch)
        parameters = [_end_parameters(write) for position, write in completed if outcomes[position] is None]
    tx.many("end_attempt", parameters)


def _find_stale(tx: Transaction, writes: Iterable[tuple[int, RunWrite]]) -> set[int]:
    stale = set()
    for position, write in writes:
        fence = _fence(tx, write.run_id)
        if (
            fence is None
            or fence[1] != write.lease_epoch
            or (fence[0] != RunStatus.RUNNING.value and not _is_repeated_end(write, fence))
        ):
            stale.add(position)
    return stale


def _is_repeated_end(write: RunWrite, fence: tuple[Any, ...]) -> bool:
    # The run ended under this very epoch: only a repeat of the write that ended it may pass.
    end = write.end
    return end is not None and (fence[0], fence[3]) == (end.status.value, None if end.outcome else end.now)


def _end_parameters(write: RunWrite) -> dict[str, Any]:
    end = write.end
    assert end is not None
    return {
        "run_id": write.run_id,
        "lease_epoch": write.lease_epoch,
        "status": end.status.value,
        "now": end.now,
        "available_at": end.available_at,
        "error_step": end.error_step,
        "error_type": end.error_type,
        "error_message": end.error_message,
    }


def _end_run(tx: Transaction, write: RunWrite) -> LeaseLost | None:
    end = write.end
    assert end is not None
    parameters = _end_parameters(write)
    if not tx.execute(_ENDS.get(end.outcome or "", "end_run"), **parameters):
        is_stale = _find_stale(tx, [(0, write)])
        return LeaseLost(write.run_id, write.lease_epoch) if is_stale else None
    tx.execute("end_attempt", **{**parameters, "status": _attempt_status(end)})
    if end.status != RunStatus.COMPLETED:
        tx.execute("cancel_open_steps", **parameters)
        tx.execute("save_run_traceback", run_id=write.run_id, error_traceback=end.error_traceback)
    if end.status == RunStatus.PENDING:
        tx.notify(TASKS)
    return None


# How a run that goes back to its queue leaves the hands of who executed it.
_ENDS: Final = {"retry": "retry_run", "release": "release_run"}


def _attempt_status(end: RunEnd) -> str:
    if end.outcome == "retry":
        return RunStatus.FAILED.value
    return RunStatus.CANCELLED.value if end.outcome == "release" else end.status.value


def _fence(tx: Transaction, run_id: str) -> tuple[Any, ...] | None:
    rows = tx.rows("get_fence", run_id=run_id)
    return rows[0] if rows else None


def _insert_run(tx: Transaction, new: NewRun) -> RunExists | None:
    existing = _fence(tx, new.run_id)
    if existing is not None:
        # The same write once more, after an interrupted commit; not a second run under a used id.
        repeated = (RunStatus.RUNNING.value, 1, new.owner, None, new.now)
        return None if existing == repeated else RunExists(new.run_id)
    parameters: dict[str, Any] = {
        "run_id": new.run_id,
        "workflow": new.workflow,
        "version": new.version,
        "hash": new.definition_hash,
        "document": new.definition,
        "kind": new.kind,
        "owner": new.owner,
        "now": new.now,
        "lease": new.lease_until - new.now,
        "lease_until": new.lease_until,
        "lease_epoch": 1,
        "attempt": 1,
        "correlation_id": new.correlation_id,
        "parent_run_id": new.parent_run_id,
        "root_run_id": new.root_run_id or new.run_id,
        "replay_of": new.replay_of,
        "created_by": new.created_by,
        "inputs": new.inputs,
        "target": new.target,
        "tags": new.tags,
    }
    for name in ("insert_definition", "insert_run", "insert_run_payload", "insert_attempt"):
        tx.execute(name, **parameters)
    return None
