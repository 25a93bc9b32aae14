"""A process is killed before and after every commit of a staged task and of its rollback, and another goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milepost import Ledger

Live = Callable[[Path, str, int | None], int]

TASK = "victim"
KILLED = -9
BOOKKEEPING = ("attempts", "history")  # they tell of the kill


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _states(folder: Path) -> dict[str, dict[str, Any]]:
    with Ledger.open(folder / "runs.db", read_only=True) as ledger:
        found = {c.label: c.value for c in ledger.list_checkpoints(TASK) if c.name == "state"}
    files = [path.read_text() for path in (folder / "states").glob("*/*.json")]
    found.update({json.loads(text)["stage_name"]: text for text in files})
    return {name: json.loads(text) for name, text in found.items()}


def _outcome(folder: Path) -> dict[str, Any]:
    """Return what a task left behind, whoever executed it."""
    with Ledger.open(folder / "runs.db", read_only=True) as ledger:
        assert list(ledger.check()) == []
        run = ledger.require_run(TASK)
        marker = ledger.store.get_checkpoint(TASK, "", "rollback")
        records = ledger.store.get_checkpoint(TASK, "four", "records:records")
    states = _states(folder)
    return {
        "run": (run.status, run.error_type, run.error_step),
        "marker": None if marker is None else json.loads(marker),
        "records": records,
        "states": {
            name: {k: v for k, v in state.items() if k not in BOOKKEEPING} for name, state in sorted(states.items())
        },
    }


def _check_effects(folder: Path) -> None:
    """Check that no execution or undo that was durable when a life began was performed again."""
    effects = _lines(folder / "effects")
    for line in _lines(folder / "lives"):
        found = json.loads(line)
        again = {line.split()[0] for line in effects[found["effects"] :]} & set(found["completed"])
        assert again == set(), found


def _check_histories(folder: Path) -> None:
    """Check that every execution has its entry, and that the entries follow one another."""
    for name, state in _states(folder).items():
        status = "CREATED"
        for entry in state["history"]:
            assert entry["begin_status"] in (status, "CREATED"), name
            status = entry["end_status"]
        assert status == state["status"], name


@pytest.mark.parametrize(
    "scenario", ["task", "task keeper", "task async", "task files", "task rollback", "task rollback on failure"]
)
def test_a_task_of_five_stages_survives_a_kill_at_every_commit(live: Live, tmp_path: Path, scenario: str) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert live(undisturbed, scenario, None) == 0
    expected = _outcome(undisturbed)
    _check_histories(undisturbed)
    statuses = {state["status"] for state in expected["states"].values()}
    if "rollback" in scenario:
        assert statuses == {"CREATED"}
        assert expected["marker"] is None
        assert all(state["total"] == 0 and state["done"] == [] for state in expected["states"].values())
        undone = ["undo:five"] * (scenario == "task rollback") + ["undo:four", "undo:three", "undo:two", "undo:one"]
        assert [line.split()[0] for line in _lines(undisturbed / "effects")][-len(undone) :] == undone
    else:
        assert statuses == {"COMPLETE"}
        assert expected["states"]["five"]["done"] == ["one", "two", "three", "four", "five"]
        assert expected["states"]["five"]["result"]["success_count"] == 19  # 3 + 3 + 9 records + 4

    # Where the keeper writes starts in between, lives may differ by a commit: the end is where three come to theirs.
    killed, completed = 0, 0
    while completed < (3 if scenario == "task keeper" else 1):
        folder = tmp_path / f"{killed}.{completed}"
        folder.mkdir()
        code = live(folder, scenario, killed + 1)
        if code == 0:
            completed += 1
            continue
        assert code == KILLED
        completed, killed = 0, killed + 1
        assert len(_lines(folder / "fired")) == 1
        assert live(folder, scenario, None) == 0
        assert _outcome(folder) == expected, killed
        _check_effects(folder)
        _check_histories(folder)
    assert killed >= 20
    if scenario != "task keeper":
        assert killed == int((undisturbed / "calls").read_text())  # every call of the hook has killed a process
