"""DagRunner, and Dags that are called: what the documents of DAG provenance ask of a runner."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from milepost import Dag, DagPause, DagRunner, DagRunResult, Ledger, RunStatus, StepContext, step
from milepost.dag import DagContext, DagRunStatus
from milepost.errors import ConfigurationError, GraphError, InputError, InvalidTransition, RunBusy, RunNotFound


@pytest.fixture
def ledger() -> Ledger:
    return Ledger.open(":memory:")


def go(awaitable: Any) -> Any:
    return asyncio.run(awaitable)


def add(n: int, by: int = 1) -> int:
    return n + by


async def double(n: int) -> int:
    return 2 * n


def fail(n: int) -> int:
    raise ValueError(f"no {n}")


def line(*functions: Any) -> Dag:
    dag = Dag("line")
    ref = None
    for place, fn in enumerate(functions):
        ref = dag.node(fn, label="abcdefg"[place], **({} if ref is None else {"n": ref}))
    return dag


# --- run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["ledger", "path", "text", "nowhere"])
def test_a_runner_records_in_a_ledger_a_file_or_nowhere(place: str, ledger: Ledger, tmp_path: Path) -> None:
    where = {"ledger": ledger, "path": tmp_path / "a.db", "text": str(tmp_path / "b.db"), "nowhere": None}[place]
    result = go(DagRunner(line(double, double), where).run({"a": {"n": 3}}))
    assert (result.status, result.outputs, result.failed_node, result.error) == ("completed", {"b": 12}, None, None)
    if place == "ledger":
        assert ledger.require_run(result.run_id).status == RunStatus.COMPLETED


def test_a_node_that_raises_is_in_the_result_and_not_raised(ledger: Ledger) -> None:
    dag = line(double, fail)
    dag.node(add, label="other", n=1, by=2)
    for where in (ledger, None):
        result = go(DagRunner(dag, where).run({"a": {"n": 3}}))
        assert (result.status, result.failed_node, result.error) == (DagRunStatus.FAILED, "b", "no 6")


def test_finished_sinks_are_in_the_result_of_a_failed_run(ledger: Ledger) -> None:
    done = threading.Event()

    def quick() -> int:
        return 5

    def watch(n: int) -> int:
        assert done.wait(10)
        raise ValueError

    def last(n: int) -> int:
        done.set()
        return n

    dag = Dag("two")
    dag.node(watch, n=1)
    dag.node(last, n=dag.node(quick))
    result = go(DagRunner(dag, ledger).run())
    assert (result.status, result.outputs) == ("failed", {"last": 5})


def test_what_a_run_is_listed_under_can_be_said(ledger: Ledger) -> None:
    result = go(DagRunner(line(double), ledger).run({"a": {"n": 1}}, "market:prices", created_by="me", run_id="r1"))
    run = ledger.require_run("r1")
    assert (result.run_id, run.workflow, run.created_by) == ("r1", "market:prices", "me")


def test_two_sources_take_different_values_for_parameters_of_one_name(ledger: Ledger) -> None:
    dag = Dag("sources")
    left, right = dag.node(add, label="left", by=0), dag.node(add, label="right", by=0)
    dag.node(lambda a, b: [a, b], label="both", a=left, b=right)
    given = {"left": {"n": 1}, "right": {"n": 2}}
    for where in (ledger, None):
        assert go(DagRunner(dag, where).run(given)).outputs == {"both": [1, 2]}
    run = ledger.list_runs()[0]
    assert ledger.get_inputs(run.run_id) == {"left.n": 1, "right.n": 2}
    assert ledger.get_step(run.run_id, "right")[0].input == '{"by":{"value":0},"n":{"input":"right.n"}}'


def test_inputs_given_node_by_node_hold_for_a_restart_and_a_replay(ledger: Ledger) -> None:
    broken = [True]

    def last(a: int, b: int) -> int:
        if broken:
            raise ValueError("no")
        return a * 10 + b

    dag = Dag("sources")
    dag.node(last, a=dag.node(add, label="left", by=0), b=dag.node(add, label="right", by=0))
    runner = DagRunner(dag, ledger)
    run = go(runner.run({"left": {"n": 1}, "right": {"n": 2}}))
    broken.clear()
    assert go(runner.restart(run.run_id)).outputs == {"last": 12}
    assert go(runner.replay(run.run_id, {"left", "right"})).outputs == {"last": 12}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"aa": {"n": 1}}, r"there is no node 'aa'"),
        ({"a": {"m": 1}}, r"node 'a' has no open parameter 'm' \(it has: n, by\)"),
        ({"b": {"n": 1}, "a": {"n": 1}}, r"node 'b' has no open parameter 'n'"),
        ({"a": 1}, r"the inputs of node 'a' must be a dict by parameter, not 1"),
        ({}, r"missing input 'n'"),
        ({"a": {"n": "x"}}, r"input 'n' must be int, not 'x'"),
        ([1], r"source_inputs must be a dict"),
    ],
)
def test_unknown_labels_and_inputs_are_refused_before_any_row_is_written(
    ledger: Ledger, given: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        go(DagRunner(line(add, double), ledger).run(given))
    assert isinstance(caught.value, ValueError)
    assert ledger.list_runs() == []


def test_a_cyclic_dag_is_refused_before_every_run(ledger: Ledger) -> None:
    dag = Dag("round")
    a, b = dag.node(lambda: 1, label="a"), dag.node(lambda: 2, label="b")
    a >> b
    b >> a
    with pytest.raises(GraphError, match="goes round in a circle"):
        go(DagRunner(dag, ledger).run())
    assert ledger.list_runs() == []


def test_siblings_run_at_once_and_arrive_in_the_order_of_their_edges() -> None:
    both = threading.Barrier(2)

    def slow() -> float:
        both.wait(10)
        return 1.0

    def quick() -> float:
        both.wait(10)
        return 2.0

    def collect(values: list[float]) -> list[float]:
        return values

    with Dag() as dag:
        [dag.node(slow), dag.node(quick)] >> dag.node(collect)
    assert go(dag()).outputs == {"collect": [1.0, 2.0]}


def test_what_is_no_provenance_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="provenance must be a DagProvenance"):
        DagRunner(line(double), 3)


def test_an_object_with_the_methods_of_provenance_and_no_ledger_records_nothing() -> None:
    class Nothing:
        def create_run(self) -> None: ...
        def get_node_output(self) -> None: ...

    assert DagRunner(line(double), Nothing()).ledger is None


# --- without a record -------------------------------------------------------------------------------


def test_a_dag_that_is_called_runs_without_a_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = go(line(add, double)(n=2, by=3))
    assert isinstance(result, DagRunResult)
    assert result.outputs == {"b": 10}
    assert list(tmp_path.iterdir()) == []


def test_a_call_takes_inputs_by_name_or_under_the_label_of_a_node() -> None:
    dag = Dag("sources")
    dag.node(lambda a, b: [a, b], label="both", a=dag.node(add, label="left"), b=dag.node(add, label="right"))
    assert go(dag(n=1, by=0)).outputs == {"both": [1, 1]}
    assert go(dag(left={"n": 1}, right={"n": 5, "by": 2}, by=0)).outputs == {"both": [1, 7]}
    with pytest.raises(InputError, match="unknown input 'm'"):
        go(dag(m=1))


def test_without_a_record_nothing_is_encoded() -> None:
    class Opaque:
        pass

    def make() -> Any:
        return {("a", 1): Opaque()}

    dag = Dag("opaque")
    made = dag.node(make)
    dag.map(lambda n, given: type(given["a", 1]).__name__, [1, 2], label="each", given=made)
    assert go(dag()).outputs == {"each": ["Opaque", "Opaque"]}


def test_without_a_record_everything_else_works_as_with_one() -> None:
    tries: list[int] = []

    @step(retries=1)
    def flaky(ctx: StepContext, n: int) -> int:
        tries.append(ctx.load("n", 0))
        ctx.save("n", n)
        if len(tries) == 1:
            raise ValueError("once")
        return n

    inner = Dag("inner")
    inner.node(double, n=inner.node(add))
    dag = Dag("outer")
    nap = dag.sleep(0.01)
    first = dag.node(flaky, n=3, after=nap)
    many = dag.map(inner, dag.node(lambda n: [n, n], label="pair", n=first), label="many", by=1)
    dag.switch({"x": sum}, dag.node(lambda given: ("x", given), label="route", given=many), label="way")
    dag.map(double, [1, 2], label="last")
    assert go(dag()).outputs == {"way": 16, "last": [2, 4]}
    assert tries == [0, 3]


def test_nothing_can_be_taken_up_where_nothing_was_recorded() -> None:
    runner = DagRunner(line(double))
    result = go(runner.run({"a": {"n": 1}}))
    with pytest.raises(RunNotFound):
        go(runner.restart(result.run_id))
    with pytest.raises(ValueError, match="No run"):
        go(runner.replay(result.run_id, {"a"}))


# --- with Dag() -------------------------------------------------------------------------------------


def test_leaving_the_block_checks_the_dag() -> None:
    with pytest.raises(ValueError, match="circle"), Dag() as dag:  # noqa: PT012
        a, b = dag.node(lambda: 1, label="a"), dag.node(lambda: 2, label="b")
        a >> b
        b >> a
    with pytest.raises(GraphError, match="returns str"), Dag() as dag:
        dag.node(add, n=dag.node(lambda_text))


def lambda_text() -> str:
    return "x"


def test_another_error_in_the_block_is_not_hidden_by_the_check() -> None:
    with pytest.raises(KeyError), Dag():
        raise KeyError


# --- restart ----------------------------------------------------------------------------------------


def test_a_restart_runs_what_is_left_under_the_same_id(ledger: Ledger) -> None:
    ran: list[str] = []
    broken = [True]

    def first(n: int) -> int:
        ran.append("first")
        return n

    def second(n: int) -> int:
        ran.append("second")
        if broken:
            raise ValueError("no")
        return n

    runner = DagRunner(line(first, second, double), ledger)
    run = go(runner.run({"a": {"n": 1}}))
    assert ledger.require_run(run.run_id).finished_at is not None
    broken.clear()
    again = go(runner.restart(run.run_id))
    assert (again.run_id, again.outputs, ran) == (run.run_id, {"c": 2}, ["first", "second", "second"])


def test_a_restart_of_what_is_unknown_or_completed_is_a_value_error(ledger: Ledger) -> None:
    runner = DagRunner(line(double), ledger)
    with pytest.raises(RunNotFound) as missing:
        go(runner.restart("nothing"))
    assert isinstance(missing.value, ValueError)
    run = go(runner.run({"a": {"n": 1}}))
    with pytest.raises(InvalidTransition) as done:
        go(runner.restart(run.run_id))
    assert isinstance(done.value, ValueError)


def test_a_cancelled_run_is_recorded_raised_and_can_be_restarted(ledger: Ledger) -> None:
    hang = [True]

    async def wait(n: int) -> int:
        if hang:
            began.set()
            await asyncio.Event().wait()
        return n

    async def cancel() -> str:
        task = asyncio.create_task(runner.run({"a": {"n": 1}}))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (run,) = ledger.list_runs()
        assert run.status == RunStatus.CANCELLED
        return run.run_id

    began = asyncio.Event()
    runner = DagRunner(line(double, wait), ledger)
    run_id = go(cancel())
    hang.clear()
    assert go(runner.restart(run_id)).outputs == {"b": 2}


# --- pause ------------------------------------------------------------------------------------------


def test_a_pause_asked_for_before_a_run_holds_for_that_run_alone(ledger: Ledger) -> None:
    runner = DagRunner(line(double, double), ledger)
    runner.pause()
    paused = go(runner.run({"a": {"n": 1}}))
    assert (paused.status, paused.outputs, paused.error) == ("paused", {}, "somebody asked to pause the run")
    assert ledger.list_steps(paused.run_id) == []
    assert go(runner.run({"a": {"n": 1}})).status == "completed"
    assert go(runner.restart(paused.run_id)).outputs == {"b": 4}


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_pause_lets_the_node_that_runs_finish(ledger: Ledger, is_recorded: bool) -> None:
    def ask(n: int) -> int:
        runner.pause()
        return n + 1

    runner = DagRunner(line(double, ask, double), ledger if is_recorded else None)
    result = go(runner.run({"a": {"n": 1}}))
    assert (result.status, result.failed_node) == ("paused", None)
    if is_recorded:
        assert {s.label: s.status for s in ledger.list_steps(result.run_id)} == {"a": "completed", "b": "completed"}
        assert go(runner.restart(result.run_id)).outputs == {"c": 6}


def test_a_pause_after_the_last_node_leaves_a_completed_run(ledger: Ledger) -> None:
    def ask(n: int) -> int:
        runner.pause()
        return n

    runner = DagRunner(line(ask), ledger)
    assert go(runner.run({"a": {"n": 1}})).status == "completed"
    assert go(runner.run({"a": {"n": 1}})).status == "completed"


def test_a_pause_reaches_every_run_of_the_runner_and_none_of_another(ledger: Ledger) -> None:
    async def three() -> list[Any]:
        started = [asyncio.Event() for _ in range(3)]
        release = asyncio.Event()

        async def wait(n: int) -> int:
            started[n].set()
            await release.wait()
            return n

        dag = line(wait, double)
        mine, other = DagRunner(dag, ledger), DagRunner(dag, ledger)
        tasks = [
            asyncio.create_task(runner.run({"a": {"n": place}})) for place, runner in enumerate((mine, mine, other))
        ]
        await asyncio.gather(*(event.wait() for event in started))
        mine.pause()
        release.set()
        return [result.status for result in await asyncio.gather(*tasks)]

    assert go(three()) == ["paused", "paused", "completed"]


def test_a_pause_passes_down_into_sub_runs(ledger: Ledger) -> None:
    def ask(n: int) -> int:
        runner.pause()
        return n

    inner = line(ask, double)
    dag = Dag("outer")
    dag.node(double, n=dag.node(inner, label="inner"))
    runner = DagRunner(dag, ledger)
    result = go(runner.run({"inner": {"n": 2}}))
    assert result.status == "paused"
    assert {run.status for run in ledger.list_runs(inner=True)} == {RunStatus.SUSPENDED}
    assert go(runner.restart(result.run_id)).outputs == {"double": 8}


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_node_that_raises_dag_pause_pauses_the_run(ledger: Ledger, is_recorded: bool) -> None:
    gate: list[int] = []

    def look(n: int) -> int:
        if not gate:
            raise DagPause("look first")
        return n

    runner = DagRunner(line(double, look), ledger if is_recorded else None)
    result = go(runner.run({"a": {"n": 2}}))
    assert (result.status, result.failed_node, result.error) == ("paused", "b", "look first")
    if is_recorded:
        gate.append(1)
        assert go(runner.restart(result.run_id)).outputs == {"b": 4}


# --- replay -----------------------------------------------------------------------------------------


def test_a_replay_reuses_what_is_not_chosen_and_not_downstream(ledger: Ledger) -> None:
    runner = DagRunner(line(add, double, double), ledger)
    run = go(runner.run({"a": {"n": 1, "by": 2}}))
    again = go(runner.replay(run.run_id, {"b"}, new_run_id="again", created_by="me"))
    assert (again.run_id, again.status, again.outputs) == ("again", "completed", {"c": 12})
    assert {s.label: s.status for s in ledger.list_steps("again")} == {
        "a": "skipped",
        "b": "completed",
        "c": "completed",
    }
    assert ledger.require_run("again").created_by == "me"
    with pytest.raises(ValueError, match="has no step 'bb'"):
        go(runner.replay(run.run_id, {"bb"}))


def test_a_replay_can_be_paused_and_restarted(ledger: Ledger) -> None:
    runner = DagRunner(line(add, double, double), ledger)
    run = go(runner.run({"a": {"n": 1, "by": 2}}))
    runner.pause()
    paused = go(runner.replay(run.run_id, {"b"}))
    assert paused.status == "paused"
    assert {s.label: s.status for s in ledger.list_steps(paused.run_id)} == {"a": "skipped"}
    assert go(runner.restart(paused.run_id)).outputs == {"c": 12}


def test_an_error_of_the_inputs_after_the_run_began_fails_it_with_the_node_named(ledger: Ledger) -> None:
    class Sequence:
        def __len__(self) -> int:
            raise OSError("gone")

    def make() -> Any:
        return Sequence()

    dag = Dag("wiring")
    dag.map(double, dag.node(step(transient=True)(make)), label="each")
    result = go(DagRunner(dag, ledger).run())
    assert (result.status, result.failed_node) == ("failed", "each")
    assert ledger.require_run(result.run_id).status == RunStatus.FAILED


# --- the context, and what is told while a run goes on ----------------------------------------------


class OwnContext(DagContext):
    """A subclass of a user's."""


def test_a_node_that_asks_for_a_dag_context_gets_one_under_its_names(ledger: Ledger) -> None:
    def tell(ctx: DagContext) -> list[str]:
        return [ctx.dag_nsref, ctx.node_label, ctx.run_id]

    def own(ctx: OwnContext) -> str:
        return type(ctx).__name__

    dag = Dag("told")
    dag.node(tell)
    dag.node(own)
    for where, nsref in ((ledger, "market:prices"), (None, "told")):
        result = go(DagRunner(dag, where).run(dag_nsref=nsref))
        assert result.outputs == {"tell": [nsref, "tell", result.run_id], "own": "OwnContext"}


def test_a_run_that_goes_on_shows_no_old_end(ledger: Ledger) -> None:
    seen: list[Any] = []

    def look(ctx: StepContext) -> int:
        run = ledger.require_run(ctx.run_id)
        seen.append((run.status, run.finished_at))
        if len(seen) == 1:
            raise ValueError("no")
        return 1

    dag = Dag("again")
    dag.node(look)
    runner = DagRunner(dag, ledger)
    first = go(runner.run())
    assert ledger.require_run(first.run_id).finished_at is not None
    go(runner.restart(first.run_id))
    assert seen == [("running", None)] * 2


def test_who_started_a_run_is_handed_down_to_the_runs_inside_it(ledger: Ledger) -> None:
    dag = Dag("outer")
    dag.node(line(double), label="inner")
    result = go(DagRunner(dag, ledger).run({"inner": {"n": 1}}, created_by="scheduler"))
    assert {run.created_by for run in ledger.list_runs(inner=True)} == {"scheduler"}
    assert result.outputs == {"inner": 2}


def test_a_run_that_lives_elsewhere_is_not_restarted_and_its_holder_is_named(ledger: Ledger) -> None:
    began, release = threading.Event(), threading.Event()

    def wait(n: int) -> int:
        began.set()
        assert release.wait(10)
        return n

    runner = DagRunner(line(wait), ledger)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(go, runner.run({"a": {"n": 1}}, run_id="one"))
        assert began.wait(10)
        with pytest.raises(RunBusy, match="another thread of this process"):
            go(runner.restart("one"))
        release.set()
        assert running.result(10).status == "completed"


def test_the_loop_waits_for_no_database_in_a_run_a_restart_or_a_replay(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [True]

    def last(n: int) -> int:
        if broken:
            raise ValueError("no")
        return n

    dag = Dag("busy")
    dag.node(last, n=dag.node(lambda: 1, label="first"))
    dag.build()
    called: list[tuple[str, int]] = []

    def watch(name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            called.append((name, threading.get_ident()))
            return verb(*args, **kwargs)

        return watched

    for name in dir(ledger.store):
        verb = getattr(ledger.store, name)
        if not name.startswith("_") and inspect.ismethod(verb):
            monkeypatch.setattr(ledger.store, name, watch(name, verb))

    async def work() -> int:
        runner = DagRunner(dag, ledger)
        failed = await runner.run()
        assert failed.status == "failed"
        broken.clear()
        restarted = await runner.restart(failed.run_id)
        assert restarted.status == "completed"
        assert (await runner.replay(failed.run_id, ["last"])).status == "completed"
        return threading.get_ident()

    loop_thread = asyncio.run(work())
    assert {"apply", "claim_run", "create_replay"} <= {name for name, _ in called}
    assert [name for name, thread in called if thread == loop_thread] == []


def test_the_work_for_a_node_does_not_grow_with_the_graph(ledger: Ledger) -> None:
    def calls_per_node(size: int, where: Ledger | None) -> float:
        dag = line_of(size)
        dag.build()
        runner = DagRunner(dag, where)
        count = 0

        def profile(frame: Any, event: str, arg: Any) -> None:
            nonlocal count
            count += event == "call"

        async def work() -> None:
            sys.setprofile(profile)
            try:
                result = await runner.run()
            finally:
                sys.setprofile(None)
            assert result.status == "completed"

        asyncio.run(work())
        return count / size

    def line_of(size: int) -> Dag:
        dag = Dag("long")
        ref = dag.node(double, label="0", n=0)
        for place in range(1, size):
            ref = dag.node(double, label=str(place), n=ref)
        return dag

    for where in (None, ledger):
        small, large = calls_per_node(100, where), calls_per_node(1600, where)
        assert large < 1.1 * small, (small, large)
