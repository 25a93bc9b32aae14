"""SIGKILL in the middle of a workflow, then another process: every node's effect is there once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

VICTIM = Path(__file__).with_name("victim.py")
EFFECTS = {
    "parallel": ["begin", "a1", "a2", "b1", "b2", "end"],
    "foreach": ["begin", "x0", "x1", "x2", "x3", "end"],
    "while": ["begin", "x0", "x1", "x2", "end"],
    "wait": ["begin", "before", "after", "end"],
    "event": ["begin", "heard", "end"],
}


def start(kind: str, folder: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, VICTIM, kind, folder / "runs.db", folder / "effects", str(kill_at)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("kind", EFFECTS)
def test_a_workflow_killed_before_every_effect_in_turn_counts_each_once(kind: str, tmp_path: Path) -> None:
    wanted = EFFECTS[kind]
    for kill_at in range(1, len(wanted)):
        died = start(kind, tmp_path, kill_at)
        assert died.returncode == -signal.SIGKILL, died.stderr
    ended = start(kind, tmp_path, -1)
    assert ended.stdout == "completed done\n", ended.stderr
    assert Counter((tmp_path / "effects").read_text().split()) == Counter(wanted)
