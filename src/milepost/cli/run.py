"""``milepost run``: start a run and follow it to its end."""

from __future__ import annotations

from typing import Annotated

import typer

from milepost.cli.options import Durability, LedgerUrl, MaxConcurrency

__all__ = ["run"]


def run(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="Where the Dag is: file.py:dag or pkg.mod:dag; or a function that returns it: file.py:build.",
            show_default=False,
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=VALUE",
            help="An input; may be repeated. The text becomes what the parameter's annotation asks for; "
            "lists and objects are JSON.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--inputs", metavar="FILE", help="Inputs from a YAML or JSON file; - for stdin.", show_default=False
        ),
    ] = None,
    ledger: LedgerUrl = None,
    run_id: Annotated[
        str | None,
        typer.Option("--run-id", metavar="ID", help="The run's id; a new one if left out.", show_default=False),
    ] = None,
    durability: Durability = "power",
    tags: Annotated[
        list[str] | None,
        typer.Option(
            "--tag", metavar="NAME=VALUE", help="A tag kept with the run; may be repeated.", show_default=False
        ),
    ] = None,
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
