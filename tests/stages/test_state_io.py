"""States in files: one JSON for each stage, replaced as a whole, one engine at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from milepost import Ledger, RunFailed
from milepost.errors import StoreError
from milepost.stages import FileStateIO, TaskBusy


def test_a_task_keeps_its_states_in_files_and_goes_on_from_them(task, tmp_path: Path):
    io = FileStateIO(tmp_path / "states")
    task.fail("b", 1)
    with pytest.raises(RunFailed):
        task.engine(state_io=io).run()
    folder = tmp_path / "states" / "task"
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "b.json", "c.json", "lock"]
    assert json.loads((folder / "b.json").read_text())["status"] == "ERROR"
    assert not [c for c in task.ledger.list_checkpoints("task") if c.name == "state"]
    again = task.engine(state_io=io)
    again.run()
    assert task.trace == ["a", "b", "b", "c"]
    assert json.loads((folder / "c.json").read_text()) == json.loads(again.stage("c").state.model_dump_json())
    task.engine(state_io=io).rollback()
    assert json.loads((folder / "a.json").read_text())["status"] == "CREATED"


def test_a_running_stage_says_so_in_its_file(sync_task, tmp_path: Path):
    found: list[str] = []
    path = tmp_path / "task" / "b.json"
    sync_task.plan["b"] = lambda stage: found.append(json.loads(path.read_text())["status"])
    sync_task.engine(state_io=FileStateIO(tmp_path)).run()
    assert found == ["RUNNING"]


def test_two_ledgers_cannot_work_on_one_directory_at_once(sync_task, tmp_path: Path):
    io = FileStateIO(tmp_path / "states")
    refused: list[str] = []

    def try_too(stage: object) -> None:
        with Ledger.open(tmp_path / "other.db") as other:
            elsewhere = type(sync_task)(other).engine(state_io=io)
            with pytest.raises(TaskBusy) as caught:
                elsewhere.run()
        refused.append(str(caught.value))

    sync_task.plan["b"] = try_too
    sync_task.engine(state_io=io).run()
    assert "is being executed by process" in refused[0]
    assert sync_task.trace == ["a", "b", "c"]


def test_names_that_are_no_file_names_get_files_of_their_own(tmp_path: Path):
    io = FileStateIO(tmp_path)
    states = {name: json.dumps({"stage_name": name}) for name in ("a/b", "a_b", "a:b", "x" * 150)}
    assert io.save("task:1", states, lease_epoch=1, now=0) == ()
    assert io.load("task:1") == states
    assert io.load("task_1") == {}


def test_a_damaged_file_is_named(tmp_path: Path):
    io = FileStateIO(tmp_path)
    io.save("t", {"a": json.dumps({"stage_name": "a"})}, lease_epoch=1, now=0)
    (tmp_path / "t" / "a.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        io.load("t")
