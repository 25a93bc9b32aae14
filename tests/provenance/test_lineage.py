"""Where outputs came from, what used them, which are bad, and how two runs differ."""

from __future__ import annotations

import pytest

from milepost import Dag, Ledger, RunStatus
from milepost.errors import ConfigurationError, RunNotFound, StepNotFound
from milepost.provenance import DagProvenance, compare_runs, invalidate, lineage

log: list[str] = []


@pytest.fixture
def ledger(provenance: DagProvenance) -> Ledger:
    log.clear()
    return provenance.ledger


def numbers(count: int) -> list[int]:
    log.append("numbers")
    return list(range(count))


def double(n: int) -> int:
    log.append(f"double {n}")
    return 2 * n


def total(items: list[int]) -> int:
    log.append("total")
    return sum(items)


def size(items: list[int]) -> int:
    log.append("size")
    return len(items)


def report(total: int, size: int) -> str:
    log.append("report")
    return f"{total} of {size}"


def diamond() -> Dag:
    with Dag("diamond") as dag:
        made = dag.node(numbers)
        added = dag.node(total, items=dag.map(double, made))
        counted = dag.node(size, items=made)
        dag.node(report, total=added, size=counted)
    return dag


def test_the_lineage_of_an_output_is_what_it_was_made_of_and_what_used_it(ledger: Ledger) -> None:
    run = diamond().run(count=2, ledger=ledger)
    (found,) = lineage(ledger, run.run_id, "double")
    assert [(link.label, link.depth, link.via) for link in found.made_of] == [("numbers", 1, "edge")]
    assert [(link.label, link.depth) for link in found.used_by] == [("total", 1), ("report", 2)]
    (whole,) = lineage(ledger, run.run_id)
    assert whole.label == "report"
    assert {link.label for link in whole.made_of} == {"total", "size", "double", "numbers"}
    (element,) = lineage(ledger, run.run_id, "double[1]")
    assert [link.label for link in element.used_by] == ["double", "total", "report"]


def test_lineage_crosses_replays_in_both_directions(ledger: Ledger) -> None:
    dag = diamond()
    run = dag.run(count=2, ledger=ledger)
    replay = dag.replay(run.run_id, ["size"], ledger=ledger)
    (back,) = lineage(ledger, replay.run_id, "total")
    assert (back.made_of[0].run_id, back.made_of[0].label, back.made_of[0].via) == (run.run_id, "total", "copy")
    (on,) = lineage(ledger, run.run_id, "total")
    used = {(link.run_id == run.run_id, link.label) for link in on.used_by}
    assert used == {(True, "report"), (False, "total"), (False, "report")}


def test_lineage_goes_into_runs_inside_a_run_and_out_again(ledger: Ledger) -> None:
    with Dag("inner") as inner:
        inner.node(double)
    with Dag("outer") as outer:
        made = outer.node(numbers)
        outer.node(total, items=outer.map(inner, made, label="each"))
    run = outer.run(count=2, ledger=ledger)
    assert run.status is RunStatus.COMPLETED
    (found,) = lineage(ledger, run.run_id, "total")
    assert {link.label for link in found.made_of} >= {"each", "numbers", "double"}
    inside = next(link for link in found.made_of if link.label == "double")
    assert inside.run_id != run.run_id
    (up,) = lineage(ledger, inside.run_id, "double")
    assert {link.label for link in up.used_by} >= {"total"}
    assert {link.label for link in up.made_of} >= {"numbers"}


def test_lineage_goes_into_the_branch_that_a_switch_took(ledger: Ledger) -> None:
    with Dag("less") as less:
        less.node(double)
    with Dag("more") as more:
        more.node(size)
    with Dag("routed") as dag:
        way = dag.switch({"a:less": less, "more": more}, label="way")
        dag.node(lambda n: ("a:less", n), label="route", n=4) >> way
        dag.node(lambda x: x, label="last", x=way)
    run = dag.run(ledger=ledger)
    assert run.result() == 8
    (found,) = lineage(ledger, run.run_id, "last")
    assert {link.label for link in found.made_of} == {"way", "double", "route"}
    inside = next(link for link in found.made_of if link.label == "double")
    assert {link.label for link in lineage(ledger, inside.run_id, "double")[0].used_by} == {"way", "last"}
    uses = invalidate(ledger, inside.run_id, "double")
    assert {step for use in uses for step in use.steps} == {"way", "last"}
    seen = DagProvenance(ledger).inspect_run(run.run_id)
    assert seen is not None
    assert [len(node.sub_dags) for node in seen.nodes if node.node_label == "way"] == [1]


def test_a_bad_output_lists_every_run_that_used_it(ledger: Ledger) -> None:
    dag = diamond()
    run = dag.run(count=2, ledger=ledger)
    replay = dag.replay(run.run_id, ["size"], ledger=ledger)
    uses = invalidate(ledger, run.run_id, "total", "rounded wrongly")
    assert {use.run_id: use.steps for use in uses} == {
        run.run_id: ("report",),
        replay.run_id: ("total", "report"),
    }
    (found,) = lineage(ledger, run.run_id, "total")
    assert found.is_invalid == "rounded wrongly"


def test_a_replay_does_not_reuse_a_bad_output_nor_what_was_made_of_it(ledger: Ledger) -> None:
    dag = diamond()
    run = dag.run(count=2, ledger=ledger)
    replay = dag.replay(run.run_id, [], ledger=ledger)
    invalidate(ledger, replay.run_id, "total")  # a copy: the original is marked
    log.clear()
    assert dag.replay(run.run_id, ledger=ledger).result() == "2 of 2"
    assert log == ["total", "report"]
    plan = dag.plan_replay(replay.run_id, ledger=ledger)
    assert {step.label: step.reason for step in plan.steps if step.runs}["total"].startswith("its output is bad")


def test_a_run_that_is_resumed_makes_a_bad_output_anew(ledger: Ledger) -> None:
    broken = {"is": True}

    def fail(total: int) -> int:
        if broken["is"]:
            raise ValueError("no")
        return total

    with Dag("failing") as dag:
        dag.node(fail, total=dag.node(total, items=dag.map(double, dag.node(numbers))))
    run = dag.run(count=3, ledger=ledger)
    assert run.status is RunStatus.FAILED
    invalidate(ledger, run.run_id, "double[1]")
    log.clear()
    broken["is"] = False
    assert dag.resume(run.run_id, ledger=ledger).result() == 6
    assert log == ["double 1", "total"]
    assert lineage(ledger, run.run_id, "double[1]")[0].is_invalid is None  # made anew, and good again


def test_an_upstream_that_is_bad_takes_whole_maps_along(ledger: Ledger) -> None:
    broken = {"is": True}

    def fail(total: int) -> int:
        if broken["is"]:
            raise ValueError("no")
        return total

    with Dag("failing") as dag:
        dag.node(fail, total=dag.node(total, items=dag.map(double, dag.node(numbers))))
    run = dag.run(count=2, ledger=ledger, max_concurrency=1)
    invalidate(ledger, run.run_id, "numbers")
    log.clear()
    broken["is"] = False
    dag.resume(run.run_id, ledger=ledger, max_concurrency=1).result()
    assert log == ["numbers", "double 0", "double 1", "total"]


def test_what_is_not_there_cannot_be_traced_or_marked(ledger: Ledger) -> None:
    run = diamond().run(count=1, ledger=ledger)
    with pytest.raises(RunNotFound):
        lineage(ledger, "nowhere")
    with pytest.raises(StepNotFound, match="total"):
        lineage(ledger, run.run_id, "totl")
    with pytest.raises(StepNotFound, match="total"):
        invalidate(ledger, run.run_id, "totl")
    with pytest.raises(ConfigurationError, match="reason"):
        invalidate(ledger, run.run_id, "total", " ")
    with pytest.raises(RunNotFound):
        compare_runs(ledger, run.run_id, "nowhere")


def test_two_runs_of_the_same_inputs_are_the_same(ledger: Ledger) -> None:
    dag = diamond()
    found = compare_runs(ledger, dag.run(count=2, ledger=ledger).run_id, dag.run(count=2, ledger=ledger).run_id)
    assert found.is_same
    assert found.parts_at is None


def test_two_runs_of_other_inputs_part_at_the_first_step_that_shows_it(ledger: Ledger) -> None:
    dag = diamond()
    found = compare_runs(ledger, dag.run(count=2, ledger=ledger).run_id, dag.run(count=3, ledger=ledger).run_id)
    assert found.inputs == {"count": (2, 3)}
    assert found.parts_at == "numbers"
    steps = {step.label: step for step in found.steps}
    assert steps["double[0]"].differs == ()
    assert steps["double[2]"].status == (None, "completed")
    assert "output" in steps["total"].differs


def test_changed_code_is_named(ledger: Ledger) -> None:
    def changed(items: list[int]) -> int:
        return sum(items) + 1

    with Dag("diamond") as other:
        made = other.node(numbers)
        added = other.node(changed, items=other.map(double, made), label="total")
        other.node(report, total=added, size=other.node(size, items=made))
    one = diamond().run(count=2, ledger=ledger)
    found = compare_runs(ledger, one.run_id, other.run(count=2, ledger=ledger).run_id)
    assert found.code == ("total",)
    assert found.parts_at == "total"
