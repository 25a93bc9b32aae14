"""``milepost replay`` and ``milepost pause``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from milepost import Ledger, RunStatus


def write(place: Any, body: str) -> None:
    text = (place.folder / "job.py").read_text(encoding="utf-8")
    function = f"def total(numbers: list[int]) -> int:\n    return {body}\n\ndag = Dag"
    place.write(
        "job.py", text.replace("dag = Dag", function).replace('sum, label="total", iterable=', "total, numbers=")
    )


def edit(place: Any) -> None:
    text = (place.folder / "job.py").read_text(encoding="utf-8")
    place.write("job.py", text.replace("return sum(numbers)", "return len(numbers)"))


def test_a_dry_run_shows_what_would_run_and_why_and_runs_nothing(place: Any) -> None:
    write(place, "sum(numbers)")
    assert place.finish("run", "job.py:dag", "--run-id", "one").returncode == 0
    edit(place)
    told = place.finish("replay", "one", "--changed", "--dry-run")
    assert told.returncode == 0
    assert told.stdout.splitlines() == [
        "reuse  find   its output is reused",
        "reuse  work   its output is reused",
        "run    total  its code changed",
        "1 to run, 2 to reuse. Nothing was run.",
    ]
    document = json.loads(place.finish("replay", "one", "--changed", "--dry-run", "--json").stdout)
    assert [(step["label"], step["runs"]) for step in document["steps"]] == [
        ("find", False),
        ("work", False),
        ("total", True),
    ]
    with Ledger.open(place.folder / "milepost.db") as ledger:
        assert len(ledger.list_runs()) == 1


def test_a_replay_of_what_changed_runs_only_what_depends_on_it(place: Any) -> None:
    write(place, "sum(numbers)")
    place.finish("run", "job.py:dag", "--run-id", "one")
    edit(place)
    told = place.finish("replay", "one", "--changed", "--run-id", "two")
    assert told.returncode == 0, told.stderr
    assert "Replaying one as run two of 'tens'" in told.stdout
    assert place.effects == [0, 1, 2, 3]
    with Ledger.open(place.folder / "milepost.db") as ledger:
        assert ledger.get_result("two") == 4
        assert ledger.require_run("two").replay_of == "one"


def test_nodes_are_chosen_by_name_and_what_is_downstream_may_be_left_alone(place: Any) -> None:
    place.finish("run", "job.py:dag", "--run-id", "one")
    assert place.finish("replay", "one", "--node", "work[2]", "--only", "--run-id", "two").returncode == 0
    assert place.effects == [0, 1, 2, 3, 2]
    with Ledger.open(place.folder / "milepost.db") as ledger:
        found = {step.label: step.status.value for step in ledger.list_steps("two")}
    assert found["total"] == "skipped"
    assert (found["work[2]"], found["work[1]"]) == ("completed", "skipped")


def test_unknown_nodes_and_runs_are_told_with_what_was_meant(place: Any) -> None:
    place.finish("run", "job.py:dag", "--run-id", "one")
    told = place.finish("replay", "one", "--node", "totel")
    assert told.returncode == 2
    assert "Run one has no step 'totel'. Did you mean 'total'?" in told.stderr
    assert place.finish("replay", "onee").returncode == 3
    assert place.finish("replay", "one", "--json").returncode == 2


def test_a_run_is_paused_from_another_process_and_goes_on(
    place: Any, wait_for: Callable[[Callable[[], object]], None]
) -> None:
    hold = place.write("hold", "")
    process = place.start("run", "job.py:dag", "--run-id", "one")
    wait_for(lambda: 2 in place.effects)
    assert place.finish("pause", "one").returncode == 0
    with Ledger.open(place.folder / "milepost.db") as ledger:
        wait_for(lambda: ledger.require_run("one").pause_requested_at is not None)
    hold.unlink()
    out, _ = process.communicate(timeout=60)
    # Where the request comes a moment too late to be heard while the element runs, the run completes.
    with Ledger.open(place.folder / "milepost.db") as ledger:
        if ledger.require_run("one").status == RunStatus.SUSPENDED:
            assert process.returncode == 4
            assert "was paused after" in out
    assert place.finish("pause", "one").returncode == 2
    if process.returncode == 4:
        assert "It was paused: somebody asked to pause the run." in place.finish("why", "one").stdout
        assert place.finish("resume", "one").returncode == 0
    with Ledger.open(place.folder / "milepost.db") as ledger:
        assert ledger.get_result("one") == 60
    assert sorted(place.effects) == [0, 1, 2, 3]


NESTED = """
from milepost import Dag


def double(n: int) -> int:
    return 2 * n


inner = Dag("inner")
inner.node(double)
dag = Dag("outer")
dag.map(inner, [1, 2], label="part")
"""


def test_runs_inside_others_are_listed_and_shown_where_they_belong(place: Any) -> None:
    place.write("nested.py", NESTED)
    place.finish("run", "nested.py:dag", "--run-id", "outer")
    assert [run["run_id"] for run in json.loads(place.finish("runs", "--json").stdout)["runs"]] == ["outer"]
    inside = json.loads(place.finish("runs", "--parent", "outer", "--json").stdout)["runs"]
    assert sorted(run["parent_step"] for run in inside) == ["part[0]", "part[1]"]
    assert len(json.loads(place.finish("runs", "--inner", "--json").stdout)["runs"]) == 3
    assert "inside    run outer, step part[" in place.finish("show", inside[0]["run_id"]).stdout
    assert place.finish("doctor").returncode == 0


def test_a_replay_is_shown_with_what_it_was_asked_for(place: Any) -> None:
    place.finish("run", "job.py:dag", "--run-id", "one")
    place.finish("replay", "one", "--node", "total", "--only", "--run-id", "two")
    assert "replay of one: total, and nothing downstream of it" in place.finish("show", "two").stdout


WORKFLOW = """
name: waiting
tasks:
  pause: {task_id: pause, operator_type: wait, wait_for: 0.01}
"""


def test_runs_that_cannot_be_replayed_or_rolled_back_are_refused_with_what_to_do(place: Any) -> None:
    place.write("waiting.yaml", WORKFLOW)
    place.finish("workflow", "run", "waiting.yaml", "--run-id", "w1")
    for words in (["replay", "w1"], ["replay", "w1", "--dry-run"], ["rollback", "w1"]):
        told = place.finish(*words)
        assert told.returncode == 2
        assert "Error: Run w1 is of kind 'workflow', and " in told.stderr
        assert "milepost show w1" in told.stderr
