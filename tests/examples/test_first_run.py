"""The program of the README's first screen does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from milepost import Ledger, RunStatus

PROGRAM = Path(__file__).parents[2] / "examples" / "first_run.py"


def test_the_first_program_runs_and_every_file_is_in_the_ledger(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "MILEPOST_LEDGER"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = re.fullmatch(r"([\d,]+) files fit in ([\d,]+) bytes\n", done.stdout)
    assert said, done.stdout
    with Ledger.open(tmp_path / "milepost.db") as ledger:
        [run] = ledger.list_runs()
        assert (run.workflow, run.status) == ("first-run", RunStatus.COMPLETED)
        sizes = ledger.get_output(run.run_id, "compress")
        assert ledger.get_payload(run.run_id).target == f"{PROGRAM}:dag"
    assert (len(sizes), sum(sizes)) == tuple(int(number.replace(",", "")) for number in said.groups())
    assert len(sizes) > 100
