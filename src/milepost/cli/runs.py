"""``milepost runs``: what is in the ledger, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from milepost.cli.options import AsJson, LedgerUrl

if TYPE_CHECKING:
    from milepost.ledger import Ledger
    from milepost.model import Run

__all__ = ["runs"]


def runs(
    status: Annotated[
        str | None,
        typer.Option(
            metavar="STATUS",
            help="Only runs that are pending, running, suspended, completed, failed or cancelled.",
            show_default=False,
        ),
    ] = None,
    workflow: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only runs of this workflow.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Only runs since then: 30m, 2h, 3d, or a date or time.", show_default=False),
    ] = None,
    inner: Annotated[bool, typer.Option("--inner", help="Also runs inside other runs, of their sub-DAGs.")] = False,
    parent: Annotated[
        str | None, typer.Option(metavar="RUN", help="Only runs inside this one.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most this many.")] = 20,
    ledger: LedgerUrl = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    from milepost.cli.console import print_json
    from milepost.cli.documents import run_document
    from milepost.cli.failures import NothingThere
    from milepost.cli.ledgers import open_existing
    from milepost.cli.times import parse_since
    from milepost.errors import did_you_mean

    moment = None if since is None else parse_since(since)
    opened = open_existing(ledger)
    inside = None if parent is None else opened.find_run(parent).run_id
    found = opened.list_runs(
        status=status, workflow=workflow, since=moment, parent_run_id=inside, inner=inner, limit=limit
    )
    if not found and workflow is not None:
        known = opened.store.list_workflows()
        if known and workflow not in known:
            listed = did_you_mean(workflow, known) or f" It has: {', '.join(known[:5])}."
            raise NothingThere(f"No workflow {workflow!r} in this ledger.{listed}")
    if as_json:
        print_json({"ledger": opened.url, "runs": [run_document(opened, run) for run in found]})
    elif found:
        _print(opened, found)
        if len(found) == limit:
            print(f"(the newest {limit}; --limit shows more)")
    else:
        is_filtered = any(given is not None for given in (status, workflow, since, parent))
        print(f"No {'such ' if is_filtered else ''}runs in {opened.url}.")


def _print(ledger: Ledger, found: list[Run]) -> None:
    from milepost.cli.console import STYLES, print_columns, styled, symbol
    from milepost.cli.times import ago_text
    from milepost.draw.looks import brief, duration_text
    from milepost.runtime import is_interrupted

    now = ledger.clock.now()
    rows = []
    for run in found:
        is_dead = is_interrupted(ledger, run)
        word = "interrupted" if is_dead else run.status.value
        took = ""
        if run.started_at is not None and not is_dead:
            took = duration_text(((run.finished_at or now) - run.started_at) / 1e6)
        detail = ""
        if run.error_type is not None:
            where = f"{run.error_step}: " if run.error_step else ""
            detail = brief(f"{where}{run.error_type}: {run.error_message}", 200)
        elif is_dead:
            detail = "its process is gone; resume it"
            if run.queue is not None:
                detail = "its worker is gone; any live one rescues it"
        rows.append(
            (
                styled(run.run_id),
                styled(run.workflow, "bold"),
                styled(f"{symbol(run.status)} {word}", "yellow" if is_dead else STYLES[run.status.value]),
                styled(ago_text(run.created_at, now)),
                styled(took),
                styled(detail, "dim"),
            )
        )
    print_columns(rows, ("RUN", "WORKFLOW", "STATUS", "CREATED", "DURATION", ""))
