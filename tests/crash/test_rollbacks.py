"""A process is killed before and after every commit of a run and of its rollback, and another goes on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milepost import Ledger, RunStatus

Live = Callable[[Path, str, int | None], int]

RUN = "victim"
KILLED = -9
STEPS = {"one_of", "one_of[0]", "one_of[1]", "one_of[2]", "first", "added"}


def _outcome(folder: Path) -> dict[str, Any]:
    with Ledger.open(folder / "runs.db", read_only=True) as ledger:
        assert list(ledger.check()) == []
        run = ledger.require_run(RUN)
        completed = Counter(s.label for s in ledger.list_steps(RUN) if s.status == "completed")
        mark = ledger.store.get_checkpoint(RUN, "", "rollback")
    return {"run": (run.status, run.error_type, run.error_message), "completed": completed, "mark": mark}


def _check_effects(folder: Path) -> None:
    """Check that nothing that was durable when a life began, step or undo, was performed again."""
    effects = (folder / "effects").read_text().splitlines()
    for line in (folder / "lives").read_text().splitlines():
        found = json.loads(line)
        again = {effect.split()[0] for effect in effects[found["effects"] :]} & set(found["completed"])
        assert again == set(), found


@pytest.mark.parametrize("scenario", ["undo", "undo async"])
def test_a_kill_at_any_commit_leaves_every_step_done_once_and_undone_once(
    live: Live, tmp_path: Path, scenario: str
) -> None:
    calm = tmp_path / "calm"
    calm.mkdir()
    assert live(calm, scenario, None) == 0
    expected = _outcome(calm)
    assert expected["run"] == (RunStatus.CANCELLED, "RolledBack", "rolled back all its steps")
    assert expected["completed"] == Counter({*STEPS, *(f"undo:{label}" for label in STEPS)})
    assert json.loads(expected["mark"]) is None
    calls = int((calm / "calls").read_text())
    assert calls > 2 * len(STEPS)
    killed_undoing = 0
    for number in range(1, calls + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        if live(folder, scenario, number) == 0:
            assert "async" in scenario  # fewer commits: their writes met in one
            continue
        assert (folder / "fired").read_text().startswith(f"{number} ")
        with Ledger.open(folder / "runs.db", read_only=True) as ledger:
            is_interrupted = ledger.get_run(RUN) is not None and ledger.require_run(RUN).status == RunStatus.RUNNING
            killed_undoing += is_interrupted and ledger.store.get_checkpoint(RUN, "", "rollback") is not None
        assert live(folder, scenario, None) == 0
        found = _outcome(folder)
        if found["run"][1] == "AtMostOnceInterrupted":
            continue  # killed between the start of the step that may never start twice and its end
        assert found == expected, number
        _check_effects(folder)
    assert killed_undoing >= len(STEPS)
