"""Many processes share one file: nobody hears of its locks, and nobody's death harms the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from milepost import Ledger

_WRITER = """
import sys
from milepost import Dag, Ledger

path, name, count, durability = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
dag = Dag("noop")
last = dag.node(lambda: 0, label="step0")
for n in range(1, 3 + name % 3):
    last = dag.node(lambda value: value + 1, label=f"step{n}", value=last)
with Ledger.open(path, durability=durability) as ledger:
    for n in range(count):
        assert dag.run(ledger=ledger, run_id=f"{name}-{n}").result() == 2 + name % 3
"""


@pytest.mark.parametrize(("durability", "count"), [("process", 200), ("power", 20)])
def test_eight_processes_run_side_by_side_on_one_file(tmp_path: Path, durability: str, count: int) -> None:
    path = tmp_path / "runs.db"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), str(name), str(count), durability],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in range(8)
    ]
    for child in children:
        _, errors = child.communicate(timeout=300)
        assert (child.returncode, errors) == (0, "")  # "database is locked" would be in here
    with Ledger.open(path) as ledger:
        runs = ledger.list_runs(limit=10_000)
        assert {run.run_id for run in runs} == {f"{name}-{n}" for name in range(8) for n in range(count)}
        assert {run.status for run in runs} == {"completed"}
        assert list(ledger.check()) == []


# The parent opens no ledger. It reads what its writers say, a run id for each run that was acknowledged,
# and kills one after the other while it is busy with its next run; the next life of a writer first
# resumes what the one before left behind.
_KILLED = """
import itertools, os, signal, sys
from milepost import Dag, Ledger
from milepost.runtime import find_interrupted
import milepost.stores.sqlite

path, writers, kills = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dag = Dag("noop")
parts = dag.map(lambda n: n * n, [1, 2, 3], label="squares")
dag.node(lambda squares: sum(squares), label="total", squares=parts)
dag.build()

def work(name, out):
    with Ledger.open(path, durability="process") as ledger:
        for run in find_interrupted(ledger):
            if run.run_id.startswith(f"{name}-"):
                dag.resume(run.run_id, ledger=ledger)
        for n in itertools.count():
            run_id = f"{name}-{n}"
            if os.path.exists(path + ".stop"):
                break
            if ledger.get_run(run_id) is None:
                dag.run(ledger=ledger, run_id=run_id)
                os.write(out, f"{run_id}\\n".encode())

def begin(name):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            signal.alarm(120)
            work(name, write)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    return pid, os.fdopen(read)

def bury(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

lives = {name: begin(name) for name in range(writers)}
for name in itertools.islice(itertools.cycle(range(writers)), kills):
    pid, said = lives[name]
    line = said.readline()
    os.kill(pid, signal.SIGKILL)
    print(line + said.read(), end="")
    assert bury(pid) == -9
    lives[name] = begin(name)
open(path + ".stop", "w").close()
for pid, said in lives.values():
    print(said.read(), end="")
    assert bury(pid) == 0
"""


def test_writers_that_are_killed_all_the_time_lose_nothing_and_break_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    Ledger.open(path).close()
    parent = subprocess.run(
        [sys.executable, "-c", _KILLED, str(path), "8", "40"], capture_output=True, text=True, timeout=300
    )
    assert (parent.returncode, parent.stderr) == (0, "")
    acknowledged = set(parent.stdout.split())
    with Ledger.open(path) as ledger:
        runs = {run.run_id: run for run in ledger.list_runs(limit=100_000)}
        assert {run.status for run in runs.values()} == {"completed"}
        assert len(acknowledged) >= 40
        assert acknowledged <= set(runs)
        assert all(ledger.get_output(run_id, "total") == 14 for run_id in runs)
        died = sum(claim.error_type == "ProcessDied" for run_id in runs for claim in ledger.list_attempts(run_id))
        assert died > 0  # some were hit in the middle of a run
        assert list(ledger.check()) == []
