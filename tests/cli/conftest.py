"""A folder of its own with jobs in it, and two ways to use the command line there: here, and as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from milepost.cli import app

JOB = '''
import os
import time
from dataclasses import dataclass
from milepost import Dag, StepContext, step

@dataclass(frozen=True)
class Item:
    number: int

@step
def find(count: int = 4) -> list[Item]:
    return [Item(number) for number in range(count)]

@step
def work(ctx: StepContext, item: Item) -> int:
    """Leave a trace; element 2 waits as long as the file `hold` is there, and fails while `broken` is."""
    with open("effects.log", "a") as log:
        log.write(f"{item.number}\\n")
    while item.number == 2 and os.path.exists("hold"):
        ctx.heartbeat()
        time.sleep(0.01)
    if item.number == 2 and os.path.exists("broken"):
        raise ValueError("two is [bad]\\nsecond line")
    return item.number * 10

dag = Dag("tens")
worked = dag.map(work, dag.node(find), concurrency=1)
dag.node(sum, label="total", iterable=worked)
'''


class Place:
    """The folder, and what is done in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *words: str, stdin: str | None = None) -> Any:
        """Use the command line in this process."""
        return CliRunner().invoke(app, [str(word) for word in words], input=stdin)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Use it as a process of its own, and do not wait."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        line = [sys.executable, "-m", "milepost", *map(str, words)]
        return subprocess.Popen(line, text=True, **{"cwd": self.folder, **streams})

    def finish(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Use it as a process of its own, to its end."""
        process = self.start(*words, **options)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def effects(self) -> list[int]:
        log = self.folder / "effects.log"
        return [int(line) for line in log.read_text().split()] if log.exists() else []


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Return an empty folder with job.py in it; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["milepost"])  # what hints begin with, however the tests were started
    for name in ("MILEPOST_LEDGER", "MILEPOST_DEBUG", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    modules, path = set(sys.modules), list(sys.path)
    here = Place(tmp_path)
    here.write("job.py", JOB)
    yield here
    for name in set(sys.modules) - modules:
        if os.fspath(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]
    sys.path[:] = path
    os.environ.pop("MILEPOST_DEBUG", None)


@pytest.fixture
def wait_for() -> Callable[[Callable[[], object]], None]:
    """Return what waits until something is so, and fails the test where it never is."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "it never came to be"
            time.sleep(0.01)

    return wait
