"""The program of the README's first screen does what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from milepost import Ledger, RunStatus

PROGRAM = Path(__file__).parents[2] / "examples" / "first_run.py"


@pytest.mark.parametrize(
    "command",
    [[str(PROGRAM)], ["-m", "milepost", "run", f"{PROGRAM}:dag"]],
    ids=["python first_run.py", "milepost run first_run.py:dag"],
)
def test_the_first_program_runs_and_every_file_is_in_the_ledger(tmp_path, command):
    environment = {name: value for name, value in os.environ.items() if name != "MILEPOST_LEDGER"}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with Ledger.open(tmp_path / "milepost.db") as ledger:
        [run] = ledger.list_runs()
        assert (run.workflow, run.status) == ("first-run", RunStatus.COMPLETED)
        assert ledger.get_payload(run.run_id).target == f"{PROGRAM}:dag"
        sizes = ledger.get_output(run.run_id, "compress")
        said = ledger.get_output(run.run_id, "add_up")
    assert len(sizes) > 100
    assert said == f"{len(sizes):,} files fit in {sum(sizes):,} bytes"
    if command[0] != "-m":
        assert done.stdout == f"{said}\n"
