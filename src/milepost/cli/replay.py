"""``milepost replay``: a new run that reuses what another one has made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from milepost.cli.options import AllowChanges, AsJson, Durability, LedgerUrl, MaxConcurrency, RunId, RunName, RunTarget

if TYPE_CHECKING:
    from milepost.engine import ReplayPlan

__all__ = ["replay"]


def replay(
    name: RunName,
    nodes: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            metavar="LABEL",
            help="A step that runs again, or an element of a map; may be given many times.",
            show_default=False,
        ),
    ] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Run again what changed since: code, wiring or inputs.")
    ] = False,
    only: Annotated[bool, typer.Option("--only", help="Leave alone what is downstream of the chosen steps.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run and why, and run nothing.")] = False,
    allow_changes: AllowChanges = False,
    target: RunTarget = None,
    ledger: LedgerUrl = None,
    run_id: RunId = None,
    durability: Durability = "power",
    max_concurrency: MaxConcurrency = None,
    as_json: AsJson = False,
) -> None:
    """Make a new run of an old one: chosen steps and what depends on them run again, the rest is copied."""
    from milepost.cli.console import command, print_json
    from milepost.cli.execution import execute
    from milepost.cli.ledgers import ledger_words, open_existing
    from milepost.cli.resume import find_target, require_kind
    from milepost.errors import ConfigurationError

    if as_json and not dry_run:
        raise ConfigurationError("--json belongs to --dry-run. Look at the new run with `milepost show RUN --json`.")
    opened = open_existing(ledger, read_only=dry_run, **({} if dry_run else {"durability": durability}))
    run = opened.find_run(name)
    shown = command("show", run.run_id, "--json", *ledger_words(ledger))
    require_kind(run, ("dag", "pipeline"), "replay", f"Start a new one with its inputs: `{shown}` has them.")
    found = find_target(opened, run, target)
    labels = nodes or []
    if dry_run:
        planned = found.dag.plan_replay(
            run.run_id, labels, changed=changed, downstream=not only, allow_changes=allow_changes, ledger=opened
        )
        if as_json:
            print_json(_document(planned))
        else:
            _tell(planned)
        return
    code = execute(
        lambda on_start: found.dag.replay(
            run.run_id,
            labels,
            changed=changed,
            downstream=not only,
            allow_changes=allow_changes,
            ledger=opened,
            new_run_id=run_id,
            max_concurrency=max_concurrency,
            target=found.text,
            on_start=on_start,
        ),
        ledger=ledger,
        verb=f"Replaying {run.run_id} as run",
    )
    raise typer.Exit(code)


def _document(plan: ReplayPlan) -> dict[str, object]:
    return {
        "run_id": plan.run_id,
        "nodes": list(plan.chosen),
        "downstream": plan.downstream,
        "graph_changes": list(plan.changes),
        "steps": [
            {"label": step.label, "runs": step.runs, "reason": step.reason, "elements": list(step.elements)}
            for step in plan.steps
        ],
    }


def _tell(plan: ReplayPlan) -> None:
    from milepost.cli.console import say

    for change in plan.changes:
        say(f"The graph changed: {change}.")
    width = max(len(step.label) for step in plan.steps)
    for step in plan.steps:
        say(f"{'run   ' if step.runs else 'reuse '} {step.label:<{width}}  {step.reason}")
    reused = len(plan.reused)
    say(f"{len(plan.to_run)} to run, {reused} to reuse. Nothing was run.")
