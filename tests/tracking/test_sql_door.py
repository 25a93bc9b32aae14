"""The functions in PostgreSQL that any program may call: they do what the client's verbs do."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres import find_binaries, new_schema, server_url
from tracked import Base

from milepost import Dag, Worker
from milepost.stores.postgres_address import Address

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def base() -> Iterator[Base]:
    with ExitStack() as stack:
        yield Base(new_schema(server_url()), stack, is_postgres=True)


@pytest.fixture
def call(base: Base) -> Any:
    """Return a function that calls one of the ledger's, as psycopg with a search path of its own."""
    schema = Address(base.url).schema
    conn = base.connect(autocommit=True)

    def perform(name: str, **given: Any) -> Any:
        arguments = ", ".join(f"{key} => %({key})s" for key in given)
        values = {key: json.dumps(v) if isinstance(v, dict | list) else v for key, v in given.items()}
        return conn.execute(f'SELECT "{schema}".{name}({arguments})', values).fetchone()[0]

    return perform


def test_a_task_of_a_workflow_run_is_spawned_in_plain_sql_and_runs_in_a_worker(base: Base, call: Any) -> None:
    workflow = call("create_workflow_run", workflow_name="etl", workflow_version="1", inputs={"a": 1}, tags={"t": "x"})
    task_id = call("spawn_task", queue_name="work", task_name="add", params={"n": 1, "workflow_run_id": str(workflow)})
    assert ID.fullmatch(str(task_id))
    client = base.client()
    dag = Dag("add")
    dag.node(lambda n, workflow_run_id: n + 1, label="add")
    worker = Worker([dag], ledger=client.ledger, queues=["work"], heartbeat_process=False)
    assert worker.run_until_idle() == 1
    row = client.get_workflow_run(workflow_run_id=workflow)
    assert row is not None
    assert (row["inputs"], row["tags"], row["tasks"]) == ({"a": 1}, {"t": "x"}, {"completed": 1})
    assert [one["workflow_run_id"] for one in client.list_workflow_runs(tag={"t": "x"})] == [workflow]
    assert client.get_task_status(task_id=task_id)["completed_payload"] == 2  # type: ignore[index]


def test_ids_that_are_made_in_sql_are_all_different_and_in_the_order_of_time(base: Base, call: Any) -> None:
    ids = [str(call("spawn_task", queue_name="work", task_name="job")) for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(ID.fullmatch(one) for one in ids)
    assert [str(claim.task_id) for claim in base.client().claim_task(qty=200)] == ids


def test_an_event_from_plain_sql_wakes_who_waits_and_the_first_one_stands(base: Base, call: Any) -> None:
    client = base.client()
    client.spawn_task(task_name="job")
    (claim,) = client.claim_task()
    client.await_event(None, claim.task_id, claim.run_id, "s", "paid")
    assert call("emit_event", queue_name="work", event_name="paid", payload={"amount": 1}) is True
    assert call("emit_event", queue_name="work", event_name="paid", payload={"amount": 2}) is False
    (again,) = client.claim_task()
    assert again.event_payload == {"amount": 1}


@pytest.mark.parametrize("is_sql", [True, False])
def test_an_event_wakes_no_run_that_was_paused(base: Base, call: Any, is_sql: bool) -> None:
    client = base.client()
    client.spawn_task(task_name="job")
    (claim,) = client.claim_task()
    client.await_event(None, claim.task_id, claim.run_id, "s", "paid")
    schema = Address(base.url).schema
    base.connect(autocommit=True).execute(f"UPDATE \"{schema}\".runs SET error_type = 'DagPause'")
    if is_sql:
        call("emit_event", queue_name="work", event_name="paid")
    else:
        client.emit_event(event_name="paid")
    assert client.claim_task() == []


def test_a_task_is_cancelled_in_plain_sql(base: Base, call: Any) -> None:
    client = base.client()
    waiting, running = client.spawn_task(task_name="a"), None
    assert call("cancel_task", task_id=waiting.task_id) is True
    assert call("cancel_task", task_id=waiting.task_id) is False
    client.spawn_task(task_name="b")
    (running,) = client.claim_task()
    assert call("cancel_task", task_id=running.task_id) is True
    assert client.get_task_status(task_id=running.task_id)["state"] == "running"  # type: ignore[index]
    assert list(client.ledger.check()) == []


def test_a_worker_that_waits_hears_of_a_task_from_plain_sql(base: Base, call: Any) -> None:
    client = base.client()
    news = client.ledger.store.await_news(None, 0)
    heard = threading.Event()

    def wait() -> None:
        seen = news
        while seen == news:
            seen = client.ledger.store.await_news(news, 5)
        heard.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    call("spawn_task", queue_name="work", task_name="job")
    assert heard.wait(10)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("create_workflow_run", {"workflow_name": "Bad", "workflow_version": "1"}, "workflow_name must match"),
        ("create_workflow_run", {"workflow_name": "a__b", "workflow_version": "1"}, "workflow_name must match"),
        ("create_workflow_run", {"workflow_name": "a", "workflow_version": "1\n"}, "workflow_version must match"),
        ("create_workflow_run", {"workflow_name": "a", "workflow_version": "1", "tags": [1]}, "tags must be"),
        ("spawn_task", {"queue_name": "a b", "task_name": "t"}, "is not a queue name"),
        ("spawn_task", {"queue_name": "q", "task_name": " "}, "task_name must be"),
        ("spawn_task", {"queue_name": "q", "task_name": "t", "max_attempts": 0}, "max_attempts"),
        ("spawn_task", {"queue_name": "q", "task_name": "t", "params": {"$": 1}}, "typed values"),
        ("spawn_task", {"queue_name": "q", "task_name": "t", "workflow_run_id": uuid.uuid4()}, "No workflow run"),
        ("emit_event", {"queue_name": "q", "event_name": ""}, "is not an event name"),
        ("cancel_task", {"task_id": uuid.uuid4()}, "No task"),
    ],
)
def test_bad_input_is_refused_with_value_and_rule_and_writes_nothing(
    base: Base, call: Any, name: str, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(psycopg.Error, match=told):
        call(name, **given)
    assert base.client().ledger.list_runs() == []


def test_a_used_key_gives_the_first_task_or_an_error(base: Base, call: Any) -> None:
    given = {"queue_name": "work", "task_name": "job", "params": {"n": 1}, "idempotency_key": "k"}
    first = call("spawn_task", **given)
    assert call("spawn_task", **given) == first
    with pytest.raises(psycopg.errors.UniqueViolation, match="'k'"):
        call("spawn_task", **{**given, "params": {"n": 2}})


def test_psql_calls_them(base: Base) -> None:
    program = str(find_binaries() / "psql")
    address = Address(base.url)
    command = f"SELECT \"{address.schema}\".spawn_task('work', 'job', '{{\"n\": 1}}')"
    done = subprocess.run([program, address.conninfo, "-Atc", command], capture_output=True, text=True, check=True)
    (claim,) = base.client().claim_task()
    assert (done.stdout.strip(), claim.params) == (str(claim.task_id), {"n": 1})


def test_the_script_of_the_guide_runs_in_psql(base: Base) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "track-workflows.md").read_text(encoding="utf-8")
    (script,) = re.findall(r'```sql title="orders.sql"\n(.*?)```', page, re.DOTALL)
    address = Address(base.url)
    command = [str(find_binaries() / "psql"), address.conninfo, "-At", "-v", "ON_ERROR_STOP=1"]
    own = script.replace("milepost.", f"{address.schema}.")
    done = subprocess.run(command, input=own, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["t", "t"]
    client = base.client("orders")
    (workflow,) = client.list_workflow_runs(workflow_name="order_intake")
    assert (workflow["inputs"], workflow["tasks"]) == ({"order": 42}, {"cancelled": 1})
    event = client.ledger.get_event("order-42-paid", scope="orders")
    assert event is not None
    assert json.loads(event.payload) == {"amount": 10}
