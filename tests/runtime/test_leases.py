"""A run that somebody else took over: what this process still does writes nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from milepost import Dag, Ledger, RunStatus, StepContext, StepStatus, step
from milepost.errors import LeaseLost, StepCancelled, StoreError
from milepost.runtime import async_driver, sync_driver

PATIENCE = 10.0


@pytest.fixture
def brief(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with a lease so short that the keeper looks after it at every tick."""
    with Ledger.open(tmp_path / "brief.db", durability="process", lease=0.3) as ledger:
        yield ledger


def take_over(ledger: Ledger, run_id: str) -> None:
    """Claim a run as another process would after its lease ran out."""
    run = ledger.require_run(run_id)
    ledger.store.claim_run(
        run,
        owner="1@elsewhere#00-1",
        now=ledger.clock.now(),
        lease_until=ledger.clock.now() + 60_000_000,
        attempt=run.attempt,
        target=None,
        reason=("ProcessDied", "taken over by the test"),
    )


def assert_untouched(ledger: Ledger) -> None:
    """The run belongs to the other process, and nothing of ours was written after that."""
    (run,) = ledger.list_runs()
    assert (run.status, run.lease_owner) == (RunStatus.RUNNING, "1@elsewhere#00-1")
    assert not [s for s in ledger.list_steps(run.run_id) if s.status is StepStatus.COMPLETED]


def test_a_step_that_ends_after_the_run_was_taken_over_is_not_recorded(way, brief: Ledger):
    def body(ctx: StepContext) -> int:
        take_over(brief, ctx.run_id)
        return 1

    dag = Dag("zombie")
    dag.node(body)
    with pytest.raises(LeaseLost, match="was lost: another process took the run over"):
        way.run(dag, ledger=brief)
    assert_untouched(brief)


def test_a_body_that_listens_is_told_and_the_run_raises(way, brief: Ledger):
    told = threading.Event()

    def body(ctx: StepContext) -> None:
        take_over(brief, ctx.run_id)
        pause = threading.Event()
        try:
            while True:
                ctx.heartbeat()
                pause.wait(0.002)
        except StepCancelled:
            told.set()
            raise

    dag = Dag("zombie")
    dag.node(body)
    with pytest.raises(LeaseLost):
        way.run(dag, ledger=brief)
    assert told.wait(PATIENCE)
    assert_untouched(brief)


@pytest.mark.parametrize("is_alone", [True, False])
def test_async_bodies_are_cancelled_when_the_run_was_taken_over(is_alone: bool, way, brief: Ledger):
    cancelled: list[str] = []

    async def endless(ctx: StepContext) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(ctx.label)
            raise

    async def taken(ctx: StepContext) -> None:
        await asyncio.to_thread(take_over, brief, ctx.run_id)
        await endless(ctx)

    dag = Dag("zombie")
    dag.node(taken)
    if not is_alone:
        dag.node(endless)
    with pytest.raises(LeaseLost):
        way.run(dag, ledger=brief)
    assert sorted(cancelled) == (["taken"] if is_alone else ["endless", "taken"])
    assert_untouched(brief)


def test_saving_a_value_after_the_run_was_taken_over_raises_in_the_body_and_in_the_run(way, brief: Ledger):
    raised: list[type[BaseException]] = []

    @step(retries=3)
    def body(ctx: StepContext) -> None:
        take_over(brief, ctx.run_id)
        try:
            ctx.save("position", 1)
        except LeaseLost as error:
            raised.append(type(error))
            raise

    dag = Dag("zombie")
    dag.node(body)
    with pytest.raises(LeaseLost):
        way.run(dag, ledger=brief)
    assert raised == [LeaseLost]
    assert brief.list_checkpoints(brief.list_runs()[0].run_id) == []
    assert_untouched(brief)


def test_a_body_that_swallows_the_loss_cannot_complete_its_step(way, brief: Ledger):
    def body(ctx: StepContext) -> str:
        take_over(brief, ctx.run_id)
        with pytest.raises(LeaseLost):
            ctx.save("position", 1)
        return "never mind"

    dag = Dag("zombie")
    dag.node(body)
    with pytest.raises(LeaseLost):
        way.run(dag, ledger=brief)
    assert_untouched(brief)


def test_an_interrupt_is_raised_even_where_it_cannot_be_recorded(way, brief: Ledger):
    def body(ctx: StepContext) -> None:
        take_over(brief, ctx.run_id)
        raise KeyboardInterrupt

    dag = Dag("zombie")
    dag.node(body)
    with pytest.raises(KeyboardInterrupt) as caught:
        way.run(dag, ledger=brief)
    assert "could not be marked as cancelled" in caught.value.__notes__[0]
    assert_untouched(brief)


def test_a_cancelled_task_stays_cancelled_even_where_it_cannot_be_recorded(brief: Ledger):
    async def main() -> bool:
        started = asyncio.Event()

        async def body(ctx: StepContext) -> None:
            await asyncio.to_thread(take_over, brief, ctx.run_id)
            started.set()
            await asyncio.Event().wait()

        dag = Dag("zombie")
        dag.node(body)
        task = asyncio.create_task(dag.run_async(ledger=brief))
        await started.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert_untouched(brief)


def test_the_lease_is_extended_while_a_step_runs(way, brief: Ledger, eventually):
    def body(ctx: StepContext) -> bool:
        first = brief.require_run(ctx.run_id).lease_until
        return bool(eventually(lambda: brief.require_run(ctx.run_id).lease_until != first))

    dag = Dag("long")
    dag.node(body)
    assert way.run(dag, ledger=brief).result() is True


def test_a_ledger_that_cannot_be_written_raises_its_own_error_and_leaves_the_run_resumable(
    way, ledger: Ledger, monkeypatch, release
):
    monkeypatch.setattr(sync_driver, "GRACE", 0.1)
    monkeypatch.setattr(async_driver, "GRACE", 0.1)
    apply = ledger.store.apply
    is_full = False

    def full(batch: Any) -> Any:
        return [StoreError("no room left")] * len(batch) if is_full else apply(batch)

    monkeypatch.setattr(ledger.store, "apply", full)

    def fills_up() -> int:
        nonlocal is_full
        is_full = True
        return 1

    dag = Dag("full")
    dag.node(fills_up)
    with pytest.raises(StoreError, match="no room left"):
        way.run(dag, ledger=ledger, run_id="full")
    is_full = False
    assert ledger.require_run("full").status is RunStatus.RUNNING

    def has_room() -> int:
        return 2

    again = Dag("full")
    again.node(has_room, label="fills_up")
    assert way.resume(again, "full", ledger=ledger).result() == 2
