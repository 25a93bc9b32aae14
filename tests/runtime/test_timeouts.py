"""A limit for each attempt: async bodies are cancelled, threads are left behind and their late results ignored."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from milepost import Dag, Ledger, RunStatus, StepContext, StepStatus, step
from milepost.errors import ConfigurationError, StepCancelled, StepTimedOut
from milepost.runtime import sync_driver

PATIENCE = 10.0
SHORT = 0.05  # seconds; a body that waits for an event of the test is still there after it


def run_of(body: Any, way: Any, ledger: Ledger, **options: Any) -> Any:
    dag = Dag("one")
    dag.node(step(**options)(body), label="it")
    return way.run(dag, ledger=ledger)


class InThread:
    @staticmethod
    def run(dag: Dag, **options: Any) -> Any:
        return dag.run(**options)


def recorded(ledger: Ledger, run: Any) -> list[tuple[str, int, str]]:
    return [(s.label, s.attempt, s.status.value) for s in ledger.list_steps(run.run_id)]


def test_an_attempt_past_its_timeout_fails_with_the_limit_and_the_remedy(way, ledger: Ledger, release):
    def slow() -> None:
        release.wait(PATIENCE)

    run = run_of(slow, way, ledger, timeout=SHORT)
    assert run.status is RunStatus.FAILED
    assert isinstance(run.exception, StepTimedOut)
    assert "Step 'it' did not finish within its timeout of 0.05 s. Raise `timeout=`" in run.error
    assert recorded(ledger, run) == [("it", 1, "failed")]


def test_an_async_attempt_past_its_timeout_is_cancelled(way, ledger: Ledger):
    seen: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    run = run_of(slow, way, ledger, timeout=SHORT)
    assert isinstance(run.exception, StepTimedOut)
    assert seen == ["cancelled"]


def test_a_timeout_is_retried_and_the_late_result_of_the_first_attempt_is_ignored(way, ledger: Ledger):
    late, is_over = threading.Event(), threading.Event()

    def slow_at_first(ctx: StepContext) -> str:
        if ctx.attempt == 1:
            assert late.wait(PATIENCE)
            is_over.set()
            return "too late"
        late.set()
        assert is_over.wait(PATIENCE)
        return "in time"

    run = run_of(slow_at_first, way, ledger, timeout=0.3, retries=1)
    assert run.result() == "in time"
    assert recorded(ledger, run) == [("it", 1, "failed"), ("it", 2, "completed")]


def test_an_async_step_is_retried_after_a_timeout(way, ledger: Ledger):
    async def slow_at_first(ctx: StepContext) -> int:
        if ctx.attempt < 3:
            await asyncio.Event().wait()
        return ctx.attempt

    run = run_of(slow_at_first, way, ledger, timeout=SHORT, retries=2)
    assert run.result() == 3
    assert recorded(ledger, run) == [("it", 1, "failed"), ("it", 2, "failed"), ("it", 3, "completed")]


def test_a_timed_out_body_that_listens_is_told_to_stop_and_can_save_nothing_more(way, ledger: Ledger):
    told: list[Any] = []
    has_ended = threading.Event()

    def listening(ctx: StepContext) -> str:
        if ctx.attempt == 2:
            ctx.save("position", "of the second")
            assert has_ended.wait(PATIENCE)
            return str(ctx.load("position"))
        pause = threading.Event()
        try:
            while True:
                ctx.heartbeat()
                pause.wait(0.002)
        except StepCancelled as error:
            told.append(str(error))
            with pytest.raises(StepCancelled):
                ctx.save("position", "of the first")
            raise
        finally:
            has_ended.set()

    run = run_of(listening, way, ledger, timeout=0.3, retries=1)
    assert told == ["Step 'it' should stop: it exceeded its timeout of 0.3 s. Let this exception leave the step."]
    assert run.result() == "of the second"


def test_a_step_that_is_quick_enough_does_not_time_out(way, ledger: Ledger):
    assert run_of(lambda: 5, way, ledger, timeout=PATIENCE).result() == 5


def test_a_timeout_without_end_is_none(way, ledger: Ledger):
    assert run_of(lambda: 5, way, ledger, timeout=float("inf")).result() == 5


def test_elements_that_time_out_free_their_places_and_count_once(way, ledger: Ledger, release):
    simultaneous: list[int] = []
    running = 0
    lock = threading.Lock()

    @step(timeout=0.3, retries=1)
    def slow_at_first(x: int, ctx: StepContext) -> int:
        nonlocal running
        if ctx.attempt == 1 and x < 2:
            release.wait(PATIENCE)
        with lock:
            running += 1
            simultaneous.append(running)
        with lock:
            running -= 1
        return x

    dag = Dag("map")
    dag.map(slow_at_first, range(6), label="m", concurrency=2)
    run = way.run(dag, ledger=ledger)
    assert run.result() == list(range(6))
    assert max(simultaneous) <= 2
    failed = [s.label for s in ledger.list_steps(run.run_id) if s.status is StepStatus.FAILED]
    assert sorted(failed) == ["m[0]", "m[1]"]


def test_a_body_that_raises_a_timeout_of_its_own_is_no_timed_out_step(way, ledger: Ledger):
    async def body() -> None:
        raise TimeoutError("the server's")

    run = run_of(body, way, ledger, timeout=PATIENCE)
    assert run.error == "TimeoutError: the server's"


def test_the_wait_for_a_free_place_in_a_pool_is_not_counted(way, ledger: Ledger):
    with ThreadPoolExecutor(1) as pool:
        first_runs = threading.Event()

        @step(timeout=SHORT, executor=pool)
        def quick(x: int) -> int:
            return x

        @step(executor=pool)
        def first() -> None:
            first_runs.set()
            pause.wait(SHORT * 4)

        pause = threading.Event()
        dag = Dag("pool")
        dag.node(first)
        dag.map(quick, range(3), label="m")
        run = way.run(dag, ledger=ledger)
        assert run.status is RunStatus.COMPLETED, run.error


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "milepost-loop"]


def test_a_body_that_blocks_the_loop_thread_is_left_behind_and_ends_later(
    ledger: Ledger, release, eventually, monkeypatch
):
    monkeypatch.setattr(sync_driver, "GRACE", SHORT)

    async def blocking() -> None:
        release.wait(PATIENCE)

    run = run_of(blocking, InThread, ledger, timeout=SHORT)
    assert isinstance(run.exception, StepTimedOut)
    assert loop_threads()
    release.set()
    eventually(lambda: not loop_threads())


def test_a_body_that_refuses_to_be_cancelled_is_left_behind_and_ends_later(ledger: Ledger, eventually, monkeypatch):
    monkeypatch.setattr(sync_driver, "GRACE", SHORT)
    ends: list[Any] = []

    async def stubborn() -> None:
        end = asyncio.Event()
        ends.append((asyncio.get_running_loop(), end))
        while not end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await end.wait()

    run = run_of(stubborn, InThread, ledger, timeout=SHORT)
    assert isinstance(run.exception, StepTimedOut)
    assert loop_threads()
    ((loop, end),) = ends
    loop.call_soon_threadsafe(end.set)
    eventually(lambda: not loop_threads())


class Big:
    pass


def test_a_value_is_not_held_until_the_deadline_of_a_step_that_is_done(ledger: Ledger):
    made: list[weakref.ref[Big]] = []

    async def main() -> bool:
        loop = asyncio.get_running_loop()

        @step(transient=True, timeout=3600.0)
        def make() -> Big:
            is_free = threading.Event()
            loop.call_soon_threadsafe(is_free.set)  # by then the driver waits, and the timer runs
            assert is_free.wait(PATIENCE)
            big = Big()
            made.append(weakref.ref(big))
            return big

        dag = Dag("held")
        last = dag.node(lambda x: None, label="last", x=dag.node(make))
        assert last.label == "last"
        await dag.run_async(ledger=ledger)
        deadline = loop.time() + PATIENCE  # far from the step's own; its thread may be on its way out of the body still
        while made[0]() is not None and loop.time() < deadline:
            await asyncio.sleep(0.005)
            gc.collect()
        return made[0]() is None

    assert asyncio.run(main())


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "30", True, None.__class__])
def test_a_timeout_that_can_never_be_is_refused_where_it_is_written(timeout: Any):
    with pytest.raises(ConfigurationError, match="timeout must be a number of seconds, more than 0"):
        step(timeout=timeout)(lambda: None)
