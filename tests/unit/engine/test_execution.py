"""What may start when, and what an outcome means for the rest: no database, no clock, no threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from milepost.engine import Call, Execution, History
from milepost.engine.restart import NOT_LOADED
from milepost.errors import ConfigurationError, NonRetryable
from milepost.graph import Binding, Graph, Node, Source
from milepost.model import Retry


def step(label: str, reads: Sequence[int] = (), *, after: Sequence[int] = (), **options: Any) -> Node:
    """A node that reads the outputs of nodes by index, in parameters named p0, p1, ..."""
    bindings = tuple(Binding(f"p{i}", Source.NODE, ref) for i, ref in enumerate(reads))
    return Node(label, None, bindings, after=tuple(after), **options)


def map_over(label: str, over: Any, *, is_node: bool = False, **options: Any) -> Node:
    source = Source.NODE if is_node else Source.VALUE
    return Node(label, None, (Binding("x", Source.ELEMENT),), Binding("", source, over), **options)


def start(*nodes: Node, inputs: dict[str, Any] | None = None, history: History | None = None) -> Execution:
    return Execution(Graph("g", nodes), inputs or {}, history)


def take(execution: Execution) -> dict[str, Call]:
    """Everything that can start now, by label."""
    calls = {}
    while (call := execution.next_call()) is not None:
        assert call.label not in calls
        calls[call.label] = call
    return calls


def fail(execution: Execution, call: Call, error: BaseException | None = None, **how: Any) -> float | None:
    return execution.failed(call, error or ValueError("no"), **{"final": False, "now": 0.0, "draw": 0.0, **how})


def verbs(execution: Execution) -> list[tuple[str, str]]:
    marks, execution.marks = execution.marks, []
    return [(mark.node.label, mark.verb) for mark in marks]


# --- order ---------------------------------------------------------------------------------------


def test_a_step_starts_when_its_last_upstream_has_succeeded():
    execution = start(step("a"), step("b"), step("c", [0, 1]))
    calls = take(execution)
    assert set(calls) == {"a", "b"}
    execution.succeeded(calls["a"], 1)
    assert not take(execution)
    execution.succeeded(calls["b"], 2)
    assert set(take(execution)) == {"c"}


def test_an_upstream_that_only_orders_is_waited_for_as_well():
    execution = start(step("a"), step("b", after=[0]))
    calls = take(execution)
    assert set(calls) == {"a"}
    execution.succeeded(calls["a"], 1)
    later = take(execution)
    assert set(later) == {"b"}
    assert execution.arguments(later["b"]) == {}


def test_an_upstream_that_is_read_twice_is_waited_for_once():
    execution = start(step("a"), step("b", [0, 0], after=[0]))
    execution.succeeded(take(execution)["a"], 7)
    assert execution.arguments(take(execution)["b"]) == {"p0": 7, "p1": 7}


def test_arguments_come_from_upstreams_inputs_values_and_elements():
    bindings = (
        Binding("up", Source.NODE, 0),
        Binding("given", Source.INPUT, "given"),
        Binding("left_to_its_default", Source.INPUT, "absent"),
        Binding("plain", Source.VALUE, [1]),
        Binding("x", Source.ELEMENT),
    )
    execution = start(
        step("a"), Node("m", None, bindings, Binding("", Source.VALUE, (10, 20)), after=(0,)), inputs={"given": "in"}
    )
    execution.succeeded(take(execution)["a"], "out")
    calls = take(execution)
    shared = {"up": "out", "given": "in", "plain": [1]}
    assert execution.arguments(calls["m[0]"]) == {**shared, "x": 10}
    assert execution.arguments(calls["m[1]"]) == {**shared, "x": 20}


def test_a_run_is_completed_when_every_node_has_succeeded():
    execution = start(step("a"), step("b", [0]))
    execution.succeeded(take(execution)["a"], 1)
    assert not execution.is_finished
    execution.succeeded(take(execution)["b"], 2)
    assert execution.is_finished
    assert execution.is_completed
    assert execution.results == {1: 2}


# --- values --------------------------------------------------------------------------------------


def test_a_value_is_dropped_when_its_last_reader_has_finished():
    execution = start(step("a"), step("b", [0]), step("c", [0]))
    execution.succeeded(take(execution)["a"], "big")
    calls = take(execution)
    execution.succeeded(calls["b"], None)
    assert execution.arguments(calls["c"]) == {"p0": "big"}
    execution.succeeded(calls["c"], None)
    assert execution._outputs == {}


def test_a_value_that_only_orders_is_not_kept_at_all():
    execution = start(step("a"), step("b", after=[0]))
    execution.succeeded(take(execution)["a"], "big")
    assert execution._outputs == {}
    assert execution.results == {}


def test_values_of_final_nodes_are_the_results_but_those_of_final_maps_stay_in_the_ledger():
    execution = start(step("a"), map_over("m", [1]))
    calls = take(execution)
    execution.succeeded(calls["a"], "kept")
    execution.succeeded(calls["m[0]"], "not kept")
    assert execution.results == {0: "kept"}
    assert execution._outputs == {}


# --- failure -------------------------------------------------------------------------------------


def test_after_the_first_failure_nothing_new_starts():
    execution = start(step("a"), step("b"), step("c", [1]))
    calls = take(execution)
    assert fail(execution, calls["a"]) is None
    execution.succeeded(calls["b"], 1)
    assert not take(execution)
    assert execution.is_finished
    assert not execution.is_completed


def test_the_first_failure_is_the_runs_failure_and_a_sibling_that_runs_is_waited_for():
    execution = start(step("a"), step("b"))
    calls = take(execution)
    first, second = ValueError("first"), ValueError("second")
    fail(execution, calls["b"], first)
    assert not execution.is_finished
    fail(execution, calls["a"], second)
    assert execution.is_finished
    assert execution.failure is not None
    assert (execution.failure.label, execution.failure.error) == ("b", first)


def test_a_map_that_becomes_ready_after_a_failure_does_not_start_either():
    execution = start(step("a"), step("b"), map_over("m", [1, 2], after=[1]), map_over("none", [], after=[1]))
    calls = take(execution)
    fail(execution, calls["a"])
    execution.succeeded(calls["b"], 1)
    assert verbs(execution) == []
    assert not take(execution)


def test_a_halted_execution_hands_out_nothing_and_is_finished_when_nothing_runs():
    execution = start(step("a"), step("b"))
    call = execution.next_call()
    assert call is not None
    execution.halt()
    assert execution.next_call() is None
    assert not execution.is_finished
    execution.abandoned(call)
    assert execution.is_finished


# --- retries -------------------------------------------------------------------------------------


def test_a_failed_attempt_with_retries_left_is_handed_out_again_as_the_next_attempt():
    execution = start(step("a", retry=Retry(max_retries=1)))
    call = take(execution)["a"]
    assert call.attempt == 1
    assert fail(execution, call) == 0.0
    again = take(execution)["a"]
    assert again.attempt == 2
    assert fail(execution, again) is None
    assert execution.is_finished


def test_a_delayed_retry_is_ready_when_its_time_has_come_and_not_before():
    execution = start(step("a", retry=Retry(max_retries=2, delay=5.0, backoff_factor=2)))
    assert fail(execution, take(execution)["a"], now=100.0) == 5.0
    assert not execution.is_finished
    assert execution.next_due() == 105.0
    execution.wake(104.9)
    assert not take(execution)
    execution.wake(105.0)
    assert fail(execution, take(execution)["a"], now=110.0) == 10.0
    assert execution.next_due() == 120.0


def test_delayed_retries_fall_due_in_the_order_of_their_times():
    retry = Retry(max_retries=1, delay=1.0)
    execution = start(step("late", retry=retry), step("early", retry=retry), step("also early", retry=retry))
    calls = take(execution)
    fail(execution, calls["late"], now=10.0)
    fail(execution, calls["early"], now=5.0)
    fail(execution, calls["also early"], now=5.0)
    execution.wake(6.0)
    assert set(take(execution)) == {"early", "also early"}
    execution.wake(11.0)
    assert set(take(execution)) == {"late"}


def test_a_failure_elsewhere_drops_retries_that_wait():
    execution = start(step("a", retry=Retry(max_retries=1, delay=5.0)), step("b"))
    calls = take(execution)
    fail(execution, calls["a"])
    fail(execution, calls["b"])
    assert execution.is_finished
    assert execution.next_due() is None
    execution.wake(99.0)
    assert not take(execution)


@pytest.mark.parametrize(("error", "how"), [(NonRetryable("no"), {}), (ValueError("no"), {"final": True})])
def test_what_must_not_run_again_does_not(error: BaseException, how: dict[str, Any]):
    execution = start(step("a", retry=Retry(max_retries=5)))
    assert fail(execution, take(execution)["a"], error, **how) is None
    assert execution.is_finished


# --- maps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", [[5, 6], (5, 6), range(5, 7)])
def test_a_map_has_one_call_for_each_element_and_makes_the_list_of_their_values(over: Any):
    execution = start(step("a"), map_over("m", 0, is_node=True), step("sum", [1]))
    execution.succeeded(take(execution)["a"], over)
    calls = take(execution)
    assert [execution.arguments(calls[label]) for label in ("m[0]", "m[1]")] == [{"x": 5}, {"x": 6}]
    execution.succeeded(calls["m[1]"], "six")
    assert not take(execution)
    execution.succeeded(calls["m[0]"], "five")
    assert execution.arguments(take(execution)["sum"]) == {"p0": ["five", "six"]}
    assert verbs(execution) == [("m", "start"), ("m", "complete")]


def test_a_map_over_a_dict_takes_its_values_and_keeps_its_keys_in_order():
    execution = start(map_over("m", {"b": 1, 2: "two"}), step("last", [0]))
    calls = take(execution)
    assert set(calls) == {"m['b']", "m[2]"}
    execution.succeeded(calls["m[2]"], "y")
    execution.succeeded(calls["m['b']"], "x")
    made = execution.arguments(take(execution)["last"])["p0"]
    assert list(made.items()) == [("b", "x"), (2, "y")]


@pytest.mark.parametrize(("over", "made"), [([], []), ((), []), (range(0), []), ({}, {})])
def test_a_map_over_nothing_completes_at_once_and_its_downstream_runs_once(over: Any, made: Any):
    execution = start(map_over("m", over), step("last", [0]))
    calls = take(execution)
    assert set(calls) == {"last"}
    assert execution.arguments(calls["last"]) == {"p0": made}
    execution.succeeded(calls["last"], 1)
    assert execution.is_completed
    assert not take(execution)
    assert execution.remaining == 0


def test_a_chain_of_empty_maps_longer_than_the_stack_completes():
    nodes = [map_over("m0", [])] + [map_over(f"m{i}", i - 1, is_node=True) for i in range(1, 5000)]
    assert start(*nodes).is_completed
    assert start(step("first"), *[map_over(f"m{i}", [], after=[i]) for i in range(5000)]).remaining == 5001


def test_no_more_elements_run_at_once_than_the_map_allows():
    execution = start(map_over("m", range(5), concurrency=2))
    running = take(execution)
    assert set(running) == {"m[0]", "m[1]"}
    execution.succeeded(running["m[0]"], None)
    assert set(take(execution)) == {"m[2]"}


def test_a_retry_takes_a_free_place_among_the_elements_and_frees_its_own_while_it_waits():
    execution = start(map_over("m", range(3), concurrency=1, retry=Retry(max_retries=1, delay=1.0)))
    fail(execution, take(execution)["m[0]"], now=0.0)
    second = take(execution)
    assert set(second) == {"m[1]"}
    execution.wake(1.0)
    assert not take(execution)
    execution.succeeded(second["m[1]"], None)
    third = take(execution)
    assert {label: call.attempt for label, call in third.items()} == {"m[0]": 2}
    execution.succeeded(third["m[0]"], None)
    execution.succeeded(take(execution)["m[2]"], None)
    assert execution.is_completed


def test_maps_side_by_side_take_turns():
    execution = start(map_over("m", range(9)), map_over("n", range(9)))
    first_four = [call.label for call in (execution.next_call() for _ in range(4)) if call is not None]
    assert sorted(first_four) == ["m[0]", "m[1]", "n[0]", "n[1]"]


def test_a_failed_element_fails_the_map_once_and_elements_that_run_may_finish():
    execution = start(map_over("m", range(4)))
    calls = [execution.next_call() for _ in range(3)]
    assert verbs(execution) == [("m", "start")]
    fail(execution, calls[0])  # type: ignore[arg-type]
    fail(execution, calls[1])  # type: ignore[arg-type]
    assert not execution.is_finished
    execution.succeeded(calls[2], "made")  # type: ignore[arg-type]
    assert execution.is_finished
    assert verbs(execution) == [("m", "fail")]
    assert execution.failure is not None
    assert execution.failure.label == "m[0]"


def test_a_map_keeps_no_outputs_that_nobody_reads():
    execution = start(map_over("m", range(2)), step("after", after=[0]))
    for call in take(execution).values():
        execution.succeeded(call, "big")
    take(execution)
    assert execution._outputs == {}


def test_elements_stay_the_same_when_another_step_changes_the_list_meanwhile():
    shared = [1, 2, 3]
    execution = start(map_over("m", shared))
    first = execution.next_call()
    shared.clear()
    calls = [first, *take(execution).values()]
    assert [call.element for call in calls if call is not None] == [1, 2, 3]
    for call in calls:
        execution.succeeded(call, None)  # type: ignore[arg-type]
    assert execution.is_completed


@pytest.mark.parametrize("over", ["text", b"bytes", 7, {1, 2}, iter([1]), None])
def test_a_map_over_something_without_order_fails_the_run_and_says_what_to_return(over: Any):
    execution = start(step("a"), map_over("m", 0, is_node=True))
    execution.succeeded(take(execution)["a"], over)
    assert execution.is_finished
    assert execution.failure is not None
    assert execution.failure.label == "m"
    assert isinstance(execution.failure.error, ConfigurationError)
    assert f"not {type(over).__name__}" in str(execution.failure.error)
    assert verbs(execution) == [("m", "fail")]


def test_a_map_over_a_dict_whose_keys_cannot_be_stored_fails_the_run():
    execution = start(map_over("m", {object(): 1}))
    assert execution.failure is not None
    assert "a key of type builtins.object" in str(execution.failure.error)


def test_a_map_over_a_dict_whose_keys_read_alike_fails_the_run():
    class Alike(str):
        __slots__ = ()

        def __repr__(self) -> str:
            return "'same'"

    execution = start(map_over("m", {Alike("a"): 1, "same": 2}))
    assert execution.failure is not None
    assert isinstance(execution.failure.error, ConfigurationError)


def test_a_sequence_that_raises_while_it_is_listed_fails_the_run_with_its_own_error():
    class Broken(list[int]):
        def __iter__(self) -> Any:
            raise OSError("gone")

    execution = start(map_over("m", Broken([1])))
    assert execution.failure is not None
    assert isinstance(execution.failure.error, OSError)


# --- restart -------------------------------------------------------------------------------------


def test_a_restart_hands_out_only_what_is_not_done():
    history = History(done={0: 5}, tries={"b": (2, 1)})
    execution = start(step("a"), step("b", [0]), step("c", [1]), history=history)
    calls = take(execution)
    assert set(calls) == {"b"}
    assert (calls["b"].attempt, calls["b"].failures) == (3, 1)
    assert execution.arguments(calls["b"]) == {"p0": 5}
    execution.succeeded(calls["b"], 6)
    assert set(take(execution)) == {"c"}


def test_a_restart_of_a_graph_that_is_all_done_is_completed():
    execution = start(step("a"), step("b", [0]), history=History(done={0: NOT_LOADED, 1: NOT_LOADED}))
    assert execution.is_finished
    assert execution.is_completed
    assert not take(execution)


def test_an_upstream_that_runs_again_does_not_start_a_downstream_that_is_done():
    execution = start(
        step("connection", transient=True),
        step("done", [0]),
        step("left", [0, 1]),
        history=History(done={1: "stored"}),
    )
    calls = take(execution)
    assert set(calls) == {"connection"}
    execution.succeeded(calls["connection"], "open")
    calls = take(execution)
    assert set(calls) == {"left"}
    assert execution.arguments(calls["left"]) == {"p0": "open", "p1": "stored"}
    execution.succeeded(calls["left"], 1)
    assert execution.is_completed
    assert execution._outputs == {}


def test_a_value_whose_readers_are_all_done_is_not_kept_when_it_is_made_again():
    execution = start(step("lost"), step("done", [0]), history=History(done={1: NOT_LOADED}))
    execution.succeeded(take(execution)["lost"], "big")
    assert execution.is_completed
    assert execution._outputs == {}


def test_a_map_goes_on_with_its_unfinished_elements_and_makes_the_whole_list():
    history = History(elements={0: {"m[0]": "zero", "m[2]": "two"}}, tries={"m": (1, 0), "m[1]": (1, 1)})
    execution = start(map_over("m", range(3)), step("last", [0]), history=history)
    calls = take(execution)
    assert {label: (call.attempt, call.failures) for label, call in calls.items()} == {"m[1]": (2, 1)}
    assert [(mark.verb, mark.attempt, mark.total) for mark in execution.marks] == [("start", 2, 3)]
    execution.succeeded(calls["m[1]"], "one")
    assert execution.arguments(take(execution)["last"]) == {"p0": ["zero", "one", "two"]}


def test_a_map_whose_elements_are_all_done_completes_at_once_and_its_downstream_runs_once():
    execution = start(map_over("m", range(2)), step("last", [0]), history=History(elements={0: {"m[0]": 0, "m[1]": 1}}))
    calls = take(execution)
    assert set(calls) == {"last"}
    assert execution.arguments(calls["last"]) == {"p0": [0, 1]}
    execution.succeeded(calls["last"], None)
    assert execution.is_completed
