"""Tasks by hand: spawned, claimed, completed, failed, cancelled, moved; each row of what callers rely on."""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tracked import Base

from milepost import Dag, Worker
from milepost.errors import (
    ConfigurationError,
    InvalidTransition,
    KeyConflict,
    LeaseLost,
    RunBusy,
    ValueNotStorable,
)
from milepost.tracking import (
    Client,
    TaskCancelled,
    TaskNotFound,
    WorkflowRunNotFound,
    get_client,
    spawn_cancellable_task,
    spawn_retry_task,
)
from milepost.tracking import client as client_module


def claim_one(client: Client, **options: Any) -> Any:
    (claim,) = client.claim_task(**options)
    return claim


def state(client: Client, task_id: Any) -> str:
    found = client.get_task_status(task_id=task_id)
    assert found is not None
    return found["state"]


# --- spawning ----------------------------------------------------------------------------------


def test_a_spawned_task_is_pending_and_its_ids_are_uuids_and_without_a_link_the_third_is_the_run(
    client: Client,
) -> None:
    task_id, run_id, third = client.spawn_task(task_name="job", params={"a": 1})
    assert isinstance(task_id, uuid.UUID)
    assert isinstance(run_id, uuid.UUID)
    assert third == run_id
    claim = claim_one(client)
    assert tuple(claim) == (run_id, task_id, 1, "job", {"a": 1}, None, 1, {}, None, None)


def test_uuids_moments_and_other_values_are_stored_and_come_back_as_text(client: Client) -> None:
    moment, identity = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), uuid.uuid4()
    client.spawn_task(task_name="job", params={"id": identity, "at": moment, "n": Decimal("1.5"), "t": (1, 2)})
    expected = {"id": str(identity), "at": moment.isoformat(), "n": "1.5", "t": [1, 2]}
    assert claim_one(client).params == expected


def test_params_that_are_no_dict_are_accepted(client: Client) -> None:
    client.spawn_task(task_name="job", params=[1, 2])
    assert claim_one(client).params == [1, 2]


@pytest.mark.parametrize("value", [float("nan"), object(), b"x", {1: 2}, {"a": [float("inf")]}])
def test_a_value_that_is_no_json_is_refused_with_its_place_before_any_write(client: Client, value: Any) -> None:
    with pytest.raises(ValueNotStorable, match=r"params\.v"):
        client.spawn_task(task_name="job", params={"v": value})
    assert client.claim_task() == []


def test_a_text_with_a_nul_is_stored(client: Client) -> None:
    client.spawn_task(task_name="job", params={"v": "a\0b", "$": "tag"})
    assert claim_one(client).params == {"v": "a\0b", "$": "tag"}


@pytest.mark.parametrize("name", ["", "  ", "a\n", None, 3, "x" * 256])
def test_a_blank_or_unprintable_task_name_is_refused(client: Client, name: Any) -> None:
    with pytest.raises(ConfigurationError, match="task_name must be"):
        client.spawn_task(task_name=name)


def test_a_missing_argument_is_named(client: Client) -> None:
    with pytest.raises(TypeError, match="task_name="):
        client.spawn_task()
    with pytest.raises(TypeError, match="run_id="):
        client.complete_task()


@pytest.mark.parametrize("attempts", [0, -1, True, 1.5, "3"])
def test_max_attempts_must_be_one_or_more(client: Client, attempts: Any) -> None:
    with pytest.raises(ValueError, match="max_attempts"):
        client.spawn_task(task_name="job", max_attempts=attempts)


def test_options_are_never_changed_and_the_argument_goes_before_them_and_they_before_the_default(
    client: Client,
) -> None:
    options = {"max_attempts": 7, "headers": {"h": 1}}
    before = dict(options)
    first, *_ = client.spawn_task(task_name="job", options=options)
    second, *_ = client.spawn_task(task_name="job", options=options, max_attempts=2)
    third, *_ = client.spawn_task(task_name="job")
    assert options == before
    found = [client.get_task_status(task_id=task_id) for task_id in (first, second, third)]
    assert [one["max_attempts"] for one in found if one] == [7, 2, 1]
    assert found[0] is not None
    assert found[0]["headers"] == {"h": 1}


def test_an_unknown_option_is_named(client: Client) -> None:
    with pytest.raises(ConfigurationError, match="'priority'"):
        client.spawn_task(task_name="job", options={"priority": 1})


@pytest.mark.parametrize(
    "strategy",
    [
        {"kind": "linear"},
        {"kind": "fixed", "base_seconds": -1},
        {"kind": "fixed", "base_seconds": 90_000},
        {"kind": "exponential", "factor": 0},
        {"kind": "fixed", "bas_seconds": 1},
        "fixed",
        {},
    ],
)
def test_a_retry_strategy_is_checked_when_the_task_is_spawned(client: Client, strategy: Any) -> None:
    with pytest.raises(ConfigurationError, match="retry_strategy"):
        client.spawn_task(task_name="job", retry_strategy=strategy)


@pytest.mark.parametrize("limits", [{"max_delay": "x"}, {"max_delay": -1}, {"max_dely": 1}, 3])
def test_limits_are_checked_when_the_task_is_spawned_so_that_no_bad_one_stops_the_queue(
    client: Client, limits: Any
) -> None:
    client.spawn_task(task_name="good")
    with pytest.raises(ConfigurationError, match="cancellation"):
        client.spawn_task(task_name="job", cancellation=limits)
    assert claim_one(client, qty=5).task_name == "good"


def test_an_idempotency_key_gives_the_first_task_and_says_that_it_existed(client: Client) -> None:
    first = client.spawn_task(task_name="job", params={"n": 1}, idempotency_key="k")
    again = client.spawn_task(task_name="job", params={"n": 1}, options={"idempotency_key": "k"})
    assert (first.is_new, again.is_new) == (True, False)
    assert tuple(first) == tuple(again)
    status = client.get_task_status(task_id=first.task_id)
    assert status is not None
    assert (status["idempotency_key"], status["tenant_id"]) == ("k", None)
    assert list(status)[-1] == "tenant_id"


@pytest.mark.parametrize("changes", [{"task_name": "other"}, {"params": {"n": 2}}])
def test_a_used_key_with_another_name_or_other_params_is_an_error(client: Client, changes: dict[str, Any]) -> None:
    client.spawn_task(task_name="job", params={"n": 1}, idempotency_key="k")
    with pytest.raises(KeyConflict, match="'k'"):
        client.spawn_task(**{"task_name": "job", "params": {"n": 1}, "idempotency_key": "k", **changes})


def test_many_tasks_are_spawned_at_once_or_none_of_them(client: Client) -> None:
    with pytest.raises(WorkflowRunNotFound):
        client.spawn_tasks(tasks=[{"task_name": "a"}, {"task_name": "b", "workflow_run_id": uuid.uuid4()}])
    assert client.claim_task() == []
    spawned = client.spawn_tasks(tasks=[{"task_name": f"t{n}", "max_attempts": n + 1} for n in range(3)])
    assert [claim.task_id for claim in client.claim_task(qty=5)] == [one.task_id for one in spawned]


# --- links -------------------------------------------------------------------------------------


def test_a_link_is_taken_from_the_argument_else_headers_else_params(client: Client) -> None:
    workflow = client.create_workflow_run(workflow_name="etl", workflow_version="1")
    by = [{"workflow_run_id": workflow}, {"headers": {"workflow_run_id": str(workflow)}}]
    by.append({"params": {"workflow_run_id": workflow}})
    assert {client.spawn_task(task_name="job", **one).workflow_run_id for one in by} == {workflow}


def test_sources_of_a_link_that_disagree_are_refused_before_any_write(client: Client) -> None:
    one, other = (client.create_workflow_run(workflow_name="etl", workflow_version="1") for _ in range(2))
    with pytest.raises(ConfigurationError, match="disagree"):
        client.spawn_task(task_name="job", params={"workflow_run_id": one}, headers={"workflow_run_id": str(other)})
    assert client.claim_task() == []


def test_a_link_to_an_unknown_workflow_run_is_refused_before_any_write(client: Client) -> None:
    other, *_ = client.spawn_task(task_name="no_workflow")
    for unknown in (uuid.uuid4(), other):
        with pytest.raises(WorkflowRunNotFound, match=str(unknown)):
            client.spawn_task(task_name="job", workflow_run_id=unknown)
    assert len(client.claim_task(qty=10)) == 1


# --- claiming ----------------------------------------------------------------------------------


def test_claims_take_the_oldest_first_and_never_more_than_asked_for(client: Client) -> None:
    ids = [client.spawn_task(task_name="job").task_id for _ in range(5)]
    assert [claim.task_id for claim in client.claim_task(qty=2)] == ids[:2]
    assert [claim.task_id for claim in client.claim_task(qty=0)] == ids[2:3]  # as one
    assert [claim.task_id for claim in client.claim_task(qty=99)] == ids[3:]
    assert client.claim_task() == []


def test_a_queue_that_nobody_used_has_nothing_to_claim(base: Base) -> None:
    assert base.client("nobody").claim_task() == []


def test_of_two_who_claim_each_gets_other_tasks(base: Base) -> None:
    one, other = base.client(), base.client(worker_id="other")
    one.spawn_tasks(tasks=[{"task_name": "job"} for _ in range(4)])
    claims = [*one.claim_task(qty=2), *other.claim_task(qty=5)]
    assert len({claim.task_id for claim in claims}) == len(claims) == 4
    status = one.get_run_status(run_id=claims[-1].run_id)
    assert status is not None
    assert status["claimed_by"] == "other"


def test_a_lost_lease_gives_the_task_a_new_run_and_uses_up_no_attempt(base: Base) -> None:
    client = base.client()
    task_id, *_ = client.spawn_task(task_name="job")
    first = claim_one(client, claim_timeout=5)
    base.let_pass(client, 6)
    second = claim_one(client)
    assert (second.task_id, second.attempt, second.max_attempts) == (task_id, 1, 1)
    assert second.run_id != first.run_id
    for write in (
        lambda: client.complete_task(run_id=first.run_id),
        lambda: client.fail_task(run_id=first.run_id, reason="late"),
        lambda: client.extend_claim(run_id=first.run_id, extend_by_seconds=5),
        lambda: client.save_checkpoint_for_run(run_id=first.run_id, step_name="s", data=1),
        lambda: client.await_event(task_id=task_id, run_id=first.run_id, step_name="s", event_name="e"),
    ):
        with pytest.raises(LeaseLost):
            write()
    old = client.get_run_status(run_id=first.run_id)
    assert old is not None
    assert (old["state"], old["failure_reason"]["name"]) == ("failed", "WorkerDied")  # type: ignore[index]
    client.complete_task(run_id=second.run_id)
    assert state(client, task_id) == "completed"


def test_a_late_holder_whose_lease_nobody_took_may_still_complete(base: Base) -> None:
    client = base.client()
    task_id, *_ = client.spawn_task(task_name="job")
    claim = claim_one(client, claim_timeout=5)
    base.let_pass(client, 6)
    client.complete_task(run_id=claim.run_id)
    assert state(client, task_id) == "completed"


def test_a_task_whose_holders_die_again_and_again_ends_failed(base: Base) -> None:
    client = base.client()
    task_id, *_ = client.spawn_task(task_name="job")
    for _ in range(6):
        claim_one(client, claim_timeout=5)
        base.let_pass(client, 6)
    assert client.claim_task() == []
    assert state(client, task_id) == "failed"


def test_extending_sets_the_end_of_the_lease_to_so_long_from_now(base: Base) -> None:
    client = base.client()
    client.spawn_task(task_name="job")
    claim = claim_one(client, claim_timeout=500)
    client.extend_claim(run_id=claim.run_id, extend_by_seconds=10)
    found = client.get_run_status(run_id=claim.run_id)
    assert found is not None
    assert found["claim_expires_at"] is not None
    assert abs((found["claim_expires_at"] - datetime.now(UTC)).total_seconds() - 10) < 5
    assert client.get_checkpoints_for_run(run_id=claim.run_id) == {}  # no side rows


def test_a_claim_without_a_timeout_is_kept_by_heartbeats_until_the_client_closes(base: Base) -> None:
    ledger = base.open_ledger(lease=0.6)
    client = Client("work", ledger=ledger)
    client.spawn_task(task_name="job")
    (claim,) = client.claim_task(claim_timeout=0)
    first = client.get_run_status(run_id=claim.run_id)

    def extended() -> bool:
        now = client.get_run_status(run_id=claim.run_id)
        assert now is not None
        assert first is not None
        return now["claim_expires_at"] - first["claim_expires_at"] > timedelta(seconds=1)  # type: ignore[operator]

    from tasks import until

    until(extended, patience=15)
    assert client.claim_task() == []
    client.close()
    until(client.claim_task, patience=15)


# --- ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("result", "kept"), [(None, {}), ([], []), (0, 0), (False, False), ({"a": 1}, {"a": 1})])
def test_a_result_is_kept_whatever_its_truth_and_only_none_becomes_an_empty_dict(
    client: Client, result: Any, kept: Any
) -> None:
    task_id, *_ = client.spawn_task(task_name="job")
    claim = claim_one(client)
    client.complete_task(run_id=claim.run_id, result=result)
    task, run = client.get_task_status(task_id=task_id), client.get_run_status(run_id=claim.run_id)
    assert task is not None
    assert run is not None
    assert (task["completed_payload"], run["result"]) == (kept, kept)
    assert run["completed_at"] is not None


def test_completing_twice_or_what_is_pending_is_an_error_that_leaves_the_transaction_usable(base: Base) -> None:
    client, conn = base.client(), base.connect()
    _, run_id, _ = client.spawn_task(task_name="job")
    with pytest.raises(InvalidTransition, match="pending"):
        client.complete_task(conn, run_id)
    with pytest.raises(InvalidTransition, match="pending"):
        client.fail_task(conn, run_id, "no")
    conn.commit()
    claim_one(client)
    client.complete_task(conn, run_id)
    with pytest.raises(InvalidTransition, match="completed"):
        client.complete_task(conn, run_id)
    conn.commit()


def test_a_result_that_is_no_json_leaves_the_task_as_it_was(client: Client) -> None:
    task_id, *_ = client.spawn_task(task_name="job", max_attempts=5)
    claim = claim_one(client)
    with pytest.raises(ValueNotStorable, match="result"):
        client.complete_task(run_id=claim.run_id, result=object())
    assert state(client, task_id) == "running"
    found = client.get_task_status(task_id=task_id)
    assert found is not None
    assert found["attempts"] == 1


def test_a_failed_attempt_is_followed_by_one_of_a_new_run_id_until_attempts_are_used_up(client: Client) -> None:
    task_id, *_ = spawn_retry_task(client, None, "job", {}, max_attempts=2, retry_kind="none", base_seconds=0)
    first = claim_one(client)
    client.fail_task(run_id=first.run_id, reason="broken")
    second = claim_one(client)
    assert (second.attempt, second.run_id != first.run_id) == (2, True)
    client.fail_task(run_id=second.run_id, reason={"name": "Odd", "message": "m", "code": 7})
    assert state(client, task_id) == "failed"
    old, new = client.get_run_status(run_id=first.run_id), client.get_run_status(run_id=second.run_id)
    assert old is not None
    assert new is not None
    assert old["failure_reason"] is not None
    assert (old["failure_reason"]["name"], old["failure_reason"]["message"]) == ("TaskExecutionError", "broken")
    assert "timestamp" in old["failure_reason"]
    assert new["failure_reason"] == {"name": "Odd", "message": "m", "code": 7}
    assert (old["attempt"], new["attempt"], new["state"]) == (1, 2, "failed")


def test_the_next_attempt_is_due_by_the_strategy_or_when_the_caller_says(base: Base) -> None:
    client = base.client()
    spawn_retry_task(client, None, "job", {}, max_attempts=4, retry_kind="exponential", base_seconds=10, factor=3)
    for attempt, delay in ((1, 10), (2, 30)):
        claim = claim_one(client)
        assert claim.attempt == attempt
        client.fail_task(run_id=claim.run_id, reason="broken")
        base.let_pass(client, delay - 3)
        assert client.claim_task() == []
        base.let_pass(client, 4)
    claim = claim_one(client)
    client.fail_task(run_id=claim.run_id, reason="broken", retry_at=datetime.now() - timedelta(days=1))  # noqa: DTZ005
    assert claim_one(client).attempt == 4  # in the past: now


def test_without_a_strategy_attempts_are_spread_out_instead_of_a_storm(client: Client) -> None:
    client.spawn_task(task_name="job", max_attempts=5)
    claim = claim_one(client)
    client.fail_task(run_id=claim.run_id, reason="broken")
    assert client.claim_task() == []
    found = client.get_task_status(task_id=claim.task_id)
    assert found is not None
    assert (found["state"], found["attempts"]) == ("pending", 2)


def test_a_failure_that_is_not_retryable_ends_the_task(client: Client) -> None:
    task_id, *_ = client.spawn_task(task_name="job", max_attempts=5)
    client.fail_task(run_id=claim_one(client).run_id, reason={"message": "m", "is_retryable": False})
    assert state(client, task_id) == "failed"


def test_a_failed_task_is_tried_again_by_hand_in_place_or_as_a_copy(client: Client) -> None:
    task_id, *_ = client.spawn_task(task_name="job", params={"n": 1})
    with pytest.raises(InvalidTransition):
        client.retry_task(task_id=task_id)
    first = claim_one(client)
    client.save_checkpoint_for_run(run_id=first.run_id, step_name="kept", data=1)
    client.fail_task(run_id=first.run_id, reason="broken")
    copy = client.retry_task(task_id=task_id, as_copy=True)
    again = client.retry_task(task_id=task_id)
    assert copy.task_id != task_id == again.task_id
    claims = {claim.task_id: claim for claim in client.claim_task(qty=5)}
    assert claims[task_id].run_id == again.run_id
    assert (claims[task_id].attempt, claims[copy.task_id].params) == (2, {"n": 1})
    assert client.get_checkpoints_for_run(run_id=again.run_id) == {"kept": 1}


# --- cancelling --------------------------------------------------------------------------------


def test_a_pending_or_sleeping_task_is_cancelled_at_once_by_its_id_or_its_runs(client: Client) -> None:
    one, two = client.spawn_task(task_name="a"), client.spawn_task(task_name="b")
    assert client.cancel_task(run_id=one.run_id) is True
    assert claim_one(client, qty=5).task_id == two.task_id
    assert client.await_event(None, two.task_id, two.run_id, "s", "never") == (True, None)
    assert client.cancel_task(None, two.task_id) is True
    for task_id in (one.task_id, two.task_id):
        found = client.get_task_status(task_id=task_id)
        assert found is not None
        assert found["state"] == "cancelled"
        assert found["cancelled_at"] is not None
        assert client.cancel_task(None, task_id) is False


def test_a_running_task_hears_of_its_cancel_at_its_next_durable_call(client: Client) -> None:
    calls = [
        lambda c: client.complete_task(run_id=c.run_id),
        lambda c: client.fail_task(run_id=c.run_id, reason="x"),
        lambda c: client.extend_claim(run_id=c.run_id, extend_by_seconds=1),
        lambda c: client.set_checkpoint(None, c.task_id, "s", 1, c.run_id),
        lambda c: client.await_event(None, c.task_id, c.run_id, "s", "e"),
        lambda c: client.sleep(run_id=c.run_id, duration_seconds=1),
    ]
    for call in calls:
        client.spawn_task(task_name="job")
        claim = claim_one(client)
        assert client.cancel_task(run_id=claim.run_id) is True
        assert state(client, claim.task_id) == "running"
        with pytest.raises(TaskCancelled):
            call(claim)
        assert state(client, claim.task_id) == "cancelled"
        with pytest.raises(TaskCancelled):
            call(claim)


def test_cancelling_what_nobody_knows_is_an_error_and_what_is_over_says_false(client: Client) -> None:
    with pytest.raises(LookupError):
        client.cancel_task(run_id=uuid.uuid4())
    client.spawn_task(task_name="job")
    claim = claim_one(client)
    client.complete_task(run_id=claim.run_id)
    assert client.cancel_task(run_id=claim.run_id) is False


def test_a_task_that_is_not_started_in_time_is_cancelled_and_reads_show_it_before_anybody_acts(base: Base) -> None:
    client = base.client()
    task_id, *_ = spawn_cancellable_task(client, None, "job", {}, max_delay_seconds=10)
    in_time, *_ = spawn_cancellable_task(client, None, "other", {}, max_delay_seconds=100)
    base.let_pass(client, 11)
    assert state(client, task_id) == "cancelled"
    assert claim_one(client, qty=5).task_id == in_time
    run = client.ledger.get_run(str(task_id))
    assert run is not None
    assert (run.status, run.error_message) == ("cancelled", "it was not started within its max_delay")


def test_a_task_that_takes_too_long_is_stopped_by_maintenance(base: Base) -> None:
    client = base.client()
    task_id, *_ = spawn_cancellable_task(client, None, "job", {}, max_duration_seconds=10)
    claim = claim_one(client, claim_timeout=1000)
    base.let_pass(client, 11)
    Worker([_dag("unrelated")], ledger=client.ledger, heartbeat_process=False)._maintenance.run_once()
    with pytest.raises(TaskCancelled):
        client.extend_claim(run_id=claim.run_id, extend_by_seconds=10)
    assert state(client, task_id) == "cancelled"


# --- moving ------------------------------------------------------------------------------------


def test_a_pending_task_is_moved_to_a_moment(base: Base) -> None:
    client = base.client()
    _, run_id, _ = client.spawn_task(task_name="job")
    client.schedule_task(run_id=run_id, wake_at=datetime.now(UTC) + timedelta(seconds=60))
    assert client.claim_task() == []
    base.let_pass(client, 61)
    assert claim_one(client).run_id == run_id


def test_a_running_task_is_suspended_until_a_moment_and_keeps_its_run(base: Base) -> None:
    client = base.client()
    client.spawn_task(task_name="job")
    claim = claim_one(client)
    client.schedule_task(run_id=claim.run_id, wake_at=datetime.now(UTC) + timedelta(seconds=60))
    assert state(client, claim.task_id) == "sleeping"
    assert client.ledger.why(str(claim.task_id)).code == "sleeping"
    base.let_pass(client, 61)
    again = claim_one(client)
    assert (again.run_id, again.attempt) == (claim.run_id, 1)


def test_a_task_that_is_over_cannot_be_moved(client: Client) -> None:
    client.spawn_task(task_name="job")
    claim = claim_one(client)
    client.complete_task(run_id=claim.run_id)
    with pytest.raises(InvalidTransition, match="completed"):
        client.schedule_task(run_id=claim.run_id, wake_at=datetime.now(UTC))


# --- looking -----------------------------------------------------------------------------------


def test_unknown_ids_are_none_where_one_looks_and_an_error_where_one_acts(client: Client) -> None:
    unknown = uuid.uuid4()
    assert client.get_task_status(task_id=unknown) is None
    assert client.get_run_status(run_id=unknown) is None
    assert client.get_workflow_run(workflow_run_id=unknown) is None
    assert client.get_checkpoint(task_id=unknown, step_name="s") is None
    assert client.get_checkpoints_for_run(run_id=unknown) == {}
    for act in (
        lambda: client.get_all_checkpoints(task_id=unknown, run_id=unknown),
        lambda: client.complete_task(run_id=unknown),
        lambda: client.fail_task(run_id=unknown, reason="x"),
        lambda: client.extend_claim(run_id=unknown, extend_by_seconds=1),
        lambda: client.save_checkpoint_for_run(run_id=unknown, step_name="s", data=1),
        lambda: client.schedule_task(run_id=unknown, wake_at=datetime.now(UTC)),
        lambda: client.wait_for_event(run_id=unknown, event_name="e"),
    ):
        with pytest.raises(TaskNotFound, match=str(unknown)):
            act()


def test_a_status_has_every_promised_key(client: Client) -> None:
    task_id, run_id, _ = client.spawn_task(task_name="job")
    run = client.get_run_status(run_id=run_id)
    assert run is not None
    assert list(run) == [
        "run_id",
        "task_id",
        "attempt",
        "state",
        "claimed_by",
        "claim_expires_at",
        "available_at",
        "wake_event",
        "event_payload",
        "started_at",
        "completed_at",
        "failed_at",
        "result",
        "failure_reason",
        "created_at",
        "last_heartbeat",
        "tenant_id",
    ]
    assert (run["state"], run["attempt"], run["claimed_by"]) == ("pending", 1, None)
    task = client.get_task_status(task_id=task_id)
    assert task is not None
    assert list(task) == [
        "task_id",
        "task_name",
        "params",
        "headers",
        "retry_strategy",
        "max_attempts",
        "cancellation",
        "enqueue_at",
        "first_started_at",
        "state",
        "attempts",
        "last_attempt_run",
        "completed_payload",
        "cancelled_at",
        "idempotency_key",
        "workflow_run_id",
        "tenant_id",
    ]
    assert task["last_attempt_run"] == run_id


def test_finished_tasks_are_deleted_by_age_oldest_first_with_all_they_own(base: Base) -> None:
    client = base.client()
    ids = [client.spawn_task(task_name="job").task_id for _ in range(3)]
    for claim in client.claim_task(qty=2):
        client.save_checkpoint_for_run(run_id=claim.run_id, step_name="s", data=1)
        client.complete_task(run_id=claim.run_id)
    base.let_pass(client, 100)
    assert client.cleanup_tasks(ttl_seconds=200) == 0
    assert client.cleanup_tasks(ttl_seconds=50, limit=1) == 1
    assert [client.get_task_status(task_id=one) is None for one in ids] == [True, False, False]
    assert client.cleanup_tasks(ttl_seconds=50) == 1
    assert client.ledger.list_checkpoints(str(ids[0])) == []
    with pytest.raises(ConfigurationError, match="ttl_seconds"):
        client.cleanup_tasks(ttl_seconds=-1)


def test_queues_are_made_listed_and_dropped(base: Base) -> None:
    client = base.client("shop")
    client.create_queue()
    client.create_queue()
    client.spawn_task(task_name="job")
    assert client.list_queues() == ["shop"]
    with pytest.raises(ConfigurationError, match="not finished"):
        client.drop_queue()
    client.complete_task(run_id=claim_one(client).run_id)
    client.emit_event(event_name="e")
    client.drop_queue()
    assert client.list_queues() == []
    assert client.ledger.list_runs() == []


# --- the client itself -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\n", "1a", "a b", "x" * 64, "é"])
def test_a_queue_name_that_breaks_the_rule_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="is not a queue name"):
        Client(name)


def test_names_come_from_the_environment_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Client().queue_name, Client().worker_id) == ("default", "worker_1")
    monkeypatch.setenv("MILEPOST_QUEUE", "from_env")
    monkeypatch.setenv("MILEPOST_WORKER_ID", "me")
    assert (Client("").queue_name, Client().worker_id) == ("from_env", "me")


def test_the_client_of_a_process_is_one_and_refuses_other_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_shared", [])
    one = get_client("a", "w")
    assert get_client() is one is get_client("a")
    with pytest.raises(ConfigurationError, match="queue_name='a'"):
        get_client("b")


def test_the_log_has_ids_and_names_but_no_values(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "milepost.tracking")
    client.spawn_task(task_name="job", params={"p": "secret"}, headers={"h": "secret"})
    claim = claim_one(client)
    client.complete_task(run_id=claim.run_id, result="secret")
    assert str(claim.task_id) in caplog.text
    assert "secret" not in caplog.text


# --- beside the engine -------------------------------------------------------------------------


def _dag(name: str) -> Dag:
    dag = Dag(name)

    def add(a: int, b: int) -> int:
        return a + b

    dag.node(add, label="add")
    return dag


def test_a_task_of_the_client_runs_in_a_worker_that_knows_its_name_and_the_client_reads_what_it_made(
    client: Client,
) -> None:
    workflow = client.create_workflow_run(workflow_name="sums", workflow_version="1")
    task_id, run_id, _ = client.spawn_task(
        task_name="add_up", params={"a": 1, "b": 2}, headers={"workflow_run_id": str(workflow)}
    )
    worker = Worker([_dag("add_up")], ledger=client.ledger, queues=["work"], heartbeat_process=False)
    assert worker.run_until_idle() == 1
    found = client.get_task_status(task_id=task_id)
    assert found is not None
    assert (found["state"], found["completed_payload"]) == ("completed", 3)
    assert found["headers"] == {"workflow_run_id": str(workflow)}
    assert client.get_checkpoints_for_run(run_id=run_id) == {"add": 3}
    row = client.get_workflow_run(workflow_run_id=workflow)
    assert row is not None
    assert (row["tasks"], row["progress"]) == ({"completed": 1}, 1.0)
    assert row["started_at"] is not None


def test_params_that_do_not_fit_fail_the_task_in_the_worker(client: Client) -> None:
    task_id, *_ = client.spawn_task(task_name="add_up", params={"a": "no number", "b": 2})
    Worker([_dag("add_up")], ledger=client.ledger, queues=["work"], heartbeat_process=False).run_until_idle()
    assert state(client, task_id) == "failed"


def test_a_run_of_a_dag_is_claimed_by_hand_and_no_worker_takes_it_then(client: Client) -> None:
    dag = _dag("add_up")
    handle = dag.submit({"a": 1, "b": 2}, ledger=client.ledger, queue="work", run_id="chosen")
    claim = claim_one(client)
    assert (claim.task_id, claim.run_id, claim.params) == ("chosen", "chosen#1", {"a": 1, "b": 2})
    worker = Worker([dag], ledger=client.ledger, queues=["work"], heartbeat_process=False)
    assert worker.run_until_idle() == 0
    client.complete_task(run_id=claim.run_id, result=3)
    assert handle.status() == "completed"


def test_nobody_completes_by_hand_what_a_worker_executes(client: Client) -> None:
    _, run_id, _ = client.spawn_task(task_name="job")
    store, now = client.ledger.store, client.ledger.shared_now()
    store.claim_tasks(["work"], owner="1@there#1-1", now=now, lease=30_000_000, limit=1)
    with pytest.raises(RunBusy, match="process 1 on there"):
        client.complete_task(run_id=run_id)
