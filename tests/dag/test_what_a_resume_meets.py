"""A resume starts from what the run began with: its inputs, its elements."""

from __future__ import annotations

import pytest

from milepost import Dag, Ledger
from milepost.errors import GraphChanged

_is_broken = True


def upper(text: str) -> str:
    if _is_broken and text == "c":
        raise ValueError("not yet")
    return text.upper()


def test_a_map_over_other_values_is_refused_though_they_have_the_same_type(ledger: Ledger) -> None:
    before, after = Dag("letters"), Dag("letters")
    before.map(upper, ["a", "b", "c"], concurrency=1)
    after.map(upper, ["x", "y", "z"])
    failed = before.run(ledger=ledger)
    with pytest.raises(GraphChanged, match="map 'upper' goes over a list with other elements"):
        after.resume(failed.run_id, ledger=ledger)


def test_a_map_over_equal_values_goes_on(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    dag = Dag("letters")
    dag.map(upper, ["a", "b", "c"])
    failed = dag.run(ledger=ledger)
    again = Dag("letters")
    again.map(upper, ["a", "b", "c"])
    monkeypatch.setattr(f"{__name__}._is_broken", False)
    assert again.resume(failed.run_id, ledger=ledger).result() == ["A", "B", "C"]


def test_the_defaults_of_open_inputs_are_recorded_with_the_run(ledger: Ledger) -> None:
    def greet(name: str = "world", times: int = 2) -> str:
        return name * times

    dag = Dag("greet")
    dag.node(greet)
    run = dag.run(ledger=ledger, times=1)
    assert ledger.get_inputs(run.run_id) == {"name": "world", "times": 1}


def test_an_input_with_two_defaults_is_left_to_each_function(ledger: Ledger) -> None:
    def one(size: int = 1) -> int:
        return size

    def two(size: int = 2) -> int:
        return size

    dag = Dag("sizes")
    dag.node(one)
    dag.node(two)
    run = dag.run(ledger=ledger)
    assert ledger.get_inputs(run.run_id) == {}
    assert run.result() == {"one": 1, "two": 2}


def test_a_default_that_cannot_be_stored_is_left_to_the_function(ledger: Ledger) -> None:
    nothing = object()

    def ask(key: object = nothing) -> bool:
        return key is nothing

    dag = Dag("ask")
    dag.node(ask)
    run = dag.run(ledger=ledger)
    assert run.result() is True
    assert ledger.get_inputs(run.run_id) == {}
