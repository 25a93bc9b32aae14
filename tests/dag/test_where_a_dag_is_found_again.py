"""The target that a run stores: a file and a name that lead back to its Dag, or nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from milepost import Dag, Ledger

SCRIPT = "from milepost import Dag\ndag = Dag('g')\ndag.node(abs, x=-1)\ndag.run(run_id='r', ledger='runs.db')\n"


def stored_target(folder: Path) -> str | None:
    with Ledger.open(folder / "runs.db", read_only=True) as ledger:
        return ledger.get_payload("r").target


def test_a_dag_of_a_script_is_found_by_its_absolute_path(tmp_path):
    (tmp_path / "job.py").write_text(SCRIPT)
    subprocess.run([sys.executable, "job.py"], cwd=tmp_path, check=True, timeout=60)
    assert stored_target(tmp_path) == f"{tmp_path}/job.py:dag"


IN_GUARD = """
from milepost import Dag
if __name__ == "__main__":
    dag = Dag("g")
    dag.node(abs, x=-1)
    dag.run(run_id="r", ledger="runs.db")
"""
IN_GUARD_AND_ABOVE = "dag = None\nother: object\n" + IN_GUARD
IN_OTHER_BRANCH = """
from milepost import Dag
if "__main__" != __name__ and True:
    pass
try:
    with open(__file__):
        for dag in [Dag("g")]:
            dag.node(abs, x=-1)
finally:
    if __name__ == "__main__":
        dag.run(run_id="r", ledger="runs.db")
"""
IN_FUNCTION = """
from milepost import Dag
def build():
    dag = Dag("g")
    dag.node(abs, x=-1)
    return dag
build().run(run_id="r", ledger="runs.db")
"""


@pytest.mark.parametrize(
    ("script", "is_found"),
    [(IN_GUARD, False), (IN_GUARD_AND_ABOVE, False), (IN_OTHER_BRANCH, True), (IN_FUNCTION, False)],
)
def test_a_dag_that_importing_its_file_would_not_make_is_not_named(tmp_path, script, is_found):
    (tmp_path / "job.py").write_text(script)
    subprocess.run([sys.executable, "job.py"], cwd=tmp_path, check=True, timeout=60)
    assert stored_target(tmp_path) == (f"{tmp_path}/job.py:dag" if is_found else None)


@pytest.mark.parametrize("given", ["job.py:build", "gone.py:build", "pkg.jobs:dag", "odd"])
def test_a_target_is_stored_by_the_whole_path_of_its_file(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.py").touch()
    dag = Dag("g")
    dag.node(abs, x=-1)
    dag.run(run_id="r", ledger="runs.db", target=given)
    assert stored_target(tmp_path) == (f"{tmp_path}/{given}" if given.startswith("job") else given)


def test_a_dag_that_was_read_from_stdin_is_nowhere_to_be_found_again(tmp_path):
    subprocess.run([sys.executable, "-"], input=SCRIPT, text=True, cwd=tmp_path, check=True, timeout=60)
    assert stored_target(tmp_path) is None
