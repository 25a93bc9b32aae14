"""A verb that joins the caller's own transaction: the run and the caller's rows exist together, or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres import server_url
from psycopg.rows import dict_row, namedtuple_row
from rows import NOW
from tasks import claimed_ids, started, submit, task, until, wait

from milepost.errors import ConfigurationError, MilepostError, RunExists
from milepost.store import Store, Submitted
from milepost.stores.postgres import PostgresStore

Connect = Callable[..., Any]


@pytest.fixture
def connect(two_stores: tuple[Store, Store]) -> Iterator[Connect]:
    """Return a function that opens a connection of the caller's own, with a table ``orders`` beside the ledger."""
    store = two_stores[0]
    with ExitStack() as stack:

        def open_one(**options: Any) -> Any:
            if isinstance(store, PostgresStore):
                connection: Any = psycopg.connect(store._address.conninfo, **options)
                connection.execute(f"SET search_path TO {store._address.schema}")
                connection.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER)")
                if not connection.autocommit:
                    connection.commit()
            else:
                connection = sqlite3.connect(store.url, **options)
                connection.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER)")
            stack.callback(connection.close)
            return connection

        yield open_one


def count_orders(connection: Any) -> int:
    (row,) = connection.execute("SELECT COUNT(*) AS n FROM orders").fetchall()
    return int(row["n"] if isinstance(row, dict | sqlite3.Row) else row[0])


def test_rolled_back_neither_the_run_nor_the_callers_row_exists_and_no_worker_saw_it(
    two_stores: tuple[Store, Store], connect: Connect
) -> None:
    connection = connect()
    connection.execute("INSERT INTO orders VALUES (1)")
    assert two_stores[0].submit_tasks([task()], conn=connection) == [Submitted("task", is_new=True)]
    assert two_stores[1].get_run("task") is None
    if not isinstance(two_stores[1], PostgresStore):
        connection.rollback()  # one writer at a time: a claim would wait for the caller
    assert claimed_ids(two_stores[1]) == []
    connection.rollback()
    assert two_stores[1].get_run("task") is None
    assert two_stores[1].get_run_payload("task") is None
    assert count_orders(connection) == 0


def test_committed_both_exist_and_whoever_waits_for_news_hears_of_it(
    two_stores: tuple[Store, Store], connect: Connect
) -> None:
    news = two_stores[1].await_news(None, 0)
    connection = connect()
    connection.execute("INSERT INTO orders VALUES (1)")
    two_stores[0].submit_tasks([task(idempotency_key="key")], conn=connection)
    connection.commit()
    until(lambda: two_stores[1].await_news(news, 5.0) != news, pause=0)
    assert claimed_ids(two_stores[1]) == ["task"]
    assert count_orders(connection) == 1
    repeated = two_stores[0].submit_tasks([task("again", idempotency_key="key", now=NOW + 1)], conn=connection)
    assert repeated == [Submitted("task", is_new=False)]


def test_an_event_that_is_rolled_back_wakes_nobody(two_stores: tuple[Store, Store], connect: Connect) -> None:
    started(two_stores[0])
    two_stores[0].register_waits([wait()], NOW)
    two_stores[0].suspend_run("task", 1, seen=0, now=NOW)
    connection = connect()
    assert two_stores[0].emit_event("default", "paid", "1", NOW, conn=connection)
    connection.rollback()
    assert two_stores[0].get_event("default", "paid") is None
    assert claimed_ids(two_stores[1], now=NOW + 1) == []
    assert two_stores[0].emit_event("default", "paid", "2", NOW, conn=connection)
    connection.commit()
    assert claimed_ids(two_stores[1], now=NOW + 1) == ["task"]
    assert [one.payload for one in two_stores[1].list_waits("task")] == ["2"]


def test_a_refused_submission_leaves_the_callers_transaction_as_it_was(
    two_stores: tuple[Store, Store], connect: Connect
) -> None:
    submit(two_stores[0], task("taken"))
    connection = connect()
    connection.execute("INSERT INTO orders VALUES (1)")
    with pytest.raises(RunExists):
        two_stores[0].submit_tasks([task("taken", now=NOW + 1)], conn=connection)
    connection.execute("INSERT INTO orders VALUES (2)")
    connection.commit()
    assert count_orders(connection) == 2


@pytest.mark.parametrize("rows", ["dict", "named"])
def test_the_callers_connection_may_make_rows_of_its_own_kind(
    two_stores: tuple[Store, Store], connect: Connect, rows: str
) -> None:
    connection = connect()
    if isinstance(two_stores[0], PostgresStore):
        connection.row_factory = dict_row if rows == "dict" else namedtuple_row
    elif rows == "dict":
        connection.row_factory = lambda cursor, row: dict(
            zip([name for name, *_ in cursor.description], row, strict=True)
        )
    else:
        connection.row_factory = sqlite3.Row
    submit(two_stores[0], task("first", idempotency_key="key"))
    again = [task("second", idempotency_key="key", now=NOW + 1), task("third")]
    outcomes = two_stores[0].submit_tasks(again, conn=connection)
    assert outcomes == [Submitted("first", is_new=False), Submitted("third", is_new=True)]
    connection.commit()
    assert sorted(claimed_ids(two_stores[1])) == ["first", "third"]


def test_a_transaction_that_the_caller_opened_by_hand_is_joined(
    two_stores: tuple[Store, Store], connect: Connect
) -> None:
    if isinstance(two_stores[0], PostgresStore):
        connection = connect(autocommit=True)
        with connection.transaction():
            two_stores[0].submit_tasks([task()], conn=connection)
            assert two_stores[1].get_run("task") is None
    else:
        connection = connect(isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        two_stores[0].submit_tasks([task()], conn=connection)
        assert two_stores[1].get_run("task") is None
        connection.execute("COMMIT")
    assert claimed_ids(two_stores[1]) == ["task"]


def test_a_connection_that_would_commit_each_row_alone_is_refused(
    two_stores: tuple[Store, Store], connect: Connect
) -> None:
    is_postgres = isinstance(two_stores[0], PostgresStore)
    connection = connect(autocommit=True) if is_postgres else connect(isolation_level=None)
    with pytest.raises(ConfigurationError, match="no open transaction"):
        two_stores[0].submit_tasks([task()], conn=connection)
    assert two_stores[1].get_run("task") is None


@pytest.mark.parametrize("kind", ["sqlite3", "psycopg", "something else"])
def test_a_connection_to_anything_but_the_ledgers_database_is_refused(
    two_stores: tuple[Store, Store], tmp_path: Path, kind: str
) -> None:
    with ExitStack() as stack:
        if kind == "sqlite3":
            stranger: Any = sqlite3.connect(tmp_path / "other.db")
        elif kind == "psycopg":
            stranger = psycopg.connect(server_url(), dbname="template1")
        else:
            stranger = stack
        if stranger is not stack:
            stack.callback(stranger.close)
        with pytest.raises(ConfigurationError, match="conn must be"):
            two_stores[0].submit_tasks([task()], conn=stranger)


def test_a_transaction_that_has_failed_already_is_refused_in_one_line(
    two_stores: tuple[Store, Store], connect: Connect
) -> None:
    connection = connect()
    if isinstance(two_stores[0], PostgresStore):
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT 1 FROM nothing")
    else:
        connection.close()
    with pytest.raises(MilepostError) as refused:
        two_stores[0].submit_tasks([task()], conn=connection)
    assert "\n" not in str(refused.value)
    assert two_stores[1].get_run("task") is None
