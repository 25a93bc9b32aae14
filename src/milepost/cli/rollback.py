"""``milepost rollback``: undo the completed steps of a run or stages of a task, the last one first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from milepost.cli.options import Durability, LedgerUrl, RunName, RunTarget

if TYPE_CHECKING:
    from milepost.engine import RollbackPlan

__all__ = ["rollback"]


def rollback(
    name: RunName,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="STEP", help="This step or stage and those before it stay complete.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be undone.")] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Pass over what does not say how to undo it.")
    ] = False,
    target: RunTarget = None,
    ledger: LedgerUrl = None,
    durability: Durability = "power",
) -> None:
    """Undo the completed steps of a run in reverse order; cut short, it goes on with what is left."""
    from milepost.cli.console import command
    from milepost.cli.execution import Terminated, terminating
    from milepost.cli.failures import INTERRUPTED, TERMINATED
    from milepost.cli.ledgers import ledger_words, open_existing
    from milepost.cli.resume import find_target, require_kind
    from milepost.cli.tasks import TASK, load_engine

    opened = open_existing(ledger, read_only=False, durability=durability)
    run = opened.find_run(name)
    shown = command("show", run.run_id, *ledger_words(ledger))
    require_kind(run, ("dag", "pipeline", TASK), "rollback", f"Undo by hand what its steps did: `{shown}` lists them.")
    is_task = run.kind == TASK
    what = f"{'task' if is_task else 'run'} {run.run_id}"
    try:
        with terminating():
            if is_task:
                plan = load_engine(opened, run, target).rollback(to, dry_run=dry_run, skip_missing=skip_missing)
            else:
                dag = find_target(opened, run, target).dag
                plan = dag.rollback(run.run_id, to=to, dry_run=dry_run, skip_missing=skip_missing, ledger=opened)
    except KeyboardInterrupt as error:
        again = command("rollback", run.run_id, *ledger_words(ledger))
        print(f"The rollback of {what} was interrupted. Go on with it: {again}")
        raise typer.Exit(TERMINATED if isinstance(error, Terminated) else INTERRUPTED) from error
    _tell(plan, what, "rollback_stage()" if is_task else "undo", is_dry=dry_run)


def _tell(plan: RollbackPlan, what: str, undo: str, *, is_dry: bool) -> None:
    if plan.is_empty:
        print(f"{what.capitalize()} has nothing to undo.")
        return
    word = "would be " if is_dry else ""
    missing = set(plan.without_undo)
    for is_missing, labels in _runs_of(plan.undo, missing):
        shown = labels[0] if len(labels) == 1 else f"{labels[0]} .. {labels[-1]}, {len(labels)} elements"
        told = f"has no {undo}" + ("" if is_dry else ": passed over") if is_missing else f"{word}undone"
        print(f"  {shown}: {told}")
    for label in plan.reset:
        print(f"  {label}: had not completed, {word}reset")
    if not is_dry:
        print(f"{what.capitalize()} is rolled back.")


def _runs_of(labels: tuple[str, ...], missing: set[str]) -> list[tuple[bool, list[str]]]:
    """Put elements of one map that follow each other into one line."""
    lines: list[tuple[bool, list[str]]] = []
    before = None
    for label in labels:
        map_ = label.partition("[")[0] if label.endswith("]") else None
        key = (label in missing, map_)
        if map_ is not None and key == before:
            lines[-1][1].append(label)
        else:
            lines.append((label in missing, [label]))
        before = key
    return lines
