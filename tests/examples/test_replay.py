"""Restart and replay, on a diamond with a map in one arm and on the main job."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from milepost import Ledger, RunStatus, StepStatus

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes as POSIX does")

EXAMPLES = Path(__file__).parents[2] / "examples"
DIAMOND = """
import os
import time
from milepost import Dag


def trace(text):
    log = os.open("trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{text}\\n".encode())
    os.close(log)


def start() -> list[int]:
    trace("start")
    return [1, 2, 3, 4, 5, 6]


def work(n: int) -> int:
    trace(f"work {n}")
    while n == 4 and not os.path.exists("go"):
        time.sleep(0.01)
    return n * n


def other(numbers: list[int]) -> int:
    trace("other")
    return len(numbers)


def join(squares: list[int], count: int) -> float:
    trace("join")
    return sum(squares) / count


dag = Dag("diamond")
numbers = dag.node(start)
arm = dag.map(work, numbers, concurrency=1)
dag.node(join, squares=arm, count=dag.node(other, numbers=numbers))
"""


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, *words: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "milepost", *words, "--ledger", "runs.db"]
        return subprocess.Popen(line, cwd=self.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, *words: str) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out

    def traces(self) -> list[str]:
        log = self.path / "trace"
        return log.read_text().splitlines() if log.exists() else []

    def wait_for(self, line: str) -> None:
        deadline = time.monotonic() + 60
        while line not in self.traces():
            assert time.monotonic() < deadline, f"{line} never came"
            time.sleep(0.01)

    def statuses(self, run_id: str) -> dict[str, StepStatus]:
        with Ledger.open(self.path / "runs.db") as ledger:
            return {step.label: step.status for step in ledger.list_steps(run_id)}


def test_a_diamond_that_was_killed_in_an_arm_goes_on_with_the_elements_left_and_one_node_is_replayed(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "diamond.py").write_text(DIAMOND)
    process = folder.start("run", "diamond.py:dag", "--run-id", "first")
    folder.wait_for("work 4")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    before = Counter(folder.traces())
    (tmp_path / "go").touch()

    folder.finish("resume", "first")  # restart: only what had not completed runs
    again = Counter(folder.traces()) - before
    assert again == Counter({"work 4": 1, "work 5": 1, "work 6": 1, "join": 1})

    (tmp_path / "trace").unlink()
    folder.finish("replay", "first", "--node", "other", "--run-id", "second")
    assert folder.traces() == ["other", "join"]
    found = folder.statuses("second")
    assert {label for label, status in found.items() if status == StepStatus.COMPLETED} == {"other", "join"}
    assert {status for label, status in found.items() if label not in {"other", "join"}} == {StepStatus.SKIPPED}
    with Ledger.open(tmp_path / "runs.db") as ledger:
        assert ledger.get_output("second", "work") == [1, 4, 9, 16, 25, 36]
        assert ledger.get_result("second") == ledger.get_result("first")
        assert {s.origin_run_id for s in ledger.list_steps("second") if s.label.startswith("work")} == {"first"}
        assert list(ledger.check()) == []


def test_an_edit_of_one_function_of_the_main_job_runs_again_with_what_depends_on_it_alone(
    tmp_path: Path, real_tree: Path
) -> None:
    folder = Folder(tmp_path)
    shutil.copytree(EXAMPLES / "stdlib_index", tmp_path / "stdlib_index", ignore=shutil.ignore_patterns("__pycache__"))
    source = real_tree / "json"
    job = "stdlib_index/job.py"
    folder.finish("run", f"{job}:dag", "--input", f"source={source}", "--input", "out=out", "--run-id", "first")
    text = (tmp_path / job).read_text()
    assert text.count("    return weigh_modules(graph)\n") == 1
    (tmp_path / job).write_text(
        text.replace("    return weigh_modules(graph)\n", "    return list(reversed(weigh_modules(graph)))\n")
    )

    told = folder.finish("replay", "first", "--changed", "--dry-run")
    lines = {line.split()[1]: line.split()[0] for line in told.splitlines()[:-1]}
    assert {label for label, verb in lines.items() if verb == "run"} == {"rank_modules", "report"}
    assert "its code changed" in told
    assert "it is downstream of 'rank_modules'" in told

    folder.finish("replay", "first", "--changed", "--run-id", "second")
    found = folder.statuses("second")
    ran = {label for label, status in found.items() if status == StepStatus.COMPLETED}
    assert ran == {"rank_modules", "report"}
    assert Counter(found.values())[StepStatus.SKIPPED] == len(found) - 2
    assert any(label.startswith("parse[") for label in found)
    with Ledger.open(tmp_path / "runs.db") as ledger:
        assert ledger.require_run("second").status == RunStatus.COMPLETED
        ranks = [json.loads(ledger.get_step(run, "rank_modules")[-1].output or "") for run in ("first", "second")]
        assert ranks[0] == ranks[1][::-1]


NESTED = """
import os
import time
from milepost import Dag


def trace(text):
    log = os.open("trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{text}\\n".encode())
    os.close(log)


def first(n: int) -> int:
    trace(f"first {n}")
    return n


def second(n: int) -> int:
    trace(f"second {n}")
    while n == 2 and not os.path.exists("go"):
        time.sleep(0.01)
    return 10 * n


inner = Dag("inner")
inner.node(second, n=inner.node(first))
dag = Dag("outer")
dag.map(inner, [1, 2, 3], label="part", concurrency=1)
"""


@pytest.mark.parametrize("way", ["run", "worker"])
def test_a_run_that_was_killed_inside_a_sub_run_goes_on_there(tmp_path: Path, way: str) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "nested.py").write_text(NESTED)
    if way == "run":
        process = folder.start("run", "nested.py:dag", "--run-id", "outer")
    else:
        folder.finish("submit", "nested.py:dag", "--run-id", "outer")
        process = folder.start("worker", "nested.py:dag")
    folder.wait_for("second 2")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    (tmp_path / "go").touch()
    if way == "run":
        folder.finish("resume", "--all")
    else:
        other = folder.start("worker", "nested.py:dag")
        with Ledger.open(tmp_path / "runs.db") as ledger:
            deadline = time.monotonic() + 60
            while ledger.require_run("outer").finished_at is None:
                assert time.monotonic() < deadline, "nobody took the run over"
                time.sleep(0.01)
        other.send_signal(signal.SIGTERM)
        other.communicate(timeout=60)
    assert Counter(folder.traces()) == Counter(
        {"first 1": 1, "second 1": 1, "first 2": 1, "second 2": 2, "first 3": 1, "second 3": 1}
    )
    with Ledger.open(tmp_path / "runs.db") as ledger:
        assert ledger.get_result("outer") == [10, 20, 30]
        assert {run.status for run in ledger.list_runs(inner=True)} == {RunStatus.COMPLETED}
        assert list(ledger.check()) == []
