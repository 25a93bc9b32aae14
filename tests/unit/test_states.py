"""The state machines as data: whole, closed and consistent."""

from __future__ import annotations

import pytest

from milepost.states import (
    RUN_TRANSITIONS,
    STEP_TRANSITIONS,
    TERMINAL_RUN,
    TERMINAL_STEP,
    RunStatus,
    StepStatus,
    next_run_status,
    next_step_status,
)


def test_every_state_of_a_run_can_be_reached_from_pending():
    reached, frontier = {RunStatus.PENDING}, [RunStatus.PENDING]
    while frontier:
        state = frontier.pop()
        fresh = {after for (before, _), after in RUN_TRANSITIONS.items() if before == state} - reached
        reached |= fresh
        frontier += fresh
    assert reached == set(RunStatus)


def test_every_state_of_a_step_is_an_outcome_or_has_a_way_on():
    reached = {StepStatus.PENDING, *STEP_TRANSITIONS.values()}
    assert reached == set(StepStatus)
    for state in set(StepStatus) - TERMINAL_STEP:
        assert any(before == state for before, _ in STEP_TRANSITIONS)


def test_a_steps_outcome_is_never_overwritten():
    assert not [key for key in STEP_TRANSITIONS if key[0] in TERMINAL_STEP]


def test_an_ended_run_is_left_only_by_going_on_with_it_or_undoing_it_and_a_completed_one_only_by_undoing():
    ways_out = {(state, verb) for state, verb in RUN_TRANSITIONS if state in TERMINAL_RUN}
    undone = {(state, "roll back") for state in TERMINAL_RUN}
    assert (
        ways_out
        == {(state, verb) for state in (RunStatus.FAILED, RunStatus.CANCELLED) for verb in ("resume", "requeue")}
        | undone
    )


@pytest.mark.parametrize("state", sorted(set(RunStatus) - TERMINAL_RUN))
def test_every_open_run_can_be_cancelled(state: RunStatus):
    assert next_run_status(state, "cancel") is RunStatus.CANCELLED


def test_a_verb_leads_on_or_is_not_allowed():
    assert next_run_status(RunStatus.RUNNING, "suspend") is RunStatus.SUSPENDED
    assert next_run_status(RunStatus.COMPLETED, "resume") is None
    assert next_step_status(StepStatus.RUNNING, "complete") is StepStatus.COMPLETED
    assert next_step_status(StepStatus.COMPLETED, "start") is None


def test_states_are_the_lower_case_texts_that_the_ledger_stores():
    for status in (*RunStatus, *StepStatus):
        assert status == status.value == status.name.lower()
