"""Which index each statement of the PostgreSQL store walks, with 50,000 runs in the ledger.

The same for SQLite is in ``tests/unit/test_sql.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest
from postgres import new_schema, server_url
from rows import LEASE, NOW, OWNER, completed, edge, end, new_run, write

from milepost.store import NewTask
from milepost.stores.postgres import PostgresStore
from milepost.stores.postgres_connection import Address, connect
from milepost.stores.postgres_statements import OWN_FILES, columns
from milepost.stores.postgres_text import named
from milepost.stores.rows import ROW_TYPES, FenceRow, end_row, is_number
from milepost.stores.sql import PARAMETER, keep_given, load_statements
from milepost.stores.verbs import STATEMENT_FILES

STATEMENTS = load_statements(*STATEMENT_FILES, *OWN_FILES)

# Of 50,000 runs, n from 0: one in ten waits, one in a hundred waits for a time, one in a hundred is running, and one
# in a hundred failed; the others completed.
FILL = """
INSERT INTO runs (
    run_id, workflow, hash, kind, status, queue, available_at, lease_owner, lease_until, lease_epoch, attempt,
    root_run_id, parent_run_id, created_at, finished_at, created_by, idempotency_key
)
SELECT
    id, CASE WHEN n % 1000 = 999 THEN 'rare' ELSE 'flow' END, 'hash' || n % 20, 'dag', status, 'queue' || n % 5,
    CASE WHEN n % 100 = 1 THEN n END, CASE WHEN status = 'running' THEN 'owner' || n / 100 % 25 END,
    CASE WHEN status = 'running' THEN n END, 1, 1,
    CASE WHEN n % 100 = 4 THEN root ELSE id END, CASE WHEN n % 100 = 4 THEN root END, n,
    CASE WHEN status IN ('completed', 'failed') THEN n END, CASE WHEN n % 100 = 5 THEN 'schedule' || n % 7 END,
    'key' || n
FROM (
    SELECT
        n, 'run' || 100000 + n AS id, 'run' || 100000 + n - 4 AS root,
        CASE
            WHEN n % 10 = 0 OR n % 100 = 1 THEN 'pending' WHEN n % 100 = 2 THEN 'running'
            WHEN n % 100 = 3 THEN 'failed' ELSE 'completed'
        END AS status
    FROM generate_series(0, 49999) AS s(n)
) AS numbered;
INSERT INTO run_payloads (run_id, inputs) SELECT run_id, '{}' FROM runs WHERE run_id LIKE 'run%';
INSERT INTO attempts (run_id, lease_epoch, attempt, owner, status, started_at)
    SELECT run_id, 1, 1, 'owner', CASE WHEN status = 'pending' THEN 'cancelled' ELSE status END, 1
    FROM runs WHERE run_id LIKE 'run%';
INSERT INTO steps (run_id, label, attempt, seq, lease_epoch, kind, status, storage, started_at, finished_at)
    SELECT run_id, 'step', 1, 1, 1, 'step', 'completed', 'inline', 1, 2
    FROM runs WHERE run_id LIKE 'run%';
INSERT INTO edges (run_id, upstream, downstream, traversed_at) SELECT run_id, 'a', 'c', 1 FROM runs;
INSERT INTO checkpoints (run_id, label, name, value, lease_epoch, saved_at)
    SELECT run_id, 'a', 'b', '1', 1, 1 FROM runs;
INSERT INTO waits (run_id, label, kind, scope, event, created_at) SELECT run_id, 'w', 'event', 's', run_id, 1 FROM runs;
INSERT INTO events (scope, name, payload, emitted_at) SELECT 's', 'event' || run_id, '1', 1 FROM runs;
INSERT INTO definitions (hash, workflow, document, created_at)
    SELECT 'hash' || n, 'flow', '{}', 1 FROM generate_series(0, 499) AS s(n);
"""
BIG = {"runs", "run_payloads", "attempts", "steps", "edges", "checkpoints", "waits", "events"}

# What is asked of them. None of it has to be there.
GIVEN: dict[str, Any] = {
    "run_id": "run100302",
    "root_run_id": "run100300",
    "parent_run_id": "run100300",
    "before_id": "run140000",
    "before_at": 40_000,
    "workflow": "rare",
    "target": "module:dag",
    "worker_id": "worker",
    "owner_gone": "owner4",
    "sparing": "owner5",
    "texts": json.dumps([f"run{100000 + n}" for n in range(64)]),
    "queue": "queue0",
    "scope": "s",
    "owner": "owner3",
    "created_by": "schedule5",
    "idempotency_key": "key5",
    "hash": "hash5",
    "status": "failed",
    "expected_status": "running",
    "label": "step",
    "name": "b",
    "event": "run100303",
    "parent": "step",
    "source": "run100303",
    "first": "step[",
    "last": "step\\",
    "prefix": "run1003",
    "prefix_end": "run1004",
    "reason": "Released",
    "error_type": "Released",
    "now": 500,
    "lease": 1,
    "before": 500,
    "limit": 16,
    "offset": 0,
    "priority": 0,
    "created_at": 25_000,
}

# The statements that run all the time, or over very many runs: claims, rescues, heartbeats, lists, retention.
PINNED = {
    "claim_tasks": {"runs_ready", "runs_pkey", "queues_pkey"},
    "claim_at_once": {"runs_ready", "runs_pkey", "queues_pkey", "run_payloads_pkey"},
    "promote_due": {"runs_due", "runs_pkey"},
    "next_due": {"runs_due"},
    "list_payloads": {"run_payloads_pkey"},
    "release_run": {"runs_pkey"},
    "retry_run": {"runs_pkey"},
    "list_expired_leases": {"runs_running"},
    "list_leases_of": {"runs_by_owner"},
    "rescue_run": {"runs_running"},  # by the end of the lease, which is nearly a key
    "give_up_run": {"runs_running"},
    "close_attempts": {"attempts_pkey"},
    "cancel_open_steps": {"steps_pkey"},
    "has_completed_step": {"steps_pkey", "checkpoints_pkey"},
    "heartbeat": {"runs_pkey"},
    "heartbeat_owner": {"runs_by_owner", "runs_pkey"},
    "list_owners": {"runs_by_owner"},
    "list_owned": {"runs_by_owner"},
    "list_stop_requests": {"runs_by_owner"},
    "list_running": {"runs_running"},
    "find_run_ids": {"runs_pkey"},
    "get_run_by_key": {"runs_by_key"},
    "list_expired_runs": {"runs_finished", "runs_by_root"},
    "list_family": {"runs_by_root"},
    "delete_steps": {"steps_pkey"},
    "delete_edges": {"edges_pkey"},
    "delete_checkpoints": {"checkpoints_pkey"},
    "delete_waits": {"waits_pkey"},
    "delete_attempts": {"attempts_pkey"},
    "delete_payloads": {"run_payloads_pkey"},
    "delete_runs": {"runs_pkey"},
    "resolve_event_waits": {"waits_for_event"},
    "wake_run": {"runs_pkey"},
    "suspend_run": {"runs_pkey", "waits_pkey"},
    "count_active_runs": {"runs_open_by_creator"},
    "last_run_of_schedule": {"runs_by_creator"},
}
LISTS = {
    (): "runs_by_created",
    ("since",): "runs_by_created",
    ("before_at",): "runs_by_created",
    ("status", "is_over"): "runs_by_status",
    ("status", "is_over", "before_at"): "runs_by_status",
    ("status", "is_open"): "runs_open",
    ("workflow",): "runs_by_workflow",
    ("parent_run_id",): "runs_by_parent",
    ("created_by",): "runs_by_creator",
}
# Indexes that hold few runs, all of which are wanted.
PARTIAL = {
    "list_owners",
    "list_running",
    "next_due",
    "list_expired_runs",
    "list_past_start",
    "list_past_end",
    "list_old_events",
    "list_workflow_runs",
}
# Bound from rows: driver's writes, each by the key of its run.
ROWS = {
    "start_step": {"runs_pkey"},
    "end_step": {"runs_pkey"},
    "end_run": {"runs_pkey"},
    "end_attempt": {"attempts_pkey"},
    "save_progress": {"steps_pkey"},
    "save_checkpoint": {"runs_pkey"},
}
# These look at much more than they return, each with its reason.
WALKS = {
    "count_tasks": "counts every unfinished task",
    "list_workflows": "an index alone answers it; asked by people",
    "delete_events": "all events older than a time, once in a while",
    "find_open_steps": "doctor looks at everything",
    "find_broken_claims": "doctor looks at everything",
    "find_unfinished_steps": "doctor looks at everything",
    "find_completed_twice": "doctor looks at everything",
    "find_loose_edges": "doctor looks at everything",
    "find_bad_times": "doctor looks at everything",
}


class Filled(NamedTuple):
    store: PostgresStore
    connection: psycopg.Connection[Any]


@pytest.fixture(scope="module")
def filled() -> Iterator[Filled]:
    """Return a store on a ledger with 50,000 runs, and a connection as the store prepares its own."""
    url = new_schema(server_url())
    address = Address(url)
    with psycopg.connect(address.conninfo, autocommit=True) as filling:
        filling.execute(f"SET search_path TO {address.schema}")
        filling.execute(FILL)
        filling.execute("ANALYZE runs, run_payloads, attempts, steps, edges, checkpoints, waits, events, definitions")
    store, connection = PostgresStore(url), connect(address)
    yield Filled(store, connection)
    connection.close()
    store.close()


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _plan(filled: Filled, name: str, *optional: str) -> list[dict[str, Any]]:
    """Return the nodes of a statement's plan."""
    text = keep_given(filled.store._statements.portable[name], frozenset(optional))
    given = {parameter: GIVEN.get(parameter, 1) for parameter in PARAMETER.findall(text)}
    rows = filled.connection.execute(f"EXPLAIN (FORMAT JSON) {named(text)}", given).fetchall()
    return list(_nodes(rows[0][0][0]["Plan"]))


def _plan_of_rows(filled: Filled, name: str, rows: list[Any]) -> list[dict[str, Any]]:
    text, row_type = filled.store._statements.batch[name]
    cursor = psycopg.RawCursor(filled.connection)
    rows = cursor.execute(f"EXPLAIN (FORMAT JSON) {text}", columns(row_type, rows)).fetchall()
    return list(_nodes(rows[0][0][0]["Plan"]))


def _indexes(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["Index Name"] for node in nodes if "Index Name" in node}


def _walked(nodes: list[dict[str, Any]]) -> list[str]:
    """Return the big tables of which a plan looks at more than one range of an index."""
    return [
        node["Relation Name"]
        for node in nodes
        if node.get("Relation Name") in BIG and node["Node Type"].endswith("Scan") and "Index Cond" not in node
    ]


@pytest.mark.parametrize("name", PINNED)
def test_claims_rescues_lists_and_retention_walk_their_own_index(filled: Filled, name: str) -> None:
    assert _indexes(_plan(filled, name)) == PINNED[name]


@pytest.mark.parametrize("given", LISTS, ids="+".join)
def test_a_page_of_runs_comes_in_the_order_of_an_index(filled: Filled, given: tuple[str, ...]) -> None:
    nodes = _plan(filled, "list_runs", *given)
    assert _indexes(nodes) == {LISTS[given]}
    assert "Sort" not in {node["Node Type"] for node in nodes}


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_many_runs_find_each_run_by_its_key(filled: Filled, name: str) -> None:
    row_type = ROW_TYPES[STATEMENTS[name].row or ""]
    values = {"run_id": "run100302", "label": "step", "name": "b", "status": "completed", "value": "1"}
    numbers = is_number(row_type.__name__)
    row = row_type(*(1 if n else values.get(f, "a") for f, n in zip(row_type._fields, numbers, strict=True)))
    assert _indexes(_plan_of_rows(filled, name, [row] * 64)) == ROWS[name]


def test_what_is_written_at_once_finds_each_run_by_its_key(filled: Filled) -> None:
    text, row_types = filled.store._statements.at_once["write_at_once"]
    run_ids = [f"run{100002 + 100 * n}" for n in range(64)]
    rows: dict[str, list[Any]] = {
        "FenceRow": [FenceRow(run_id, 1) for run_id in run_ids],
        "StepWrite": [end("step", run_id) for run_id in run_ids],
        "EdgeWrite": [edge("a", "b", run_id) for run_id in run_ids],
        "EndRow": [end_row(write(run_id, end=completed())) for run_id in run_ids],
    }
    arrays = [array for row_type in row_types for array in columns(row_type, rows[row_type])]
    found = psycopg.RawCursor(filled.connection).execute(f"EXPLAIN (FORMAT JSON) {text}", arrays).fetchall()
    nodes = list(_nodes(found[0][0][0]["Plan"]))
    assert _indexes(nodes) == {"runs_pkey", "attempts_pkey"}
    assert _walked(nodes) == []


@pytest.mark.parametrize("name", [name for name in STATEMENTS if name not in WALKS and name != "write_at_once"])
def test_no_other_statement_walks_a_whole_table(filled: Filled, name: str) -> None:
    if STATEMENTS[name].row is None:
        nodes = _plan(filled, name)
        walks = {"runs"} if name in PARTIAL or name == "list_runs" else set()
        if name == "delete_unused_definitions":
            walks = {"attempts"}  # by its index of the few claims that have a definition of their own
        assert set(_walked(nodes)) <= walks


def test_the_list_of_walks_holds_nothing_that_goes_straight_to_its_rows(filled: Filled) -> None:
    for name in WALKS:
        assert _walked(_plan(filled, name)), name


def test_a_plan_made_while_the_ledger_was_empty_reads_no_table_when_it_is_full() -> None:
    url = new_schema(server_url())
    address = Address(url)
    store = PostgresStore(url)
    with psycopg.connect(address.conninfo, autocommit=True) as other:

        def reads() -> list[tuple[str, int]]:
            return other.execute(
                "SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE schemaname = %s AND relname = ANY (%s)",
                [address.schema, list(BIG)],
            ).fetchall()

        for turn in range(12):
            _work(store, f"early{turn}")
        other.execute(f"SET search_path TO {address.schema}")
        other.execute(FILL)
        before = reads()
        for turn in range(12):
            _work(store, f"late{turn}")
        with store._borrow() as pooled, store._lock:
            assert store._writer is not None
            for connection in (pooled, store._writer.connection):
                connection.execute("SELECT pg_stat_force_next_flush()")
        assert reads() == before
        store.close()


def _work(store: PostgresStore, turn: str) -> None:
    """Do what workers do, a few runs at a time."""
    tasks = [
        NewTask(run_id=f"{turn}-{n}", workflow="w", kind="dag", queue="own", inputs="{}", now=NOW) for n in range(4)
    ]
    store.submit_tasks(tasks)
    claimed = store.claim_tasks(["own"], owner=OWNER, now=NOW, lease=LEASE, limit=4)
    assert len(claimed) == 4
    fresh = [new_run(f"{turn}-own-{n}") for n in range(4)]
    runs = [task.run.run_id for task in claimed] + [run.run_id for run in fresh]
    assert store.apply(fresh) == [None] * 4
    assert store.apply([write(run_id, ends=[end("a", run_id)], edges=[edge("a", "b", run_id)]) for run_id in runs])
    store.heartbeat_owner(OWNER, now=NOW, lease=LEASE)
    store.rescue_tasks(now=NOW, limit=10, max_rescues=5, owner_gone="nobody", reason=("a", "b"))
    store.list_stop_requests(OWNER)
    outcomes = store.apply([write(run_id, ends=[end("b", run_id)], end=completed()) for run_id in runs])
    assert outcomes == [None] * 8
