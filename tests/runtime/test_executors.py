"""Bodies on the user's own executors: thread pools, process pools, and any other."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from milepost import Dag, Ledger, RunStatus, StepContext, step
from milepost.errors import ConfigurationError

PATIENCE = 10.0


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, thread_name_prefix="users-own") as pool:
        yield pool


def thread_name() -> str:
    return threading.current_thread().name


def test_a_step_runs_on_the_thread_pool_it_names(way, ledger: Ledger, threads):
    dag = Dag("pool")
    dag.node(step(executor=threads)(thread_name), label="pooled")
    dag.node(thread_name, label="not pooled")
    run = way.run(dag, ledger=ledger)
    assert run.outputs["pooled"].startswith("users-own")
    assert not run.outputs["not pooled"].startswith("users-own")


def test_the_runs_executor_is_for_steps_that_name_none(way, ledger: Ledger, threads):
    async def later() -> str:
        return threading.current_thread().name

    dag = Dag("pool")
    dag.node(thread_name)
    dag.node(later)
    run = way.run(dag, ledger=ledger, executor=threads)
    assert run.outputs["thread_name"].startswith("users-own")
    assert not run.outputs["later"].startswith("users-own")


def test_a_step_on_a_thread_pool_may_use_its_context(way, ledger: Ledger, threads):
    def body(ctx: StepContext) -> str:
        return ctx.label

    dag = Dag("pool")
    dag.node(step(executor=threads)(body), label="it")
    assert way.run(dag, ledger=ledger).result() == "it"


# In other processes: functions of the standard library, which a spawned process finds whatever this
# test's own module is called.


def test_steps_run_in_other_processes(way, ledger: Ledger, processes):
    dag = Dag("processes")
    dag.map(step(executor=processes)(os.path.basename), ["a/b", "c/d"], label="m")
    dag.node(step(executor=processes)(os.getpid), label="pid")
    run = way.run(dag, ledger=ledger)
    assert run.outputs["m"] == ["b", "d"]
    assert run.outputs["pid"] != os.getpid()


def test_an_error_from_another_process_is_the_steps_own(way, ledger: Ledger, processes):
    dag = Dag("processes")
    dag.node(step(executor=processes)(os.path.getsize), label="it", filename="/does/not/exist")
    run = way.run(dag, ledger=ledger)
    assert isinstance(run.exception, FileNotFoundError)


def asks_for_context(ctx: StepContext) -> None:
    pass


class Callable:
    def __call__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (asks_for_context, "its StepContext cannot follow it into another process"),
        (lambda: None, "another process cannot find its function. Define it with def at the top level"),
        (partial(os.path.basename, "a/b"), "another process cannot find its function"),
        (Callable(), "another process cannot find its function"),
    ],
)
def test_what_cannot_run_in_another_process_fails_once_with_the_remedy(body, reason, way, ledger: Ledger, processes):
    dag = Dag("processes")
    dag.node(step(executor=processes, retries=3, name="it")(body))
    run = way.run(dag, ledger=ledger)
    assert isinstance(run.exception, ConfigurationError)
    assert f"Step 'it' cannot run on its executor: {reason}" in run.error
    assert len(ledger.list_steps(run.run_id)) == 1


def test_a_pool_that_was_shut_down_fails_the_step(way, ledger: Ledger):
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    dag = Dag("pool")
    dag.node(step(executor=pool)(thread_name), label="it")
    run = way.run(dag, ledger=ledger)
    assert run.status is RunStatus.FAILED
    assert "cannot schedule new futures after shutdown" in run.error


class Inline(Executor):
    """An executor that has done its work before it returns the future."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def test_any_executor_will_do(way, ledger: Ledger):
    dag = Dag("inline")
    dag.map(step(executor=Inline(), timeout=PATIENCE)(os.path.basename), ["a/b", "c/d"], label="m")
    assert way.run(dag, ledger=ledger).result() == ["b", "d"]


def test_an_executor_is_no_place_for_an_async_step():
    async def later() -> None:
        pass

    with pytest.raises(ConfigurationError, match="async"):
        step(executor=Inline())(later)


# --- how many at once ----------------------------------------------------------------------------


class Gauge:
    """Counts how many bodies are inside at once."""

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.inside = 0
        self.most = 0
        self.lock = threading.Lock()
        self.is_full = threading.Event()
        self.is_over = threading.Event()

    def pass_through(self, x: int) -> int:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            is_of_the_first = not self.is_full.is_set()
            if self.inside == self.enough:
                self.is_full.set()
        assert self.is_full.wait(PATIENCE)
        if is_of_the_first:
            self.is_over.wait(0.05)  # never set: a moment in which one too many would come in
        with self.lock:
            self.inside -= 1
        return x


def test_as_many_elements_run_at_once_as_the_map_allows_and_no_more(way, ledger: Ledger):
    gauge = Gauge(3)
    dag = Dag("map")
    dag.map(gauge.pass_through, range(20), label="m", concurrency=3)
    assert way.run(dag, ledger=ledger).result() == list(range(20))
    assert gauge.most == 3


def test_as_many_steps_run_at_once_as_the_run_allows_and_no_more(way, ledger: Ledger):
    gauge = Gauge(2)
    dag = Dag("wide")
    for n in range(4):
        dag.node(gauge.pass_through, x=n, label=f"s{n}")
    dag.map(gauge.pass_through, range(4), label="m", concurrency=3)
    way.run(dag, ledger=ledger, max_concurrency=2).result()
    assert gauge.most == 2


def test_with_one_at_a_time_sync_steps_run_in_the_thread_that_runs_the_dag(ledger: Ledger):
    dag = Dag("one at a time")
    dag.map(lambda x: threading.get_ident(), range(5), label="m")
    dag.node(lambda: threading.get_ident(), label="s")  # noqa: PLW0108 - the builtin has no signature
    run = dag.run(ledger=ledger, max_concurrency=1)
    assert {*run.outputs["m"], run.outputs["s"]} == {threading.get_ident()}


def test_with_one_at_a_time_sync_and_async_steps_and_retries_all_come_to_an_end(way, ledger: Ledger):
    gauge = Gauge(1)

    async def later(x: int) -> int:
        return gauge.pass_through(x)

    @step(retries=1)
    def flaky(x: int, ctx: StepContext) -> int:
        gauge.pass_through(x)
        if ctx.attempt == 1:
            raise ValueError
        return x

    dag = Dag("one at a time")
    dag.map(later, range(3), label="async")
    dag.map(gauge.pass_through, range(3), label="sync")
    dag.map(flaky, range(3), label="flaky", concurrency=2)
    made = way.run(dag, ledger=ledger, max_concurrency=1).result()
    assert made == {"async": [0, 1, 2], "sync": [0, 1, 2], "flaky": [0, 1, 2]}
    assert gauge.most == 1


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "4"])
def test_a_limit_that_lets_nothing_run_is_refused(limit: Any, ledger: Ledger):
    dag = Dag("one")
    dag.node(thread_name)
    with pytest.raises(ConfigurationError, match="max_concurrency must be a whole number of 1 or more"):
        dag.run(ledger=ledger, max_concurrency=limit)
    assert ledger.list_runs() == []
