"""The runs inside a run, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from milepost.ledger import Ledger
from milepost.model import Run

__all__ = ["list_inner_runs"]

_PAGE: Final = 1000


def list_inner_runs(ledger: Ledger, run_id: str) -> Iterator[Run]:
    """Yield the runs directly inside a run, newest first."""
    last = None
    while True:
        page = ledger.list_runs(parent_run_id=run_id, inner=True, limit=_PAGE, before=last)
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1]
