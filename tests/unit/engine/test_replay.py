"""What a replay runs again: decided from a graph and a history, with nothing else at hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost.engine import ReplayPlan, StepSummary, plan_replay
from milepost.errors import ConfigurationError
from milepost.graph import Binding, Graph, Node, Source
from milepost.states import StepStatus

DONE = StepStatus.COMPLETED


def node(label: str, *upstream: int, **options: Any) -> Node:
    bindings = tuple(Binding(f"p{ref}", Source.NODE, ref) for ref in upstream)
    return Node(label, None, bindings, **options)


def done(label: str, *, parent: str | None = None, status: StepStatus = DONE, storage: str = "inline") -> StepSummary:
    return StepSummary(label, parent, status, storage, 1, 0)


def plan(graph: Graph, steps: list[StepSummary], *chosen: str, **options: Any) -> ReplayPlan:
    return plan_replay("run", graph, steps, dict.fromkeys(chosen, "it was chosen"), **options)


DIAMOND = Graph("diamond", [node("a"), node("b", 0), node("c", 0), node("d", 1, 2)])
ALL = [done(label) for label in "abcd"]


def test_a_chosen_node_takes_its_descendants_along_and_leaves_its_siblings() -> None:
    found = plan(DIAMOND, ALL, "b")
    assert (found.to_run, found.reused, found.labels) == (("b", "d"), ("a", "c"), ("a", "c"))
    assert [step.reason for step in found.steps if step.runs] == ["it was chosen", "it is downstream of 'b'"]


def test_descendants_stay_where_that_was_asked_for() -> None:
    assert plan(DIAMOND, ALL, "a", downstream=False).to_run == ("a",)


def test_nodes_without_an_output_run_whatever_was_chosen() -> None:
    steps = [done("a"), done("b", status=StepStatus.FAILED), done("c", status=StepStatus.SKIPPED)]
    found = plan(DIAMOND, steps)
    assert {step.label: step.reason for step in found.steps if step.runs} == {
        "b": "it has no output: it is failed",
        "d": "it is downstream of 'b'",
    }


def test_of_a_map_that_failed_the_completed_elements_are_taken_over() -> None:
    graph = Graph("g", [node("m", over=Binding("", Source.VALUE, [1, 2, 3]))])
    elements = [done("m[0]", parent="m"), done("m[1]", parent="m", status=StepStatus.FAILED)]
    found = plan(graph, [done("m", status=StepStatus.FAILED, storage="elements"), *elements])
    assert found.labels == ("m[0]",)


def test_of_a_map_that_is_chosen_no_element_is_taken_over() -> None:
    graph = Graph("g", [node("m", over=Binding("", Source.VALUE, [1]))])
    found = plan(graph, [done("m", storage="elements"), done("m[0]", parent="m")], "m")
    assert (found.to_run, found.labels) == (("m",), ())


def test_a_chosen_element_leaves_the_others_and_runs_its_map_in_part() -> None:
    graph = Graph("g", [node("m", over=Binding("", Source.VALUE, [1, 2])), node("after", 0)])
    steps = [done("m", storage="elements"), *(done(f"m[{n}]", parent="m") for n in range(2)), done("after")]
    found = plan(graph, steps, "m[1]")
    assert (found.to_run, found.labels) == (("m", "after"), ("m[0]",))
    assert found.steps[0].elements == ("m[1]",)


def test_what_was_not_kept_runs_again_only_where_it_is_read() -> None:
    graph = Graph("g", [node("link"), node("read", 0), node("write", 0)])
    steps = [done("link", storage="none"), done("read"), done("write")]
    assert plan(graph, steps, "read").to_run == ("link", "read")
    assert plan(graph, steps).to_run == ()


@pytest.mark.parametrize("label", ["e", "a[0]", "m[0]"])
def test_unknown_labels_are_refused_with_what_was_meant(label: str) -> None:
    with pytest.raises(ConfigurationError, match="has no step"):
        plan(DIAMOND, ALL, label)


@given(st.data())
def test_what_runs_is_closed_downstream_and_everything_else_is_taken_over(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 8))
    nodes = [
        node(f"n{place}", *data.draw(st.lists(st.integers(0, place - 1), unique=True, max_size=3)) if place else ())
        for place in range(size)
    ]
    graph = Graph("g", nodes)
    kept = data.draw(st.sets(st.sampled_from([n.label for n in nodes])))
    chosen = data.draw(st.sets(st.sampled_from([n.label for n in nodes])))
    found = plan(graph, [done(label) for label in sorted(kept)], *sorted(chosen))
    runs = set(found.to_run)
    assert runs >= chosen | {n.label for n in nodes if n.label not in kept}
    for upstream, downstream in graph.edges():
        assert upstream not in runs or downstream in runs
    assert set(found.labels) == set(graph.labels) - runs
    # Nothing runs without a reason: it was chosen, has no output, or is below something that runs.
    for label in runs - chosen - (set(graph.labels) - kept):
        assert any(up in runs for up, down in graph.edges() if down == label)
