"""The target that a run stores: a file and a name that lead back to its Dag, or nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from milepost import Ledger

SCRIPT = "from milepost import Dag\ndag = Dag('g')\ndag.node(abs, x=-1)\ndag.run(run_id='r', ledger='runs.db')\n"


def stored_target(folder: Path) -> str | None:
    with Ledger.open(folder / "runs.db", read_only=True) as ledger:
        return ledger.get_payload("r").target


def test_a_dag_of_a_script_is_found_by_its_absolute_path(tmp_path):
    (tmp_path / "job.py").write_text(SCRIPT)
    subprocess.run([sys.executable, "job.py"], cwd=tmp_path, check=True, timeout=60)
    assert stored_target(tmp_path) == f"{tmp_path}/job.py:dag"


def test_a_dag_that_was_read_from_stdin_is_nowhere_to_be_found_again(tmp_path):
    subprocess.run([sys.executable, "-"], input=SCRIPT, text=True, cwd=tmp_path, check=True, timeout=60)
    assert stored_target(tmp_path) is None
