"""``milepost lineage`` and ``milepost invalidate``: where outputs came from, what used them, and which are bad."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from milepost.cli.options import AsJson, LedgerUrl, RunName

if TYPE_CHECKING:
    from milepost.provenance import Lineage, Link

__all__ = ["invalidate", "lineage"]


def lineage(
    name: RunName,
    node: Annotated[
        str | None,
        typer.Option(
            "--node",
            metavar="LABEL",
            help="A step or an element of a map; left out: the final ones.",
            show_default=False,
        ),
    ] = None,
    ledger: LedgerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show where an output came from and what used it, across replays and runs inside runs."""
    from milepost.cli.console import print_json
    from milepost.cli.ledgers import open_existing
    from milepost.provenance import lineage as trace

    opened = open_existing(ledger)
    found = trace(opened, opened.find_run(name).run_id, node)
    if as_json:
        print_json({"lineage": [asdict(one) for one in found]})
        return
    for one in found:
        _tell(one)


def _tell(found: Lineage) -> None:
    from milepost.cli.console import say

    bad = f", marked as bad: {found.is_invalid}" if found.is_invalid else ""
    say(f"{found.label} of run {found.run_id}: {found.status}{bad}")
    for heading, links in (("made of", found.made_of), ("used by", found.used_by)):
        say(f"  {heading}" if links else f"  {heading} nothing")
        for link in links:
            say(f"  {'  ' * link.depth}{link.label}{_where(link, found.run_id)}: {link.status}")


def _where(link: Link, run_id: str) -> str:
    words = {"copy": "copied, ", "inner": "inside, ", "outer": "around, "}
    how = words.get(link.via, "")
    if link.run_id == run_id:
        return f" ({how.rstrip(', ')})" if how else ""
    return f" ({how}run {link.run_id})"


def invalidate(
    name: RunName,
    node: Annotated[str, typer.Argument(metavar="NODE", help="A step, or an element of a map.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="What is wrong with the output.")] = "marked as bad",
    ledger: LedgerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Mark an output as bad, so that nothing reuses it, and list every run that used it."""
    from milepost.cli.console import print_json, say
    from milepost.cli.ledgers import open_existing
    from milepost.provenance import invalidate as mark

    opened = open_existing(ledger, read_only=False)
    run_id = opened.find_run(name).run_id
    uses = mark(opened, run_id, node, reason)
    if as_json:
        print_json({"run_id": run_id, "node": node, "reason": reason, "used_by": [asdict(use) for use in uses]})
        return
    say(f"The output of {node} of run {run_id} is marked as bad: {reason}")
    if not uses:
        say("Nothing has used it.")
    for use in uses:
        say(f"  run {use.run_id} of {use.workflow}, {use.status}: {', '.join(use.steps)}")
