"""A schedule every second under workers that are killed at random; `MILEPOST_CHAOS=full` makes it a minute."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("schedule_minute.py")
SECONDS = "60" if os.environ.get("MILEPOST_CHAOS") == "full" else "10"


@pytest.mark.parametrize("words", [[], ["--postgres"]], ids=["sqlite", "postgres"])
def test_every_tick_runs_exactly_once_while_workers_are_killed(words: list[str]):
    line = [sys.executable, str(PROGRAM), "--seconds", SECONDS, *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    kills = int(done.stdout.split(" kills of")[0].split()[-1])
    assert kills > 3, done.stdout
