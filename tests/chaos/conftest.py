"""Ledgers that worker processes share, and the nursery these come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nursery import Nursery, nursery
from postgres import new_schema, server_url

from milepost import Ledger


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty ledger of its own."""
    return str(tmp_path / "runs.db") if request.param == "sqlite" else new_schema(server_url())


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """Return that ledger, open."""
    with Ledger.open(ledger_url) as opened:
        yield opened


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Nursery]:
    """Return the nursery; whoever lives when the test ends is killed."""
    with nursery(tmp_path) as opened:
        yield opened
