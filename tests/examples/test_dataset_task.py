"""The data set task: cancelled in the middle, rolled back, run again; killed, and resumed by the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from milepost import Ledger
from milepost.errors import StoreError

TASK = Path(__file__).parents[2] / "examples" / "dataset_task" / "task.py"


class Place:
    """A folder in which the example runs as a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = folder / "dataset" / "out"
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *words: str, pause: str = "0") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            env={**os.environ, "DATASET_PAUSE": pause},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *words: str) -> str:
        process = self.start(*words)
        told, _ = process.communicate(timeout=60)
        self.started.remove(process)
        assert process.returncode == 0, told
        return told

    def milepost(self, *words: str) -> str:
        return self.run("-m", "milepost", *words)

    def until_records_are_saved(self) -> None:
        self._until(lambda ledger: ledger.store.get_checkpoint("dataset", "transform", "records:records") is not None)

    def _until(self, holds: Callable[[Ledger], bool]) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            # Not there yet, or just being made.
            with contextlib.suppress(StoreError), Ledger.open(self.folder / "milepost.db", read_only=True) as ledger:
                if holds(ledger):
                    return
            time.sleep(0.02)
        raise AssertionError("it did not happen in time")

    def statuses(self) -> dict[str, str]:
        document = json.loads(self.milepost("show", "dataset", "--json"))
        return {stage["stage_name"]: stage["status"] for stage in document["stages"]}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def _check_published(place: Place) -> None:
    lines = (place.made / "published" / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(50_000))
    index = json.loads((place.made / "published" / "index.json").read_text())
    assert sum(map(len, index.values())) == 50_000


def test_it_is_cancelled_in_the_middle_rolled_back_and_run_again(place: Place):
    process = place.start(str(TASK), pause="0.001")
    place.until_records_are_saved()
    assert place.statuses()["transform"] == "RUNNING"
    assert "was asked to stop" in place.milepost("cancel", "dataset")
    told, _ = process.communicate(timeout=60)
    place.started.remove(process)
    assert (process.returncode, "was cancelled" in told) == (1, True)
    assert list(place.statuses().values()) == ["COMPLETE", "COMPLETE", "CANCELED", "CREATED", "CREATED"]

    preview = place.milepost("rollback", "dataset", "--dry-run")
    assert preview.splitlines() == [
        "  verify: would be undone",
        "  copy: would be undone",
        "  transform: had not completed, would be reset",
    ]
    assert "Task dataset is rolled back." in place.milepost("rollback", "dataset")
    assert set(place.statuses().values()) == {"CREATED"}
    assert not (place.made / "source.csv").exists()

    assert "published 50,000 records" in place.run(str(TASK))
    _check_published(place)
    shown = place.milepost("show", "dataset")
    assert "CANCELED -> CREATED" in shown
    assert "COMPLETE -> CREATED" in shown

    place.milepost("rollback", "dataset", "--to", "verify")
    assert sorted(path.name for path in place.made.iterdir()) == ["source.csv"]


def test_it_is_killed_in_the_middle_and_resumed_where_it_was(place: Place):
    process = place.start(str(TASK), pause="0.001")
    place.until_records_are_saved()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    place.started.remove(process)
    assert "completed" in place.milepost("resume", "--all")
    _check_published(place)
    shown = place.milepost("show", "dataset")
    assert "cut short: its process died" in shown
    document = json.loads(place.milepost("show", "dataset", "--json"))
    assert [stage["attempts"] for stage in document["stages"]] == [1, 1, 2, 1, 1]
