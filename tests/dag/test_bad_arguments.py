"""What a newcomer passes by mistake is refused in one line of ours, at the line that passes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from milepost import Dag, Ledger, MilepostError, Retry, RunFailed, step
from milepost.errors import InputError, LedgerReadOnly, RunNotFound, StepNotFound
from milepost.runtime import cancel_run


@dataclass
class Host:
    name: str
    port: int


class Model(BaseModel):
    hosts: list[Host]


def number(n: int = 1) -> int:
    return n


def undefined(x: Undefined, y: list[Undefined]) -> list[Undefined]:  # type: ignore[name-defined]  # noqa: F821
    return [x, *y]


def dag_of(fn: Any) -> Dag:
    dag = Dag("d")
    dag.node(fn)
    return dag


def run(**options: Any) -> Callable[[Ledger], object]:
    return lambda ledger: dag_of(number).run(**{"ledger": ledger, **options})


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda _: step(timeout="5")(number), "timeout must be a number of seconds, more than 0, not '5'"),
        (lambda _: step(executor=5)(number), "Step 'number': executor must be a concurrent.futures.Executor"),
        (lambda _: step(name="")(number), "A step's name must be printable text"),
        (lambda _: Retry(delay="1"), "delay must be a number of seconds, 0 or more, not '1'"),
        (lambda _: Ledger.open(5), "A ledger is a path, a URL or an open Ledger, not 5."),
        (lambda _: Ledger.open(":memory:", lease="5"), "lease must be more than 0 seconds, not '5'"),
        (lambda _: Dag("d").node(number, bind=5), "bind must be a mapping of parameter names"),
        (lambda ledger: ledger.list_runs(since="2h"), "since must be a timedelta or an aware datetime"),
        (lambda ledger: ledger.list_runs(since=datetime(2026, 1, 1)), "since must be a timedelta or an aware"),  # noqa: DTZ001
        (lambda ledger: ledger.list_runs(limit=0), "limit must be a whole number of 1 or more, not 0"),
        (lambda ledger: ledger.delete_runs(older_than=30), "older_than must be a timedelta"),
        (run(ledger=5), "A ledger is a path, a URL or an open Ledger, not 5."),
        (run(inputs=5), "inputs must be a mapping of names to values, such as {'n': 4}, not 5"),
        (run(inputs=[("n", 1)]), "inputs must be a mapping of names to values"),
        (run(inputs={5: 1}), "inputs must be a mapping of names to values, such as {'n': 4}, not {5: 1}"),
        (run(executor="p"), "executor must be a concurrent.futures.Executor, such as ProcessPoolExecutor(), not 'p'"),
        (run(tags=5), "tags must be plain JSON data by name, such as {'team': 'data'}, not 5"),
        (run(tags={1: 2}), "tags must be plain JSON data by name"),
        (run(tags={"a": number}), "tags must be plain JSON data: Object of type function is not JSON serializable"),
        (run(target=5), "target must be a text such as 'file.py:dag', not 5"),
        (run(on_start=5), "on_start must be a function of the run's progress, not 5"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_in_one_line_and_creates_no_run(act, told, ledger: Ledger):
    with pytest.raises(MilepostError) as caught:
        act(ledger)
    assert isinstance(caught.value, ValueError)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ledger.list_runs() == []


def test_a_ledger_that_was_opened_read_only_says_so_when_something_is_to_be_written(tmp_path):
    dag = dag_of(number)
    dag.run(run_id="r1", ledger=tmp_path / "runs.db")
    with Ledger.open(tmp_path / "runs.db", read_only=True) as ledger:
        for act in (
            lambda: dag.run(ledger=ledger),
            lambda: asyncio.run(dag.run_async(ledger=ledger)),
            lambda: dag.resume("r1", ledger=ledger),
            lambda: cancel_run(ledger, "r1"),
            lambda: ledger.delete_runs(older_than=timedelta(0)),
        ):
            with pytest.raises(LedgerReadOnly, match=r"was opened read-only\. Open it again without read_only=True\."):
                act()
        assert [found.run_id for found in ledger.list_runs()] == ["r1"]


@pytest.mark.parametrize("run_id", [None, 5])
def test_what_is_no_run_id_names_no_run(run_id: Any, ledger: Ledger):
    for act in (dag_of(number).resume, ledger.require_run, ledger.find_run, ledger.get_payload):
        options = {"ledger": ledger} if act not in (ledger.require_run, ledger.find_run, ledger.get_payload) else {}
        with pytest.raises(RunNotFound, match=f"No run {run_id} in this ledger"):
            act(run_id, **options)


@pytest.mark.parametrize("label", [None, 5])
def test_what_is_no_label_names_no_step(label: Any, ledger: Ledger):
    finished = dag_of(number).run(ledger=ledger)
    with pytest.raises(StepNotFound, match=f"has no step {label}"):
        finished.output(label)


def test_a_beginning_of_several_runs_is_told_from_one_of_none(ledger: Ledger):
    for run_id in ("run-a", "run-b", "run-c", "run-d"):
        run(run_id=run_id)(ledger)
    with pytest.raises(ValueError, match=r"'run-' is the beginning of several runs: run-a, run-b, run-c, \.\.\."):
        ledger.find_run("run-")
    assert ledger.find_run("run-a").run_id == "run-a"


def test_an_annotation_that_names_nothing_promises_nothing(ledger: Ledger):
    dag = Dag("d")
    dag.node(undefined)
    assert dag.run(x=1, y=[2], ledger=ledger).result() == [1, 2]


@pytest.mark.parametrize("timeout", [1e300, float("inf")])
def test_a_timeout_of_any_length_is_a_timeout(timeout: float, ledger: Ledger):
    dag = dag_of(step(timeout=timeout)(number))
    assert dag.run(ledger=ledger).result() == 1
    assert asyncio.run(dag.run_async(ledger=ledger)).result() == 1


# --- inputs with parts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value", "told"),
    [
        (Host, {"name": "a", "port": "z"}, "must be Host, not {'name': 'a', 'port': 'z'} (port: Input should be"),
        (Host, {"name": "a"}, "must be Host, not {'name': 'a'} (port: Field required)"),
        (Host, {}, "must be Host, not {} (name: Field required; port: Field required)"),
        (Host, 5, "must be Host, not 5 (Input should be a dictionary or an instance of Host)"),
        (list[Host], [{"name": "a", "port": 1}, {"name": "b"}], "([1].port: Field required)"),
        (Model, {"hosts": [{"name": "a", "port": "z"}]}, "(hosts[0].port: Input should be a valid integer"),
        (dict[str, int], {"a b": "z"}, "(['a b']: Input should be a valid integer"),
        (int | str, 1.5, "not 1.5 (Input should be a valid integer, got a number with a fractional part; Input"),
        (list[int], ["a", "b", "c", "d", "e"], "parse string as an integer; and 2 more)"),
    ],
)
def test_an_input_says_which_part_of_it_is_wrong_and_how(annotation: Any, value: Any, told: str, ledger: Ledger):
    def take(x):
        raise NotImplementedError

    take.__annotations__["x"] = annotation
    with pytest.raises(InputError) as caught:
        dag_of(take).run(x=value, ledger=ledger)
    assert str(caught.value).startswith("'d' cannot run with these inputs: input 'x' must be ")
    assert told in str(caught.value)


# --- what user code says -------------------------------------------------------------------------


def test_a_failure_is_told_in_one_line_though_its_message_has_many(ledger: Ledger):
    message = "first\n\tsecond\n" + "x y " * 10_000

    def bad() -> None:
        raise ValueError(message)

    finished = dag_of(bad).run(ledger=ledger)
    with pytest.raises(RunFailed) as caught:
        finished.result()
    assert "failed in step 'bad': ValueError: first second x y x y" in str(caught.value)
    assert "x y... Mend the cause" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert caught.value.error_message == message
