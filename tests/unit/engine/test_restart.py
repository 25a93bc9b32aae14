"""What a restart reuses, decided from the recorded steps alone."""

from __future__ import annotations

from collections.abc import Sequence

from milepost.engine import StepSummary, plan_restart
from milepost.graph import Binding, Graph, Node, Source
from milepost.model import Storage
from milepost.states import StepStatus


def node(label: str, reads: Sequence[int] = (), *, after: Sequence[int] = (), over: int | None = None) -> Node:
    bindings = tuple(Binding(f"p{i}", Source.NODE, ref) for i, ref in enumerate(reads))
    over_binding = None if over is None else Binding("", Source.NODE, over)
    return Node(label, None, bindings, over_binding, after=tuple(after))


def done(label: str, *, parent: str | None = None, storage: str = Storage.INLINE, attempt: int = 1) -> StepSummary:
    return StepSummary(label, parent, StepStatus.COMPLETED, storage, attempt, 0)


def ended(label: str, status: StepStatus, *, attempt: int = 1, failures: int = 0) -> StepSummary:
    return StepSummary(label, None, status, Storage.INLINE, attempt, failures)


def test_a_run_that_recorded_nothing_starts_from_the_beginning():
    plan = plan_restart(Graph("g", [node("a"), node("b", [0])]), [])
    assert plan.done == set()
    assert plan.load == []


def test_completed_steps_are_done_and_only_outputs_that_are_still_read_are_loaded():
    graph = Graph("g", [node("a"), node("b", [0]), node("c", [1])])
    plan = plan_restart(graph, [done("a"), done("b")])
    assert plan.done == {0, 1}
    assert plan.load == ["b"]


def test_an_output_that_only_ordered_is_not_loaded():
    plan = plan_restart(Graph("g", [node("a"), node("b", after=[0])]), [done("a")])
    assert plan.done == {0}
    assert plan.load == []


def test_failed_cancelled_and_running_steps_run_again_as_the_next_attempt():
    graph = Graph("g", [node("a"), node("b"), node("c")])
    plan = plan_restart(
        graph,
        [
            ended("a", StepStatus.FAILED, attempt=3, failures=2),
            ended("b", StepStatus.CANCELLED, attempt=1),
            ended("c", StepStatus.RUNNING, attempt=2),
        ],
    )
    assert plan.done == set()
    assert plan.tries == {"a": (3, 2), "b": (1, 0), "c": (2, 0)}


def test_a_skipped_step_is_done():
    assert plan_restart(Graph("g", [node("a")]), [ended("a", StepStatus.SKIPPED)]).done == {0}


def test_a_transient_step_runs_again_where_an_unfinished_step_reads_it():
    graph = Graph("g", [node("connection"), node("done", [0]), node("left", [0])])
    plan = plan_restart(graph, [done("connection", storage=Storage.NONE), done("done")])
    assert plan.done == {1}
    assert plan.load == []


def test_a_transient_step_that_nobody_needs_any_more_stays_done():
    graph = Graph("g", [node("connection"), node("done", [0]), node("left", [1], after=[0])])
    plan = plan_restart(graph, [done("connection", storage=Storage.NONE), done("done")])
    assert plan.done == {0, 1}
    assert plan.load == ["done"]


def test_what_a_transient_step_reads_is_loaded_and_transient_steps_run_again_up_the_chain():
    graph = Graph("g", [node("settings"), node("pool", [0]), node("connection", [1]), node("left", [2])])
    plan = plan_restart(
        graph, [done("settings"), done("pool", storage=Storage.NONE), done("connection", storage=Storage.NONE)]
    )
    assert plan.done == {0}
    assert plan.load == ["settings"]


def elements(*labels: str, storage: str = Storage.INLINE) -> list[StepSummary]:
    return [done(label, parent="m", storage=storage) for label in labels]


def test_a_completed_map_is_loaded_as_a_whole_where_it_is_read():
    graph = Graph("g", [node("a"), node("m", over=0), node("left", [1])])
    plan = plan_restart(graph, [done("a"), done("m", storage=Storage.ELEMENTS), *elements("m[0]", "m[1]")])
    assert plan.done == {0, 1}
    assert plan.load_maps == ["m"]
    assert plan.load == []


def test_an_unfinished_map_keeps_its_completed_elements_and_loads_what_it_goes_over():
    graph = Graph("g", [node("a"), node("m", over=0), node("left", [1])])
    summaries = [done("a"), ended("m", StepStatus.FAILED), *elements("m[0]", "m[2]"), ended("m[1]", StepStatus.FAILED)]
    plan = plan_restart(graph, summaries)
    assert plan.done == {0}
    assert plan.elements == {1: {"m[0]", "m[2]"}}
    assert plan.load == ["a"]
    assert plan.load_elements == ["m"]


def test_elements_of_an_unfinished_map_that_nobody_reads_are_kept_and_not_loaded():
    plan = plan_restart(Graph("g", [node("a"), node("m", over=0)]), [done("a"), *elements("m[0]")])
    assert plan.elements == {1: {"m[0]"}}
    assert plan.load_elements == []


def test_a_completed_map_of_transient_elements_runs_again_where_it_is_read():
    graph = Graph("g", [node("a"), node("m", over=0), node("left", [1])])
    recorded = [done("a"), done("m", storage=Storage.ELEMENTS), *elements("m[0]", "m[1]", storage=Storage.NONE)]
    plan = plan_restart(graph, recorded)
    assert plan.done == {0}
    assert plan.elements == {}
    assert plan.load == ["a"]


def test_steps_the_graph_does_not_know_are_passed_over():
    plan = plan_restart(Graph("g", [node("a")]), [done("somebody else"), *elements("m[0]")])
    assert plan.done == set()
    assert plan.elements == {}
