"""Every block of the document that the client is a face of runs as it is written there, on both databases."""

from __future__ import annotations

import types
from datetime import UTC, datetime
from typing import Any

import pytest
import seed_blocks
from tracked import Base

from milepost.tracking import Client


@pytest.fixture
def names(base: Base, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names that a block finds: its driver leads to the test's database, as its environment does."""
    monkeypatch.setenv("MILEPOST_LEDGER", base.url)
    driver = types.SimpleNamespace(connect=lambda text: base.connect())
    return {"psycopg": driver, "conn": base.connect()}


def test_a_workflow_run_is_created_updated_and_linked_as_the_document_does_it(
    base: Base, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    exec(seed_blocks.CREATE, names)
    assert capsys.readouterr().out == f"Created workflow run: {names['workflow_run_id']}\n"
    exec(seed_blocks.TASKS, names)
    assert names["actual_workflow_run_id"] == names["workflow_run_id"]
    exec(seed_blocks.UPDATE, names)
    names["conn"].commit()
    found = names["client"].get_workflow_run(workflow_run_id=names["workflow_run_id"])
    assert found["inputs"] == {"source": "s3://bucket/data", "target": "warehouse"}
    assert found["tags"] == {"environment": "production", "priority": "high"}
    assert (found["created_by"], found["workflow_hash"]) == ("pipeline_system", "sha256_hash_of_definition")
    assert (found["status"], found["task_count"], found["tasks"]) == ("failed", 10, {"pending": 1})
    assert found["error"]["details"]["retries_attempted"] == 3
    assert found["result"]["output"] == "final_result"
    assert [change["status"] for change in found["history"]] == ["pending", "running", "completed", "failed"]
    assert abs((found["started_at"] - datetime.now(UTC)).total_seconds()) < 60


def test_the_tasks_of_the_document_carry_the_link_as_text(base: Base, names: dict[str, Any]) -> None:
    exec(seed_blocks.CREATE, names)
    exec(seed_blocks.TASKS, names)
    names["conn"].commit()
    (task,) = names["client"].get_tasks_of_workflow(workflow_run_id=names["workflow_run_id"])
    assert task["params"] == task["headers"] == {"workflow_run_id": str(names["workflow_run_id"])}
    assert (task["task_id"], task["workflow_run_id"]) == (names["task_id"], names["workflow_run_id"])


def test_the_full_example_runs_to_its_end(base: Base, names: dict[str, Any]) -> None:
    exec(seed_blocks.FULL, names)
    names["execute_data_pipeline"]()
    client = base.client("pipeline_queue")
    (found,) = client.list_workflow_runs(workflow_name="data_pipeline")
    assert (found["status"], found["task_count"], found["created_by"]) == ("completed", 2, "etl_system")
    assert found["result"] == {"output": "warehouse", "records_processed": 10000}
    names_of = [task["task_name"] for task in client.get_tasks_of_workflow(workflow_run_id=found["workflow_run_id"])]
    assert names_of == ["extract_data", "transform_data"]


def test_run_checkpoints_are_read_and_saved_as_the_document_does_it(
    base: Base, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    client = base.client("checkpoint_queue")
    client.spawn_task(task_name="job")
    (claim,) = client.claim_task()
    client.save_checkpoint_for_run(run_id=claim.run_id, step_name="progress", data=30)
    names |= {"run_id": claim.run_id, "task_id": claim.task_id}
    exec(seed_blocks.CHECKPOINTS, names)
    assert capsys.readouterr().out == "Found 1 checkpoints: ['progress']\nCurrent progress: 30\n"
    assert client.get_checkpoints_for_run(run_id=claim.run_id) == {
        "progress": 30,
        "current_step": {"step": 3, "total": 10, "status": "in_progress"},
        "detailed_state": {"state": "processing", "details": {"item": 1, "total": 100}},
    }


def test_without_any_setting_the_ledger_is_the_one_that_the_connection_leads_to(base: Base) -> None:
    if base.is_postgres:
        from milepost import Ledger
        from milepost.stores.postgres_address import Address

        Ledger.migrate(Address(base.url).conninfo)  # the schema that is taken where none is named
    conn = base.connect()
    with Client("queue") as client:
        spawned = client.spawn_task(conn, "job")
        conn.commit()
        status = client.get_task_status(conn, spawned.task_id)
        assert status is not None
        assert status["state"] == "pending"
