"""What every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from milepost import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Return an open ledger in a real file of its own."""
    with Ledger.open(tmp_path / "runs.db", durability="process") as opened:
        yield opened
