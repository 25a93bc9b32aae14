"""Failed attempts that are followed by another: each keeps its own row."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise
from typing import Any

import pytest

from milepost import Dag, Ledger, NonRetryable, Retry, RunStatus, StepContext, step
from milepost.errors import ConfigurationError

PATIENCE = 10.0


def run_of(body: Any, way: Any, ledger: Ledger, **options: Any) -> Any:
    dag = Dag("one")
    dag.node(step(**options)(body), label="it")
    return way.run(dag, ledger=ledger)


def recorded(ledger: Ledger, run: Any) -> list[tuple[str, int, str, str | None]]:
    return [(s.label, s.attempt, s.status.value, s.error_message) for s in ledger.list_steps(run.run_id)]


def fails_twice(ctx: StepContext) -> int:
    if ctx.attempt <= 2:
        raise ValueError(f"attempt {ctx.attempt}")
    return ctx.attempt


async def fails_twice_later(ctx: StepContext) -> int:
    return fails_twice(ctx)


@pytest.mark.parametrize("body", [fails_twice, fails_twice_later])
def test_every_attempt_keeps_its_own_row(body, way, ledger: Ledger):
    run = run_of(body, way, ledger, retries=2)
    assert run.result() == 3
    assert recorded(ledger, run) == [
        ("it", 1, "failed", "attempt 1"),
        ("it", 2, "failed", "attempt 2"),
        ("it", 3, "completed", None),
    ]
    assert run.exception is None


@pytest.mark.parametrize("body", [fails_twice, fails_twice_later])
def test_the_last_attempts_failure_is_the_runs(body, way, ledger: Ledger):
    run = run_of(body, way, ledger, retries=1)
    assert run.error == "ValueError: attempt 2"
    assert [row[:3] for row in recorded(ledger, run)] == [("it", 1, "failed"), ("it", 2, "failed")]


def test_without_a_policy_a_failure_stands(way, ledger: Ledger):
    assert len(recorded(ledger, run_of(fails_twice, way, ledger))) == 1


def test_non_retryable_fails_at_once(way, ledger: Ledger):
    def body() -> None:
        raise NonRetryable("no use")

    run = run_of(body, way, ledger, retries=5)
    assert run.error == "NonRetryable: no use"
    assert len(recorded(ledger, run)) == 1


def test_non_retryable_inside_a_task_group_fails_at_once(way, ledger: Ledger):
    async def part() -> None:
        raise NonRetryable("no use")

    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(part())

    run = run_of(body, way, ledger, retries=5)
    assert run.error.startswith("ExceptionGroup: ")
    assert len(recorded(ledger, run)) == 1


def test_retry_on_and_give_up_on_choose_the_errors(way, ledger: Ledger):
    def body(ctx: StepContext) -> None:
        raise [ConnectionResetError("try again"), FileNotFoundError("give up")][ctx.attempt - 1]

    run = run_of(body, way, ledger, retry=Retry(max_retries=5, retry_on=(OSError,), give_up_on=(FileNotFoundError,)))
    assert run.error == "FileNotFoundError: give up"
    assert len(recorded(ledger, run)) == 2


def seconds_between_attempts(ledger: Ledger, run: Any) -> list[float]:
    rows = ledger.list_steps(run.run_id)
    return [(later.started_at - earlier.finished_at) / 1e6 for earlier, later in pairwise(rows)]  # type: ignore[operator]


def test_delays_grow_from_attempt_to_attempt(way, ledger: Ledger):
    def body(ctx: StepContext) -> None:
        if ctx.attempt <= 3:
            raise ValueError("again")

    run = run_of(body, way, ledger, retry=Retry(max_retries=3, delay=0.02, backoff_factor=3, max_delay=0.1))
    assert run.status is RunStatus.COMPLETED
    gaps = seconds_between_attempts(ledger, run)
    assert [gap >= least - 0.001 for gap, least in zip(gaps, (0.02, 0.06, 0.1), strict=True)] == [True] * 3, gaps


def test_jitter_takes_its_share_off_a_delay(way, ledger: Ledger, monkeypatch):
    monkeypatch.setattr("random.random", lambda: 1.0)

    def body(ctx: StepContext) -> None:
        if ctx.attempt == 1:
            raise ValueError("again")

    run = run_of(body, way, ledger, retry=Retry(max_retries=1, delay=PATIENCE, jitter=1.0))
    assert seconds_between_attempts(ledger, run)[0] < PATIENCE / 2


@pytest.mark.parametrize("is_async", [True, False])
def test_a_delayed_retry_starts_while_a_sibling_still_runs(is_async: bool, way, ledger: Ledger):
    has_failed, is_retried = threading.Event(), threading.Event()

    def flaky(ctx: StepContext) -> int:
        if ctx.attempt == 1:
            has_failed.set()
            raise ValueError("again")
        is_retried.set()
        return ctx.attempt

    def slow_sibling() -> bool:
        return is_retried.wait(PATIENCE)

    async def slow_sibling_later() -> bool:
        return await asyncio.to_thread(is_retried.wait, PATIENCE)

    dag = Dag("siblings")
    dag.node(step(retry=Retry(max_retries=1, delay=0.05))(flaky))
    dag.node(slow_sibling_later if is_async else slow_sibling, label="sibling")
    run = way.run(dag, ledger=ledger)
    assert run.outputs["sibling"] is True


@pytest.mark.parametrize("is_async", [True, False])
def test_a_step_that_becomes_ready_beside_a_delayed_retry_does_not_hold_it_up(is_async: bool, way, ledger: Ledger):
    is_retried = threading.Event()

    def flaky(ctx: StepContext) -> int:
        if ctx.attempt == 1:
            raise ValueError("again")
        is_retried.set()
        return ctx.attempt

    def waits(x: int) -> bool:
        return is_retried.wait(PATIENCE)

    async def waits_later(x: int) -> bool:
        return await asyncio.to_thread(is_retried.wait, PATIENCE)

    dag = Dag("siblings")
    dag.node(step(retry=Retry(max_retries=1, delay=0.05))(flaky))
    dag.node(waits_later if is_async else waits, label="waits", x=dag.node(lambda: 1, label="first"))
    assert way.run(dag, ledger=ledger).outputs["waits"] is True


def test_an_element_is_retried_alone(way, ledger: Ledger):
    calls: list[int] = []

    @step(retries=1)
    def flaky(x: int, ctx: StepContext) -> int:
        calls.append(x)
        if x == 1 and ctx.attempt == 1:
            raise ValueError("again")
        return x * 10

    dag = Dag("map")
    dag.map(flaky, [0, 1, 2], label="m")
    run = way.run(dag, ledger=ledger)
    assert run.result() == [0, 10, 20]
    assert sorted(calls) == [0, 1, 1, 2]
    assert [(s.label, s.attempt, s.status.value) for s in ledger.get_step(run.run_id, "m[1]")] == [
        ("m[1]", 1, "failed"),
        ("m[1]", 2, "completed"),
    ]
    assert len(ledger.get_step(run.run_id, "m")) == 1


def test_a_resumed_run_has_its_retries_afresh_and_goes_on_counting_attempts(way, ledger: Ledger):
    is_mended = False

    @step(retries=1)
    def body(ctx: StepContext) -> int:
        if not is_mended or ctx.attempt == 3:
            raise ValueError("again")
        return ctx.attempt

    dag = Dag("one")
    dag.node(body, label="it")
    run = way.run(dag, ledger=ledger)
    is_mended = True
    assert way.resume(dag, run.run_id, ledger=ledger).result() == 4
    assert [(row[1], row[2]) for row in recorded(ledger, run)] == [
        (1, "failed"),
        (2, "failed"),
        (3, "failed"),
        (4, "completed"),
    ]


def test_what_a_failed_attempt_recorded_stays_while_the_next_one_runs(way, ledger: Ledger, eventually):
    def body(ctx: StepContext) -> str:
        if ctx.attempt == 1:
            raise ValueError("first")
        rows = eventually(lambda: [s for s in ledger.get_step(ctx.run_id, "it") if s.attempt == 2])
        assert rows[0].status == "running"
        (first,) = (s for s in ledger.get_step(ctx.run_id, "it") if s.attempt == 1)
        return f"{first.status} {first.error_message}"

    assert run_of(body, way, ledger, retries=1).result() == "failed first"


def test_retries_and_retry_together_are_refused():
    with pytest.raises(ConfigurationError, match="Give retries= or retry=, not both"):
        step(retries=1, retry=Retry())


def test_a_run_whose_retry_waits_can_be_cancelled(way, ledger: Ledger, in_background, eventually):
    from milepost.runtime import cancel_run

    def body() -> None:
        raise ValueError("again")

    dag = Dag("waiting")
    dag.node(step(retry=Retry(max_retries=1, delay=3600, max_delay=3600))(body), label="it")
    result = in_background(lambda: way.run(dag, ledger=ledger, run_id="waiting"))
    eventually(lambda: ledger.get_step("waiting", "it"))
    cancel_run(ledger, "waiting")
    run = result()
    assert run.status is RunStatus.CANCELLED
    assert [row[2] for row in recorded(ledger, run)] == ["failed"]
