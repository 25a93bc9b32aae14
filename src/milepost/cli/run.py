"""``milepost run``: start a run and follow it to its end."""

from __future__ import annotations

import typer

from milepost.cli.options import Durability, Inputs, InputsFile, LedgerUrl, MaxConcurrency, RunId, Tags, Target

__all__ = ["run"]


def run(
    target: Target,
    inputs: Inputs = None,
    file: InputsFile = None,
    ledger: LedgerUrl = None,
    run_id: RunId = None,
    durability: Durability = "power",
    tags: Tags = None,
    max_concurrency: MaxConcurrency = None,
) -> None:
    """Run a Dag step by step, each one recorded; kill it anywhere and `milepost resume` goes on."""
    from milepost.cli.execution import execute
    from milepost.cli.inputs import parse_tags, read_inputs
    from milepost.cli.target import load_target

    labels = parse_tags(tags or [])
    found = load_target(target)
    values = read_inputs(found.dag, inputs or [], file)
    code = execute(
        lambda on_start: found.dag.run(
            inputs=values,
            ledger=ledger,
            run_id=run_id,
            max_concurrency=max_concurrency,
            durability=durability,
            tags=labels,
            target=found.text,
            on_start=on_start,
        ),
        ledger=ledger,
    )
    raise typer.Exit(code)
