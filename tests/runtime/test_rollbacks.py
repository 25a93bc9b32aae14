"""Rolling runs of steps back: what is undone, in which order, with what, and what a death leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from milepost import Dag, Ledger, RunCancelled, RunFailed, RunStatus, StepContext, step
from milepost.dag import DagContext
from milepost.errors import (
    ConfigurationError,
    GraphChanged,
    InvalidTransition,
    RollbackRefused,
    RunBusy,
    RunNotFound,
    StepNotFound,
)
from milepost.model import Run, StepKind
from milepost.runtime.keeper import executing
from milepost.runtime.lifecycle import claim
from milepost.runtime.rollback import _begin
from milepost.runtime.undoing import begin_write, find_mark
from milepost.store import RunWrite

log: list[tuple[Any, ...]] = []
broken: set[Any] = set()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    log.clear()
    broken.clear()
    yield
    log.clear()


def undo_make(n: int, output: list[int]) -> None:
    log.append(("undo make", n, output))


@step(undo=undo_make)
def make(n: int) -> list[int]:
    log.append(("make", n))
    return list(range(n))


async def undo_double(item: int, output: int, ctx: StepContext) -> None:
    await asyncio.sleep(0)
    if item in broken:
        raise OSError(f"cannot undo {item}")
    log.append(("undo double", item, output, ctx.label))


@step(undo=undo_double)
def double(item: int) -> int:
    log.append(("double", item))
    return 2 * item


def undo_total() -> None:
    log.append(("undo total",))


@step(undo=undo_total, at_most_once=True)
def total(items: list[int]) -> int:
    log.append(("total",))
    return sum(items)


@step(pure=True)
def show(value: int) -> str:
    return str(value)


def make_dag() -> Dag:
    dag = Dag("undoable")
    made = dag.node(make)
    doubled = dag.map(double, made, label="double")
    added = dag.node(total, items=doubled)
    dag.node(show, value=added)
    return dag


dag = make_dag()

WHOLE = ("show", "total", "double", "double[2]", "double[1]", "double[0]", "make")


def roll_back(way: Any, run_id: str, ledger: Ledger, used: Dag = dag, **options: Any) -> Any:
    if way.name == "async":
        return asyncio.run(used.rollback_async(run_id, ledger=ledger, **options))
    return used.rollback(run_id, ledger=ledger, **options)


def test_completed_steps_are_undone_in_reverse_with_what_they_got_and_made(way, ledger: Ledger) -> None:
    run = way.run(dag, n=3, ledger=ledger)
    log.clear()
    plan = roll_back(way, run.run_id, ledger)
    assert plan.undo == WHOLE
    assert not plan.without_undo
    assert log == [
        ("undo total",),
        ("undo double", 2, 4, "undo:double[2]"),
        ("undo double", 1, 2, "undo:double[1]"),
        ("undo double", 0, 0, "undo:double[0]"),
        ("undo make", 3, [0, 1, 2]),
    ]
    found = ledger.require_run(run.run_id)
    assert (found.status, found.error_type, found.error_message) == (
        RunStatus.CANCELLED,
        "RolledBack",
        "rolled back all its steps",
    )
    undone = [s.label for s in ledger.list_steps(run.run_id) if s.kind == StepKind.UNDO]
    assert sorted(undone) == sorted(f"undo:{label}" for label in WHOLE)
    assert list(ledger.check()) == []


def test_a_run_that_was_rolled_back_runs_its_undone_steps_again_when_resumed(way, ledger: Ledger) -> None:
    run = way.run(dag, n=3, ledger=ledger)
    roll_back(way, run.run_id, ledger)
    log.clear()
    again = way.resume(dag, run.run_id, ledger=ledger)
    assert again.result() == "6"
    assert log == [("make", 3), *(("double", n) for n in range(3)), ("total",)]
    assert [s.attempt for s in ledger.list_steps(run.run_id) if s.label == "double[1]"] == [1, 2]
    log.clear()
    assert list(ledger.check()) == []
    assert roll_back(way, run.run_id, ledger).undo == WHOLE  # what ran again can be undone again
    assert len(log) == 5


def test_a_rollback_to_a_step_keeps_it_and_what_began_before_it(way, ledger: Ledger) -> None:
    run = way.run(dag, n=3, ledger=ledger)
    log.clear()
    assert roll_back(way, run.run_id, ledger, to="double").undo == ("show", "total")
    assert log == [("undo total",)]
    assert ledger.require_run(run.run_id).error_message == "rolled back to step 'double'"
    log.clear()
    assert way.resume(dag, run.run_id, ledger=ledger).result() == "6"
    assert log == [("total",)]


def test_a_dry_run_tells_what_would_be_undone_and_changes_nothing(way, ledger: Ledger) -> None:
    run = way.run(dag, n=2, ledger=ledger)
    before = ledger.list_steps(run.run_id)
    log.clear()
    plan = roll_back(way, run.run_id, ledger, dry_run=True)
    assert plan.undo == ("show", "total", "double", "double[1]", "double[0]", "make")
    assert log == []
    assert ledger.list_steps(run.run_id) == before
    assert ledger.require_run(run.run_id).status is RunStatus.COMPLETED


def test_an_undo_that_fails_stops_the_rollback_which_goes_on_with_what_is_left(way, ledger: Ledger) -> None:
    run = way.run(dag, n=3, ledger=ledger)
    log.clear()
    broken.add(1)
    with pytest.raises(RunFailed, match="cannot undo 1"):
        roll_back(way, run.run_id, ledger)
    found = ledger.require_run(run.run_id)
    assert (found.status, found.error_step) == (RunStatus.FAILED, "undo:double[1]")
    broken.clear()
    # Whatever is asked for now: the rollback that began is finished.
    assert roll_back(way, run.run_id, ledger, to="make").undo == ("double[1]", "double[0]", "make")
    assert [entry[:2] for entry in log] == [
        ("undo total",),
        ("undo double", 2),
        ("undo double", 1),
        ("undo double", 0),
        ("undo make", 3),
    ]
    assert ledger.require_run(run.run_id).error_type == "RolledBack"


def test_resuming_a_run_whose_rollback_was_cut_short_finishes_the_rollback(way, ledger: Ledger) -> None:
    run = way.run(dag, n=2, ledger=ledger)
    broken.add(0)
    with pytest.raises(RunFailed):
        roll_back(way, run.run_id, ledger)
    broken.clear()
    log.clear()
    resumed = way.resume(dag, run.run_id, ledger=ledger)
    assert [entry[0] for entry in log] == ["undo double", "undo make"]
    assert resumed.status is RunStatus.CANCELLED
    with pytest.raises(RunCancelled, match="rolled back"):
        resumed.result()


def test_an_undo_that_an_interrupted_driver_records_again_does_not_end_the_rollback(ledger: Ledger) -> None:
    run = make_dag().run(n=0, ledger=ledger)
    with executing(ledger, run.run_id):
        plan, session = _begin(ledger, run.run_id, dag.build(), to="make", dry_run=False, skip_missing=False)
        assert session is not None
        assert len(plan.undo) > 1
        for _ in plan.undo[1:]:
            call = session.execution.next_call()
            assert call is not None
            flight = session.begin(call)
            session.accept(flight, None)
            session.settle([flight], 0.0)
            session.ledger.commit(session.record([flight]))  # the interrupt struck before the commit
        assert find_mark(ledger, run.run_id) == {"to": "make"}


def test_a_failed_run_is_undone_as_far_as_it_came(way, ledger: Ledger) -> None:
    def fail(items: list[int]) -> None:
        raise ValueError("no")

    failing = Dag("failing")
    failing.node(fail, items=failing.node(make))
    run = way.run(failing, n=1, ledger=ledger)
    assert run.status is RunStatus.FAILED
    log.clear()
    assert roll_back(way, run.run_id, ledger, failing).undo == ("make",)
    assert log == [("undo make", 1, [0])]


def test_steps_without_an_undo_are_named_before_anything_is_undone(way, ledger: Ledger) -> None:
    def plain(items: list[int]) -> int:
        return len(items)

    mixed = Dag("mixed")
    mixed.node(plain, items=mixed.node(make))
    run = way.run(mixed, n=2, ledger=ledger)
    log.clear()
    with pytest.raises(RollbackRefused, match="of 'plain' nobody says how to undo it"):
        roll_back(way, run.run_id, ledger, mixed)
    assert log == []
    assert ledger.require_run(run.run_id).status is RunStatus.COMPLETED
    plan = roll_back(way, run.run_id, ledger, mixed, skip_missing=True)
    assert (plan.undo, plan.without_undo) == (("plain", "make"), ("plain",))
    assert log == [("undo make", 2, [0, 1])]


def test_a_step_that_the_graph_no_longer_has_is_one_that_nobody_can_undo(way, ledger: Ledger) -> None:
    def fail(n: int) -> int:
        if "fail" in broken:
            raise ValueError("no")
        return n

    def build(*labels: str) -> Dag:
        changing = Dag("changing")
        for label in labels:
            changing.node(make, label=label)
        changing.node(fail)
        return changing

    broken.add("fail")
    run = way.run(build("one", "two"), n=1, ledger=ledger)
    broken.clear()
    assert way.resume(build("two"), run.run_id, ledger=ledger, allow_changes=True).result() is not None
    log.clear()
    with pytest.raises(RollbackRefused, match="'one'"):
        roll_back(way, run.run_id, ledger, build("two"))
    plan = roll_back(way, run.run_id, ledger, build("two"), skip_missing=True)
    assert sorted(plan.undo) == ["fail", "one", "two"]
    assert log == [("undo make", 1, [0])]
    assert ledger.require_run(run.run_id).error_type == "RolledBack"


@pytest.mark.parametrize("to", [None, "make", "double"])
def test_a_rollback_of_a_replay_may_go_back_to_a_step_that_was_copied(way, ledger: Ledger, to: str | None) -> None:
    run = way.run(dag, n=2, ledger=ledger)
    replay = dag.replay(run.run_id, ["total"], ledger=ledger)
    log.clear()
    assert roll_back(way, replay.run_id, ledger, to=to).undo == ("show", "total")
    assert log == [("undo total",)]
    assert way.resume(dag, replay.run_id, ledger=ledger).result() == "2"


@pytest.mark.parametrize("is_async", [False, True])
def test_an_undo_gets_the_context_that_it_asks_for(way, ledger: Ledger, is_async: bool) -> None:
    def undo_it(ctx: DagContext) -> None:
        log.append((ctx.dag_nsref, ctx.label))

    async def undo_it_async(ctx: DagContext) -> None:
        undo_it(ctx)

    told = Dag("told")
    told.node(step(undo=undo_it_async if is_async else undo_it)(lambda: 1), label="one")
    run = way.run(told, ledger=ledger)
    roll_back(way, run.run_id, ledger, told)
    assert log == [("told", "undo:one")]


def test_an_undo_may_have_retries_of_its_own(way, ledger: Ledger) -> None:
    tries: list[int] = []

    @step(retries=2)
    def undo_it() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")

    def work() -> int:
        return 1

    retried = Dag("retried")
    retried.node(step(undo=undo_it)(work))
    run = way.run(retried, ledger=ledger)
    roll_back(way, run.run_id, ledger, retried)
    assert len(tries) == 3
    assert [s.status for s in ledger.list_steps(run.run_id) if s.label == "undo:work"] == [
        "failed",
        "failed",
        "completed",
    ]


def test_nothing_to_undo_leaves_the_run_as_it_is(way, ledger: Ledger) -> None:
    run = way.run(dag, n=1, ledger=ledger)
    roll_back(way, run.run_id, ledger)
    epoch = ledger.require_run(run.run_id).lease_epoch
    assert roll_back(way, run.run_id, ledger).is_empty
    assert ledger.require_run(run.run_id).lease_epoch == epoch


def test_a_rollback_that_is_cancelled_while_it_claims_its_run_leaves_it_cancelled(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dag.run(n=1, ledger=ledger)
    claiming, may_claim = threading.Event(), threading.Event()

    def claim_late(*args: Any) -> Any:
        claiming.set()
        may_claim.wait(10)
        return claim(*args)

    async def cancel() -> None:
        task = asyncio.create_task(dag.rollback_async(run.run_id, ledger=ledger))
        await asyncio.to_thread(claiming.wait, 10)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, may_claim.set)
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr("milepost.runtime.rollback.claim", claim_late)
    asyncio.run(cancel())
    found = ledger.require_run(run.run_id)
    assert (found.status, found.error_type) == (RunStatus.CANCELLED, "CancelledError")
    monkeypatch.undo()
    assert dag.rollback(run.run_id, ledger=ledger).undo == ("show", "total", "double", "double[0]", "make")


def test_a_run_that_another_thread_executes_is_left_alone(ledger: Ledger) -> None:
    seen: list[str] = []

    def meddle(ctx: StepContext) -> None:
        with pytest.raises(RunBusy) as caught:
            meddling.rollback(ctx.run_id, ledger=ledger)
        seen.append(str(caught.value))

    meddling = Dag("meddling")
    meddling.node(meddle)
    meddling.run(ledger=ledger).result()
    assert len(seen) == 1


def test_what_cannot_be_rolled_back_is_refused_in_one_line(way, ledger: Ledger) -> None:
    run = way.run(dag, n=1, ledger=ledger)
    with pytest.raises(RunNotFound):
        roll_back(way, "nowhere", ledger)
    with pytest.raises(StepNotFound, match="tota"):
        roll_back(way, run.run_id, ledger, to="tota")
    other = Dag("undoable")
    other.node(make, label="other")
    with pytest.raises(GraphChanged):
        roll_back(way, run.run_id, ledger, other)
    waiting = dag.submit({"n": 1}, ledger=ledger)
    with pytest.raises(InvalidTransition, match="milepost cancel"):
        roll_back(way, waiting.run_id, ledger)
    assert ledger.require_run(run.run_id).status is RunStatus.COMPLETED


def test_a_step_that_has_not_completed_is_nothing_to_go_back_to(way, ledger: Ledger) -> None:
    run = way.run(dag, n=1, ledger=ledger)
    roll_back(way, run.run_id, ledger, to="make")
    with pytest.raises(InvalidTransition, match="'total'"):
        roll_back(way, run.run_id, ledger, to="total")


@pytest.mark.parametrize(
    ("undo", "told"),
    [
        (lambda nothing: None, "'nothing'"),
        (lambda n, /: None, "Drop the '/'"),
        (step(pure=False, transient=True)(lambda: None), "no other options"),
        ("undo", "must be a function"),
    ],
)
def test_an_undo_that_could_never_be_called_is_refused_where_it_is_written(undo: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        step(undo=undo)(lambda n: n)


def test_a_pure_step_has_nothing_to_undo() -> None:
    with pytest.raises(ConfigurationError, match="pure"):
        step(undo=undo_total, pure=True)(show.fn)


def test_a_resume_finishes_a_rollback_that_the_former_owner_marked_at_the_last_moment(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dag.run(n=1, ledger=ledger)
    found = ledger.require_run(run.run_id)
    held = claim(ledger, found, found.attempt + 1)

    def claim_late(*args: Any) -> Run:
        mark = begin_write(ledger, held, "make")
        ledger.commit(RunWrite(run.run_id, held.lease_epoch, checkpoints=[mark]))
        return claim(*args)

    monkeypatch.setattr("milepost.runtime.lifecycle.claim", claim_late)
    assert dag.resume(run.run_id, ledger=ledger).status is RunStatus.CANCELLED
    assert ledger.require_run(run.run_id).error_message == "rolled back to step 'make'"
    assert log[-1] == ("undo double", 0, 0, "undo:double[0]")
