"""What every test may use."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from milepost import Ledger


def pytest_configure() -> None:
    """Hear Ctrl-C: a shell that starts the suite in the background has it ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Return an open ledger in a real file of its own."""
    with Ledger.open(tmp_path / "runs.db", durability="process") as opened:
        yield opened
