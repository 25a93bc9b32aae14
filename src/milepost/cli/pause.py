"""``milepost pause``: let a run go no further for now."""

from __future__ import annotations

from milepost.cli.options import LedgerUrl, RunName

__all__ = ["pause"]


def pause(name: RunName, ledger: LedgerUrl = None) -> None:
    """Ask a run to pause: steps that run already end, nothing new starts; `milepost resume` goes on with it."""
    from milepost.cli.ledgers import open_existing
    from milepost.runtime import describe_owner, pause_run

    opened = open_existing(ledger, read_only=False)
    run = opened.find_run(name)
    pause_run(opened, run.run_id)
    print(f"Run {run.run_id} was asked to pause; {describe_owner(run.lease_owner or 'nobody')} will notice.")
