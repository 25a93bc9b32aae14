"""``milepost migrate``: bring the schema of a shared ledger up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from milepost.cli.options import AsJson, LedgerUrl

__all__ = ["migrate"]


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
    ledger: LedgerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Bring a PostgreSQL ledger up to date, or make one. Safe to run twice, also at once."""
    from milepost.cli.console import print_json
    from milepost.errors import ConfigurationError
    from milepost.ledger import Ledger, default_ledger
    from milepost.stores.postgres_address import hide_password, is_postgres

    if as_json and not dry_run:
        raise ConfigurationError("--json belongs to --dry-run: it prints the plan.")
    url = ledger if ledger is not None else default_ledger()
    shown = hide_password(url)
    names = Ledger.migrate(url, dry_run=dry_run) if is_postgres(url) else []
    if as_json:
        print_json({"ledger": shown, "migrations": names})
    elif not is_postgres(url):
        print(f"{shown} is a file: a ledger in SQLite migrates by itself when it is opened.")
    elif not names:
        print(f"{shown} is up to date.")
    else:
        print(f"{'To do' if dry_run else 'Done'} on {shown}:")
        for name in names:
            print(f"  {name}")
