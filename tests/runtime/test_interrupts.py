"""Ctrl-C, exits, cancellation and requests to cancel: recorded as what they are, then raised or returned."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from milepost import Dag, Ledger, RunCancelled, RunStatus, StepContext, StepStatus, step
from milepost.errors import InvalidTransition, RunNotFound, StepCancelled
from milepost.runtime import async_driver, cancel_run, keeper, sync_driver
from milepost.runtime.session import RunSession
from milepost.store import NewRun

PATIENCE = 10.0


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies that do not listen are left behind soon."""
    for module in (sync_driver, async_driver):
        monkeypatch.setattr(module, "GRACE", 0.1)


def listen(ctx: StepContext) -> NoReturn:
    """Go on until the step is told to stop."""
    pause = threading.Event()
    while True:
        ctx.heartbeat()
        pause.wait(0.002)


def only_run(ledger: Ledger) -> Any:
    (run,) = ledger.list_runs()
    return run


def statuses(ledger: Ledger) -> dict[str, StepStatus]:
    return {s.label: s.status for s in ledger.list_steps(only_run(ledger).run_id)}


# --- interrupts ----------------------------------------------------------------------------------


def sync_body(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


def async_body(error: BaseException) -> Callable[[], Any]:
    async def body() -> None:
        await asyncio.sleep(0)
        raise error

    return body


@pytest.mark.parametrize("make_body", [sync_body, async_body])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("is_alone", [True, False])
def test_an_interrupt_in_a_step_is_recorded_and_then_raised_again(error, make_body, is_alone, way, ledger: Ledger):
    def good() -> int:
        return 1

    dag = Dag("interrupted")
    dag.node(make_body(error), label="bad")
    if not is_alone:
        dag.node(good)
    with pytest.raises(type(error)) as caught:
        way.run(dag, ledger=ledger)
    assert caught.value is error
    run = only_run(ledger)
    assert (run.status, run.error_type) == (RunStatus.CANCELLED, type(error).__name__)
    assert run.lease_owner is None
    assert statuses(ledger)["bad"] is StepStatus.CANCELLED
    assert [a.status for a in ledger.list_attempts(run.run_id)] == ["cancelled"]
    assert list(ledger.check()) == []


@pytest.mark.parametrize(
    ("code", "told"), [(3, "sys.exit(3)"), (None, "sys.exit()"), ("no disk", "sys.exit('no disk')")]
)
def test_a_step_that_calls_sys_exit_is_named_as_what_ended_the_run(code, told, way, ledger: Ledger):
    def leave(n: int) -> None:
        if n == 1:
            sys.exit(code)

    dag = Dag("interrupted")
    dag.map(leave, [0, 1], concurrency=1)
    with pytest.raises(SystemExit):
        way.run(dag, ledger=ledger)
    run = only_run(ledger)
    assert (run.error_type, run.error_message) == ("SystemExit", f"step 'leave[1]' called {told}")
    assert ledger.get_step(run.run_id, "leave[1]")[0].error_message == f"step 'leave[1]' called {told}"


def test_an_interrupted_run_goes_on_with_the_steps_that_had_not_completed(way, ledger: Ledger):
    ran: list[str] = []
    is_mended = False

    def first() -> int:
        ran.append("first")
        return 1

    def second(x: int) -> int:
        ran.append("second")
        if not is_mended:
            raise KeyboardInterrupt
        return x + 1

    dag = Dag("interrupted")
    dag.node(second, x=dag.node(first))
    with pytest.raises(KeyboardInterrupt):
        way.run(dag, ledger=ledger)
    is_mended = True
    assert way.resume(dag, only_run(ledger).run_id, ledger=ledger).result() == 2
    assert ran == ["first", "second", "second"]
    assert [(s.label, s.attempt, s.status.value) for s in ledger.list_steps(only_run(ledger).run_id)] == [
        ("first", 1, "completed"),
        ("second", 1, "cancelled"),
        ("second", 2, "completed"),
    ]


def test_a_sibling_that_ends_within_the_grace_is_recorded(way, ledger: Ledger):
    both_run = threading.Barrier(2)

    def bad() -> None:
        both_run.wait(PATIENCE)
        raise KeyboardInterrupt

    def sibling(ctx: StepContext) -> str:
        both_run.wait(PATIENCE)
        with pytest.raises(StepCancelled, match="the process was interrupted"):
            listen(ctx)
        return "finished all the same"

    dag = Dag("interrupted")
    dag.node(bad)
    dag.node(sibling)
    with pytest.raises(KeyboardInterrupt):
        way.run(dag, ledger=ledger)
    assert statuses(ledger) == {"bad": StepStatus.CANCELLED, "sibling": StepStatus.COMPLETED}
    assert ledger.get_output(only_run(ledger).run_id, "sibling") == "finished all the same"


@pytest.mark.usefixtures("short_grace")
def test_a_sibling_that_does_not_end_is_left_behind_and_recorded_as_cancelled(way, ledger: Ledger, release):
    both_run = threading.Barrier(2)

    def bad() -> None:
        both_run.wait(PATIENCE)
        raise KeyboardInterrupt

    def deaf() -> None:
        both_run.wait(PATIENCE)
        release.wait(PATIENCE)

    dag = Dag("interrupted")
    dag.node(bad)
    dag.node(deaf)
    with pytest.raises(KeyboardInterrupt):
        way.run(dag, ledger=ledger)
    assert statuses(ledger) == {"bad": StepStatus.CANCELLED, "deaf": StepStatus.CANCELLED}


class InterruptAt:
    """A fault that interrupts the main thread at one commit, as Ctrl-C would."""

    def __init__(self, point: str, count: int) -> None:
        self.point = point
        self.left = count
        self.has_struck = False

    def __call__(self, point: str) -> None:
        if point != self.point or threading.current_thread() is not threading.main_thread():
            return
        self.left -= 1
        if self.left == 0:
            self.has_struck = True
            raise KeyboardInterrupt


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_an_interrupt_at_a_commit_loses_no_step_that_had_finished(point: str, count: int, tmp_path: Path):
    ran: list[str] = []

    def body(name: str) -> Callable[..., str]:
        @step(name=name, at_most_once=name == "b")
        def run(*, before: str = "") -> str:
            ran.append(name)
            return before + name

        return run

    dag = Dag("chain")
    a = dag.node(body("a"))
    dag.node(body("c"), before=dag.node(body("b"), before=a))
    fault = InterruptAt(point, count)
    with Ledger.open(tmp_path / "runs.db", durability="process", fault=fault) as ledger:
        with pytest.raises(KeyboardInterrupt):
            dag.run(ledger=ledger)
        assert fault.has_struck
        assert statuses(ledger) == dict.fromkeys(ran, StepStatus.COMPLETED) | (
            {"b": StepStatus.CANCELLED} if (count, ran) == (3, ["a"]) else {}
        )
        assert only_run(ledger).status is RunStatus.CANCELLED
        assert list(ledger.check()) == []


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
def test_an_interrupt_at_the_last_commit_leaves_a_completed_run(point: str, tmp_path: Path):
    dag = Dag("short")
    dag.node(lambda: 1, label="only")
    with Ledger.open(tmp_path / "runs.db", durability="process", fault=InterruptAt(point, 2)) as ledger:
        with pytest.raises(KeyboardInterrupt):
            dag.run(ledger=ledger)
        assert only_run(ledger).status is RunStatus.COMPLETED
        assert statuses(ledger) == {"only": StepStatus.COMPLETED}


def test_an_interrupt_while_outcomes_are_settled_loses_none_of_them(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    settle = RunSession.settle

    def interrupted(session: RunSession, *args: Any) -> Any:
        settle(session, *args)
        monkeypatch.setattr(RunSession, "settle", settle)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunSession, "settle", interrupted)
    dag = Dag("chain")
    dag.node(lambda x: x, label="b", x=dag.node(lambda: 1, label="a"))
    with pytest.raises(KeyboardInterrupt):
        dag.run(ledger=ledger)
    assert statuses(ledger) == {"a": StepStatus.COMPLETED}
    assert only_run(ledger).status is RunStatus.CANCELLED


class InterruptedLock:
    """A lock whose holder is interrupted as it leaves."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_while_a_run_is_marked_as_executing_leaves_no_mark(ledger: Ledger, monkeypatch):
    dag = Dag("one")
    dag.node(lambda: 1, label="a")
    with monkeypatch.context() as patch:
        patch.setattr(keeper, "_lock", InterruptedLock())
        with pytest.raises(KeyboardInterrupt):
            dag.run(ledger=ledger, run_id="one")
    assert dag.run(ledger=ledger, run_id="one").result() == 1


def test_a_keeper_whose_start_was_interrupted_is_started_by_the_next_run(ledger: Ledger, monkeypatch, eventually):
    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    def waits(ctx: StepContext) -> bool:
        return bool(eventually(lambda: ledger.get_step(ctx.run_id, "a")))  # the keeper writes that it has started

    dag = Dag("one")
    dag.node(waits, label="a")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            dag.run(ledger=ledger)
    assert dag.run(ledger=ledger).result() is True


# --- requests to cancel --------------------------------------------------------------------------


def test_a_request_from_another_open_ledger_stops_a_step_that_listens(way, tmp_path: Path, in_background):
    started = threading.Event()

    def listening(ctx: StepContext) -> None:
        started.set()
        listen(ctx)

    dag = Dag("long")
    dag.node(listening)
    path = tmp_path / "runs.db"
    with Ledger.open(path, durability="process") as ledger, Ledger.open(path, durability="power") as other:
        result = in_background(lambda: way.run(dag, ledger=ledger, run_id="long"))
        assert started.wait(PATIENCE)
        assert cancel_run(other, "long") == "requested"
        run = result()
        assert run.status is RunStatus.CANCELLED
        assert run.error == "RunCancelled: somebody asked to cancel the run"
        with pytest.raises(RunCancelled, match="somebody asked"):
            run.result()
        assert statuses(other) == {"listening": StepStatus.CANCELLED}
        assert other.require_run("long").status is RunStatus.CANCELLED
        with pytest.raises(InvalidTransition, match="cancelled: it cannot be cancelled"):
            cancel_run(other, "long")


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_request_cancels_an_async_step_and_waits_for_its_cleanup(is_alone, way, ledger: Ledger, in_background):
    started = threading.Event()
    cleaned: list[str] = []

    async def endless(ctx: StepContext) -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            await ctx.save_async("cleaned", value=True)
            cleaned.append("up")

    dag = Dag("long")
    dag.node(endless)
    if not is_alone:
        dag.node(endless, label="another")
    result = in_background(lambda: way.run(dag, ledger=ledger, run_id="long"))
    assert started.wait(PATIENCE)
    cancel_run(ledger, "long")
    assert result().status is RunStatus.CANCELLED
    assert set(cleaned) == {"up"}
    assert set(statuses(ledger).values()) == {StepStatus.CANCELLED}


def test_a_step_that_completes_in_spite_of_a_request_completes_the_run(way, ledger: Ledger, in_background):
    started = threading.Event()

    def stubborn(ctx: StepContext) -> str:
        started.set()
        with pytest.raises(StepCancelled):
            listen(ctx)
        return "done"

    dag = Dag("stubborn")
    dag.node(stubborn)
    result = in_background(lambda: way.run(dag, ledger=ledger, run_id="stubborn"))
    assert started.wait(PATIENCE)
    cancel_run(ledger, "stubborn")
    run = result()
    assert run.status is RunStatus.COMPLETED
    assert run.result() == "done"


def test_a_cancelled_map_is_recorded_as_cancelled_and_not_as_failed(way, ledger: Ledger, in_background):
    started = threading.Barrier(3)

    def listening(x: int, ctx: StepContext) -> None:
        started.wait(PATIENCE)
        listen(ctx)

    dag = Dag("long")
    dag.map(listening, [1, 2], label="m")
    result = in_background(lambda: way.run(dag, ledger=ledger, run_id="long"))
    started.wait(PATIENCE)
    cancel_run(ledger, "long")
    run = result()
    assert run.status is RunStatus.CANCELLED
    assert set(statuses(ledger).values()) == {StepStatus.CANCELLED}
    assert set(statuses(ledger)) == {"m", "m[0]", "m[1]"}


def test_a_run_that_nobody_executes_is_cancelled_at_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    dag = Dag("left behind")
    dag.node(lambda: 1, label="a")

    def explode(_: object) -> None:
        raise RuntimeError("before the first step")

    with pytest.raises(RuntimeError, match="before the first step"):
        dag.run(ledger=ledger, run_id="left", on_start=explode)
    assert ledger.require_run("left").status is RunStatus.RUNNING
    assert cancel_run(ledger, "left") == "cancelled"
    assert ledger.require_run("left").status is RunStatus.CANCELLED


def test_cancelling_an_unknown_run_names_a_near_one(ledger: Ledger):
    dag = Dag("one")
    dag.node(lambda: 1, label="a")
    dag.run(ledger=ledger, run_id="nightly")
    with pytest.raises(RunNotFound, match="Did you mean 'nightly'"):
        cancel_run(ledger, "nightli")


def test_a_body_that_begins_after_the_request_is_told_as_well(ledger: Ledger):
    dag = Dag("race")
    dag.node(lambda: 1, label="a")
    session = RunSession(ledger, "race", 1, dag.build(), {})
    call = session.execution.next_call()
    assert call is not None
    session.ask_to_stop("RunCancelled", "somebody asked")
    assert session.begin(call).stop_reason == "somebody asked"


# --- cancelling the task that runs ---------------------------------------------------------------


def test_cancelling_the_task_is_recorded_and_raised_and_reaches_the_body(ledger: Ledger):
    async def main() -> list[str]:
        seen: list[str] = []
        started = asyncio.Event()

        async def endless() -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        dag = Dag("task")
        dag.node(endless)
        task = asyncio.create_task(dag.run_async(ledger=ledger))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        return seen

    assert asyncio.run(main()) == ["cancelled"]
    run = only_run(ledger)
    assert (run.status, run.error_type) == (RunStatus.CANCELLED, "CancelledError")
    assert statuses(ledger) == {"endless": StepStatus.CANCELLED}


def test_cancelling_waits_for_the_cleanup_of_tasks_and_for_threads_that_listen(ledger: Ledger):
    ended: list[str] = []

    async def main() -> None:
        started = [asyncio.Event(), asyncio.Event()]
        loop = asyncio.get_running_loop()

        async def later() -> None:
            started[0].set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append("async")

        def threaded(ctx: StepContext) -> str:
            loop.call_soon_threadsafe(started[1].set)
            with pytest.raises(StepCancelled):
                listen(ctx)
            ended.append("sync")
            return "made"

        dag = Dag("task")
        dag.node(later)
        dag.node(threaded)
        task = asyncio.create_task(dag.run_async(ledger=ledger))
        for event in started:
            await event.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    assert sorted(ended) == ["async", "sync"]
    assert statuses(ledger) == {"later": StepStatus.CANCELLED, "threaded": StepStatus.COMPLETED}


def test_cancelling_the_task_while_its_run_is_created_records_the_run_as_cancelled(ledger: Ledger):
    ran: list[str] = []

    async def main() -> None:
        commit = ledger.commit_async

        async def commit_and_cancel(write: Any) -> None:
            if isinstance(write, NewRun):
                task.cancel()
                await asyncio.sleep(0)
            await commit(write)

        ledger.commit_async = commit_and_cancel  # type: ignore[method-assign]
        dag = Dag("task")
        dag.node(lambda: ran.append("a"), label="a")
        task = asyncio.create_task(dag.run_async(ledger=ledger))
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    assert ran == []
    assert only_run(ledger).status is RunStatus.CANCELLED


def test_cancelling_the_task_while_its_run_is_claimed_gives_the_run_up_again(ledger: Ledger, monkeypatch):
    dag = Dag("task")
    is_mended = False

    def fragile() -> int:
        if not is_mended:
            raise ValueError
        return 5

    dag.node(fragile)
    run_id = dag.run(ledger=ledger).run_id
    claim = ledger.store.claim_run

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def cancel_and_claim(*args: Any, **kwargs: Any) -> Any:
            delivered = threading.Event()
            loop.call_soon_threadsafe(task.cancel)
            loop.call_soon_threadsafe(loop.call_soon, delivered.set)
            assert delivered.wait(PATIENCE)
            return claim(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(ledger.store, "claim_run", cancel_and_claim)
            task = asyncio.create_task(dag.resume_async(run_id, ledger=ledger))
            await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    assert only_run(ledger).status is RunStatus.CANCELLED
    is_mended = True
    assert dag.resume(run_id, ledger=ledger).result() == 5


def test_a_timeout_around_the_run_stays_a_timeout(ledger: Ledger):
    async def main() -> None:
        async def endless() -> None:
            await asyncio.Event().wait()

        dag = Dag("task")
        dag.node(endless)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await dag.run_async(ledger=ledger)

    asyncio.run(main())
    assert only_run(ledger).status is RunStatus.CANCELLED


@pytest.mark.parametrize("swallows", [True, False])
def test_a_request_to_cancel_the_run_leaves_no_cancellation_on_the_callers_task(swallows: bool, ledger: Ledger):
    async def main() -> int:
        started = asyncio.Event()

        async def endless() -> str:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not swallows:
                    raise
            return "swallowed"

        async def ask() -> None:
            await started.wait()
            await asyncio.to_thread(cancel_run, ledger, "asked")

        dag = Dag("task")
        dag.node(endless)
        asking = asyncio.create_task(ask())
        run = await dag.run_async(ledger=ledger, run_id="asked")
        await asking
        assert run.status is (RunStatus.COMPLETED if swallows else RunStatus.CANCELLED)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(main()) == 0


def test_a_run_can_be_driven_while_its_task_is_being_cancelled(ledger: Ledger):
    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            dag = Dag("cleanup")
            dag.node(asyncio.sleep, delay=0, result="cleaned", label="up")
            return (await dag.run_async(ledger=ledger)).result()
        raise AssertionError

    async def main() -> str:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "cleaned"


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_body_that_awaits_something_cancelled_fails_and_does_not_stop_the_run(is_alone, way, ledger: Ledger):
    async def bad() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    dag = Dag("bad")
    dag.node(bad)
    if not is_alone:
        dag.node(lambda: 1, label="good")
    run = way.run(dag, ledger=ledger)
    assert (run.status, run.failed_step) == (RunStatus.FAILED, "bad")
    assert run.error.startswith("CancelledError")


def test_a_task_that_somebody_else_cancels_fails_its_step(way, ledger: Ledger):
    async def bad() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    dag = Dag("bad")
    dag.node(bad)
    dag.node(lambda: 1, label="good")
    run = way.run(dag, ledger=ledger)
    assert (run.status, run.failed_step) == (RunStatus.FAILED, "bad")


def test_a_request_that_comes_while_a_start_is_committed_still_reaches_the_body(ledger: Ledger):
    async def main() -> RunStatus:
        @step(at_most_once=True)
        async def endless() -> None:
            await asyncio.Event().wait()

        commit = ledger.commit_async

        async def commit_and_ask(write: Any) -> None:
            await commit(write)
            if getattr(write, "starts", ()):
                session, wake = keeper.keeper_of(ledger)._sessions["race"]
                session.ask_to_stop("RunCancelled", "asked meanwhile")
                wake()
                await asyncio.sleep(0)

        ledger.commit_async = commit_and_ask  # type: ignore[method-assign]
        dag = Dag("race")
        dag.node(endless)
        async with asyncio.timeout(PATIENCE):
            return (await dag.run_async(ledger=ledger, run_id="race")).status

    assert asyncio.run(main()) is RunStatus.CANCELLED
    assert statuses(ledger) == {"endless": StepStatus.CANCELLED}
