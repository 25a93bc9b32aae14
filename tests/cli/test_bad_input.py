"""Bad input: one line on stderr, the right exit code, nothing on stdout, nothing made."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import pytest

from milepost import Ledger


@pytest.fixture
def bad_place(place):
    """Return a folder with a good ledger `milepost.db` and files that are none."""
    place.run("run", "job.py:dag", "--run-id", "first")
    (place.folder / "random.db").write_bytes(random.Random(1).randbytes(5000))
    (place.folder / "folder").mkdir()
    with sqlite3.connect(place.folder / "foreign.db") as foreign:
        foreign.execute("CREATE TABLE t (x)")
    foreign.close()
    with Ledger.open("newer.db") as newer:
        newer.store._writer.execute("INSERT INTO schema_migrations VALUES (9999, 'future', 0)")
    return place


CASES = [
    # usage
    (["rum"], 2, "No such command 'rum'. Did you mean 'run'"),
    (["run"], 2, "Missing argument 'TARGET'. See `milepost run --help`."),
    (["run", "job.py:dag", "--ledgr", "x"], 2, "No such option: --ledgr. Did you mean --ledger?"),
    (["run", "job.py:dag", "--input"], 2, "'--input' requires an argument"),
    (["--frobnicate"], 2, "No such option: --frobnicate."),
    (["runs", "--limit", "0"], 2, "'--limit'"),
    (["resume"], 2, "Name one run, or give --all"),
    (["resume", "first", "--all"], 2, "Name one run, or give --all"),
    (["resume", "--all", "--target", "job.py:dag"], 2, "--target belongs to one run"),
    # targets
    (["run", "none.py:dag"], 3, "There is no file 'none.py'."),
    (["run", "job.py:dog"], 3, "Did you mean 'dag'?"),
    (["graph", "none.py:dag"], 3, "There is no file 'none.py'."),
    (["run", ""], 2, "'' is not a target"),
    # inputs
    (["run", "job.py:dag", "--input", "count"], 2, "--input must be name=value, not 'count'."),
    (
        ["run", "job.py:dag", "--input", "cout=3"],
        2,
        "unknown input 'cout' (known: count, start",
    ),
    (["run", "job.py:dag", "--input", "count=many"], 2, "input 'count' must be int, not 'many'"),
    (["run", "job.py:dag", "--inputs", "none.yaml"], 2, "cannot be read: No such file or directory."),
    (["run", "job.py:dag", "--inputs", "folder"], 2, "cannot be read: Is a directory."),
    (["run", "needs.py:dag"], 2, "missing input 'name' (str, for step 'f')"),
    (["run", "job.py:dag", "--run-id", "no spaces"], 2, "'no spaces' is not a run id."),
    (["run", "job.py:dag", "--run-id", "first"], 2, "A run 'first' exists already in this ledger."),
    (["run", "job.py:dag", "--durability", "powr"], 2, "Did you mean 'power'?"),
    (["run", "job.py:dag", "--max-concurrency", "0"], 2, "max_concurrency must be a whole number of 1 or more"),
    # ledgers
    (["run", "job.py:dag", "--ledger", "folder"], 2, "it is a folder"),
    (["run", "job.py:dag", "--ledger", "random.db"], 2, "is not a Milepost ledger"),
    (["run", "job.py:dag", "--ledger", "foreign.db"], 2, "it is a database with other tables (t)"),
    (["run", "job.py:dag", "--ledger", "newer.db"], 2, "Upgrade Milepost"),
    (["run", "job.py:dag", "--ledger", "none/x.db"], 2, "does not exist"),
    (["run", "job.py:dag", "--ledger", ""], 2, "The ledger's path is empty."),
    (["runs", "--ledger", "none.db"], 3, "There is no ledger 'none.db'"),
    (["show", "first", "--ledger", "none.db"], 3, "There is no ledger 'none.db'"),
    (["resume", "--all", "--ledger", "none.db"], 3, "There is no ledger 'none.db'"),
    (["cancel", "first", "--ledger", "none.db"], 3, "There is no ledger 'none.db'"),
    (["gc", "--ledger", "none.db"], 3, "There is no ledger 'none.db'"),
    (["doctor", "--ledger", "none.db"], 3, "There is no ledger 'none.db'"),
    (["graph", "first", "--ledger", "none.db"], 3, "There is no ledger 'none.db'"),
    (["runs", "--ledger", "folder"], 2, "it is a folder"),
    (["doctor", "--ledger", "random.db"], 2, "is not a Milepost ledger"),
    (["show", "first", "--ledger", "newer.db"], 2, "Upgrade Milepost"),
    # runs, steps and names
    (["show", "frist"], 3, "No run 'frist' in this ledger. Did you mean 'first'?"),
    (["resume", "frist"], 3, "No run 'frist' in this ledger."),
    (["cancel", "frist"], 3, "No run 'frist' in this ledger."),
    (["graph", "frist"], 3, "No run 'frist' in this ledger."),
    (["show", ""], 3, "No run '' in this ledger."),
    (["show", "first", "totla"], 3, "Run first has no step 'totla'. Did you mean 'total'?"),
    (["resume", "first"], 2, "Run first is completed: it cannot be resumed."),
    (["runs", "--status", "complete"], 2, "Did you mean 'completed'?"),
    (["runs", "--workflow", "tans"], 3, "No workflow 'tans' in this ledger. Did you mean 'tens'?"),
    (["runs", "--since", "soon"], 2, "--since must be a span such as"),
    (["gc", "--older-than", "3x"], 2, "--older-than must be a span such as"),
    (["graph", "first", "--format", "sgv"], 2, "Did you mean 'svg'?"),
    (["graph", "first", "--output", "none/a.svg"], 2, "cannot be written: No such file or directory."),
    (["graph", "first", "--output", "a.svg", "--json"], 2, "--json prints to stdout."),
    (["demo", "--source", "none"], 2, "--source 'none' is not a folder."),
]


@pytest.mark.parametrize(("words", "code", "complaint"), CASES, ids=[" ".join(case[0]) or "-" for case in CASES])
def test_one_clear_line_and_the_right_exit_code(bad_place, words, code, complaint, monkeypatch):
    monkeypatch.setattr("milepost.cli.demo.find_example", lambda: bad_place.folder / "job.py")
    bad_place.write("needs.py", "from milepost import Dag\ndef f(name: str): ...\ndag = Dag('g')\ndag.node(f)\n")
    before = sorted(os.listdir(bad_place.folder))
    result = bad_place.run(*words)
    assert complaint in result.stderr
    assert result.exit_code == code
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    made = set(os.listdir(bad_place.folder)) - set(before) - {"__pycache__"}
    assert not {name for name in made if not name.endswith(("-wal", "-shm"))}


_WITHOUT_RIGHTS = """
import os, sys
from milepost.cli import main

def act():
    try:
        main()
    except SystemExit as end:
        return end.code

act()  # where all is allowed: from here on everything is imported, wherever Python is installed
if os.geteuid() == 0:  # permissions do not bind root
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.environ["MILEPOST_LEDGER"] = "milepost.db"  # the read-only one
print("---", file=sys.stderr)
sys.exit(act())
"""


def test_a_read_only_ledger_can_be_looked_at_but_not_run_in(bad_place):
    folder = tempfile.mkdtemp(prefix="milepost-test-")  # its parents may be entered by everybody
    try:
        shutil.copy(bad_place.folder / "job.py", folder)
        subprocess.run([sys.executable, "-m", "milepost", "run", "job.py:dag"], cwd=folder, check=True)
        os.chmod(f"{folder}/milepost.db", 0o444)
        os.chmod(folder, 0o555)
        done = {
            words: subprocess.run(
                [sys.executable, "-c", _WITHOUT_RIGHTS, *words.split()],
                cwd=folder,
                env={**os.environ, "MILEPOST_LEDGER": str(bad_place.folder / "milepost.db")},
                capture_output=True,
                text=True,
            )
            for words in ("runs", "run job.py:dag")
        }
    finally:
        os.chmod(folder, 0o755)
        shutil.rmtree(folder)
    assert done["runs"].returncode == 0, done["runs"].stderr
    assert done["run job.py:dag"].returncode == 2
    assert "is read-only. Give this user write permission" in done["run job.py:dag"].stderr.split("---")[1]


def test_help_and_version_are_no_errors(place):
    version = place.run("--version")
    assert (version.exit_code, version.stdout) == (0, "milepost 0.1.0\n")
    for words in (["--help"], [], ["run", "--help"], ["show", "--help"]):
        result = place.run(*words)
        assert result.exit_code == 0
        assert "Usage:" in result.stdout
