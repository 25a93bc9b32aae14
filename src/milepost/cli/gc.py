"""``milepost gc``: delete finished runs by age."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from milepost.cli.options import LedgerUrl

if TYPE_CHECKING:
    from datetime import timedelta

    from milepost.ledger import Ledger

__all__ = ["gc"]


def gc(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="SPAN", help="Runs that finished longer ago: 12h, 30d.")
    ] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many runs would go.")] = False,
    ledger: LedgerUrl = None,
) -> None:
    """Delete finished runs by age, each with all that belongs to it. Unfinished runs stay."""
    from milepost.cli.ledgers import open_existing
    from milepost.cli.times import parse_span

    span = parse_span(older_than, "--older-than")
    opened = open_existing(ledger, read_only=dry_run)
    if dry_run:
        count = _count(opened, span)
        print(f"Would delete {count} run{'' if count == 1 else 's'} that finished more than {older_than} ago.")
    else:
        count = opened.delete_runs(older_than=span)
        print(f"Deleted {count} run{'' if count == 1 else 's'} that finished more than {older_than} ago.")
        events, workers = opened.delete_events(older_than=span), opened.delete_workers(older_than=span)
        if events:
            print(f"Deleted {events} event{'' if events == 1 else 's'} that no unfinished run may ask for.")
        if workers:
            print(f"Forgot {workers} worker{'' if workers == 1 else 's'} that stopped or died.")


def _count(opened: Ledger, span: timedelta) -> int:
    before = opened.clock.now() - int(span.total_seconds() * 1e6)
    count, page = 0, opened.list_runs(limit=500)
    while page:
        count += sum(
            run.finished_at is not None and run.finished_at < before and run.parent_run_id is None for run in page
        )
        page = opened.list_runs(limit=500, before=page[-1])
    return count
