"""What observers hear of a run that cannot be recorded, and when: ends are told once they are durable."""

from __future__ import annotations

from typing import Any

import pytest

from milepost import Dag, Ledger, StepContext, step
from milepost.errors import LeaseLost
from milepost.observe import CompositeObserver, observing
from milepost.runtime.lifecycle import claim


class Told(CompositeObserver):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__([])
        self.heard: list[tuple[Any, ...]] = []

    def _tell(self, callback: str, *args: Any) -> None:
        names = [str(arg).rpartition("/")[2] for arg in args if isinstance(arg, str)]
        self.heard.append((callback.removeprefix("on_"), *names))


def test_an_end_that_was_not_recorded_is_told_as_a_failure(way, ledger: Ledger) -> None:
    def lose(ctx: StepContext) -> int:
        run = ledger.require_run(ctx.run_id)
        claim(ledger, run, run.attempt + 1)
        return 1

    dag = Dag("lost")
    dag.node(lose)
    told = Told()
    with observing(told), pytest.raises(LeaseLost):
        way.run(dag, ledger=ledger)
    assert told.heard == [
        ("pipeline_start",),
        ("step_start", "lose#1"),
        ("step_end", "lose#1", "failed"),
        ("pipeline_end", "failed"),
    ]


def test_a_pure_end_is_not_told_with_a_start_that_is_durable_before_it(way, ledger: Ledger) -> None:
    told = Told()

    @step(at_most_once=True)
    def once(n: int) -> int:
        told.heard.append(("once",))
        return n

    dag = Dag("riding")
    dag.node(once, n=dag.node(step(pure=True)(lambda: 1), label="pure"))
    with observing(told):
        assert way.run(dag, ledger=ledger).result() == 1
    heard = [entry for entry in told.heard if not entry[0].startswith("pipeline")]
    assert heard == [
        ("step_start", "pure#1"),
        ("step_start", "once#1"),
        ("once",),
        ("step_end", "pure#1", "success"),
        ("step_end", "once#1", "success"),
    ]
