"""The promise, on the main job: kill the process anywhere, and the run goes on from its last completed step."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from milepost import Ledger, RunStatus, StepStatus
from milepost.errors import MilepostError

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes as POSIX does")

SCRIPT = Path(__file__).with_name("counted_job.py")
DEADLINE = 60.0  # seconds; reached only when something is broken


@dataclass
class Site:
    """A ledger, a log of side effects and an output folder of one run."""

    folder: Path
    source: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.ledger = self.folder / "runs.db"
        self.out = self.folder / "out"
        self.log = self.folder / "parsed.log"

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """Start the job's own program: `dag.run(...)`, or `dag.resume(...)` in a fresh process."""
        return self._spawn(SCRIPT, self.ledger, *arguments, **environment)

    def start_command(self, name: str, *arguments: object) -> subprocess.Popen[str]:
        """Start `milepost NAME ...`."""
        return self._spawn("-m", "milepost", name, *arguments, "--ledger", self.ledger)

    def _spawn(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, "COUNTED_LOG": str(self.log), **environment},
        )

    def parsed(self) -> list[str]:
        """Return the files that were parsed, in the order of the calls."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def completed(self) -> set[str]:
        """Return the labels of the steps that the ledger holds as completed."""
        try:
            with Ledger.open(self.ledger, read_only=True) as ledger:
                steps = ledger.list_steps("counted")
        except MilepostError:
            return set()  # not there yet
        return {step.label for step in steps if step.status == StepStatus.COMPLETED}

    def files(self) -> dict[str, str]:
        """Return the file of each label of the map."""
        with Ledger.open(self.ledger, read_only=True) as ledger:
            found = ledger.get_output("counted", "find_modules")
        return {f"parse[{n}]": str(file.path) for n, file in enumerate(found)}

    def report(self) -> tuple[bytes, bytes]:
        return (self.out / "report.json").read_bytes(), (self.out / "report.html").read_bytes()


@pytest.fixture
def site(tmp_path: Path, real_tree: Path, job: ModuleType) -> Site:
    return Site(tmp_path / "killed", real_tree)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, real_tree: Path, job: ModuleType) -> tuple[bytes, bytes]:
    """Return the report of a run that nobody disturbed."""
    site = Site(tmp_path_factory.mktemp("undisturbed") / "site", real_tree)
    finish(site.start(real_tree, site.out))
    assert Counter(site.parsed()) == Counter(site.files().values())
    return site.report()


def finish(process: subprocess.Popen[str]) -> str:
    """Wait until a process has ended well; return what it said."""
    output = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, output
    return output[0]


def kill_after(process: subprocess.Popen[str], site: Site, count: int) -> None:
    """Kill a process with SIGKILL as soon as the ledger holds this many completed elements."""
    deadline = time.monotonic() + DEADLINE
    while sum(label.startswith("parse[") for label in site.completed()) < count:
        assert time.monotonic() < deadline, f"no {count} elements within {DEADLINE:g} s"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.005)  # gives way to it, and returns at once if it ends
            pytest.fail(f"the process ended by itself: {process.communicate()}")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def kill_in_the_middle(process: subprocess.Popen[str], site: Site, count: int) -> tuple[set[str], list[str]]:
    """Kill a run amid its map; return the files that had completed and the log so far."""
    kill_after(process, site, count)
    files = site.files()
    completed = {files[label] for label in site.completed() if label in files}
    assert count <= len(completed) < len(files), "the process was not killed in the middle of the map"
    return completed, site.parsed()


@pytest.mark.parametrize("count", [1, 60, 200])
def test_after_kill_9_only_the_unfinished_files_are_parsed_and_the_report_is_the_same(site, undisturbed, count):
    completed, before = kill_in_the_middle(site.start(site.source, site.out), site, count)
    assert not site.out.exists()

    finish(site.start("--resume", "counted"))

    resumed = site.parsed()[len(before) :]
    unfinished = set(site.files().values()) - completed
    assert sorted(resumed) == sorted(unfinished)
    assert site.report() == undisturbed
    with Ledger.open(site.ledger) as ledger:
        assert ledger.require_run("counted").status == RunStatus.COMPLETED
        assert list(ledger.check()) == []


def test_a_run_that_is_killed_again_and_again_parses_no_finished_file_twice(site, undisturbed):
    completed, _ = kill_in_the_middle(site.start(site.source, site.out), site, 20)
    for count in (60, 100, 140):
        before = len(site.parsed())
        again, log = kill_in_the_middle(site.start("--resume", "counted"), site, count)
        assert not completed & set(log[before:])
        completed = again
    before = len(site.parsed())
    finish(site.start("--resume", "counted"))
    assert not completed & set(site.parsed()[before:])
    assert set(site.parsed()) == set(site.files().values())
    assert site.report() == undisturbed


def test_killed_while_it_writes_the_report_a_run_leaves_no_half_of_one(site, undisturbed):
    process = site.start(site.source, site.out, COUNTED_DIE="1")
    process.communicate(timeout=DEADLINE)
    assert process.returncode == -signal.SIGKILL
    [leftover] = site.out.iterdir()
    assert leftover.name == ".report.json.counted"
    before = site.parsed()

    finish(site.start("--resume", "counted"))

    assert site.parsed() == before  # the whole map had completed
    assert sorted(path.name for path in site.out.iterdir()) == ["report.html", "report.json"]
    assert site.report() == undisturbed


def test_killed_and_resumed_by_two_commands_the_main_job_ends_as_if_nothing_had_been(site, undisturbed):
    inputs = ("--input", f"source={site.source}", "--input", f"out={site.out}")
    process = site.start_command("run", f"{SCRIPT}:dag", *inputs, "--run-id", "counted")
    completed, before = kill_in_the_middle(process, site, 100)

    said = finish(site.start_command("resume", "--all"))

    assert "counted" in said
    resumed = site.parsed()[len(before) :]
    assert sorted(resumed) == sorted(set(site.files().values()) - completed)
    assert site.report() == undisturbed
    with Ledger.open(site.ledger, read_only=True) as ledger:
        assert ledger.require_run("counted").status == RunStatus.COMPLETED
