"""Every transition of a stage, allowed and refused, by the table and by the engine's own way of changing it."""

from __future__ import annotations

import itertools

import pytest

from milepost import Ledger
from milepost.errors import InvalidTransition
from milepost.stages import BaseStage, BaseStageState, LedgerStateIO, SimpleRecordsResult
from milepost.stages.book import TaskBook
from milepost.states import (
    ACTIVE_STATES,
    CANCELABLE_STATES,
    INACTIVE_STATES,
    STAGE_TRANSITIONS,
    StageStatus,
    next_stage_status,
)

ALLOWED = """
    UNBOUND bind CREATED; UNBOUND cancel CANCELED
    CREATED start RUNNING; CREATED refuse ERROR; CREATED cancel CANCELED
    RUNNING complete COMPLETE; RUNNING retry RETRY; RUNNING interrupt RETRY; RUNNING fail ERROR; RUNNING cancel CANCELED
    RETRY start RUNNING; RETRY refuse ERROR; RETRY cancel CANCELED; RETRY reset CREATED
    ERROR rerun CREATED; ERROR reset CREATED
    CANCELED rerun CREATED; CANCELED reset CREATED
    COMPLETE undo CREATED
"""
TABLE = {
    (StageStatus(before), verb): StageStatus(after)
    for before, verb, after in (line.split() for line in ALLOWED.replace("\n", ";").split(";") if line.strip())
}
VERBS = sorted({verb for _, verb in TABLE})


class State(BaseStageState[SimpleRecordsResult]):
    pass


class Stage(BaseStage[State]):
    def execute_stage(self) -> None:
        raise AssertionError("no test runs it")


@pytest.mark.parametrize(
    ("status", "verb"), list(itertools.product(StageStatus, VERBS)), ids=lambda v: getattr(v, "name", v)
)
def test_a_stage_changes_as_the_table_says_and_in_no_other_way(status: StageStatus, verb: str):
    stage = Stage(stage_name="load")
    with Ledger.open(":memory:") as ledger:
        book = TaskBook("task", [stage], ledger, LedgerStateIO(ledger))
        stage.state.status = status
        after = TABLE.get((status, verb))
        assert next_stage_status(status, verb) is after
        if after is None:
            with pytest.raises(
                InvalidTransition, match=f"Stage 'load' of task task is {status.value}: it cannot {verb}"
            ):
                book.change(stage, verb)
            assert stage.status is status
        else:
            assert book.change(stage, verb) is status
            assert stage.status is after


def test_the_table_has_nothing_else():
    assert STAGE_TRANSITIONS == TABLE


def test_states_are_active_inactive_or_not_bound_yet():
    assert ACTIVE_STATES | INACTIVE_STATES | {StageStatus.UNBOUND} == set(StageStatus)
    assert not ACTIVE_STATES & INACTIVE_STATES
    assert {status for status in StageStatus if (status, "cancel") in TABLE} == CANCELABLE_STATES
