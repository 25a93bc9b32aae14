"""A task runs its stages in order, carries their fields on, retries by policy, and goes on from where it stands."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime
from typing import Any

import pytest

from milepost import NonRetryable, RunCancelled, RunFailed, RunStatus
from milepost.errors import GraphChanged, InvalidTransition, RunNotFound, ValueNotStorable
from milepost.stages import (
    AttemptsExhausted,
    BaseStage,
    BaseStageState,
    BindError,
    MissingStateError,
    RetryPolicy,
    SimpleRecordsResult,
    StateMismatch,
    StateNotFoundError,
    TaskBusy,
    TaskEngine,
    TaskEngineError,
)


def _statuses(engine: TaskEngine[Any]) -> list[str]:
    return [stage.status.value for stage in engine.stages]


def _changes(engine: TaskEngine[Any], name: str) -> list[str]:
    return [f"{e.attempt} {e.begin_status.value} {e.end_status.value}" for e in engine.stage(name).state.history]


def test_stages_run_in_order_and_what_one_sets_goes_on_to_the_next(task):
    task.plan["c"] = lambda stage: SimpleRecordsResult(total_count=len(stage.state.seen))
    engine = task.engine()
    assert _statuses(engine) == ["CREATED"] * 3
    assert engine.run() == SimpleRecordsResult(total_count=3)
    assert task.trace == ["a", "b", "c"]
    assert [stage.state.seen for stage in engine.stages] == [["a"], ["a", "b"], ["a", "b", "c"]]
    assert [stage.attempts for stage in engine.stages] == [1, 1, 1]
    assert _changes(engine, "b") == ["1 CREATED COMPLETE"]
    assert [stage.state.result is None for stage in engine.stages] == [True, True, False]
    run = task.ledger.require_run("task")
    assert (run.kind, run.status) == ("task", RunStatus.COMPLETED)
    assert [(step.label, step.attempt) for step in task.ledger.list_steps("task")] == [("a", 1), ("b", 1), ("c", 1)]


def test_a_task_runs_on_the_event_loop_too(task):
    task.plan["c"] = lambda stage: SimpleRecordsResult(total_count=len(stage.state.seen))
    assert asyncio.run(task.engine().run_async()) == SimpleRecordsResult(total_count=3)
    asyncio.run(task.engine().rollback_async("a"))
    assert task.trace == ["a", "b", "c", "undo c", "undo b"]


def test_a_completed_task_is_not_run_again_and_still_gives_its_result(task):
    task.plan["c"] = lambda stage: SimpleRecordsResult(total_count=7)
    task.engine().run()
    again = task.engine()
    assert again.run() == SimpleRecordsResult(total_count=7)
    assert task.trace == ["a", "b", "c"]
    assert _statuses(again) == ["COMPLETE"] * 3


def test_a_task_that_failed_goes_on_at_the_stage_that_failed(task):
    task.fail("b", 1)
    engine = task.engine()
    with pytest.raises(RunFailed, match="in step 'b': ValueError: b fails") as caught:
        engine.run()
    assert isinstance(caught.value.__cause__, ValueError)
    assert _statuses(engine) == ["COMPLETE", "ERROR", "CREATED"]
    again = task.engine()
    again.run()
    assert task.trace == ["a", "b", "b", "c"]
    assert _changes(again, "b") == ["1 CREATED ERROR", "1 ERROR CREATED", "2 CREATED COMPLETE"]
    assert again.stage("b").state.history[1].message == "run again by hand"
    assert [step.attempt for step in task.ledger.list_steps("task") if step.label == "b"] == [1, 2]


# a fails once, b twice: how often each is executed, and how the task ends
POLICIES = [
    (RetryPolicy.NONE, 9, "a", "ERROR CREATED CREATED"),
    (RetryPolicy.STAGE, 1, "a", "ERROR CREATED CREATED"),
    (RetryPolicy.STAGE, 2, "aabb", "COMPLETE ERROR CREATED"),
    (RetryPolicy.STAGE, 3, "aabbbc", "COMPLETE COMPLETE COMPLETE"),
    (RetryPolicy.GLOBAL, 1, "a", "ERROR CREATED CREATED"),
    (RetryPolicy.GLOBAL, 2, "aa", "COMPLETE ERROR CREATED"),
    (RetryPolicy.GLOBAL, 3, "aab", "COMPLETE ERROR CREATED"),
    (RetryPolicy.GLOBAL, 5, "aabbb", "COMPLETE COMPLETE ERROR"),
    (RetryPolicy.GLOBAL, 6, "aabbbc", "COMPLETE COMPLETE COMPLETE"),
]


@pytest.mark.parametrize(("policy", "budget", "executions", "statuses"), POLICIES)
def test_a_policy_decides_how_often_the_same_failing_stages_are_executed(task, policy, budget, executions, statuses):
    task.fail("a", 1)
    task.fail("b", 2)
    engine = task.engine(retry_policy=policy, max_attempts=budget)
    if "ERROR" in statuses:
        with pytest.raises(RunFailed):
            engine.run()
    else:
        engine.run()
    assert "".join(task.trace) == executions
    assert " ".join(_statuses(engine)) == statuses
    stored = task.engine(retry_policy=policy, max_attempts=budget)
    stored.load()
    assert [stage.state for stage in stored.stages] == [stage.state for stage in engine.stages]


def test_a_budget_that_successes_used_up_refuses_the_next_stage_and_names_it(task):
    engine = task.engine(retry_policy=RetryPolicy.GLOBAL, max_attempts=2)
    with pytest.raises(RunFailed, match="'c' was not begun: the task has used 2 of its 2 attempts") as caught:
        engine.run()
    assert isinstance(caught.value.__cause__, AttemptsExhausted)
    assert _changes(engine, "c") == ["0 CREATED ERROR"]
    task.engine(retry_policy=RetryPolicy.GLOBAL, max_attempts=2).run()  # by hand: a new budget
    assert task.trace == ["a", "b", "c"]


def test_a_stage_says_which_failures_are_worth_another_attempt(task):
    task.fail("a")
    engine = task.engine(retry_policy=RetryPolicy.STAGE, max_attempts=5)
    type(engine.stage("a")).should_retry = lambda self, exc: len(task.trace) < 2
    try:
        with pytest.raises(RunFailed):
            engine.run()
    finally:
        del type(engine.stage("a")).should_retry
    assert task.trace == ["a", "a"]


def test_a_failure_that_is_not_retryable_ends_the_task_whatever_the_policy(task):
    def refuse(stage: Any) -> None:
        raise NonRetryable("no")

    task.plan["a"] = refuse
    with pytest.raises(RunFailed):
        task.engine(retry_policy=RetryPolicy.STAGE, max_attempts=5).run()
    assert task.trace == ["a"]


def test_a_checkpoint_keeps_what_a_failed_process_had_and_carries_nothing_over_it(sync_task):
    def count(stage: Any) -> None:
        while stage.state.count < 3:
            stage.update(count=stage.state.count + 1)
            stage.checkpoint()
            if stage.state.count == 2 and stage.attempts == 1:
                raise SystemExit  # as near to a death as a test can come in its own process

    sync_task.plan["b"] = count
    with pytest.raises(SystemExit):
        sync_task.engine().run()
    again = sync_task.engine()
    again.run()
    assert again.stage("c").state.count == 3
    assert again.stage("b").state.seen == ["a", "b", "b"]
    assert _changes(again, "b") == ["1 CREATED CANCELED", "1 CANCELED CREATED", "2 CREATED COMPLETE"]


def test_timestamps_are_in_the_stages_time_zone(ledger):
    class State(BaseStageState[SimpleRecordsResult]):
        pass

    class Stage(BaseStage[State]):
        def execute_stage(self) -> None:
            pass

    stage = Stage(stage_name="a", timezone="Asia/Tokyo")
    TaskEngine("task", [stage], ledger=ledger).run()
    (entry,) = stage.state.history
    assert entry.begin_ts.endswith("+09:00")
    took = datetime.fromisoformat(entry.end_ts) - datetime.fromisoformat(entry.begin_ts)
    assert took.total_seconds() == entry.run_time_seconds
    with pytest.raises(ValueError, match="'Mars' is not a time zone"):
        Stage(stage_name="a", timezone="Mars")


# --- cancel --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["engine", "loop"])
def test_a_cancel_from_another_thread_takes_effect_at_the_next_checkpoint(sync_task, how):
    begun = threading.Event()

    def wait(stage: Any) -> None:
        begun.set()
        while True:
            stage.state.count += 1
            stage.checkpoint()

    sync_task.plan["b"] = wait
    engine = sync_task.engine()
    asked: list[str] = []

    def ask() -> None:
        begun.wait(10)
        asked.append(engine.cancel())

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(RunCancelled):
        engine.run() if how == "engine" else asyncio.run(engine.run_async())
    thread.join()
    assert asked == ["requested"]
    assert _statuses(engine) == ["COMPLETE", "CANCELED", "CREATED"]
    stored = sync_task.engine()
    stored.load()
    assert _statuses(stored) == ["COMPLETE", "CANCELED", "CREATED"]
    assert stored.stage("b").state.count == engine.stage("b").state.count > 0
    sync_task.plan["b"] = lambda stage: None
    again = sync_task.engine()
    again.run()
    assert again.stage("c").state.count == stored.stage("b").state.count


def test_a_task_is_cancelled_before_it_begins_and_not_after_its_end(task):
    engine = task.engine()
    assert engine.cancel() == "cancelled"
    assert _statuses(engine) == ["CANCELED", "CREATED", "CREATED"]
    assert task.ledger.require_run("task").status == RunStatus.CANCELLED
    task.engine().run()
    assert task.trace == ["a", "b", "c"]
    with pytest.raises(InvalidTransition, match="is completed: it cannot be cancelled"):
        task.engine().cancel()


# --- who may work on it --------------------------------------------------------------------------


def test_a_second_engine_is_told_who_has_the_task(sync_task):
    second: list[BaseException] = []

    def try_too(stage: Any) -> None:
        for attempt in (sync_task.engine().run, sync_task.engine().rollback, sync_task.engine().load):
            try:
                attempt()
            except TaskBusy as error:
                second.append(error)

    sync_task.plan["b"] = try_too
    sync_task.engine().run()
    assert len(second) == 3
    assert "is being executed by another thread of this process" in str(second[0])
    assert isinstance(second[0], TaskEngineError)
    assert sync_task.trace == ["a", "b", "c"]


def test_another_live_process_keeps_the_task(sync_task, monkeypatch):
    sync_task.fail("a", 1)
    with pytest.raises(RunFailed):
        sync_task.engine().run()
    ledger = sync_task.ledger
    run = ledger.require_run("task")
    now = ledger.clock.now()
    elsewhere = "17@elsewhere#0a0a-5"
    ledger.store.claim_run(
        run, owner=elsewhere, now=now, lease_until=now + 60_000_000, attempt=2, target=None, reason=("x", "y")
    )
    with pytest.raises(TaskBusy, match="being executed by process 17 on elsewhere"):
        sync_task.engine().run()
    with pytest.raises(TaskBusy):
        sync_task.engine().rollback()
    assert ledger.require_run("task").lease_owner == elsewhere


# --- bad input -----------------------------------------------------------------------------------


def test_stages_that_cannot_make_a_task_are_refused(sync_task, ledger):
    class Other(BaseStageState[SimpleRecordsResult]):
        pass

    class Needy(BaseStageState[SimpleRecordsResult]):
        path: str

    class NeedyStage(BaseStage[Needy]):
        def execute_stage(self) -> None:
            pass

    class OtherStage(BaseStage[Other]):
        def execute_stage(self) -> None:
            pass

    with pytest.raises(BindError, match="has no stages"):
        sync_task.engine("")
    with pytest.raises(BindError, match="Two stages of task task are named 'a'"):
        sync_task.engine("aa")
    with pytest.raises(MissingStateError, match="Stage 'x' has no state"):
        TaskEngine("task", [NeedyStage(stage_name="x")], ledger=ledger)
    with pytest.raises(BindError, match="has a state of class Other"):
        TaskEngine(
            "task", [NeedyStage(stage_name="x", state=Needy(path="p")), OtherStage(stage_name="y")], ledger=ledger
        )
    engine = sync_task.engine()
    with pytest.raises(BindError, match="is bound to task task already"):
        TaskEngine("other", engine.stages, ledger=ledger)
    with pytest.raises(BindError, match="has no stage 'z'"):
        engine.stage("z")
    with pytest.raises(ValueError, match="at most 150 characters"):
        OtherStage(stage_name="x" * 151)
    with pytest.raises(ValueError, match="at least 1 character"):
        OtherStage(stage_name="")
    with pytest.raises(RunNotFound):
        engine.resume()
    with pytest.raises(BindError, match="bound to no engine"):
        _ = OtherStage(stage_name="x").engine
    assert ledger.list_runs() == []


def test_a_task_whose_stages_were_removed_added_or_reordered_is_refused_and_left_as_it_is(task):
    task.fail("c", 1)
    with pytest.raises(RunFailed):
        task.engine().run()
    before = task.ledger.list_checkpoints("task"), task.ledger.require_run("task")
    for names, told in (
        ("ac", "stage 'b' is gone"),
        ("abcd", "stage 'd' is new"),
        ("bac", "the edge 'a' -> 'b' is gone"),
    ):
        with pytest.raises(GraphChanged, match=told):
            task.engine(names).run()
    assert (task.ledger.list_checkpoints("task"), task.ledger.require_run("task")) == before
    task.engine().run()


@pytest.mark.parametrize("value", [object(), float("nan"), {"x": {1: object()}}])
def test_a_state_that_is_no_json_fails_its_stage_once_by_the_fields_name_and_the_stored_one_stays(task, value):
    def spoil(stage: Any) -> None:
        stage.state.count = value if isinstance(value, float) else 1
        stage.state.anything = None if isinstance(value, float) else value

    task.plan["b"] = spoil
    engine = task.engine(retry_policy=RetryPolicy.STAGE, max_attempts=3)
    with pytest.raises(RunFailed) as caught:
        engine.run()
    field = "count" if isinstance(value, float) else "anything"
    assert isinstance(caught.value.__cause__, ValueNotStorable)
    assert f"state.{field}" in str(caught.value.__cause__)
    assert task.trace == ["a", "b"]
    stored = task.engine()
    stored.load()
    assert _statuses(stored) == ["COMPLETE", "ERROR", "CREATED"]
    assert stored.stage("b").state.count == 0


def test_a_stored_state_that_no_longer_fits_is_told_field_by_field_or_upgraded(ledger):
    class Old(BaseStageState[SimpleRecordsResult]):
        name: str = "x"
        size: str = "big"

    class New(BaseStageState[SimpleRecordsResult]):
        title: str
        size: int = 0

    class Upgrading(New):
        @classmethod
        def upgrade_state(cls, old: dict[str, Any]) -> dict[str, Any]:
            old["title"] = old.pop("name")
            return {**old, "size": len(old["size"])}

    def engine(kind: type[BaseStageState[Any]], **state: Any) -> TaskEngine[Any]:
        class Stage(BaseStage[kind]):
            def execute_stage(self) -> None:
                if kind is Old:
                    raise ValueError("x")

        return TaskEngine("task", [Stage(stage_name="a", state=kind(**state))], ledger=ledger)

    with pytest.raises(RunFailed):
        engine(Old).run()
    before = ledger.list_checkpoints("task")
    with pytest.raises(StateMismatch) as caught:
        engine(New, title="t").run()
    for told in ("title: Field required", "size: Input should be a valid integer", "name: Extra inputs"):
        assert told in str(caught.value)
    assert ledger.list_checkpoints("task") == before
    upgraded = engine(Upgrading, title="t")
    upgraded.run()
    assert (upgraded.stages[0].state.title, upgraded.stages[0].state.size) == ("x", 3)


def test_a_run_that_is_no_task_is_refused(sync_task):
    from milepost import Dag

    dag = Dag("sum")
    dag.node(sum, label="a", iterable=[1])
    dag.run(ledger=sync_task.ledger, run_id="task")
    with pytest.raises(ValueError, match="is a run of kind 'dag', not a task"):
        sync_task.engine("a").run()


def test_a_state_that_is_not_there_is_asked_for_by_name(sync_task, tmp_path):
    from milepost.stages import FileStateIO

    sync_task.fail("b", 1)
    with pytest.raises(RunFailed):
        sync_task.engine().run()
    with pytest.raises(StateNotFoundError, match="no stored state of stage 'a' in the directory"):
        sync_task.engine(state_io=FileStateIO(tmp_path / "states")).run()
    assert sync_task.ledger.require_run("task").status == RunStatus.FAILED
