"""A resume meets the elements that the run began with."""

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
