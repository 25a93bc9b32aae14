"""``milepost cancel``: ask a run to stop."""

from __future__ import annotations

from milepost.cli.options import LedgerUrl, RunName

__all__ = ["cancel"]


def cancel(name: RunName, ledger: LedgerUrl = None) -> None:
    """Ask a run to stop; the process that executes it notices within about half a second."""
    from milepost.cli.ledgers import open_existing
    from milepost.runtime import cancel_run, describe_owner

    opened = open_existing(ledger, read_only=False)
    run = opened.find_run(name)
    if cancel_run(opened, run.run_id) == "requested":
        print(f"Run {run.run_id} was asked to stop; {describe_owner(run.lease_owner or 'nobody')} will notice.")
    else:
        print(f"Run {run.run_id} is cancelled; nobody was executing it.")
