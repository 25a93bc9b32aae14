"""One commit of a run fails, before or after it went through: nothing is lost, and nothing done twice."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from milepost import Dag, Ledger, RunStatus, StepContext, step
from milepost.errors import StoreError
from milepost.runtime import find_interrupted


class FailOnce:
    """A fault hook that raises at its numbered call."""

    def __init__(self, number: int) -> None:
        self.calls = 0
        self.point: str | None = None
        self._number = number

    def __call__(self, point: str) -> None:
        self.calls += 1
        if self.calls == self._number:
            self.point = point
            raise sqlite3.OperationalError("disk I/O error")


def _dag(effects: Counter[str], *, is_async: bool, pure: bool) -> Dag:
    def count(ctx: StepContext, n: int = 0) -> int:
        effects[ctx.label] += 1
        if ctx.label == "parts[1]" and ctx.attempt == 1:
            raise ValueError("the first attempt fails")
        return n + 1

    async def acount(ctx: StepContext, n: int = 0) -> int:
        await asyncio.sleep(0)
        return count(ctx, n)

    body = step(retries=1, pure=pure)(acount if is_async else count)
    dag = Dag("counted")
    parts = dag.map(body, [1, 2, 3], label="parts", concurrency=2)
    total = dag.node(sum, label="total", iterable=parts)
    dag.node(body, label="last", n=total)
    return dag


def _drive(dag: Dag, ledger: Ledger, *, is_async: bool) -> None:
    """Begin the run, or go on with it."""
    is_new = ledger.get_run("run") is None
    if is_async:
        asyncio.run((dag.run_async if is_new else dag.resume_async)(run_id="run", ledger=ledger))
    else:
        (dag.run if is_new else dag.resume)(run_id="run", ledger=ledger)


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_survives_the_failure_of_any_one_commit(tmp_path: Path, is_async: bool, pure: bool) -> None:
    points: Counter[str] = Counter()
    failed = 0
    for number in itertools.count(1):
        effects: Counter[str] = Counter()
        dag = _dag(effects, is_async=is_async, pure=pure)
        fault = FailOnce(number)
        with Ledger.open(tmp_path / f"{number}.db", durability="process", fault=fault) as ledger:
            try:
                _drive(dag, ledger, is_async=is_async)
            except StoreError:
                failed += 1
            durable = {s.label for s in ledger.list_steps("run") if s.status == "completed" and s.kind != "map"}
            before = Counter(effects)
            run = ledger.get_run("run")
            if run is None or run.status == RunStatus.RUNNING:
                assert run is None or find_interrupted(ledger) == [run]
                _drive(dag, ledger, is_async=is_async)
            assert ledger.require_run("run").status == RunStatus.COMPLETED
            assert ledger.get_output("run", "last") == 10
            assert list(ledger.check()) == []
            assert not {label for label in effects if effects[label] > before[label]} & durable
            edges = {(edge.upstream, edge.downstream) for edge in ledger.list_edges("run")}
            assert edges == {("parts", "total"), ("total", "last")}
        if fault.point is None:
            break  # it never came to this call
        points[fault.point] += 1
    assert points["before_commit"] >= 4
    assert points["after_commit"] >= 4
    assert failed >= 2
