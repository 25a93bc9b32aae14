"""A rollback undoes completed stages once each, in reverse order, stops at a failure, and can be gone on with."""

from __future__ import annotations

from typing import Any

import pytest

from milepost import RunFailed, RunStatus
from milepost.engine import Undoable, plan_rollback
from milepost.errors import InvalidTransition, RunCancelled, RunNotFound
from milepost.stages import (
    BaseStage,
    BaseStageState,
    BindError,
    RetryPolicy,
    RollbackRefused,
    SimpleRecordsResult,
    TaskEngine,
)


def _statuses(engine: TaskEngine[Any]) -> list[str]:
    return [stage.status.value for stage in engine.stages]


def test_a_plan_undoes_what_completed_after_a_stage_and_resets_what_only_began():
    steps = [
        Undoable("a", is_completed=True, is_begun=True, has_undo=False),
        Undoable("b", is_completed=True, is_begun=True, has_undo=True),
        Undoable("c", is_completed=False, is_begun=True, has_undo=True),
        Undoable("d", is_completed=False, is_begun=False, has_undo=True),
    ]
    whole = plan_rollback(steps)
    assert (whole.undo, whole.reset, whole.without_undo) == (("b", "a"), ("c",), ("a",))
    part = plan_rollback(steps, to="a")
    assert (part.undo, part.reset, part.without_undo) == (("b",), ("c",), ())
    assert plan_rollback(steps, to="c").is_empty
    with pytest.raises(KeyError):
        plan_rollback(steps, to="x")


def test_all_stages_are_undone_in_reverse_order_and_the_task_runs_again(task):
    task.engine().run()
    engine = task.engine()
    plan = engine.rollback()
    assert plan.undo == ("c", "b", "a")
    assert task.trace == ["a", "b", "c", "undo c", "undo b", "undo a"]
    assert _statuses(engine) == ["CREATED"] * 3
    assert [(stage.attempts, stage.state.seen) for stage in engine.stages] == [(0, [])] * 3
    run = task.ledger.require_run("task")
    assert (run.status, run.error_type, run.error_message) == (
        RunStatus.CANCELLED,
        "RolledBack",
        "rolled back all its stages",
    )
    rows = [(step.label, step.kind, step.status) for step in task.ledger.list_steps("task") if step.kind == "undo"]
    assert rows == [(f"undo:{name}", "undo", "completed") for name in "cba"]
    again = task.engine()
    again.run()
    assert again.stage("c").state.seen == ["a", "b", "c"]
    changes = [(e.begin_status.value, e.end_status.value, e.message) for e in again.stage("a").state.history]
    assert changes == [
        ("CREATED", "COMPLETE", "completed"),
        ("COMPLETE", "CREATED", "undone"),
        ("CREATED", "COMPLETE", "completed"),
    ]


def test_a_rollback_leaves_the_named_stage_and_those_before_it(task):
    task.engine().run()
    engine = task.engine()
    engine.rollback("a")
    assert task.trace[3:] == ["undo c", "undo b"]
    assert _statuses(engine) == ["COMPLETE", "CREATED", "CREATED"]
    task.engine().run()
    assert task.trace[5:] == ["b", "c"]


def test_a_preview_changes_nothing(task):
    task.engine().run()
    before = task.ledger.require_run("task"), task.ledger.list_checkpoints("task")
    assert task.engine().rollback("b", dry_run=True).undo == ("c",)
    assert (task.ledger.require_run("task"), task.ledger.list_checkpoints("task")) == before
    assert task.trace == ["a", "b", "c"]


def test_an_undo_sees_the_state_its_stage_left_and_begins_with_nothing_later(task):
    task.plan["a"] = lambda stage: stage.update(count=1)
    task.plan["b"] = lambda stage: stage.update(count=2)
    found: list[int] = []
    for name in "abc":
        task.plan[f"undo {name}"] = lambda stage: found.append(stage.state.count)
    task.engine().run()
    task.engine().rollback()
    assert found == [2, 2, 1]


def test_an_undo_that_fails_stops_the_rollback_which_then_goes_on_there(task):
    task.engine().run()
    task.fail("undo b", 1)
    engine = task.engine()
    with pytest.raises(RunFailed, match="in step 'undo:b': ValueError: undo b fails"):
        engine.rollback()
    assert _statuses(engine) == ["COMPLETE", "COMPLETE", "CREATED"]
    assert engine.stage("b").state.history[-1].message == "its undo failed: ValueError: undo b fails"
    with pytest.raises(RunCancelled, match="rolled back all its stages"):
        task.engine().run()  # an open rollback is finished before anything else
    assert task.trace == ["a", "b", "c", "undo c", "undo b", "undo b", "undo a"]


def test_an_open_rollback_goes_on_to_where_it_was_going(task):
    task.engine().run()
    task.fail("undo c", 1)
    with pytest.raises(RunFailed):
        task.engine().rollback("a")
    engine = task.engine()
    engine.rollback()
    assert _statuses(engine) == ["COMPLETE", "CREATED", "CREATED"]


def test_a_task_that_fails_for_good_is_rolled_back_where_that_was_asked_for(task):
    task.fail("c", 3)
    engine = task.engine(rollback_on_failure=True, retry_policy=RetryPolicy.STAGE, max_attempts=2)
    with pytest.raises(RunFailed, match="in step 'c': ValueError: c fails") as caught:
        engine.run()
    assert isinstance(caught.value.__cause__, ValueError)
    assert task.trace == ["a", "b", "c", "c", "undo b", "undo a"]
    assert _statuses(engine) == ["CREATED"] * 3
    run = task.ledger.require_run("task")
    assert (run.status, run.error_step) == (RunStatus.FAILED, "c")
    again = task.engine(rollback_on_failure=True, retry_policy=RetryPolicy.STAGE, max_attempts=2)
    again.run()
    assert again.stage("c").state.seen == ["a", "b", "c", "c"]  # the third failure, and the success


def test_an_undo_that_fails_after_a_failure_is_told_instead_of_it(task):
    task.fail("b")
    task.fail("undo a", 1)
    engine = task.engine(rollback_on_failure=True)
    with pytest.raises(RunFailed, match="undo a fails"):
        engine.run()
    with pytest.raises(RunFailed, match="in step 'b': ValueError: b fails"):
        task.engine(rollback_on_failure=True).run()
    assert task.trace == ["a", "b", "undo a", "undo a"]


class State(BaseStageState[SimpleRecordsResult]):
    pass


class WithoutUndo(BaseStage[State]):
    def execute_stage(self) -> None:
        pass


def test_stages_without_an_undo_are_named_before_anything_is_undone(ledger):
    def engine(**options: Any) -> TaskEngine[Any]:
        return TaskEngine("t", [WithoutUndo(stage_name="a"), WithoutUndo(stage_name="b")], ledger=ledger, **options)

    engine().run()
    assert engine().rollback(dry_run=True).without_undo == ("b", "a")
    with pytest.raises(RollbackRefused, match="stages 'b', 'a' have no rollback_stage"):
        engine().rollback()
    assert ledger.require_run("t").status == RunStatus.COMPLETED
    passing = engine()
    passing.rollback(skip_missing=True)
    assert _statuses(passing) == ["CREATED", "CREATED"]
    assert passing.stage("a").state.history[-1].message == "nothing undone: it has no rollback_stage()"
    with pytest.raises(BindError, match="rollback_on_failure needs a rollback_stage"):
        engine(rollback_on_failure=True)


def test_what_cannot_be_rolled_back_is_refused(task):
    with pytest.raises(RunNotFound):
        task.engine().rollback()
    task.fail("b", 1)
    with pytest.raises(RunFailed):
        task.engine().run()
    with pytest.raises(BindError, match="has no stage 'x'"):
        task.engine().rollback("x")
    with pytest.raises(InvalidTransition, match="Stage 'b' of task task is ERROR: it cannot be rolled back to"):
        task.engine().rollback("b")
    plan = task.engine().rollback()
    assert (plan.undo, plan.reset) == (("a",), ("b",))
    assert task.engine().rollback().is_empty
