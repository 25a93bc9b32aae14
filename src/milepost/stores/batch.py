"""One batch of writes inside one transaction: rows of many runs in few statements.

Invariants: a write counts whole or not at all, as far as the fence decides; a stale writer changes
no row, and never spoils the others in its batch; what stands already is not written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Final

from milepost.errors import LeaseLost, RunExists
from milepost.states import RunStatus
from milepost.store import EdgeWrite, NewRun, RunWrite, StepWrite, Write
from milepost.stores.rows import AttemptRow, EndRow, end_row, payload_row, run_row
from milepost.stores.transaction import TASKS, Transaction

__all__ = ["insert_runs", "write_batch"]

Outcomes = list[Exception | None]
Numbered = list[tuple[int, RunWrite]]


def write_batch(tx: Transaction, batch: Sequence[Write]) -> Outcomes:
    """Write a batch inside the open transaction; return each write's error, or None where it stands."""
    outcomes: Outcomes = [None] * len(batch)
    new: list[tuple[int, NewRun]] = []
    writes: Numbered = []
    suspects: Numbered = []
    ended: set[tuple[str, int]] = set()
    late: list[int] = []  # writes that come after one that may end their run
    starts: list[StepWrite] = []
    ends: list[StepWrite] = []
    edges: list[EdgeWrite] = []
    for position, write in enumerate(batch):
        if isinstance(write, NewRun):
            new.append((position, write))
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
    if new:
        insert_runs(tx, new, outcomes)
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
    if ending:
        _end_runs(tx, ending, outcomes)
    if late:
        for position, outcome in zip(late, write_batch(tx, [batch[n] for n in late]), strict=True):
            outcomes[position] = outcome
    return outcomes


def _find_stale(tx: Transaction, writes: Iterable[tuple[int, RunWrite]]) -> set[int]:
    stale = set()
    for position, write in writes:
        fence = _fence(tx, write.run_id)
        status, epoch = (None, None) if fence is None else fence[:2]
        is_held = epoch == write.lease_epoch
        if not is_held or (status != RunStatus.RUNNING.value and not _is_repeated_end(tx, write, status)):
            stale.add(position)
    return stale


def _is_repeated_end(tx: Transaction, write: RunWrite, status: str | None) -> bool:
    # Whoever gave the lease up may say so again where the answer was lost. The row of its claim tells: a run that
    # was rescued from it may look the same as one that it gave back.
    end = write.end
    if end is None or status != end.status.value:
        return False
    row = _attempt_row(write)
    rows = tx.rows("get_attempt", run_id=write.run_id, lease_epoch=write.lease_epoch)
    return bool(rows) and rows[0] == (row.status, row.now, row.error_type, row.error_message)


def _end_runs(tx: Transaction, ending: Numbered, outcomes: Outcomes) -> None:
    """End runs, or give them back, by few statements; where one was refused, all are looked at."""
    over = [end_row(write) for _, write in ending if not _goes_back(write)]
    ended = tx.write_rows("end_run", over) if over else 0
    # In the order of their ids, as all who lock runs: nobody waits in a circle.
    back = sorted((write for _, write in ending if _goes_back(write)), key=attrgetter("run_id"))
    ended += sum(_give_back(tx, write) for write in back)
    tx.write_rows("end_attempt", [_attempt_row(write) for _, write in ending])  # a stale one's is closed already
    if ended < len(ending):
        stale = _find_stale(tx, ending)
        for position, write in ending:
            if position in stale:
                outcomes[position] = LeaseLost(write.run_id, write.lease_epoch)
        ending = [numbered for numbered in ending if numbered[0] not in stale]
    for _, write in ending:
        end = write.end
        if end is not None and end.status != RunStatus.COMPLETED:
            tx.execute(
                "pause_open_steps" if end.outcome == "pause" else "cancel_open_steps", **end_row(write)._asdict()
            )
            tx.execute("save_run_traceback", run_id=write.run_id, error_traceback=end.error_traceback)
    if back:
        tx.notify(TASKS)


def _goes_back(write: RunWrite) -> bool:
    return write.end is not None and write.end.outcome is not None


# How a run that goes back to its queue leaves the hands of who executed it, and what becomes of that claim.
_BACK: Final = {
    "retry": ("retry_run", RunStatus.FAILED.value),
    "release": ("release_run", RunStatus.CANCELLED.value),
    "pause": ("pause_run", RunStatus.SUSPENDED.value),
}


def _give_back(tx: Transaction, write: RunWrite) -> int:
    end = write.end
    assert end is not None
    assert end.outcome is not None
    return tx.execute(_BACK[end.outcome][0], **end_row(write)._asdict(), available_at=end.available_at)


def _attempt_row(write: RunWrite) -> EndRow:
    row = end_row(write)
    end = write.end
    return row if end is None or end.outcome is None else row._replace(status=_BACK[end.outcome][1])


def _fence(tx: Transaction, run_id: str) -> tuple[Any, ...] | None:
    rows = tx.rows("get_fence", run_id=run_id)
    return rows[0] if rows else None


def insert_runs(tx: Transaction, new: list[tuple[int, NewRun]], outcomes: Outcomes) -> None:
    """Insert runs that begin here; those whose ids are taken are looked at one by one."""
    for hash_, run in {run.definition_hash: run for _, run in new}.items():
        tx.execute("insert_definition", hash=hash_, workflow=run.workflow, document=run.definition, now=run.now)
    if tx.write_rows("insert_run", [run_row(run) for _, run in new]) < len(new):
        for position, run in new:
            # The same write once more, after an interrupted commit, is no second run under a used id.
            fence = _fence(tx, run.run_id)
            if fence != (RunStatus.RUNNING.value, 1, run.owner, None, run.now):
                outcomes[position] = RunExists(run.run_id)
        new = [(position, run) for position, run in new if outcomes[position] is None]
    if new:
        tx.write_rows("insert_payload", [payload_row(run) for _, run in new])
        tx.write_rows("insert_attempt", [AttemptRow(run.run_id, 1, run.attempt, run.owner, run.now) for _, run in new])
