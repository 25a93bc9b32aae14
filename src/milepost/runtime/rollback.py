"""Rolling a run back: checked, claimed and marked, then driven as any session."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from milepost.engine import RollbackPlan
from milepost.errors import GraphChanged, InvalidTransition, RollbackRefused, StepNotFound, StoreConflict
from milepost.graph import Graph
from milepost.ledger import Ledger
from milepost.model import Run
from milepost.runtime.keeper import executing
from milepost.runtime.lifecycle import busy, changes_of, claim, open_ledger, require_unowned
from milepost.runtime.run import RunOptions, drive, drive_async, open_async, to_its_end
from milepost.runtime.session import RunSession
from milepost.runtime.steps import classes_of
from milepost.runtime.undoing import begin_write, find_mark, plan_undo, undo_session
from milepost.states import RunStatus
from milepost.store import RunWrite, StepRow
from milepost.values import decode

__all__ = ["roll_back", "roll_back_async"]


def roll_back(
    graph: Graph, run_id: str, options: RunOptions, *, to: str | None, dry_run: bool, skip_missing: bool
) -> RollbackPlan:
    """Undo completed steps in the reverse of their order, in this thread; return what was, or would be, done."""
    ledger = open_ledger(options.ledger, options.durability)
    with executing(ledger, run_id):
        plan, session = _begin(ledger, run_id, graph, to=to, dry_run=dry_run, skip_missing=skip_missing)
        if session is not None:
            finished = drive(session, options)
            if not session.execution.is_completed:
                finished.result()  # raises what stopped it
    return plan


async def roll_back_async(
    graph: Graph, run_id: str, options: RunOptions, *, to: str | None, dry_run: bool, skip_missing: bool
) -> RollbackPlan:
    """Do what :func:`roll_back` does on the running loop."""
    ledger = await open_async(options)
    with executing(ledger, run_id):
        beginning = asyncio.to_thread(_begin, ledger, run_id, graph, to=to, dry_run=dry_run, skip_missing=skip_missing)
        (plan, session), cancelled = await to_its_end(beginning)
        if session is not None:
            finished = await drive_async(session, options, cancelled)
            if not session.execution.is_completed:
                finished.result()
        elif cancelled is not None:
            raise cancelled
    return plan


def _begin(
    ledger: Ledger, run_id: str, graph: Graph, *, to: str | None, dry_run: bool, skip_missing: bool
) -> tuple[RollbackPlan, RunSession | None]:
    """Refuse what can be refused before the claim; then claim the run and mark that its rollback begins."""
    run = ledger.require_run(run_id)
    _check(ledger, run, graph)
    inputs = dict(decode(ledger.get_payload(run_id).inputs, classes_of(graph)))
    rows = ledger.store.list_step_rows(run_id)
    mark = find_mark(ledger, run_id)
    plan = _plan(run, graph, rows, to if mark is None else mark["to"])
    if dry_run or (plan.is_empty and mark is None):
        return plan, None
    if plan.without_undo and mark is None and not skip_missing:
        raise RollbackRefused(run_id, plan.without_undo, is_run=True)
    try:
        claimed = claim(ledger, run, run.attempt + (run.finished_at is not None))
    except StoreConflict:
        taken = ledger.require_run(run_id)
        if taken.status == RunStatus.RUNNING:
            raise busy(taken) from None
        raise
    if mark is None:
        ledger.commit(RunWrite(run_id, claimed.lease_epoch, checkpoints=[begin_write(ledger, claimed, to)]))
    else:
        to = mark["to"]
    # Who held the run may have completed a step between our reading and our claim; from here on it cannot.
    rows = ledger.store.list_step_rows(run_id)
    return plan_undo(graph, rows, to), undo_session(ledger, claimed, graph, inputs, rows, to)


def _check(ledger: Ledger, run: Run, graph: Graph) -> None:
    if run.status in (RunStatus.PENDING, RunStatus.SUSPENDED):
        raise InvalidTransition(
            f"Run {run.run_id}", run.status.value, "be rolled back", f"Cancel it first: `milepost cancel {run.run_id}`."
        )
    require_unowned(ledger, run)
    changes, _ = changes_of(ledger, run, graph)
    if changes:
        raise GraphChanged(run.run_id, changes)


def _plan(run: Run, graph: Graph, rows: Sequence[StepRow], to: str | None) -> RollbackPlan:
    try:
        return plan_undo(graph, rows, to)
    except KeyError:
        labels = {row.label for row in rows}
        if to in labels or to in graph:
            raise InvalidTransition(f"Step {to!r} of run {run.run_id}", "not completed", "be rolled back to") from None
        raise StepNotFound(run.run_id, str(to), labels) from None
