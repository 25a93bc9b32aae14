"""What was recorded and no longer counts: what a resume makes anew, also where it is cut short in the middle."""

from __future__ import annotations

from typing import Any

import pytest

from milepost import Dag, Ledger, step
from milepost.provenance import invalidate

log: list[Any] = []
broken: set[str] = set()
numbers = [1]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    log.clear()
    broken.clear()
    numbers[:] = [1]


def source() -> int:
    log.append("source")
    if "source" in broken:
        raise ValueError("no source")
    return numbers[0]


def middle(n: int) -> int:
    log.append(("middle", n))
    if "middle" in broken:
        raise ValueError("no middle")
    return 10 * n


def spread(n: int) -> list[int]:
    return [n, n + 1, n + 2]


def last(items: Any) -> Any:
    if "last" in broken:
        raise ValueError("no last")
    return items


def nothing() -> None:
    pass


def make_dag(*, inner: bool = False) -> Dag:
    made: Any = middle
    if inner:
        made = Dag("inside")
        made.node(middle)
    dag = Dag("outside")
    dag.node(last, items=dag.node(made, label="middle", n=dag.node(step(undo=nothing)(source), label="source")))
    return dag


def test_an_output_that_is_bad_stays_so_while_its_step_only_fails_again(way, ledger: Ledger) -> None:
    broken.add("last")
    run_id = way.run(make_dag(), ledger=ledger).run_id
    invalidate(ledger, run_id, "source")
    broken.add("source")
    way.resume(make_dag(), run_id, ledger=ledger)
    broken.clear()
    numbers[:] = [2]
    assert way.resume(make_dag(), run_id, ledger=ledger).result() == 20


@pytest.mark.parametrize("inner", [False, True])
def test_what_was_made_of_a_bad_output_is_made_anew_after_a_resume_that_failed_before_it(
    way, ledger: Ledger, inner: bool
) -> None:
    broken.add("last")
    dag = make_dag(inner=inner)
    run_id = way.run(dag, ledger=ledger).run_id
    invalidate(ledger, run_id, "source")
    broken.add("middle")
    numbers[:] = [2]
    assert way.resume(dag, run_id, ledger=ledger).error is not None
    broken.clear()
    assert way.resume(dag, run_id, ledger=ledger).result() == 20
    assert log == ["source", ("middle", 1), "source", ("middle", 2), ("middle", 2)]


def test_elements_that_were_made_anew_are_not_made_once_more(way, ledger: Ledger) -> None:
    def part(item: int) -> int:
        log.append(item)
        if f"part {item}" in broken:
            raise ValueError("no part")
        return item

    dag = Dag("mapped")
    dag.node(last, items=dag.map(part, dag.node(spread, label="spread"), label="parts", concurrency=1))
    broken.add("last")
    run_id = way.run(dag, inputs={"n": 1}, ledger=ledger).run_id
    invalidate(ledger, run_id, "parts")
    broken.add("part 3")
    log.clear()
    way.resume(dag, run_id, ledger=ledger)
    assert log == [1, 2, 3]
    broken.clear()
    log.clear()
    assert way.resume(dag, run_id, ledger=ledger).result() == [1, 2, 3]
    assert log == [3]


@pytest.mark.parametrize("to", [None, "source"])
def test_a_sub_run_whose_step_was_undone_begins_anew(way, ledger: Ledger, to: str | None) -> None:
    broken.add("last")
    dag = make_dag(inner=True)
    run_id = way.run(dag, ledger=ledger).run_id
    dag.rollback(run_id, ledger=ledger, to=to, skip_missing=True)
    numbers[:] = [2]
    log.clear()
    for _ in range(2):  # the new one is found again
        way.resume(dag, run_id, ledger=ledger)
    broken.clear()
    n = 2 if to is None else 1
    assert way.resume(dag, run_id, ledger=ledger).result() == 10 * n
    assert log == [*(["source"] if to is None else []), ("middle", n)]


def test_a_sub_run_that_failed_of_a_bad_input_is_not_taken_up_with_it(way, ledger: Ledger) -> None:
    broken.add("middle")
    dag = make_dag(inner=True)
    run_id = way.run(dag, ledger=ledger).run_id
    dag.rollback(run_id, ledger=ledger)
    numbers[:] = [2]
    way.resume(dag, run_id, ledger=ledger)
    broken.clear()
    log.clear()
    assert way.resume(dag, run_id, ledger=ledger).result() == 20
    assert log == [("middle", 2)]
