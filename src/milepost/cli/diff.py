"""``milepost diff``: how two runs differ."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from milepost.cli.options import AsJson, LedgerUrl, RunName

if TYPE_CHECKING:
    from rich.text import Text

    from milepost.provenance import Difference, StepDifference

__all__ = ["diff"]


def diff(
    name: RunName,
    other: Annotated[str, typer.Argument(metavar="RUN2", help="The run to compare it with.", show_default=False)],
    every: Annotated[bool, typer.Option("--all", help="Also steps that are the same in both.")] = False,
    ledger: LedgerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs: inputs, code, outcomes, durations, and the first step where they part."""
    from milepost.cli.console import print_json
    from milepost.cli.ledgers import open_existing
    from milepost.provenance import compare_runs

    opened = open_existing(ledger)
    found = compare_runs(opened, opened.find_run(name).run_id, opened.find_run(other).run_id)
    if as_json:
        print_json({**asdict(found), "is_same": found.is_same})
    else:
        _tell(found, every=every)


def _tell(found: Difference, *, every: bool) -> None:
    from milepost.cli.console import print_columns, say

    for place, run_id in enumerate(found.run_ids):
        say(f"{'ab'[place]}  run {run_id} of {found.workflows[place]}: {found.statuses[place]}{_took(found, place)}")
    for name, (a, b) in found.inputs.items():
        say(f"input {name}: {_short(a)} -> {_short(b)}")
    for change in found.graph:
        say(f"graph: {change}")
    for label in found.code:
        say(f"code of {label} changed")
    shown = [step for step in found.steps if every or step.differs]
    if shown:
        print_columns([_row(step) for step in shown], ("step", "a", "b", "differs"))
    if found.is_same:
        say("The two are the same.")
    elif found.parts_at is not None:
        say(f"They part at {found.parts_at}.")


def _took(found: Difference, place: int) -> str:
    from milepost.draw.looks import duration_text

    seconds = found.durations[place]
    return "" if seconds is None else f" in {duration_text(seconds)}"


def _row(step: StepDifference) -> list[Text]:
    from milepost.cli.console import styled
    from milepost.draw.looks import duration_text

    cells = [step.label]
    for status, seconds in zip(step.status, step.duration, strict=True):
        cells.append("-" if status is None else status + ("" if seconds is None else f" {duration_text(seconds)}"))
    return [styled(cell) for cell in (*cells, ", ".join(step.differs))]


def _short(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
