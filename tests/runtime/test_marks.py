"""at_most_once, pure and transient: where the line between commit and start moves."""

from __future__ import annotations

from typing import Any

import pytest

from milepost import Dag, Ledger, Retry, RunFailed, RunStatus, StepContext, StepStatus, step
from milepost.errors import AtMostOnceInterrupted, ConfigurationError

PATIENCE = 10.0


# --- at_most_once --------------------------------------------------------------------------------


def test_the_start_of_an_at_most_once_step_is_durable_before_its_body_runs(way, ledger: Ledger):
    @step(at_most_once=True)
    def body(ctx: StepContext) -> str:
        return " ".join(s.status.value for s in ledger.get_step(ctx.run_id, "it"))

    dag = Dag("once")
    dag.node(body, label="it")
    assert way.run(dag, ledger=ledger).result() == "running"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("failed")])
def test_an_at_most_once_step_that_was_started_is_never_started_again(error: BaseException, way, ledger: Ledger):
    calls: list[int] = []

    @step(at_most_once=True)
    def body() -> None:
        calls.append(1)
        raise error

    dag = Dag("once")
    dag.node(body, label="pay")
    try:
        run_id = way.run(dag, ledger=ledger).run_id
    except KeyboardInterrupt:
        run_id = ledger.list_runs()[0].run_id
    run = way.resume(dag, run_id, ledger=ledger)
    assert calls == [1]
    assert isinstance(run.exception, AtMostOnceInterrupted)
    assert "Step 'pay' is marked at_most_once and was started before" in run.error
    assert [s.status.value for s in ledger.get_step(run_id, "pay")][1:] == ["failed"]


def test_an_at_most_once_step_that_completed_is_done_when_the_run_is_resumed(way, ledger: Ledger):
    calls: list[str] = []

    @step(at_most_once=True)
    def pay() -> int:
        calls.append("pay")
        return 5

    def after(x: int) -> int:
        calls.append("after")
        if calls.count("after") == 1:
            raise ValueError
        return x

    dag = Dag("once")
    dag.node(after, x=dag.node(pay))
    run = way.run(dag, ledger=ledger)
    assert way.resume(dag, run.run_id, ledger=ledger).result() == 5
    assert calls == ["pay", "after", "after"]


def test_a_step_that_may_not_start_again_is_told_with_one_remedy():
    told = str(RunFailed("r1", "pay", "AtMostOnceInterrupted", str(AtMostOnceInterrupted("pay", "r1"))))
    assert told.endswith("check its effect by hand, then start a new run.")
    assert "resume" not in told


@pytest.mark.parametrize("options", [{"retries": 1}, {"pure": True}, {"transient": True}])
def test_marks_that_contradict_each_other_are_refused(options: dict[str, Any]):
    with pytest.raises(ConfigurationError, match="at_most_once"):
        step(at_most_once=True, **options)(lambda: None)


def test_no_retries_do_not_contradict_at_most_once():
    assert step(at_most_once=True, retry=Retry(max_retries=0))(lambda: None).at_most_once


# --- pure ----------------------------------------------------------------------------------------


def count_commits(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    commits: list[int] = []
    apply = ledger.store.apply

    def counted(batch: Any) -> Any:
        commits.append(len(batch))
        return apply(batch)

    monkeypatch.setattr(ledger.store, "apply", counted)
    return commits


def pure_chain(length: int) -> Dag:
    @step(pure=True)
    def add_one(x: int = 0) -> int:
        return x + 1

    dag = Dag("chain")
    last = dag.node(add_one, label="s0", x=0)
    for n in range(1, length):
        last = dag.node(add_one, label=f"s{n}", x=last)
    return dag


def test_pure_steps_ride_with_a_later_commit_and_are_all_there_when_the_run_has_ended(way, ledger: Ledger, monkeypatch):
    commits = count_commits(ledger, monkeypatch)
    run = way.run(pure_chain(100), ledger=ledger)
    assert run.result() == 100
    assert len(commits) < 20
    assert ledger.store.count_steps(run.run_id) == {"completed": 100}
    assert len(ledger.list_edges(run.run_id)) == 99
    assert list(ledger.check()) == []


def test_only_so_many_pure_steps_wait_for_a_commit(way, ledger: Ledger):
    run = way.run(pure_chain(2000), ledger=ledger)
    assert run.result() == 2000
    assert ledger.store.count_steps(run.run_id) == {"completed": 2000}


def test_pure_steps_that_wait_are_recorded_when_the_run_fails_or_is_interrupted(way, ledger: Ledger):
    for error in (ValueError("stop"), KeyboardInterrupt("stop")):
        dag = pure_chain(10)

        def last(x: int, *, error: BaseException = error) -> None:
            raise error

        dag.node(last, x=dag.node(step(pure=True)(lambda: 1), label="one"))
        run_id = f"run-{type(error).__name__}"
        try:
            way.run(dag, ledger=ledger, run_id=run_id)
        except KeyboardInterrupt:
            pass
        completed = {s.label for s in ledger.list_steps(run_id) if s.status is StepStatus.COMPLETED}
        assert "one" in completed
        assert "s0" in completed


def test_a_pure_step_that_waits_is_recorded_by_the_keeper(way, ledger: Ledger, eventually):
    def slow(x: int, ctx: StepContext) -> bool:
        return bool(eventually(lambda: ledger.get_step(ctx.run_id, "one")))

    dag = Dag("keeper")
    dag.node(slow, x=dag.node(step(pure=True)(lambda: 1), label="one"))
    assert way.run(dag, ledger=ledger).result() is True


# --- transient -----------------------------------------------------------------------------------


def test_a_transient_step_runs_again_on_resume_where_it_is_needed_and_its_done_readers_do_not(way, ledger: Ledger):
    ran: list[str] = []

    @step(transient=True)
    def connect() -> object:
        ran.append("connect")
        return object()

    def reads(connection: object) -> int:
        ran.append("reads")
        return 1

    def fails_at_first(connection: object, x: int) -> int:
        ran.append("fails_at_first")
        if not is_mended:
            raise ValueError
        return x + 1

    is_mended = False
    dag = Dag("transient")
    connection = dag.node(connect)
    read = dag.node(reads, connection=connection)
    dag.node(lambda a, b: a + b, label="sum", a=read, b=dag.node(fails_at_first, connection=connection, x=read))
    run = way.run(dag, ledger=ledger)
    assert run.status is RunStatus.FAILED
    ran.clear()
    is_mended = True
    resumed = way.resume(dag, run.run_id, ledger=ledger)
    assert resumed.result() == 3
    assert ran == ["connect", "fails_at_first"]
    assert [s.attempt for s in ledger.get_step(run.run_id, "connect")] == [1, 2]
    assert [s.attempt for s in ledger.get_step(run.run_id, "reads")] == [1]
    assert list(ledger.check()) == []


def test_a_transient_step_that_nobody_needs_any_more_does_not_run_again(way, ledger: Ledger):
    ran: list[str] = []

    @step(transient=True)
    def connect() -> object:
        ran.append("connect")
        return object()

    def reads(connection: object) -> int:
        return 1

    def fails_at_first(x: int) -> int:
        ran.append("fails")
        if ran.count("fails") == 1:
            raise ValueError
        return x

    dag = Dag("transient")
    dag.node(fails_at_first, x=dag.node(reads, connection=dag.node(connect)))
    run = way.run(dag, ledger=ledger)
    assert way.resume(dag, run.run_id, ledger=ledger).result() == 1
    assert ran == ["connect", "fails", "fails"]


def test_elements_of_a_transient_map_are_made_again_for_a_reader_that_is_left(way, ledger: Ledger):
    made: list[int] = []

    @step(transient=True)
    def load(x: int) -> object:
        made.append(x)
        return object()

    def fails_at_first(models: list[object]) -> int:
        if len(made) == 3:
            raise ValueError
        return len(models)

    dag = Dag("transient")
    dag.node(fails_at_first, models=dag.map(load, [1, 2, 3]))
    run = way.run(dag, ledger=ledger)
    assert run.status is RunStatus.FAILED
    assert way.resume(dag, run.run_id, ledger=ledger).result() == 3
    assert sorted(made) == [1, 1, 2, 2, 3, 3]
