"""Pipelines on the command line: found by target, run, narrowed runs resumed, submitted to a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from milepost import Ledger, RunHandle
from milepost.states import StepStatus

JOB = """
import os
from pathlib import Path

from pydantic import BaseModel

from milepost.pipeline import Pipeline, Process, Step


class Params(BaseModel):
    n: int
    marker: Path


class Count(Step[Params]):
    result = "numbers"

    def execute(self, params: Params) -> list[int]:
        with params.marker.open("a") as log:
            log.write("Count\\n")
        return list(range(params.n))


class Sum(Step[Params]):
    result = "total"

    def execute(self, params: Params, *, numbers: list[int]) -> int:
        with params.marker.open("a") as log:
            log.write("Sum\\n")
        if params.marker.read_text().count("Sum") == 1:
            os.kill(os.getpid(), 9)
        return sum(numbers)


class Tell(Step[Params]):
    def execute(self, params: Params, *, total: int) -> str:
        return f"the sum is {total}"


class Load(Process[Params]):
    steps = [Count]


class Work(Process[Params]):
    steps = [Sum, Tell]


class Job(Pipeline[Params]):
    processes = [Load, Work]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pipeline_job.py").write_text(JOB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILEPOST_LEDGER", str(tmp_path / "milepost.db"))
    return tmp_path


def milepost(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "milepost", *arguments], capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )


def test_a_pipeline_killed_mid_run_goes_on_by_resume(folder: Path) -> None:
    killed = milepost("run", "pipeline_job.py", "--input", "n=5", "--input", f"marker={folder / 'log'}")
    assert killed.returncode == -signal.SIGKILL
    with Ledger.open(folder / "milepost.db") as ledger:
        (run,) = ledger.list_runs()
        assert run.status == "running"
        done = [step.label for step in ledger.list_steps(run.run_id) if step.status == StepStatus.COMPLETED]
        assert "Load.Count" in done
    resumed = milepost("resume", "--all")
    assert resumed.returncode == 0, resumed.stderr
    with Ledger.open(folder / "milepost.db") as ledger:
        assert ledger.require_run(run.run_id).status == "completed"
        assert ledger.get_output(run.run_id, "Work.Tell") == "the sum is 10"
    assert (folder / "log").read_text().split() == ["Count", "Sum", "Sum"]


def test_a_pipeline_is_drawn_and_its_mistakes_are_told_in_one_line(folder: Path) -> None:
    drawn = milepost("graph", "pipeline_job.py:Job")
    assert "Work.Sum" in drawn.stdout
    (folder / "broken_job.py").write_text(JOB.replace("steps = [Sum, Tell]", "steps = [Tell, 3]"))
    told = milepost("graph", "broken_job.py")
    assert told.returncode != 0
    assert "Pipeline Job has 2 mistakes" in told.stderr
    assert "Traceback" not in told.stderr


def test_the_mistakes_of_a_pipeline_that_has_run_are_told_in_one_line_too(folder: Path) -> None:
    (folder / "log").write_text("Sum\n")
    words = ("--input", "n=3", "--input", f"marker={folder / 'log'}", "--run-id", "r1")
    assert milepost("submit", "pipeline_job.py:Job", *words).returncode == 0
    (folder / "pipeline_job.py").write_text(JOB.replace("steps = [Sum, Tell]", "steps = [Tell, 3]"))
    for verb in ("resume", "replay", "rollback"):
        told = milepost(verb, "r1")
        assert told.returncode == 2
        assert "Error: Pipeline Job has 2 mistakes" in told.stderr
        assert "--target" not in told.stderr


def test_a_field_that_does_not_fit_is_told(folder: Path) -> None:
    told = milepost("run", "pipeline_job.py", "--input", "n=many", "--input", "marker=x")
    assert told.returncode != 0
    assert "'Job' cannot run with these params" in told.stderr


def test_a_pipeline_runs_from_a_queue(folder: Path) -> None:
    (folder / "log").write_text("Sum\n")
    submitted = milepost("submit", "pipeline_job.py:Job", "--input", "n=3", "--input", f"marker={folder / 'log'}")
    assert submitted.returncode == 0, submitted.stderr
    with Ledger.open(folder / "milepost.db") as ledger:
        (run,) = ledger.list_runs()
    worker = subprocess.Popen([sys.executable, "-m", "milepost", "worker", "pipeline_job.py"], stderr=subprocess.PIPE)
    try:
        with Ledger.open(folder / "milepost.db") as ledger:
            assert RunHandle(ledger, run.run_id).result(30) == "the sum is 3"
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=30)
