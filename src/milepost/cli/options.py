"""Options that several commands share: one name, one meaning, one line of help."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "AllowChanges",
    "AsJson",
    "Durability",
    "Inputs",
    "InputsFile",
    "LedgerUrl",
    "MaxConcurrency",
    "Priority",
    "Queue",
    "RunId",
    "RunName",
    "RunTarget",
    "Tags",
    "Target",
]

LedgerUrl = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        help="The ledger: a path, or postgresql://user@host/database. "
        "Default: MILEPOST_LEDGER, else milepost.db in this folder.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run id, its unique beginning, or `latest`.")]
RunTarget = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="TARGET",
        help="Where its code is: file.py:dag or file.py:build; needed if it moved, or if the run does not say.",
        show_default=False,
    ),
]
AllowChanges = Annotated[
    bool, typer.Option("--allow-changes", help="Take a graph that is not the one the run started with.")
]
Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="Where the Dag or pipeline is: file.py:dag, pkg.mod:dag, or a function that makes it: file.py:build.",
        show_default=False,
    ),
]
Durability = Annotated[
    str,
    typer.Option(
        "--durability",
        metavar="power|process",
        help="What a completed step survives: a power loss, or only the death of the process (faster).",
    ),
]
MaxConcurrency = Annotated[
    int | None,
    typer.Option("--max-concurrency", metavar="N", help="How many steps may run at once (32).", show_default=False),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=VALUE",
        help="An input; may be repeated. The text becomes what the parameter's annotation asks for; "
        "lists and objects are JSON.",
        show_default=False,
    ),
]
InputsFile = Annotated[
    str | None,
    typer.Option("--inputs", metavar="FILE", help="Inputs from a YAML or JSON file; - for stdin.", show_default=False),
]
Queue = Annotated[str, typer.Option("--queue", metavar="NAME", help="The queue that runs wait in.")]
Priority = Annotated[int, typer.Option("--priority", metavar="N", help="A lower number goes first.")]
RunId = Annotated[
    str | None,
    typer.Option("--run-id", metavar="ID", help="The run's id; a new one if left out.", show_default=False),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="NAME=VALUE", help="A tag kept with the run; may be repeated.", show_default=False),
]
