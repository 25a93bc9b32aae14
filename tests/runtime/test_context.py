"""What a step can ask of its run: identity, heartbeat, progress, saved values, a logger."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from typing import TYPE_CHECKING, Annotated, Any, Optional

import pytest

import milepost
from milepost import Dag, Ledger, RunStatus, StepContext, step
from milepost.errors import ConfigurationError

if TYPE_CHECKING:
    from somewhere_else import Unknown  # type: ignore[import-not-found]

PATIENCE = 10.0


def run_of(body: Any, way: Any, ledger: Ledger, **options: Any) -> Any:
    dag = Dag("one")
    dag.node(step(**options)(body), label="it")
    return way.run(dag, ledger=ledger)


# --- who gets one --------------------------------------------------------------------------------


def test_a_step_that_asks_gets_its_identity(way, ledger: Ledger):
    def body(ctx: StepContext) -> tuple[str, str, int]:
        return ctx.run_id, ctx.label, ctx.attempt

    run = run_of(body, way, ledger)
    assert run.result() == (run.run_id, "it", 1)


def test_an_element_is_told_by_its_own_label(way, ledger: Ledger):
    async def body(x: int, ctx: StepContext) -> str:
        return f"{ctx.label}={x}"

    dag = Dag("map")
    dag.map(body, [7, 8], label="m")
    assert way.run(dag, ledger=ledger).result() == ["m[0]=7", "m[1]=8"]


class MyContext(StepContext):
    pass


def optional(ctx: StepContext | None = None) -> str:
    return "none" if ctx is None else ctx.label


def optional_of_old(ctx: Optional[StepContext] = None) -> str:  # noqa: UP045 - people write it so
    return "none" if ctx is None else ctx.label


def annotated(ctx: Annotated[StepContext, "the run's"]) -> str:
    return ctx.label


def as_text(ctx: "StepContext") -> str:  # noqa: UP037 - people write it so
    return ctx.label


def by_module(*, ctx: milepost.StepContext) -> str:
    return ctx.label


def beside_an_unknown_name(ctx: StepContext, other: Unknown | None = None) -> str:
    return ctx.label


def imported_for_type_checkers_only(ctx: Any) -> str:
    return str(ctx.label)


imported_for_type_checkers_only.__annotations__["ctx"] = "nowhere.StepContext"


@pytest.mark.parametrize(
    "body",
    [optional, optional_of_old, annotated, as_text, by_module, beside_an_unknown_name, imported_for_type_checkers_only],
)
def test_a_context_is_asked_for_in_every_way_to_write_its_type(body: Any, ledger: Ledger):
    dag = Dag("ways")
    dag.node(body, label="it")
    assert "ctx" not in dag.inputs
    assert dag.run(ledger=ledger).result() == "it"


def test_a_parameter_that_only_mentions_a_context_is_an_input():
    def body(ctx: list[StepContext]) -> None:
        pass

    dag = Dag("mentions")
    dag.node(body)
    assert list(dag.inputs) == ["ctx"]


# --- progress ------------------------------------------------------------------------------------


def test_progress_is_kept_in_the_ledger_while_the_step_runs(way, ledger: Ledger, eventually, in_background, release):
    def body(ctx: StepContext) -> None:
        ctx.progress(3, 10, "reading caf\udce9")
        assert release.wait(PATIENCE)

    dag = Dag("slow")
    dag.node(body, label="it")
    result = in_background(lambda: way.run(dag, ledger=ledger, run_id="slow"))
    recorded = eventually(lambda: [s for s in ledger.get_step("slow", "it") if s.progress_done is not None])[0]
    assert recorded.status == "running"
    assert (recorded.progress_done, recorded.progress_total) == (3, 10)
    assert recorded.progress_message == r"reading caf\udce9"
    release.set()
    assert result().status is RunStatus.COMPLETED


@pytest.mark.parametrize("arguments", [{"done": 0.5}, {"done": "3"}, {"total": -1}, {"total": 2**63}, {"done": [1]}])
def test_progress_that_cannot_be_counted_fails_the_step_with_the_reason(arguments: dict[str, Any], way, ledger: Ledger):
    def body(ctx: StepContext) -> None:
        ctx.progress(**arguments)

    run = run_of(body, way, ledger)
    assert isinstance(run.exception, ConfigurationError)
    assert f"progress({next(iter(arguments))}=...) must be" in run.error


def test_a_message_may_be_anything_that_has_a_text(way, ledger: Ledger, eventually, in_background, release):
    def body(ctx: StepContext) -> None:
        ctx.progress(message=["a", 1])  # type: ignore[arg-type]
        assert release.wait(PATIENCE)

    dag = Dag("slow")
    dag.node(body, label="it")
    result = in_background(lambda: way.run(dag, ledger=ledger, run_id="slow"))
    eventually(lambda: [s for s in ledger.get_step("slow", "it") if s.progress_message == "['a', 1]"])
    release.set()
    assert result().status is RunStatus.COMPLETED


# --- saved values --------------------------------------------------------------------------------


def test_a_value_saved_by_one_attempt_is_there_for_the_next(way, ledger: Ledger):
    def counting(ctx: StepContext) -> int:
        done = int(ctx.load("done", 0))
        ctx.save("done", done + 1)
        if ctx.attempt < 3:
            raise ValueError("again")
        return int(ctx.load("done"))

    assert run_of(counting, way, ledger, retries=2).result() == 3


def test_a_saved_value_keeps_its_type_and_can_be_replaced(way, ledger: Ledger):
    def body(ctx: StepContext) -> bool:
        assert ctx.load("v", "default") == "default"
        ctx.save("v", 1)
        ctx.save("v", (1, {"two", "three"}))
        return ctx.load("v") == (1, {"two", "three"}) and isinstance(ctx.load("v"), tuple)

    run = run_of(body, way, ledger)
    assert run.result() is True
    (saved,) = ledger.list_checkpoints(run.run_id)
    assert (saved.label, saved.name) == ("it", "v")


def test_a_value_saved_before_a_failure_is_there_when_the_run_is_resumed(way, ledger: Ledger):
    is_mended = False

    async def body(ctx: StepContext) -> Any:
        if not is_mended:
            await ctx.save_async("so far", [1, 2])
            raise ValueError("not yet")
        return ctx.load("so far")

    dag = Dag("one")
    dag.node(body, label="it")
    run = way.run(dag, ledger=ledger)
    assert run.status is RunStatus.FAILED
    is_mended = True
    assert way.resume(dag, run.run_id, ledger=ledger).result() == [1, 2]


def test_steps_do_not_see_each_others_values(way, ledger: Ledger):
    def saves(ctx: StepContext) -> int:
        ctx.save("v", 1)
        return 1

    def loads(x: int, ctx: StepContext) -> Any:
        return ctx.load("v")

    dag = Dag("two")
    dag.node(loads, x=dag.node(saves))
    assert way.run(dag, ledger=ledger).result() is None


def test_a_value_that_cannot_be_saved_fails_the_step_once(way, ledger: Ledger):
    calls: list[int] = []

    def body(ctx: StepContext) -> None:
        calls.append(1)
        ctx.save("position", object())

    run = run_of(body, way, ledger, retries=5)
    assert calls == [1]
    assert run.error.startswith("ValueNotStorable: A value of type builtins.object cannot be stored")


@pytest.mark.parametrize("name", ["", 5, None, "a\nb", "\udce9"])
def test_a_saved_value_needs_a_name_that_can_be_written(name: Any, way, ledger: Ledger):
    def body(ctx: StepContext) -> None:
        ctx.save(name, 1)

    run = run_of(body, way, ledger)
    assert isinstance(run.exception, ConfigurationError)
    assert "name must be a text of printable characters" in run.error


# --- logging and context -------------------------------------------------------------------------


def test_every_record_of_the_steps_logger_carries_run_step_and_attempt(way, ledger: Ledger, caplog):
    def body(ctx: StepContext) -> None:
        ctx.logger.info("reading %s", "a file", extra={"mine": 5})
        if ctx.attempt == 1:
            raise ValueError("again")

    with caplog.at_level(logging.INFO, logger="milepost.step"):
        run = run_of(body, way, ledger, retries=1)
    records = [r for r in caplog.records if r.name == "milepost.step"]
    assert [r.getMessage() for r in records] == ["reading a file"] * 2
    assert [(r.run_id, r.step, r.attempt, r.mine) for r in records] == [
        (run.run_id, "it", 1, 5),
        (run.run_id, "it", 2, 5),
    ]


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.mark.parametrize("is_alone", [True, False])
def test_bodies_see_the_context_variables_of_whoever_runs_the_dag(is_alone: bool, way, ledger: Ledger):
    def read() -> str:
        return VARIABLE.get()

    async def read_later() -> str:
        return VARIABLE.get()

    dag = Dag("context")
    one = dag.node(read)
    dag.node(read_later, after=one if is_alone else ())
    token = VARIABLE.set("mine")
    try:
        run = way.run(dag, ledger=ledger)
    finally:
        VARIABLE.reset(token)
    assert run.output("read") == run.output("read_later") == "mine"


# --- the event loop ------------------------------------------------------------------------------


def test_a_sync_step_does_not_block_the_loop_it_is_run_from(ledger: Ledger):
    async def main() -> str:
        started, released = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def blocking() -> str:
            loop.call_soon_threadsafe(started.set)
            assert released.wait(PATIENCE), "the loop did not go on meanwhile"
            return "done"

        dag = Dag("blocking")
        dag.node(blocking)
        task = asyncio.create_task(dag.run_async(ledger=ledger))
        await started.wait()
        released.set()
        return (await task).result()

    assert asyncio.run(main()) == "done"


def test_a_dag_can_be_run_to_its_end_from_inside_a_running_loop(ledger: Ledger):
    async def later() -> int:
        await asyncio.sleep(0)
        return 5

    async def main() -> int:
        dag = Dag("nested")
        dag.node(later)
        return dag.run(ledger=ledger).result()

    assert asyncio.run(main()) == 5


def test_a_step_may_run_a_dag_of_its_own(way, ledger: Ledger):
    inner = Dag("inner")
    inner.node(lambda: 5, label="five")

    def outer() -> int:
        return inner.run(ledger=ledger).result() + 1

    assert run_of(outer, way, ledger).result() == 6
    assert {run.workflow for run in ledger.list_runs()} == {"one", "inner"}
