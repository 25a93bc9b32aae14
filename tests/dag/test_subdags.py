"""Dags inside Dags, maps over them, and switches: runs of their own that share their parent's fate."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from milepost import Dag, FinishedRun, Ledger, RunStatus, Worker
from milepost.errors import ConfigurationError, DagPause, GraphError
from milepost.runtime import cancel_run, find_interrupted
from milepost.runtime.keeper import keeper_of
from milepost.runtime.lifecycle import new_run
from milepost.runtime.subruns import child_run_id


@pytest.fixture
def ledger() -> Ledger:
    return Ledger.open(":memory:")


class Way:
    """Run or restart a Dag in a thread, on an event loop, or by a worker; return its row and its result."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        self.name = name
        self.ledger = ledger

    def run(self, dag: Dag, **inputs: Any) -> str:
        if self.name == "submitted":
            handle = dag.submit(inputs, ledger=self.ledger)
            Worker([dag], ledger=self.ledger, heartbeat_process=False).run_until_idle()
            return handle.run_id
        run: FinishedRun
        if self.name == "async":
            run = asyncio.run(dag.run_async(inputs=inputs, ledger=self.ledger))
        else:
            run = dag.run(inputs=inputs, ledger=self.ledger)
        return run.run_id

    def result(self, dag: Dag, **inputs: Any) -> Any:
        run_id = self.run(dag, **inputs)
        run = self.ledger.require_run(run_id)
        assert run.status == RunStatus.COMPLETED, run.error_message
        return self.ledger.get_result(run_id)

    def resume(self, dag: Dag, run_id: str) -> FinishedRun:
        if self.name == "async":
            return asyncio.run(dag.resume_async(run_id, ledger=self.ledger))
        return dag.resume(run_id, ledger=self.ledger)


@pytest.fixture(params=["sync", "async", "submitted"])
def way(request: pytest.FixtureRequest, ledger: Ledger) -> Way:
    return Way(request.param, ledger)


def add(n: int, by: int = 1) -> int:
    return n + by


async def double(n: int) -> int:
    return 2 * n


def numbers(count: int) -> list[int]:
    return list(range(count))


def sub(name: str = "twice-more") -> Dag:
    dag = Dag(name)
    dag.node(double, n=dag.node(add))
    return dag


def statuses(ledger: Ledger, run_id: str) -> dict[str, str]:
    return {step.label: step.status.value for step in ledger.list_steps(run_id)}


def children(ledger: Ledger, run_id: str) -> list[Any]:
    return sorted(ledger.list_runs(parent_run_id=run_id), key=lambda run: run.parent_step or "")


# --- a Dag as a node --------------------------------------------------------------------------------


def test_a_dag_is_a_node_whose_inputs_are_its_parameters(way: Way) -> None:
    dag = Dag("outer")
    start = dag.node(add, label="start", n=1)
    inner = dag.node(sub(), n=start)
    dag.node(add, label="end", n=inner, by=100)
    assert way.result(dag) == 106
    assert dag.inputs == {"by": int}


def test_an_edge_hands_the_output_to_a_sub_dag_and_on(way: Way) -> None:
    dag = Dag("outer")
    dag.node(add, label="start", n=1, by=1) >> dag.node(sub(), by=1) >> dag.node(add, label="end", by=0)
    assert way.result(dag) == 6


def test_a_sub_run_is_a_run_of_its_own_that_is_linked_to_its_parent(way: Way) -> None:
    dag = Dag("outer")
    dag.node(sub(), label="inner", n=1)
    run_id = way.run(dag)
    (child,) = children(way.ledger, run_id)
    assert (child.run_id, child.workflow) == (child_run_id(run_id, "inner"), "twice-more")
    assert (child.parent_run_id, child.root_run_id, child.parent_step) == (run_id, run_id, "inner")
    assert statuses(way.ledger, child.run_id) == {"add": "completed", "double": "completed"}
    assert [(s.label, s.kind) for s in way.ledger.list_steps(run_id)] == [("inner", "subrun")]
    assert list(way.ledger.check()) == []


def test_lists_of_runs_show_those_inside_others_only_when_asked(way: Way) -> None:
    dag = Dag("outer")
    dag.node(sub(), n=1)
    run_id = way.run(dag)
    assert [run.run_id for run in way.ledger.list_runs()] == [run_id]
    assert len(way.ledger.list_runs(inner=True)) == 2
    assert way.ledger.find_run("latest").run_id == run_id


def test_dags_nest_to_any_depth(way: Way) -> None:
    dag = sub("level-0")
    for level in range(1, 5):
        outer = Dag(f"level-{level}")
        outer.node(add, label="plus", n=outer.node(dag, label="inner"), by=0)
        dag = outer
    assert way.result(dag, n=4) == 10
    runs = way.ledger.list_runs(inner=True)
    top = next(run for run in runs if run.parent_run_id is None)
    assert len(runs) == 5
    assert {run.root_run_id for run in runs} == {top.run_id}


def test_a_sub_dag_needs_one_final_node() -> None:
    inner = Dag("two-ends")
    inner.node(add, label="a")
    inner.node(add, label="b")
    with pytest.raises(GraphError, match=r"'two-ends' has several final nodes \('a', 'b'\)"):
        Dag("outer").node(inner)


def test_a_wrong_type_between_a_dag_and_its_sub_dag_is_found_when_it_is_built() -> None:
    def text() -> str:
        return "x"

    dag = Dag("outer")
    dag.node(sub(), n=dag.node(text))
    with pytest.raises(GraphError, match="returns str, but parameter 'n' is int"):
        dag.build()


# --- maps -------------------------------------------------------------------------------------------


def test_a_map_over_a_sub_dag_gives_one_run_and_one_result_per_element(way: Way) -> None:
    dag = Dag("outer")
    dag.map(sub(), dag.node(numbers, count=3), label="inner", by=1)
    assert way.result(dag) == [2, 4, 6]
    run = way.ledger.list_runs()[0]
    assert [child.parent_step for child in children(way.ledger, run.run_id)] == ["inner[0]", "inner[1]", "inner[2]"]


def test_a_map_over_a_dict_of_sub_runs_keeps_its_keys(way: Way) -> None:
    dag = Dag("outer")
    dag.map(sub(), {"a": 1, 2: 5}, label="inner", by=0)
    assert way.result(dag) == {"a": 2, 2: 10}


def test_an_empty_map_over_a_sub_dag_makes_an_empty_list(way: Way) -> None:
    dag = Dag("outer")
    dag.map(sub(), dag.node(numbers, count=0))
    assert way.result(dag) == []


def test_elements_that_are_lists_stay_one_list_each(way: Way) -> None:
    inner = Dag("listing")
    inner.node(numbers)
    dag = Dag("outer")
    dag.map(inner, [2, 0, 1], label="inner")
    assert way.result(dag) == [[0, 1], [], [0]]


def test_a_sub_dag_with_several_inputs_takes_dicts_of_them(way: Way) -> None:
    def subtract(a: int, b: int, c: int = 0) -> int:
        return a - b - c

    inner = Dag("subtract")
    inner.node(subtract)
    dag = Dag("outer")
    dag.map(inner, [{"a": 5, "b": 3}, {"a": 5, "b": 3, "c": 1}], label="inner")
    assert way.result(dag) == [2, 1]


def test_a_dict_from_upstream_is_spread_over_the_inputs_of_a_sub_dag(way: Way) -> None:
    def pair() -> dict[str, int]:
        return {"a": 7, "b": 3}

    def subtract(a: int, b: int) -> int:
        return a - b

    inner = Dag("subtract")
    inner.node(subtract)
    dag = Dag("outer")
    dag.node(pair) >> dag.node(inner)
    assert way.result(dag) == 4


def test_an_element_that_is_no_dict_says_what_the_sub_dag_takes(way: Way) -> None:
    inner = Dag("pairs")
    inner.node(lambda a, b: a, label="first")
    dag = Dag("outer")
    dag.map(inner, [1], label="inner")
    run = way.ledger.require_run(way.run(dag))
    assert run.error_message == (
        "The sub-DAG 'pairs' has several inputs (a, b), so it takes a dict of them by name, not a value of type int."
    )


# --- switches ---------------------------------------------------------------------------------------


def test_a_switch_runs_the_branch_that_the_value_names(way: Way) -> None:
    def route() -> tuple[str, int]:
        return "more", 4

    dag = Dag("outer")
    dag.node(route) >> dag.switch({"more": sub(), "less": add}, label="way")
    assert way.result(dag) == 10
    run = way.ledger.list_runs()[0]
    assert [child.parent_step for child in children(way.ledger, run.run_id)] == ["way:more"]
    assert [s.kind for s in way.ledger.list_steps(run.run_id)] == ["step", "switch"]


def test_a_dict_is_routed_by_its_key_and_stays_whole_for_its_other_readers(way: Way) -> None:
    seen: list[dict[str, Any]] = []

    def route() -> dict[str, Any]:
        return {"__switch__": "add", "n": 4, "by": 3}

    dag = Dag("outer")
    routed = dag.node(route)
    dag.switch([sub(), add], routed, label="way")
    dag.node(lambda given: seen.append(given) or 0, label="look", given=routed)
    run_id = way.run(dag)
    assert way.ledger.get_output(run_id, "way") == 7
    assert seen == [{"__switch__": "add", "n": 4, "by": 3}]


def test_a_map_of_a_switch_routes_each_element(way: Way) -> None:
    dag = Dag("outer")
    start = dag.node(numbers, count=1)
    routed = dag.node(lambda given: [("add", 1), ("twice-more", 2), ("add", 3)], label="routes", given=start)
    dag.map(dag.switch([add, sub()], label="way"), routed)
    assert way.result(dag) == [2, 6, 4]
    run = way.ledger.list_runs()[0]
    steps = [child.parent_step for child in children(way.ledger, run.run_id)]
    assert steps == ["way[0]:add", "way[1]:twice-more", "way[2]:add"]
    assert list(dag.build().labels) == ["numbers", "routes", "way"]


def test_an_unknown_branch_fails_the_step_and_is_a_value_error(way: Way) -> None:
    dag = Dag("outer")
    dag.switch({"odd": add, "even": add}, ("evn", 1), label="way")
    run = way.ledger.require_run(way.run(dag))
    assert (run.status, run.error_step, run.error_type) == (RunStatus.FAILED, "way", "ConfigurationError")
    assert run.error_message == "Switch 'way' has no branch 'evn' (it has: 'odd', 'even'). Did you mean 'even'?"
    assert issubclass(ConfigurationError, ValueError)


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        ({}, "has no branch"),
        ("ab", "must be a dict or a list"),
        ({"": add}, "must be named by printable text"),
        ([add, add], "Two branches of switch 'way' are named 'add'"),
    ],
)
def test_branches_that_cannot_be_are_refused(branches: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Dag("outer").switch(branches, ("add", 1), label="way")


def test_a_node_that_is_wired_already_cannot_be_mapped() -> None:
    dag = Dag("outer")
    with pytest.raises(GraphError, match="is a node already"):
        dag.map(dag.node(add, n=1), [1])
    with pytest.raises(GraphError, match="is a node already"):
        dag.map(dag.switch([add], ("add", 1)), [1])


# --- one fate ---------------------------------------------------------------------------------------


def test_a_failure_inside_a_sub_run_fails_the_parent_with_the_same_error(way: Way) -> None:
    def fail(n: int) -> int:
        raise ZeroDivisionError("no")

    inner = Dag("failing")
    inner.node(fail)
    dag = Dag("outer")
    dag.node(inner, label="inner", n=1)
    run_id = way.run(dag)
    run = way.ledger.require_run(run_id)
    assert (run.status, run.error_step, run.error_type, run.error_message) == (
        RunStatus.FAILED,
        "inner",
        "ZeroDivisionError",
        "no",
    )
    (child,) = children(way.ledger, run_id)
    assert (child.status, child.error_step) == (RunStatus.FAILED, "fail")
    (attempt,) = way.ledger.get_step(run_id, "inner")
    assert f"It was raised in step 'fail' of the sub-run {child.run_id}." in (attempt.error_traceback or "")


def test_a_restart_runs_only_what_is_left_inside_the_sub_runs(way: Way) -> None:
    ran: list[str] = []
    broken = [True]

    def first(n: int) -> int:
        ran.append(f"first {n}")
        return n

    def second(n: int) -> int:
        ran.append(f"second {n}")
        if broken and n == 1:
            raise ValueError("no")
        return n * 10

    inner = Dag("inner")
    inner.node(second, n=inner.node(first))
    dag = Dag("outer")
    dag.map(inner, [0, 1, 2], label="part", concurrency=1)
    run_id = way.run(dag)
    assert ran == ["first 0", "second 0", "first 1", "second 1"]
    broken.clear()
    ran.clear()
    assert way.resume(dag, run_id).result() == [0, 10, 20]
    assert ran == ["second 1", "first 2", "second 2"]
    assert [child.status for child in children(way.ledger, run_id)] == [RunStatus.COMPLETED] * 3
    assert list(way.ledger.check()) == []


def test_a_pause_inside_a_sub_run_pauses_the_parent_and_both_go_on(way: Way) -> None:
    gate: list[int] = []

    def look(n: int) -> int:
        if not gate:
            raise DagPause("look at it")
        return n + 1

    inner = Dag("inner")
    inner.node(look)
    middle = Dag("middle")
    middle.node(inner, label="inner")
    dag = Dag("outer")
    dag.node(add, n=dag.node(middle, label="middle", n=1), by=0)
    run_id = way.run(dag)
    runs = way.ledger.list_runs(inner=True)
    assert {run.status for run in runs} == {RunStatus.SUSPENDED}
    assert {run.error_message for run in runs} == {"look at it"}
    assert statuses(way.ledger, run_id) == {"middle": "pending"}
    gate.append(1)
    assert way.resume(dag, run_id).result() == 2
    assert {run.status for run in way.ledger.list_runs(inner=True)} == {RunStatus.COMPLETED}


def test_cancelling_the_parent_cancels_what_runs_inside_it(ledger: Ledger) -> None:
    began = threading.Event()

    async def hang(n: int) -> int:
        began.set()
        await asyncio.Event().wait()
        return n

    inner = Dag("inner")
    inner.node(hang)
    dag = Dag("outer")
    dag.node(inner, label="inner", n=1)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(dag.run, ledger=ledger, run_id="parent")
        assert began.wait(10)
        cancel_run(ledger, "parent")
        assert running.result(10).status == RunStatus.CANCELLED
    (child,) = children(ledger, "parent")
    assert (child.status, child.error_type) == (RunStatus.CANCELLED, "RunCancelled")


def test_a_changed_sub_dag_is_named_when_its_parent_is_taken_up(ledger: Ledger) -> None:
    def fail(n: int) -> int:
        raise ValueError("no")

    def outer(label: str) -> Dag:
        inner = Dag("inner")
        inner.node(fail, label=label)
        dag = Dag("outer")
        dag.node(inner, label="part", n=1)
        return dag

    run = outer("old").run(ledger=ledger)
    with pytest.raises(ValueError, match="in 'part': step 'old' is gone; in 'part': step 'new' is new"):
        outer("new").resume(run.run_id, ledger=ledger)


def test_a_replay_of_a_composite_node_makes_sub_runs_anew_and_a_skipped_one_has_none(ledger: Ledger) -> None:
    dag = Dag("outer")
    first = dag.map(sub(), [1, 2], label="many", by=0)
    dag.node(sub(), label="one", n=dag.node(sum, label="sum", iterable=first), by=0)
    run = dag.run(ledger=ledger)
    again = dag.replay(run.run_id, ["one"], ledger=ledger)
    assert [child.parent_step for child in children(ledger, again.run_id)] == ["one"]
    element = dag.replay(run.run_id, ["many[1]"], ledger=ledger)
    assert [child.parent_step for child in children(ledger, element.run_id)] == ["many[1]", "one"]
    assert element.result() == run.result()


def test_an_edit_inside_a_sub_dag_counts_as_a_change_of_the_node_around_it(ledger: Ledger) -> None:
    def outer(fn: Any) -> Dag:
        inner = Dag("inner")
        inner.node(fn, label="step")
        dag = Dag("outer")
        dag.node(add, n=dag.node(inner, label="part", n=1), by=0)
        return dag

    run = outer(add).run(ledger=ledger, by=1)
    plan = outer(double).plan_replay(run.run_id, changed=True, ledger=ledger)
    assert plan.to_run == ("part", "add")


def test_runs_inside_a_run_whose_process_died_are_taken_up_with_it_and_not_by_themselves(ledger: Ledger) -> None:
    dag = Dag("outer")
    dag.node(sub(), label="inner", n=1, by=0)
    graph = dag.build()
    owner = "1@somewhere-else#0-0"
    for run_id, parent in (("outer", None), (child_run_id("outer", "inner"), "outer")):
        body = graph if parent is None else graph["inner"].branches[""]  # type: ignore[index]
        new = new_run(ledger, body, {} if parent is None else {"n": 1, "by": 0}, kind="dag", run_id=run_id)
        new.owner, new.parent_run_id, new.root_run_id = owner, parent, "outer"
        new.lease_until = new.now + (0 if parent is None else 10**12)  # the child's lease still runs
        ledger.commit(new)
    assert [run.run_id for run in find_interrupted(ledger)] == ["outer"]
    assert dag.resume("outer", ledger=ledger).result() == 2


@pytest.mark.parametrize("is_async", [False, True])
def test_an_interrupt_inside_a_sub_run_is_recorded_on_both_and_raised(ledger: Ledger, is_async: bool) -> None:
    hurt = [True]

    def interrupt(n: int) -> int:
        if hurt:
            raise KeyboardInterrupt
        return n

    inner = Dag("inner")
    inner.node(interrupt)
    dag = Dag("outer")
    dag.node(inner, label="inner", n=4)
    options = {"ledger": ledger, "run_id": "parent"}
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(dag.run_async(**options)) if is_async else dag.run(**options)  # type: ignore[arg-type]
    assert {run.status for run in ledger.list_runs(inner=True)} == {RunStatus.CANCELLED}
    assert list(ledger.check()) == []
    hurt.clear()
    assert dag.resume("parent", ledger=ledger).result() == 4


@pytest.mark.parametrize("is_async", [False, True])
def test_a_request_to_pause_the_parent_reaches_a_sub_run_while_its_step_runs(ledger: Ledger, is_async: bool) -> None:
    def ask(n: int) -> int:
        assert ledger.store.request_pause("parent", ledger.clock.now())
        inner_id = child_run_id("parent", "inner")
        deadline = time.monotonic() + 10
        while keeper_of(ledger)._sessions[inner_id][0].pause_reason is None:
            assert time.monotonic() < deadline
            pause.wait(0.005)
        return n

    pause = threading.Event()
    inner = Dag("inner")
    inner.node(double, n=inner.node(ask))
    dag = Dag("outer")
    dag.node(inner, label="inner", n=4)
    if is_async:
        run = asyncio.run(dag.run_async(ledger=ledger, run_id="parent"))
    else:
        run = dag.run(ledger=ledger, run_id="parent")
    assert (run.status, run.error_message) == (RunStatus.SUSPENDED, "somebody asked to pause the run")
    (child,) = children(ledger, "parent")
    assert statuses(ledger, child.run_id) == {"ask": "completed"}
    assert dag.resume("parent", ledger=ledger).result() == 8


def test_a_worker_that_is_stopped_hands_back_a_run_with_what_runs_inside_it(ledger: Ledger) -> None:
    began, hang = threading.Event(), [True]

    async def wait(n: int) -> int:
        if hang:
            began.set()
            await asyncio.Event().wait()
        return n

    inner = Dag("inner")
    inner.node(double, n=inner.node(wait))
    dag = Dag("outer")
    dag.node(inner, label="inner", n=3)
    handle = dag.submit(ledger=ledger)
    worker = Worker([dag], ledger=ledger, heartbeat_process=False, drain=0)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(worker.run)
        assert began.wait(10)
        worker.stop()
        working.result(20)
    assert handle.status() == RunStatus.PENDING
    hang.clear()
    Worker([dag], ledger=ledger, heartbeat_process=False).run_until_idle()
    assert handle.result(0) == 6
    assert list(ledger.check()) == []
