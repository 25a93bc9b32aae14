"""Maps: one durable step for each element, over anything that has an order."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from milepost import Dag, Ledger, RunStatus, StepContext, StepStatus, step
from milepost.errors import ConfigurationError, GraphError

PATIENCE = 10.0


def double(x):
    return 2 * x


async def double_later(x):
    return 2 * x


def give(over: Any) -> Any:
    """A function without annotations that returns what a map then goes over."""

    def source():
        return over

    return source


@pytest.mark.parametrize("body", [double, double_later])
@pytest.mark.parametrize("is_node", [True, False])
@pytest.mark.parametrize(
    ("over", "made"),
    [
        ([3, 1, 2], [6, 2, 4]),
        ((3, 1), [6, 2]),
        (range(3), [0, 2, 4]),
        ({"b": 3, "a": 1}, {"b": 6, "a": 2}),
        ({1: 5, (2, "x"): 6, None: 7}, {1: 10, (2, "x"): 12, None: 14}),
        ([], []),
        ((), []),
        (range(0), []),
        ({}, {}),
        ([[1], [2]], [[1, 1], [2, 2]]),
    ],
)
def test_a_map_makes_the_outputs_in_order_and_keeps_keys(over, made, is_node, body, way, ledger: Ledger):
    dag = Dag("map")
    source = dag.node(give(over), label="source") if is_node else over
    mapped = dag.map(body, source, label="m")
    dag.node(lambda outputs: outputs, label="last", outputs=mapped)
    run = way.run(dag, ledger=ledger)
    assert run.result() == made
    stored = run.output("m")
    assert stored == made
    assert list(stored) == list(made)
    assert type(stored) is type(made)
    assert list(ledger.check()) == []


def test_every_element_is_a_step_of_its_own_under_its_map(way, ledger: Ledger):
    dag = Dag("map")
    dag.map(double, dag.node(give([5, 6]), label="source"), label="m")
    run = way.run(dag, ledger=ledger)
    rows = {s.label: s for s in ledger.list_steps(run.run_id)}
    assert set(rows) == {"source", "m", "m[0]", "m[1]"}
    assert (rows["m"].kind, rows["m"].progress_total, rows["m"].parent) == ("map", 2, None)
    assert (rows["m[1]"].kind, rows["m[1]"].parent) == ("element", "m")
    assert json.loads(ledger.get_step(run.run_id, "m[1]")[0].input or "") == {"x": {"step": "source", "item": 1}}
    assert [(e.upstream, e.downstream) for e in ledger.list_edges(run.run_id)] == [("source", "m")]


def test_elements_share_what_is_bound_by_name(way, ledger: Ledger):
    def scale(x: int, factor: int, base: int) -> int:
        return x * factor + base

    dag = Dag("map")
    dag.map(scale, [1, 2], factor=dag.node(lambda: 10, label="factor"), base=5)
    assert way.run(dag, ledger=ledger).outputs["scale"] == [15, 25]


def test_maps_may_follow_maps(way, ledger: Ledger):
    dag = Dag("maps")
    first = dag.map(double, range(3), label="first")
    dag.node(sum, label="total", iterable=dag.map(double, first, label="second"))
    assert way.run(dag, ledger=ledger).result() == 12


@pytest.mark.parametrize("over", [{1, 2}, "text", 5, None])
def test_a_source_without_order_fails_the_map_with_the_remedy(over: Any, way, ledger: Ledger):
    dag = Dag("map")
    dag.map(double, dag.node(give(over), label="source"), label="m")
    run = way.run(dag, ledger=ledger)
    assert run.failed_step == "m"
    assert f"Map 'm' needs a list, tuple, range or dict to go over, not {type(over).__name__}." in run.error
    assert {s.label: s.status.value for s in ledger.list_steps(run.run_id)} == {"source": "completed", "m": "failed"}


def test_keys_that_cannot_be_stored_fail_the_map_and_not_the_driver(way, ledger: Ledger):
    dag = Dag("map")
    dag.map(double, dag.node(step(transient=True)(give({object(): 1})), label="source"), label="m")
    run = way.run(dag, ledger=ledger)
    assert run.failed_step == "m"
    assert "a key of type builtins.object, which cannot be stored" in run.error


def test_a_list_that_a_sibling_changes_meanwhile_is_mapped_as_it_was(way, ledger: Ledger):
    cleared = threading.Event()

    def clear(xs: list[int]) -> None:
        xs.clear()
        cleared.set()

    def wait_and_double(x: int) -> int:
        assert cleared.wait(PATIENCE)
        return 2 * x

    dag = Dag("map")
    source = dag.node(give([1, 2, 3, 4]), label="source")
    dag.node(clear, xs=source, after=dag.node(lambda: 0, label="a moment", after=source))
    dag.map(wait_and_double, source, label="m", concurrency=2)
    assert way.run(dag, ledger=ledger).outputs["m"] == [2, 4, 6, 8]


def test_an_element_that_fails_fails_map_and_run_and_only_unfinished_elements_run_again(way, ledger: Ledger):
    ran: list[int] = []
    is_mended = False

    def fragile(x: int) -> int:
        ran.append(x)
        if x == 2 and not is_mended:
            raise ValueError("not yet")
        return x * 10

    dag = Dag("map")
    dag.node(sum, label="total", iterable=dag.map(fragile, range(5), label="m", concurrency=1))
    run = way.run(dag, ledger=ledger)
    assert (run.failed_step, run.error) == ("m[2]", "ValueError: not yet")
    assert ran == [0, 1, 2]
    assert {s.label: s.status.value for s in ledger.list_steps(run.run_id)} == {
        "m": "failed",
        "m[0]": "completed",
        "m[1]": "completed",
        "m[2]": "failed",
    }
    is_mended = True
    ran.clear()
    resumed = way.resume(dag, run.run_id, ledger=ledger)
    assert resumed.result() == 100
    assert ran == [2, 3, 4]
    assert resumed.output("m") == [0, 10, 20, 30, 40]
    assert [(s.label, s.attempt, s.status.value) for s in ledger.get_step(run.run_id, "m")] == [
        ("m", 1, "failed"),
        ("m", 2, "completed"),
    ]
    assert list(ledger.check()) == []


def test_a_map_over_a_dict_is_resumed_by_its_keys(way, ledger: Ledger):
    ran: list[str] = []
    is_mended = False

    def fragile(x: str) -> str:
        ran.append(x)
        if x == "b" and not is_mended:
            raise ValueError("not yet")
        return x.upper()

    dag = Dag("map")
    mapped = dag.map(
        fragile, dag.node(give({"k 1": "a", 2: "b", "[3]": "c"}), label="source"), label="m", concurrency=1
    )
    dag.node(lambda outputs: outputs, label="last", outputs=mapped)
    run = way.run(dag, ledger=ledger)
    assert run.failed_step == "m[2]"
    is_mended = True
    ran.clear()
    assert way.resume(dag, run.run_id, ledger=ledger).result() == {"k 1": "A", 2: "B", "[3]": "C"}
    assert ran == ["b", "c"]


def test_a_map_whose_elements_all_completed_before_a_crash_only_has_to_be_closed(way, ledger: Ledger):
    ran: list[int] = []
    is_mended = False

    def last_one_interrupts(x: int) -> int:
        ran.append(x)
        return x

    def interrupts(xs: list[int]) -> int:
        if not is_mended:
            raise KeyboardInterrupt
        return sum(xs)

    dag = Dag("map")
    dag.node(interrupts, xs=dag.map(last_one_interrupts, range(3), label="m"))
    with pytest.raises(KeyboardInterrupt):
        way.run(dag, ledger=ledger)
    is_mended = True
    run = way.resume(dag, ledger.list_runs()[0].run_id, ledger=ledger)
    assert run.result() == 3
    assert sorted(ran) == [0, 1, 2]


def test_elements_that_run_when_one_fails_are_finished_and_kept(way, ledger: Ledger, eventually):
    both_run = threading.Barrier(2)
    is_mended = False
    ran: list[int] = []

    def pair(x: int, ctx: StepContext) -> int:
        ran.append(x)
        if not is_mended:
            both_run.wait(PATIENCE)
            if x == 0:
                raise ValueError("not yet")
            eventually(lambda: [s for s in ledger.get_step(ctx.run_id, "m[0]") if s.status == "failed"])
        return x

    dag = Dag("map")
    dag.map(pair, range(4), label="m", concurrency=2)
    run = way.run(dag, ledger=ledger)
    assert sorted(ran) == [0, 1]
    assert [s.status for s in ledger.get_step(run.run_id, "m[1]")] == [StepStatus.COMPLETED]
    is_mended = True
    ran.clear()
    assert way.resume(dag, run.run_id, ledger=ledger).result() == [0, 1, 2, 3]
    assert sorted(ran) == [0, 2, 3]


LARGE_MAP = """
import resource, sys
from milepost import Dag, step

@step(pure=True)
def make(x: int) -> str:
    return "x" * 300  # 30 MB in all, if anybody kept them

def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def run(count: int) -> None:
    dag = Dag("large")
    dag.map(make, range(count), label="m")
    run = dag.run(ledger=sys.argv[1], durability="process")
    assert run.status == "completed", run.error
    assert run.ledger.store.count_steps(run.run_id) == {"completed": count}

run(1_000)
before = peak()
run(100_000)
print(peak() - before)
"""


def test_a_map_of_a_hundred_thousand_elements_keeps_no_outputs_that_nobody_reads(tmp_path: Path):
    program = subprocess.run(
        [sys.executable, "-c", LARGE_MAP, str(tmp_path / "runs.db")], capture_output=True, text=True, timeout=120
    )
    assert program.returncode == 0, program.stderr
    assert int(program.stdout) < 10_000_000


# --- elements that may fail -------------------------------------------------------------------------


def picky(bad: set[int], ran: list[int]) -> Any:
    def check(n: int) -> int:
        ran.append(n)
        if n in bad:
            raise ValueError(f"no {n}")
        return n

    return check


def tolerant(bad: set[int], ran: list[int], tolerate: float) -> Dag:
    dag = Dag("tolerant")
    checked = dag.map(picky(bad, ran), [1, 2, 3, 4], label="check", concurrency=1, tolerate=tolerate)
    dag.node(lambda found: [n for n in found if n is not None], label="kept", found=checked)
    return dag


@pytest.mark.parametrize("tolerate", [2, 0.5])
def test_a_map_completes_without_the_elements_that_it_may_lose(way: Any, tolerate: float) -> None:
    ledger = Ledger.open(":memory:")
    run = way.run(tolerant({1, 4}, [], tolerate), ledger=ledger)
    assert (run.status, run.exception, run.result()) == (RunStatus.COMPLETED, None, [2, 3])
    assert ledger.get_output(run.run_id, "check") == [None, 2, 3, None]
    found = {step.label: step.status.value for step in ledger.list_steps(run.run_id)}
    assert (found["check[0]"], found["check"]) == ("failed", "completed")
    assert list(ledger.check()) == []


def test_one_failure_too_many_fails_the_run_with_that_failure(way: Any) -> None:
    ran: list[int] = []
    run = way.run(tolerant({1, 2, 4}, ran, 1), ledger=":memory:")
    assert (run.status, run.failed_step, ran) == (RunStatus.FAILED, "check[1]", [1, 2])


def test_what_failed_runs_again_when_the_map_is_taken_up_unfinished(way: Any) -> None:
    ledger = Ledger.open(":memory:")
    bad, ran = {1, 2}, list[int]()
    dag = tolerant(bad, ran, 1)
    run = way.run(dag, ledger=ledger)
    bad.clear()
    assert way.resume(dag, run.run_id, ledger=ledger).result() == [1, 2, 3, 4]
    assert ran == [1, 2, 1, 2, 3, 4]


def test_a_map_over_a_dict_keeps_the_keys_of_what_failed(way: Any) -> None:
    ledger = Ledger.open(":memory:")
    dag = Dag("keys")
    dag.map(picky({1}, []), {"a": 1, "b": 2}, label="check", tolerate=1)
    assert way.run(dag, ledger=ledger).result() == {"a": None, "b": 2}


def test_a_later_step_must_expect_what_may_be_missing() -> None:
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    dag = Dag("typed")
    dag.node(total, numbers=dag.map(picky(set(), []), [1], label="check", tolerate=1))
    with pytest.raises(GraphError, match=r"returns list\[int \| None\]"):
        dag.build()


@pytest.mark.parametrize("tolerate", [-1, True, "1", 1.5])
def test_a_tolerance_that_cannot_be_is_refused(tolerate: Any) -> None:
    with pytest.raises(ConfigurationError, match="tolerate must be a"):
        Dag("d").map(picky(set(), []), [1], tolerate=tolerate)


# --- one list of many -------------------------------------------------------------------------------


@pytest.mark.parametrize("over", [[1, 3, 0, 2], {"a": 1, "b": 3, "c": 0, "d": 2}])
def test_lists_are_joined_on_request_and_only_then(way: Any, over: Any) -> None:
    def some(n: int) -> list[int]:
        return [n] * n

    ledger = Ledger.open(":memory:")
    dag = Dag("flat")
    flat = dag.map(some, over, label="flat", flatten=True)
    dag.node(sum, label="sum", iterable=flat, start=0)
    dag.map(some, over, label="nested")
    run = way.run(dag, ledger=ledger)
    assert run.output("sum") == 14
    assert ledger.get_output(run.run_id, "flat") == [1, 3, 3, 3, 2, 2]
    assert len(run.output("nested")) == 4
    again = dag.replay(run.run_id, ["sum"], ledger=ledger)
    assert again.output("sum") == 14


def test_a_joined_list_without_what_failed_and_of_what_is_no_list(way: Any) -> None:
    def some(n: int) -> Any:
        if n == 2:
            raise ValueError("no")
        return [n, n] if n == 1 else n

    ledger = Ledger.open(":memory:")
    dag = Dag("flat")
    dag.map(some, [1, 2, 3], flatten=True, tolerate=1, label="flat")
    assert way.run(dag, ledger=ledger).result() == [1, 1, 3]
