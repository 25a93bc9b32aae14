"""Replays: what runs again, what is copied, and what the new run says of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from milepost import Dag, FinishedRun, Ledger, RunStatus, StepStatus, Worker, step
from milepost.errors import ConfigurationError, GraphChanged, RunNotFound, StoreError


@pytest.fixture
def ledger() -> Ledger:
    return Ledger.open(":memory:")


@pytest.fixture(params=["sync", "async", "submitted"])
def replay(request: pytest.FixtureRequest, ledger: Ledger) -> Callable[..., Any]:
    """Replay a run, in each of the three ways; return the status of each step, and the id of the new run."""

    def perform(dag: Dag, run: FinishedRun, *nodes: str, **options: Any) -> tuple[dict[str, str], str]:
        if request.param == "submitted":
            handle = dag.submit_replay(run.run_id, nodes, ledger=ledger, **options)
            Worker([dag], ledger=ledger, heartbeat_process=False).run_until_idle()
            again = handle.run_id
        elif request.param == "async":
            again = asyncio.run(dag.replay_async(run.run_id, nodes, ledger=ledger, **options)).run_id
        else:
            again = dag.replay(run.run_id, nodes, ledger=ledger, **options).run_id
        return statuses(ledger, again), again

    return perform


def statuses(ledger: Ledger, run_id: str) -> dict[str, str]:
    return {step.label: step.status.value for step in ledger.list_steps(run_id)}


class Line:
    """a > b > c > d, whose steps count how often they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.factor = 1
        self.dag = Dag("line")
        ref = self.dag.node(self._step("a"), label="a", n=1)
        for label in "bcd":
            ref = self.dag.node(self._step(label), label=label, n=ref)
        self.last = ref

    def _step(self, label: str) -> Callable[[int], int]:
        def body(n: int) -> int:
            self.ran.append(label)
            return n + self.factor

        return body


def test_a_replayed_node_and_everything_downstream_run_again_and_the_rest_is_copied(
    ledger: Ledger, replay: Callable[..., Any]
) -> None:
    line = Line()
    first = line.dag.run(ledger=ledger)
    line.ran.clear()
    line.factor = 10
    found, again = replay(line.dag, first, "c")
    assert found == {"a": "skipped", "b": "skipped", "c": "completed", "d": "completed"}
    assert line.ran == ["c", "d"]
    assert ledger.get_result(again) == 23
    assert ledger.get_output(again, "b") == 3
    assert list(ledger.check()) == []


def test_a_replay_records_what_it_was_made_of_and_the_edges_of_skipped_steps_too(
    ledger: Ledger, replay: Callable[..., Any]
) -> None:
    line = Line()
    first = line.dag.run(ledger=ledger)
    _, again = replay(line.dag, first, "d")
    run = ledger.require_run(again)
    assert (run.replay_of, run.status) == (first.run_id, RunStatus.COMPLETED)
    headers = json.loads(ledger.get_payload(again).headers)
    assert headers["replay"] == {
        "nodes": ["d"],
        "downstream": True,
        "changed": False,
        "ran": ["d"],
        "graph_changes": [],
    }
    assert {(edge.upstream, edge.downstream) for edge in ledger.list_edges(again)} == {
        ("a", "b"),
        ("b", "c"),
        ("c", "d"),
    }
    assert {s.origin_run_id for s in ledger.list_steps(again) if s.status == StepStatus.SKIPPED} == {first.run_id}


def test_descendants_keep_their_old_outputs_only_where_that_was_asked_for(
    ledger: Ledger, replay: Callable[..., Any]
) -> None:
    line = Line()
    first = line.dag.run(ledger=ledger)
    line.ran.clear()
    found, again = replay(line.dag, first, "b", downstream=False)
    assert found == {"a": "skipped", "b": "completed", "c": "skipped", "d": "skipped"}
    assert line.ran == ["b"]
    assert json.loads(ledger.get_payload(again).headers)["replay"]["downstream"] is False


def test_unknown_labels_are_refused_before_any_row_is_written(ledger: Ledger) -> None:
    line = Line()
    line.dag.node(len, label="total", obj="abc")
    run = line.dag.run(ledger=ledger)
    with pytest.raises(ConfigurationError, match=r"has no step 'totl'\. Did you mean 'total'\?"):
        line.dag.replay(run.run_id, ["totl"], ledger=ledger)
    with pytest.raises(ValueError, match="no step"):
        line.dag.replay(run.run_id, ["a[3]"], ledger=ledger)
    with pytest.raises(ConfigurationError, match="collection of labels, not 'a'"):
        line.dag.replay(run.run_id, "a", ledger=ledger)
    with pytest.raises(RunNotFound):
        line.dag.replay("nothing", ["a"], ledger=ledger)
    assert len(ledger.list_runs()) == 1


def test_one_element_of_a_map_can_be_replayed_alone(ledger: Ledger, replay: Callable[..., Any]) -> None:
    ran: list[int] = []

    def square(n: int) -> int:
        ran.append(n)
        return n * n

    dag = Dag("squares")
    squares = dag.map(square, [0, 1, 2, 3])
    dag.node(sum, label="total", iterable=squares)
    first = dag.run(ledger=ledger)
    ran.clear()
    found, again = replay(dag, first, "square[2]")
    assert ran == [2]
    assert found == {
        "square": "completed",
        "square[0]": "skipped",
        "square[1]": "skipped",
        "square[2]": "completed",
        "square[3]": "skipped",
        "total": "completed",
    }
    assert ledger.get_result(again) == 14


def test_a_skipped_map_brings_its_elements_and_keeps_the_keys_of_a_dict(
    ledger: Ledger, replay: Callable[..., Any]
) -> None:
    dag = Dag("keyed")
    lengths = dag.map(len, {"a": "x", 2: "yyy"}, label="lengths")
    dag.node(lambda given: [*given], label="keys", given=lengths)
    first = dag.run(ledger=ledger)
    found, again = replay(dag, first, "keys")
    assert found["lengths"] == found["lengths['a']"] == found["lengths[2]"] == "skipped"
    assert ledger.get_output(again, "lengths") == {"a": 1, 2: 3}
    assert ledger.get_result(again) == ["a", 2]


def test_replaying_a_failed_run_with_no_node_is_a_restart_into_a_new_run(
    ledger: Ledger, replay: Callable[..., Any]
) -> None:
    broken = [True]
    ran: list[str] = []

    def check(n: int) -> int:
        ran.append(f"check {n}")
        if broken and n == 2:
            raise ValueError("no")
        return n

    dag = Dag("failing")
    dag.node(sum, label="total", iterable=dag.map(check, [1, 2, 3], concurrency=1))
    first = dag.run(ledger=ledger)
    assert first.status == RunStatus.FAILED
    broken.clear()
    found, again = replay(dag, first)
    assert ran == ["check 1", "check 2", "check 2", "check 3"]
    assert found["check[0]"] == "skipped"
    assert ledger.get_result(again) == 6
    assert ledger.require_run(first.run_id).status == RunStatus.FAILED


def test_a_replay_that_failed_goes_on_without_running_its_skipped_steps(ledger: Ledger) -> None:
    line = Line()
    broken = [True]

    def last(n: int) -> int:
        if broken:
            raise ValueError("no")
        return n

    # After all the others, so that they are done when it fails.
    line.dag.node(last, n=line.dag.node(len, label="five", obj="12345"), after=line.last)
    first = line.dag.run(ledger=ledger)
    again = line.dag.replay(first.run_id, ["last"], ledger=ledger)
    assert again.status == RunStatus.FAILED
    broken.clear()
    line.ran.clear()
    assert line.dag.resume(again.run_id, ledger=ledger).status == RunStatus.COMPLETED
    assert line.ran == []
    assert statuses(ledger, again.run_id)["five"] == "skipped"


def test_the_replay_of_a_replay_knows_the_run_that_made_each_output(ledger: Ledger, replay: Callable[..., Any]) -> None:
    line = Line()
    first = line.dag.run(ledger=ledger)
    second = line.dag.replay(first.run_id, ["c"], ledger=ledger)
    _, third = replay(line.dag, second, "d")
    origins = {s.label: s.origin_run_id for s in ledger.list_steps(third)}
    assert origins == {"a": first.run_id, "b": first.run_id, "c": second.run_id, "d": None}


def test_values_keep_their_types_across_a_replay(ledger: Ledger, replay: Callable[..., Any]) -> None:
    moment = datetime(2026, 11, 25, tzinfo=UTC)
    seen: list[Any] = []

    def make() -> dict[Any, Any]:
        return {1: (moment, {"x"}), "b": b"bytes"}

    dag = Dag("typed")
    dag.node(lambda given: seen.append(given) or 1, label="look", given=dag.node(make))
    first = dag.run(ledger=ledger)
    replay(dag, first, "look")
    assert seen == [{1: (moment, {"x"}), "b": b"bytes"}] * 2


def test_a_transient_output_is_made_again_where_a_step_that_runs_needs_it(
    ledger: Ledger, replay: Callable[..., Any]
) -> None:
    made: list[object] = []

    @step(transient=True)
    def connect() -> object:
        made.append(object())
        return made[-1]

    dag = Dag("transient")
    link = dag.node(connect)
    dag.node(lambda link: 1, label="read", link=link)
    dag.node(lambda link: 2, label="write", link=link)
    first = dag.run(ledger=ledger)
    found, _ = replay(dag, first, "read")
    assert found == {"connect": "completed", "read": "completed", "write": "skipped"}
    assert len(made) == 2
    plan = dag.plan_replay(first.run_id, ["read"], ledger=ledger)
    assert [s.reason for s in plan.steps if s.label == "connect"] == ["its output was not kept, and 'read' needs it"]


# --- what changed -----------------------------------------------------------------------------------


def one(n: int) -> int:
    return n + 1


def other(n: int) -> int:
    return n + 100


def build(first: Any = one, second: Any = one, n: int = 1, **more: Any) -> Dag:
    dag = Dag("edited")
    a = dag.node(first, label="a", n=n)
    b = dag.node(second, label="b", n=a)
    dag.node(one, label="c", n=b)
    dag.node(one, label="apart", n=7)
    for label, fn in more.items():
        dag.node(fn, label=label, n=a)
    return dag


def test_a_replay_of_what_changed_runs_the_edited_step_and_what_depends_on_it(
    ledger: Ledger, replay: Callable[..., Any]
) -> None:
    first = build().run(ledger=ledger)
    found, again = replay(build(second=other), first, changed=True)
    assert found == {"a": "skipped", "b": "completed", "c": "completed", "apart": "skipped"}
    assert ledger.get_output(again, "c") == 103


@pytest.mark.parametrize(
    ("edited", "label", "reason"),
    [
        (build(second=other), "b", "its code changed"),
        (build(second=step(timeout=9)(one)), "b", "its code changed"),
        (build(n=5), "a", "its inputs changed"),
        (build(extra=one), "extra", "it has never run"),
    ],
)
def test_a_dry_run_says_which_step_changed_and_why(ledger: Ledger, edited: Dag, label: str, reason: str) -> None:
    first = build().run(ledger=ledger)
    plan = edited.plan_replay(first.run_id, changed=True, ledger=ledger)
    assert {s.label: s.reason for s in plan.steps}[label] == reason
    assert len(ledger.list_runs()) == 1


def test_a_plan_only_reads_and_makes_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with pytest.raises(StoreError):
        build().plan_replay("r1", ledger=path)
    assert not path.exists()
    build().run(ledger=path, run_id="r1")
    with Ledger.open(path, read_only=True) as reading:
        assert build().plan_replay("r1", ledger=reading).to_run == ()
    assert build().plan_replay("r1", ["b"], ledger=path).to_run == ("b", "c")


def test_nothing_runs_again_where_nothing_changed(ledger: Ledger, replay: Callable[..., Any]) -> None:
    first = build().run(ledger=ledger)
    found, again = replay(build(), first, changed=True)
    assert set(found.values()) == {"skipped"}
    assert ledger.require_run(again).status == RunStatus.COMPLETED


def test_an_output_that_was_copied_is_compared_with_the_code_that_made_it(ledger: Ledger) -> None:
    first = build().run(ledger=ledger)
    again = build(second=other).replay(first.run_id, ["a"], downstream=False, ledger=ledger)
    plan = build(second=other).plan_replay(again.run_id, changed=True, ledger=ledger)
    assert plan.to_run == ("b", "c")


def test_a_run_that_went_on_with_other_code_knows_which_step_ran_with_which(ledger: Ledger) -> None:
    def fail(n: int) -> int:
        raise ValueError("no")

    first = build(second=fail).run(ledger=ledger)
    mended = build(first=other, second=one)
    run = mended.resume(first.run_id, ledger=ledger)
    assert run.status == RunStatus.COMPLETED
    assert set(run.changes) == {"the code of step 'a' changed", "the code of step 'b' changed"}
    assert mended.plan_replay(run.run_id, changed=True, ledger=ledger).to_run == ("a", "b", "c")
    assert build(second=one).plan_replay(run.run_id, changed=True, ledger=ledger).to_run == ()


def test_a_graph_that_no_longer_matches_is_reported_node_by_node(ledger: Ledger) -> None:
    first = build().run(ledger=ledger)
    grown = build(extra=one)
    with pytest.raises(GraphChanged, match="step 'extra' is new"):
        grown.replay(first.run_id, ["b"], ledger=ledger)
    plan = grown.plan_replay(first.run_id, ["b"], allow_changes=True, ledger=ledger)
    assert (plan.changes, set(plan.to_run)) == (("step 'extra' is new",), {"b", "c", "extra"})
    assert grown.replay(first.run_id, ["b"], allow_changes=True, ledger=ledger).status == RunStatus.COMPLETED


def test_a_restart_with_another_graph_is_refused_unless_it_is_allowed(ledger: Ledger) -> None:
    def fail(n: int) -> int:
        raise ValueError("no")

    first = build(second=fail).run(ledger=ledger)
    grown = build(extra=one)
    with pytest.raises(GraphChanged, match="step 'extra' is new"):
        grown.resume(first.run_id, ledger=ledger)
    run = grown.resume(first.run_id, allow_changes=True, ledger=ledger)
    assert (run.status, run.changes[0]) == (RunStatus.COMPLETED, "step 'extra' is new")
    assert statuses(ledger, run.run_id)["extra"] == "completed"
    assert ledger.require_run(run.run_id).hash == grown.build().fingerprint


def test_everything_that_a_replay_takes_over_is_written_in_one_transaction(tmp_path: Path) -> None:
    commits: list[str] = []
    with Ledger.open(tmp_path / "runs.db", fault=commits.append) as ledger:
        dag = Dag("long")
        ref = dag.node(one, label="n0", n=0)
        for place in range(1, 100):
            ref = dag.node(one, label=f"n{place}", n=ref)
        first = dag.run(ledger=ledger)
        commits.clear()
        again = dag.replay(first.run_id, ["n99"], ledger=ledger)
        assert again.result() == 100
        assert commits.count("before_commit") <= 3  # what is taken over; the one step, and the end
        assert len(ledger.list_steps(again.run_id)) == 100
