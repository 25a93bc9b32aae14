"""The server whose children are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Live = Callable[[Path, str, int | None], int]


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    """Return a function that lets a process live for a scenario and returns its exit code (-9: killed)."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("victim.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(folder: Path, scenario: str, kill_at: int | None) -> int:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps({"folder": str(folder), "scenario": scenario, "kill_at": kill_at}) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline())

    with server:
        yield ask
        assert server.stdin is not None
        server.stdin.close()
    assert server.returncode == 0
