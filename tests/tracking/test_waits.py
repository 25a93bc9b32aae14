"""Checkpoints, events and sleeps of tasks by hand."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from tasks import in_parallel
from tracked import Base

from milepost.errors import ConfigurationError, EventTimedOut, InvalidTransition, ValueNotStorable
from milepost.tracking import Client, TaskSuspended


def begin(client: Client, **options: Any) -> Any:
    client.spawn_task(**{"task_name": "job", **options})
    (claim,) = client.claim_task()
    return claim


# --- checkpoints -------------------------------------------------------------------------------


def test_a_checkpoint_is_replaced_by_a_later_one_and_read_with_its_owner(client: Client) -> None:
    claim = begin(client)
    for value in (1, [2], None):
        client.set_checkpoint(None, claim.task_id, "step", value, claim.run_id)
    found = client.get_checkpoint(task_id=claim.task_id, step_name="step", include_pending=True)
    assert found is not None
    assert list(found) == ["checkpoint_name", "state", "status", "owner_run_id", "updated_at"]
    assert (found["state"], found["owner_run_id"], found["status"]) == (None, claim.run_id, "committed")
    assert client.get_checkpoint(task_id=claim.task_id, step_name="other") is None


def test_later_claims_see_what_earlier_ones_saved_and_earlier_ones_not_what_came_later(base: Base) -> None:
    client = base.client()
    first = begin(client, max_attempts=3, retry_strategy={"kind": "none"})
    client.save_checkpoint_for_run(run_id=first.run_id, step_name="one", data=1)
    client.fail_task(run_id=first.run_id, reason="broken")
    (second,) = client.claim_task(claim_timeout=5)
    client.save_checkpoint_for_run(run_id=second.run_id, step_name="two", data=2)
    base.let_pass(client, 6)
    (third,) = client.claim_task()
    assert client.get_checkpoints_for_run(run_id=first.run_id) == {"one": 1}
    assert client.get_checkpoints_for_run(run_id=third.run_id) == {"one": 1, "two": 2}
    rows = client.get_all_checkpoints(task_id=third.task_id, run_id=third.run_id)
    assert [(row["checkpoint_name"], row["owner_run_id"]) for row in rows] == [
        ("one", first.run_id),
        ("two", second.run_id),
    ]
    assert client.get_run_checkpoint(run_id=third.run_id, step_name="two") == 2
    assert client.get_run_checkpoint(run_id=third.run_id, step_name="three") is None


def test_only_a_claim_of_the_task_may_save_and_only_while_it_runs(client: Client) -> None:
    claim, other = begin(client), begin(client)
    with pytest.raises(ConfigurationError, match="is a claim of task"):
        client.set_checkpoint(None, claim.task_id, "s", 1, other.run_id)
    with pytest.raises(ConfigurationError, match="is a claim of task"):
        client.get_all_checkpoints(None, claim.task_id, other.run_id)
    pending = client.spawn_task(task_name="job")
    with pytest.raises(InvalidTransition, match="pending"):
        client.save_checkpoint_for_run(run_id=pending.run_id, step_name="s", data=1)
    client.complete_task(run_id=claim.run_id)
    with pytest.raises(InvalidTransition, match="completed"):
        client.save_checkpoint_for_run(run_id=claim.run_id, step_name="s", data=1)


@pytest.mark.parametrize("name", ["", " ", "a\nb", None, 1])
def test_a_blank_step_name_is_refused(client: Client, name: Any) -> None:
    claim = begin(client)
    with pytest.raises(ConfigurationError, match="step_name must be"):
        client.save_checkpoint_for_run(run_id=claim.run_id, step_name=name, data=1)


def test_a_value_that_would_come_back_as_another_is_refused(client: Client) -> None:
    claim = begin(client)
    with pytest.raises(ValueNotStorable, match="its key 1 is no text"):
        client.save_checkpoint_for_run(run_id=claim.run_id, step_name="s", data={1: (1, 2)})


def test_a_checkpoint_extends_the_lease_where_it_is_asked_to(client: Client) -> None:
    claim = begin(client)
    client.set_checkpoint(None, claim.task_id, "s", 1, claim.run_id, extend_claim_by=1000)
    found = client.get_run_status(run_id=claim.run_id)
    assert found is not None
    assert found["claim_expires_at"] is not None
    assert (found["claim_expires_at"] - datetime.now(UTC)).total_seconds() > 900


# --- events ------------------------------------------------------------------------------------


def test_an_event_that_came_before_is_given_at_once_and_again_under_the_same_step(client: Client) -> None:
    claim = begin(client)
    client.emit_event(event_name="paid", payload={"amount": 10})
    client.emit_event(event_name="paid", payload="second")
    for _ in range(2):
        assert client.await_event(None, claim.task_id, claim.run_id, "pay", "paid") == (False, {"amount": 10})
    assert client.get_run_checkpoint(run_id=claim.run_id, step_name="pay") == {"amount": 10}


def test_a_task_sleeps_until_the_event_and_is_claimed_with_name_and_payload_under_the_same_run(
    client: Client,
) -> None:
    claim = begin(client)
    assert client.await_event(None, claim.task_id, claim.run_id, "pay", "paid") == (True, None)
    status = client.get_run_status(run_id=claim.run_id)
    assert status is not None
    assert status["state"] == "sleeping"
    assert client.ledger.why(str(claim.task_id)).code == "waiting_for_event"
    assert client.claim_task() == []
    client.emit_event(event_name="paid", payload=[1])
    (again,) = client.claim_task()
    assert (again.run_id, again.attempt, again.wake_event, again.event_payload) == (claim.run_id, 1, "paid", [1])
    assert client.await_event(None, claim.task_id, claim.run_id, "pay", "paid") == (False, [1])


def test_one_emit_wakes_everybody_with_the_first_payload_and_a_later_emit_wakes_nobody_with_another(
    client: Client,
) -> None:
    claims = [begin(client) for _ in range(3)]
    for claim in claims:
        assert client.await_event(None, claim.task_id, claim.run_id, "s", "e")[0]
    client.emit_event(event_name="e", payload=1)
    client.emit_event(event_name="e", payload=2)
    assert [claim.event_payload for claim in client.claim_task(qty=5)] == [1, 1, 1]
    late = begin(client)
    assert client.wait_for_event(run_id=late.run_id, event_name="e") == 1


@pytest.mark.parametrize(("payload", "kept"), [(None, {}), ([], []), (0, 0), (False, False), ({"timeout": True},) * 2])
def test_a_payload_is_kept_whatever_it_says(client: Client, payload: Any, kept: Any) -> None:
    claim = begin(client)
    client.emit_event(event_name="e", payload=payload)
    assert client.wait_for_event(run_id=claim.run_id, event_name="e", timeout_seconds=5) == kept


def test_a_timeout_is_an_error_that_is_recorded_once_and_the_next_claim_says_which_event(base: Base) -> None:
    client = base.client()
    claim = begin(client)
    assert client.await_event(None, claim.task_id, claim.run_id, "s", "e", timeout=10)[0]
    base.let_pass(client, 11)
    (again,) = client.claim_task()
    assert (again.run_id, again.wake_event, again.event_payload) == (claim.run_id, "e", None)
    client.emit_event(event_name="e", payload=1)
    for _ in range(2):
        with pytest.raises(TimeoutError, match="'e'"):
            client.await_event(None, claim.task_id, again.run_id, "s", "e", timeout=10)
    assert client.get_checkpoints_for_run(run_id=again.run_id) == {}
    assert client.await_event(None, claim.task_id, again.run_id, "other", "e") == (False, 1)


def test_a_timeout_of_zero_only_looks_and_a_negative_one_is_refused(client: Client) -> None:
    claim = begin(client)
    with pytest.raises(EventTimedOut):
        client.wait_for_event(run_id=claim.run_id, event_name="e", timeout_seconds=0)
    assert client.get_run_status(run_id=claim.run_id)["state"] == "running"  # type: ignore[index]
    with pytest.raises(ConfigurationError, match="timeout"):
        client.wait_for_event(run_id=claim.run_id, event_name="f", timeout_seconds=-1)


def test_a_wait_that_must_suspend_says_for_what_and_until_when(client: Client) -> None:
    claim = begin(client)
    with pytest.raises(TaskSuspended) as caught:
        client.wait_for_event(run_id=claim.run_id, event_name="e", timeout_seconds=100)
    assert (caught.value.run_id, caught.value.event_name) == (claim.run_id, "e")
    assert isinstance(caught.value.wake_at, datetime)
    assert caught.value.wake_at.tzinfo is not None
    client.set_run_sleeping(run_id=claim.run_id, event_name="e")  # it sleeps already: nothing to do
    other = begin(client)
    with pytest.raises(TaskSuspended) as caught:
        client.wait_for_event(run_id=other.run_id, event_name="e")
    assert caught.value.wake_at is None


def test_a_wait_that_a_rollback_took_along_is_made_again_by_set_run_sleeping_and_misses_nothing(base: Base) -> None:
    client, conn = base.client(), base.connect()
    claim = begin(client)
    with pytest.raises(TaskSuspended), conn:
        client.wait_for_event(conn, claim.run_id, "e", 100, step_name="s")
    assert client.get_run_status(run_id=claim.run_id)["state"] == "running"  # type: ignore[index]
    client.emit_event(event_name="e", payload=7)  # between the two
    client.set_run_sleeping(run_id=claim.run_id, event_name="e")
    claims = client.claim_task()
    run_id = claims[0].run_id if claims else claim.run_id
    assert client.wait_for_event(run_id=run_id, event_name="e", step_name="s") == 7


def test_an_event_that_comes_while_a_task_begins_to_wait_is_never_missed(base: Base) -> None:
    waiting, emitting = base.client(), base.client()
    for turn in range(20):
        claim = begin(waiting)
        name = f"e{turn}"
        barrier = threading.Barrier(2)

        def wait(claim: Any = claim, name: str = name, barrier: threading.Barrier = barrier) -> Any:
            barrier.wait(10)
            return waiting.await_event(None, claim.task_id, claim.run_id, "s", name)

        def emit(name: str = name, barrier: threading.Barrier = barrier, turn: int = turn) -> None:
            barrier.wait(10)
            emitting.emit_event(event_name=name, payload=turn)

        outcome, _ = in_parallel(wait, emit)
        if outcome == (True, None):
            (claim,) = waiting.claim_task()
            assert claim.event_payload == turn
        else:
            assert outcome == (False, turn)
        waiting.complete_task(run_id=claim.run_id)


def test_a_checkpoint_of_the_same_name_is_no_answer_to_a_wait(client: Client) -> None:
    claim = begin(client)
    client.save_checkpoint_for_run(run_id=claim.run_id, step_name="e", data="mine")
    with pytest.raises(TaskSuspended):
        client.wait_for_event(run_id=claim.run_id, event_name="e")


def test_one_step_name_waits_for_one_event(client: Client) -> None:
    claim = begin(client)
    client.emit_event(event_name="e")
    client.await_event(None, claim.task_id, claim.run_id, "s", "e")
    with pytest.raises(ConfigurationError, match="a step name of its own"):
        client.await_event(None, claim.task_id, claim.run_id, "s", "f")


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 256, None])
def test_an_event_name_is_checked(client: Client, name: Any) -> None:
    claim = begin(client)
    with pytest.raises(ConfigurationError, match="is not an event name"):
        client.emit_event(event_name=name)
    with pytest.raises(ConfigurationError, match="is not an event name"):
        client.wait_for_event(run_id=claim.run_id, event_name=name)


def test_events_that_an_unfinished_task_may_ask_for_are_kept_unless_forced(base: Base) -> None:
    client = base.client()
    claim = begin(client)
    client.emit_event(event_name="e")
    base.let_pass(client, 100)
    assert client.cleanup_events(ttl_seconds=50) == 0
    assert client.wait_for_event(run_id=claim.run_id, event_name="e") == {}
    assert client.cleanup_events(ttl_seconds=50, force=True) == 1
    client.emit_event(event_name="f")
    client.complete_task(run_id=claim.run_id)
    base.let_pass(client, 100)
    assert client.cleanup_events(ttl_seconds=50) == 1


# --- sleeps ------------------------------------------------------------------------------------


def test_a_sleep_is_durable_and_a_replay_does_not_sleep_again(base: Base) -> None:
    client = base.client()
    claim = begin(client)
    with pytest.raises(TaskSuspended) as caught:
        client.sleep(run_id=claim.run_id, duration_seconds=60)
    assert (caught.value.event_name, caught.value.run_id) == (None, claim.run_id)
    assert client.claim_task() == []
    base.let_pass(client, 61)
    other = base.client()
    other.ledger.clock = client.ledger.clock
    (again,) = client.claim_task()
    assert (again.wake_event, again.event_payload) == (None, None)
    for replaying in (client, other):  # as another process would
        replaying.sleep(run_id=again.run_id, duration_seconds=60)
    with pytest.raises(TaskSuspended):
        client.sleep(run_id=again.run_id, duration_seconds=60)  # the second sleep of the task is another one
    assert client.get_checkpoints_for_run(run_id=claim.run_id) == {}


def test_a_waiting_task_that_failed_is_tried_again(client: Client) -> None:
    claim = begin(client, max_attempts=2, retry_strategy={"kind": "none"})
    client.await_event(None, claim.task_id, claim.run_id, "s", "e")
    client.fail_task(run_id=claim.run_id, reason="given up")
    (second,) = client.claim_task()
    assert (second.attempt, second.run_id != claim.run_id) == (2, True)


def test_an_unknown_claim_cannot_sleep(client: Client) -> None:
    with pytest.raises(LookupError):
        client.sleep(run_id=uuid.uuid4(), duration_seconds=1)
