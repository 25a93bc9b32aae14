"""Workflow runs: created, reported on, read, listed."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tasks import in_parallel
from tracked import Base

from milepost.errors import ConfigurationError, InvalidTransition, ValueNotStorable, WaitTimedOut
from milepost.states import RunStatus
from milepost.tracking import Client, WorkflowRunNotFound, display_name


def create(client: Client, name: str = "etl", version: str = "1.0.0", **options: Any) -> Any:
    return client.create_workflow_run(workflow_name=name, workflow_version=version, **options)


def get(client: Client, workflow: Any) -> Any:
    found = client.get_workflow_run(workflow_run_id=workflow)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["Bad-Name!", "a__b", "", "1a", "a\n", "é", None, "a b"])
def test_a_name_that_breaks_the_rule_is_refused_before_any_write(client: Client, name: Any) -> None:
    with pytest.raises(ValueError, match=r"workflow_name must match"):
        create(client, name)
    assert client.list_workflow_runs() == []


@pytest.mark.parametrize("version", ["v 1", "1__0", "", "1\n", None, "1/2"])
def test_a_version_that_breaks_the_rule_is_refused(client: Client, version: Any) -> None:
    with pytest.raises(ValueError, match=r"workflow_version must match"):
        create(client, version=version)


def test_the_display_name_has_two_underscores_between_its_parts() -> None:
    assert display_name("etl", "1.0", "load") == "etl__1.0__load"


def test_what_is_falsy_is_kept_and_only_none_is_absent(client: Client) -> None:
    empty = get(client, create(client, inputs={}, tags={}))
    nothing = get(client, create(client))
    assert (empty["inputs"], empty["tags"]) == ({}, {})
    assert (nothing["inputs"], nothing["tags"]) == (None, None)
    workflow = create(client)
    client.update_workflow_run_status(workflow_run_id=workflow, status="completed", result=0, task_count=0)
    assert (get(client, workflow)["result"], get(client, workflow)["task_count"]) == (0, 0)


def test_times_follow_from_reports_unless_they_are_stated(client: Client) -> None:
    workflow = create(client)
    assert (get(client, workflow)["started_at"], get(client, workflow)["completed_at"]) == (None, None)
    client.update_workflow_run_status(workflow_run_id=workflow, status="running")
    client.update_workflow_run_status(workflow_run_id=workflow, status="completed")
    found = get(client, workflow)
    assert found["created_at"] <= found["started_at"] <= found["completed_at"]
    stated = datetime(2020, 1, 1, tzinfo=UTC)
    client.update_workflow_run_status(
        workflow_run_id=workflow, status="completed", started_at=stated, completed_at=stated
    )
    assert (get(client, workflow)["started_at"], get(client, workflow)["completed_at"]) == (stated, stated)


def test_a_naive_moment_is_the_local_time_of_the_process(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        workflow = create(client, inputs={"at": datetime(2026, 1, 1, 9)})  # noqa: DTZ001
        client.update_workflow_run_status(
            workflow_run_id=workflow,
            status="running",
            started_at=datetime(2026, 1, 1, 9),  # noqa: DTZ001
        )
    finally:
        monkeypatch.undo()
        time.tzset()
    found = get(client, workflow)
    assert found["started_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert found["inputs"] == {"at": "2026-01-01T00:00:00+00:00"}
    assert "TZ" not in os.environ or os.environ["TZ"] != "Asia/Tokyo"


ENDS = ("completed", "failed", "cancelled")
LEGAL = {
    "pending": {"pending", "running", *ENDS},
    "running": {"running", *ENDS},
    **{end: set(ENDS) for end in ENDS},
}


@pytest.mark.parametrize("before", LEGAL)
@pytest.mark.parametrize("after", LEGAL)
def test_a_status_changes_as_the_table_says_and_never_back(client: Client, before: str, after: str) -> None:
    workflow = create(client)
    if before != "pending":
        client.update_workflow_run_status(workflow_run_id=workflow, status=before)
    if after in LEGAL[before]:
        client.update_workflow_run_status(workflow_run_id=workflow, status=after)
        assert get(client, workflow)["status"] == after
        return
    with pytest.raises(InvalidTransition, match=before):
        client.update_workflow_run_status(workflow_run_id=workflow, status=after, result=1)
    found = get(client, workflow)
    assert (found["status"], found["result"], found["history"][-1]["status"]) == (before, None, before)


def test_of_two_reports_of_an_end_the_later_stands_and_both_stay_in_the_history(client: Client) -> None:
    workflow = create(client)
    client.update_workflow_run_status(workflow_run_id=workflow, status="completed", result=1)
    client.update_workflow_run_status(workflow_run_id=workflow, status="failed", error={"type": "E", "message": "m"})
    found = get(client, workflow)
    assert found["status"] == "failed"
    assert [(c["status"], c["result"], c["error"]) for c in found["history"]] == [
        ("pending", None, None),
        ("completed", 1, None),
        ("failed", None, {"type": "E", "message": "m"}),
    ]


@pytest.mark.parametrize("status", ["bananas", "complete", "", None, "suspended", 1])
def test_an_unknown_status_is_refused(client: Client, status: Any) -> None:
    workflow = create(client)
    with pytest.raises(ValueError, match="status must be one of"):
        client.update_workflow_run_status(workflow_run_id=workflow, status=status)


def test_an_unknown_workflow_run_is_an_error_and_so_is_a_task(client: Client) -> None:
    for unknown in (uuid.uuid4(), client.spawn_task(task_name="job").task_id):
        with pytest.raises(WorkflowRunNotFound, match=str(unknown)):
            client.update_workflow_run_status(workflow_run_id=unknown, status="running")


def test_an_end_that_is_stated_for_what_is_not_over_is_refused(client: Client) -> None:
    workflow = create(client)
    with pytest.raises(ConfigurationError, match="completed_at"):
        client.update_workflow_run_status(workflow_run_id=workflow, status="running", completed_at=datetime.now(UTC))


def test_a_result_that_is_no_json_is_refused(client: Client) -> None:
    workflow = create(client)
    with pytest.raises(ValueNotStorable, match="result"):
        client.update_workflow_run_status(workflow_run_id=workflow, status="completed", result={"x": object()})
    assert get(client, workflow)["status"] == "pending"


def test_tasks_are_counted_by_state_and_listed_in_pages(client: Client) -> None:
    workflow = create(client)
    ids = [client.spawn_task(task_name="job", workflow_run_id=workflow).task_id for _ in range(5)]
    claims = client.claim_task(qty=3)
    client.complete_task(run_id=claims[0].run_id)
    client.fail_task(run_id=claims[1].run_id, reason="x")
    found = get(client, workflow)
    assert found["tasks"] == {"pending": 2, "running": 1, "completed": 1, "failed": 1}
    assert (found["task_count"], found["progress"]) == (5, 0.4)
    assert found["started_at"] is not None  # from its tasks
    first = client.get_tasks_of_workflow(workflow_run_id=workflow, limit=3)
    rest = client.get_tasks_of_workflow(workflow_run_id=workflow, after=first[-1]["task_id"])
    assert [task["task_id"] for task in (*first, *rest)] == ids
    assert len(client.get_tasks_of_workflow(workflow_run_id=workflow, status="pending")) == 2


def test_workflow_runs_are_found_by_name_version_status_tag_creator_and_time_in_pages(client: Client) -> None:
    one = create(client, "etl", "1", tags={"env": "prod", "n": 1}, created_by="ada")
    two = create(client, "etl", "2", tags={"env": "test"}, created_by="bob")
    three = create(client, "mail", "1", tags=["nightly"])
    client.update_workflow_run_status(workflow_run_id=two, status="running")

    def found(**options: Any) -> list[Any]:
        return [row["workflow_run_id"] for row in client.list_workflow_runs(**options)]

    assert found() == [three, two, one]
    assert found(workflow_name="etl") == [two, one]
    assert found(workflow_version="1") == [three, one]
    assert found(status="running") == [two]
    assert found(tag="env") == [two, one]
    assert found(tag={"env": "prod"}) == [one] == found(tag={"n": 1})
    assert found(tag="nightly") == [three] == found(tag={"nightly": True})
    assert found(created_by="ada") == [one]
    now = datetime.now(UTC)
    assert found(created_after=now + timedelta(hours=1)) == [] == found(created_before=now - timedelta(hours=1))
    assert found(created_after=now - timedelta(hours=1), created_before=now + timedelta(hours=1)) == [three, two, one]
    assert found(limit=2) == [three, two]
    assert found(limit=2, before=two) == [one]
    with pytest.raises(ConfigurationError, match="status"):
        found(status="bananas")
    with pytest.raises(WorkflowRunNotFound):
        found(before=uuid.uuid4())


def test_one_waits_for_the_end_of_a_workflow_run(base: Base) -> None:
    client, other = base.client(), base.client()
    workflow = create(client)
    with pytest.raises(WaitTimedOut, match="pending"):
        client.wait_for_workflow_run(workflow_run_id=workflow, timeout_seconds=0)
    with pytest.raises(WorkflowRunNotFound):
        client.wait_for_workflow_run(workflow_run_id=uuid.uuid4())
    row, _ = in_parallel(
        lambda: client.wait_for_workflow_run(workflow_run_id=workflow, timeout_seconds=30),
        lambda: other.update_workflow_run_status(workflow_run_id=workflow, status="completed", result=1),
    )
    assert (row["status"], row["result"]) == ("completed", 1)


def test_workflow_runs_are_runs_that_no_worker_takes_and_doctor_finds_nothing_wrong(client: Client) -> None:
    workflow = create(client, created_by="ada")
    client.update_workflow_run_status(workflow_run_id=workflow, status="running")
    task_id, *_ = client.spawn_task(task_name="job", workflow_run_id=workflow)
    run = client.ledger.require_run(str(workflow))
    assert (run.workflow, run.version, run.kind, run.status) == ("etl", "1.0.0", "workflow", RunStatus.RUNNING)
    assert [child.run_id for child in client.ledger.list_runs(parent_run_id=str(workflow))] == [str(task_id)]
    assert list(client.ledger.check()) == []
    assert client.ledger.store.list_running() == []
    client.complete_task(run_id=client.claim_task()[0].run_id)
    client.update_workflow_run_status(workflow_run_id=workflow, status="completed")
    assert client.ledger.delete_runs(older_than=timedelta(0)) == 1
    assert client.get_workflow_run(workflow_run_id=workflow) is None
    assert client.get_task_status(task_id=task_id) is None
