"""``milepost rollback``: undo the completed stages of a task, the last one first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from milepost.cli.options import Durability, LedgerUrl, RunName

if TYPE_CHECKING:
    from milepost.stages import RollbackPlan

__all__ = ["rollback"]


def rollback(
    name: RunName,
    to_stage: Annotated[
        str | None,
        typer.Option("--to", metavar="STAGE", help="This stage and those before it stay complete.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be undone.")] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Pass over stages that do not say how to undo them.")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="TARGET",
            help="What makes the task's engine: needed if it moved, or if the task does not say.",
            show_default=False,
        ),
    ] = None,
    ledger: LedgerUrl = None,
    durability: Durability = "power",
) -> None:
    """Undo the completed stages of a task in reverse order; cut short, it goes on with what is left."""
    from milepost.cli.console import command
    from milepost.cli.execution import Terminated, terminating
    from milepost.cli.failures import INTERRUPTED, TERMINATED
    from milepost.cli.ledgers import ledger_words, open_existing
    from milepost.cli.tasks import TASK, load_engine
    from milepost.errors import ConfigurationError

    opened = open_existing(ledger, read_only=False, durability=durability)
    run = opened.find_run(name)
    if run.kind != TASK:
        raise ConfigurationError(
            f"Run {run.run_id} of {run.workflow!r} is no staged task, so nobody says how to undo its steps. "
            "Undo by hand what they did."
        )
    engine = load_engine(opened, run, target)
    try:
        with terminating():
            plan = engine.rollback(to_stage, dry_run=dry_run, skip_missing=skip_missing)
    except KeyboardInterrupt as error:
        again = command("rollback", run.run_id, *ledger_words(ledger))
        print(f"The rollback of task {run.run_id} was interrupted. Go on with it: {again}")
        raise typer.Exit(TERMINATED if isinstance(error, Terminated) else INTERRUPTED) from error
    _tell(plan, run.run_id, is_dry=dry_run)


def _tell(plan: RollbackPlan, run_id: str, *, is_dry: bool) -> None:
    if plan.is_empty:
        print(f"Task {run_id} has nothing to undo.")
        return
    word = "would be " if is_dry else ""
    for label in plan.undo:
        missing = label in plan.without_undo
        told = "has no rollback_stage()" + ("" if is_dry else ": passed over") if missing else f"{word}undone"
        print(f"  {label}: {told}")
    for label in plan.reset:
        print(f"  {label}: had not completed, {word}reset")
    if not is_dry:
        print(f"Task {run_id} is rolled back.")
