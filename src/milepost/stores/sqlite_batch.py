"""One batch of writes inside one transaction: rows of many runs in few statements.

Invariants: a write counts whole or not at all, as far as the fence decides; a stale writer changes
no row, and never spoils the others in its batch; what stands already is not written again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from milepost.errors import LeaseLost, RunExists
from milepost.states import RunStatus
from milepost.store import CheckpointWrite, EdgeWrite, NewRun, ProgressWrite, RunWrite, StepWrite, Write

__all__ = ["ROW_TYPES", "write_batch"]

ROW_TYPES: Final[dict[str, tuple[str, ...]]] = {
    row.__name__: row._fields for row in (StepWrite, EdgeWrite, ProgressWrite, CheckpointWrite)
}

Outcomes = list[Exception | None]
Numbered = list[tuple[int, RunWrite]]


def write_batch(writer: sqlite3.Connection, sql: Mapping[str, str], batch: Sequence[Write]) -> Outcomes:
    """Write a batch inside the open transaction; return each write's error, or None where it stands."""
    outcomes: Outcomes = [None] * len(batch)
    writes: Numbered = []
    suspects: Numbered = []
    ended: dict[tuple[str, int], RunWrite] = {}
    starts: list[StepWrite] = []
    ends: list[StepWrite] = []
    edges: list[EdgeWrite] = []
    for position, write in enumerate(batch):
        if isinstance(write, NewRun):
            outcomes[position] = _insert_run(writer, sql, write)
            continue
        if ended:
            end = ended.get((write.run_id, write.lease_epoch))
            if end is not None:  # it comes after the write that ended its run
                outcomes[position] = None if write == end else LeaseLost(write.run_id, write.lease_epoch)
                continue
        if write.end is not None:
            ended[write.run_id, write.lease_epoch] = write
        if not (write.starts or write.ends) and (write.edges or write.end is None):
            suspects.append((position, write))  # no row that comes first carries the fence
        writes.append((position, write))
        starts += write.starts
        ends += write.ends
        edges += write.edges
    written = _execute(writer, sql["start_step"], starts) if starts else 0
    if ends:
        written += _execute(writer, sql["end_step"], ends)
    if written < len(starts) + len(ends):
        # The rare path. A row was refused: either it stands already (an idempotent repeat), or its
        # writer is stale, and then nothing of it may count.
        suspects = writes
    if suspects:
        stale = _find_stale(writer, sql, suspects)
        for position, write in suspects:
            if position in stale:
                outcomes[position] = LeaseLost(write.run_id, write.lease_epoch)
        writes = [numbered for numbered in writes if numbered[0] not in stale]
        edges = [edge for _, write in writes for edge in write.edges]
    if edges:
        _execute(writer, sql["insert_edge"], edges)
    for position, write in writes:
        if write.progress:
            _execute(writer, sql["save_progress"], write.progress)
        if write.checkpoints:
            _execute(writer, sql["save_checkpoint"], write.checkpoints)
        if write.end is not None:
            outcomes[position] = _end_run(writer, sql, write)
    return outcomes


def _execute(writer: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
    if len(rows) == 1:
        return writer.execute(sql, rows[0]).rowcount
    return writer.executemany(sql, rows).rowcount


def _find_stale(writer: sqlite3.Connection, sql: Mapping[str, str], writes: Iterable[tuple[int, RunWrite]]) -> set[int]:
    stale = set()
    for position, write in writes:
        fence = writer.execute(sql["get_fence"], {"run_id": write.run_id}).fetchone()
        if (
            fence is None
            or fence[1] != write.lease_epoch
            or (fence[0] != RunStatus.RUNNING.value and not _is_repeated_end(write, fence))
        ):
            stale.add(position)
    return stale


def _is_repeated_end(write: RunWrite, fence: tuple[Any, ...]) -> bool:
    # The run ended under this very epoch: only a repeat of the write that ended it may pass.
    return write.end is not None and (fence[0], fence[3]) == (write.end.status.value, write.end.now)


def _end_run(writer: sqlite3.Connection, sql: Mapping[str, str], write: RunWrite) -> LeaseLost | None:
    end = write.end
    assert end is not None
    parameters = {
        "run_id": write.run_id,
        "lease_epoch": write.lease_epoch,
        "status": end.status.value,
        "now": end.now,
        "error_step": end.error_step,
        "error_type": end.error_type,
        "error_message": end.error_message,
    }
    if not writer.execute(sql["end_run"], parameters).rowcount:
        is_stale = _find_stale(writer, sql, [(0, write)])
        return LeaseLost(write.run_id, write.lease_epoch) if is_stale else None
    writer.execute(sql["end_attempt"], parameters)
    if end.status != RunStatus.COMPLETED:
        writer.execute(sql["cancel_open_steps"], parameters)
        writer.execute(sql["save_run_traceback"], {"run_id": write.run_id, "error_traceback": end.error_traceback})
    return None


def _insert_run(writer: sqlite3.Connection, sql: Mapping[str, str], new: NewRun) -> RunExists | None:
    existing = writer.execute(sql["get_fence"], {"run_id": new.run_id}).fetchone()
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
        writer.execute(sql[name], parameters)
    return None
