"""Going on with a run: from its completed steps, under the same id, by one process at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from milepost import Dag, Ledger, RunStatus, StepContext
from milepost.errors import (
    ConfigurationError,
    GraphChanged,
    InputError,
    InvalidTransition,
    RunBusy,
    RunExists,
    RunNotFound,
    ValueNotRestorable,
    ValueNotStorable,
)
from milepost.runtime import find_interrupted

PATIENCE = 10.0


class Job:
    """Three steps in a row, of which the second fails until it is mended."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.is_mended = False

    def first(self, n: int) -> int:
        self.ran.append("first")
        return n

    def second(self, x: int) -> int:
        self.ran.append("second")
        if not self.is_mended:
            raise ValueError("not yet")
        return x + 1

    def third(self, x: int) -> int:
        self.ran.append("third")
        return x * 10

    def dag(self) -> Dag:
        dag = Dag("job")
        first = dag.node(self.first)
        dag.node(self.third, x=dag.node(self.second, x=first))
        return dag


def test_a_failed_run_goes_on_from_its_completed_steps_under_the_same_id(way, ledger: Ledger):
    job = Job()
    failed = way.run(job.dag(), ledger=ledger, n=4)
    job.is_mended = True
    run = way.resume(job.dag(), failed.run_id, ledger=ledger)
    assert run.run_id == failed.run_id
    assert run.result() == 50
    assert job.ran == ["first", "second", "second", "third"]
    assert [r.run_id for r in ledger.list_runs()] == [run.run_id]
    assert [(a.lease_epoch, a.status) for a in ledger.list_attempts(run.run_id)] == [(1, "failed"), (2, "completed")]
    stored = ledger.require_run(run.run_id)
    assert (stored.status, stored.error_type, stored.attempt) == (RunStatus.COMPLETED, None, 2)
    assert list(ledger.check()) == []


def test_a_run_that_fails_again_can_be_resumed_again(way, ledger: Ledger):
    job = Job()
    run_id = way.run(job.dag(), ledger=ledger, n=4).run_id
    assert way.resume(job.dag(), run_id, ledger=ledger).status is RunStatus.FAILED
    job.is_mended = True
    assert way.resume(job.dag(), run_id, ledger=ledger).result() == 50
    assert [s.attempt for s in ledger.get_step(run_id, "second")] == [1, 2, 3]


def test_outputs_of_steps_that_completed_before_the_resume_are_there(way, ledger: Ledger):
    is_mended = False

    def bad() -> str:
        if not is_mended:
            raise ValueError
        return "mended"

    dag = Dag("two ends")
    good = dag.node(lambda: "made", label="good")
    dag.node(bad, after=good)
    dag.node(lambda x: x, label="copy", x=good)
    dag.node(lambda: 0, label="early end", after=good)
    run = way.run(dag, ledger=ledger, max_concurrency=1)
    is_mended = True
    resumed = way.resume(dag, run.run_id, ledger=ledger)
    assert dict(resumed.outputs) == {"bad": "mended", "copy": "made", "early end": 0}


def test_a_completed_run_has_nothing_to_resume(way, ledger: Ledger):
    job = Job()
    job.is_mended = True
    run = way.run(job.dag(), ledger=ledger, n=4)
    with pytest.raises(InvalidTransition, match="completed: it cannot be resumed"):
        way.resume(job.dag(), run.run_id, ledger=ledger)
    assert ledger.require_run(run.run_id).attempt == 1


def test_resuming_with_a_changed_graph_says_what_changed_and_changes_nothing(way, ledger: Ledger):
    job = Job()
    run = way.run(job.dag(), ledger=ledger, n=4)
    changed = Dag("job")
    changed.node(job.third, x=changed.node(job.first))
    with pytest.raises(GraphChanged) as caught:
        way.resume(changed, run.run_id, ledger=ledger)
    assert "step 'second' is gone" in str(caught.value)
    assert "parameter 'x' of step 'third' comes from step 'first', no longer from step 'second'" in str(caught.value)
    assert "Restore the graph, allow the changes (allow_changes=True), or start a new run." in str(caught.value)
    stored = ledger.require_run(run.run_id)
    assert (stored.status, stored.lease_epoch) == (RunStatus.FAILED, 1)
    job.is_mended = True
    assert way.resume(job.dag(), run.run_id, ledger=ledger).result() == 50


def test_resuming_an_unknown_run_names_a_near_one(way, ledger: Ledger):
    job = Job()
    way.run(job.dag(), ledger=ledger, n=4, run_id="nightly")
    with pytest.raises(RunNotFound, match="Did you mean 'nightly'"):
        way.resume(job.dag(), "nightyl", ledger=ledger)


def test_a_run_that_this_process_executes_is_busy(way, ledger: Ledger, in_background, release):
    started = threading.Event()

    def slow() -> int:
        started.set()
        assert release.wait(PATIENCE)
        return 1

    dag = Dag("slow")
    dag.node(slow)
    result = in_background(lambda: way.run(dag, ledger=ledger, run_id="slow"))
    assert started.wait(PATIENCE)
    with pytest.raises(RunBusy, match="Run slow is being executed by another thread of this process"):
        way.resume(dag, "slow", ledger=ledger)
    with pytest.raises(RunBusy):
        way.run(dag, ledger=ledger, run_id="slow")
    assert find_interrupted(ledger) == []
    release.set()
    assert result().result() == 1


def test_a_run_that_this_process_left_behind_can_be_resumed_at_once(way, ledger: Ledger):
    dag = Dag("left")
    dag.node(lambda: 5, label="five")

    def explode(_: object) -> None:
        raise RuntimeError("before the first step")

    with pytest.raises(RuntimeError, match="before the first step"):
        way.run(dag, ledger=ledger, run_id="left", on_start=explode)
    assert [run.run_id for run in find_interrupted(ledger)] == ["left"]
    assert way.resume(dag, "left", ledger=ledger).result() == 5


def test_a_second_run_never_slips_into_one_that_was_left_behind_under_its_id(way, ledger: Ledger):
    job = Job()

    def explode(_: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        way.run(job.dag(), ledger=ledger, run_id="left", n=1, on_start=explode)
    with pytest.raises(RunExists):
        way.run(job.dag(), ledger=ledger, run_id="left", n=2)
    assert ledger.get_inputs("left") == {"n": 1}


# --- run ids and inputs --------------------------------------------------------------------------


def test_an_id_that_is_taken_is_refused_before_anything_runs(way, ledger: Ledger):
    job = Job()
    way.run(job.dag(), ledger=ledger, run_id="mine", n=4)
    job.ran.clear()
    with pytest.raises(RunExists, match=r"A run 'mine' exists already .*`milepost resume mine`"):
        way.run(job.dag(), ledger=ledger, run_id="mine", n=5)
    assert job.ran == []
    assert ledger.get_inputs("mine") == {"n": 4}


@pytest.mark.parametrize("run_id", ["a", "2024-01-31T10:00:00", "team.nightly_7", "x" * 128])
def test_any_id_within_the_rule_is_kept_as_it_is(run_id: str, way, ledger: Ledger):
    job = Job()
    run = way.run(job.dag(), ledger=ledger, run_id=run_id, n=4)
    job.is_mended = True
    assert way.resume(job.dag(), run_id, ledger=ledger).run_id == run.run_id == run_id


@pytest.mark.parametrize("run_id", ["", "a b", "../etc", "näh", "x" * 129, "a'; DROP TABLE runs; --", "\0"])
def test_any_other_id_is_refused_before_anything_is_recorded(run_id: str, way, ledger: Ledger):
    with pytest.raises(ConfigurationError, match="is not a run id"):
        way.run(Job().dag(), ledger=ledger, run_id=run_id, n=4)
    assert ledger.list_runs() == []


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({}, "missing input 'n' (int, for step 'first')"),
        ({"n": "four"}, "input 'n' must be int, not 'four'"),
        ({"n": 4, "m": 5}, "unknown input 'm' (known: n"),
    ],
)
def test_bad_inputs_are_refused_before_anything_is_recorded(inputs: dict[str, Any], told: str, way, ledger: Ledger):
    with pytest.raises(InputError) as caught:
        way.run(Job().dag(), ledger=ledger, **inputs)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ledger.list_runs() == []


def test_inputs_are_converted_to_their_annotations_and_kept_with_their_types(way, ledger: Ledger):
    seen: list[Any] = []

    def read(path: Path, limit: float = 1.5) -> None:
        seen.append((path, limit))

    dag = Dag("inputs")
    dag.node(read)
    run = way.run(dag, ledger=ledger, path="a/b", inputs={"limit": "2"})
    assert seen == [(Path("a/b"), 2.0)]
    assert ledger.get_inputs(run.run_id) == {"path": Path("a/b"), "limit": 2.0}


def test_an_input_that_cannot_be_stored_is_refused_before_anything_is_recorded(way, ledger: Ledger):
    dag = Dag("inputs")
    dag.node(lambda x: None, label="it")
    with pytest.raises(ValueNotStorable, match=r"builtins\.object"):
        way.run(dag, ledger=ledger, x=object())
    assert ledger.list_runs() == []


@pytest.mark.parametrize("tags", [{"a": object()}, {"a": float("nan")}])
def test_tags_that_are_no_plain_data_are_refused_before_anything_is_recorded(tags: Any, way, ledger: Ledger):
    with pytest.raises(ConfigurationError, match="tags must be plain JSON data"):
        way.run(Job().dag(), ledger=ledger, n=4, tags=tags)
    assert ledger.list_runs() == []


# --- several runs at once ------------------------------------------------------------------------


def test_runs_in_several_threads_share_one_ledger(way, ledger: Ledger, in_background):
    together = threading.Barrier(4)

    def meet(n: int, ctx: StepContext) -> int:
        together.wait(PATIENCE)
        ctx.save("n", n)
        return n

    def start(n: int) -> Any:
        dag = Dag(f"run {n}")
        dag.node(abs, label="last", bind={"x": dag.node(meet)})
        return in_background(lambda: way.run(dag, ledger=ledger, n=n).result())

    assert [result() for result in [start(n) for n in range(4)]] == [0, 1, 2, 3]
    assert {run.status for run in ledger.list_runs()} == {RunStatus.COMPLETED}
    assert list(ledger.check()) == []


def test_runs_of_one_id_in_two_ledgers_may_be_executed_at_once(way, tmp_path: Path, in_background):
    together = threading.Barrier(2)

    def meet() -> int:
        return together.wait(PATIENCE) * 0 + 1

    dag = Dag("twin")
    dag.node(meet)
    results = [
        in_background(lambda p=p: way.run(dag, ledger=tmp_path / p, run_id="r").result()) for p in ("a.db", "b.db")
    ]
    assert [result() for result in results] == [1, 1]


def test_a_run_is_busy_through_whichever_open_ledger_it_is_asked_for(way, tmp_path: Path, in_background, release):
    started = threading.Event()

    def slow() -> None:
        started.set()
        assert release.wait(PATIENCE)

    dag = Dag("slow")
    dag.node(slow)
    path = tmp_path / "runs.db"
    with Ledger.open(path, durability="process") as ledger, Ledger.open(path, durability="power") as other:
        result = in_background(lambda: way.run(dag, ledger=ledger, run_id="slow"))
        assert started.wait(PATIENCE)
        with pytest.raises(RunBusy):
            way.resume(dag, "slow", ledger=other)
        assert find_interrupted(other) == []
        release.set()
        assert result().status is RunStatus.COMPLETED


# --- classes that a function makes ---------------------------------------------------------------


def build_with_its_own_class(*, is_broken: bool) -> Dag:
    @dataclass
    class Item:
        number: int

    def make() -> list[Any]:
        return [Item(1), Item(2)]

    def use(items: list[Any]) -> Any:
        if is_broken:
            raise OSError("not yet")
        return Item(sum(item.number for item in items))

    make.__annotations__["return"] = list[Item]
    use.__annotations__["return"] = Item
    dag = Dag("local")
    dag.node(use, items=dag.node(make))
    return dag


def test_values_of_a_class_that_a_function_makes_are_kept_where_an_annotation_mentions_it(way, ledger: Ledger):
    failed = way.run(build_with_its_own_class(is_broken=True), ledger=ledger)
    assert failed.failed_step == "use"
    resumed = way.resume(build_with_its_own_class(is_broken=False), failed.run_id, ledger=ledger)
    assert resumed.result().number == 3
    made = resumed.output("make")
    assert [item.number for item in made] == [1, 2]
    assert type(made[0]) is type(resumed.result())
    with pytest.raises(ValueNotRestorable, match="annotate what the step returns"):
        ledger.get_output(failed.run_id, "make")
    again = ledger.get_output(failed.run_id, "make", known=[type(made[0])])
    assert again == made
