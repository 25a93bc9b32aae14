"""Queues, workers and events as a program sees them: the verbs of Ledger, on both stores."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from milepost import Dag, Ledger, RunStatus, Worker
from milepost.errors import ConfigurationError, ValueNotStorable
from milepost.stores.postgres_address import Address


@dataclass(frozen=True)
class Payment:
    amount: int
    at: datetime


def _connection(ledger: Ledger) -> Any:
    """Return a connection of the caller's own to the ledger's database."""
    if ledger.store.is_shared:
        return psycopg.connect(Address(ledger.full_url).conninfo)
    return sqlite3.connect(ledger.full_url, isolation_level=None)


def test_an_event_carries_a_value_with_its_type_to_who_waits_and_to_who_comes_later(ledger: Ledger) -> None:
    dag = Dag("order")
    paid = dag.wait_event("paid")
    dag.node(lambda payment: payment, label="take", payment=paid)
    payment = Payment(10, datetime(2026, 5, 1, tzinfo=UTC))
    worker = Worker([dag], ledger=ledger, heartbeat_process=False)
    early = dag.submit(ledger=ledger)
    worker.run_until_idle()
    assert ledger.emit_event("paid", payment)
    assert not ledger.emit_event("paid", Payment(11, payment.at))
    late = dag.submit(ledger=ledger)
    worker.run_until_idle()
    assert [early.result(0), late.result(0)] == [payment, payment]


def test_events_are_kept_apart_by_scope_and_listed_newest_first(ledger: Ledger) -> None:
    for name in ("order-1", "order-2", "noon"):
        assert ledger.emit_event(name)
    assert ledger.emit_event("order-1", {"x": 1}, scope="depot")
    assert {event.name for event in ledger.list_events()} == {"order-1", "order-2", "noon"}
    assert [event.name for event in ledger.list_events(prefix="order-", limit=1)] in (["order-2"], ["order-1"])
    times = [event.emitted_at for event in ledger.list_events()]
    assert times == sorted(times, reverse=True)
    found = ledger.get_event("order-1", scope="depot")
    assert found is not None
    assert (found.scope, found.payload) == ("depot", '{"x":1}')
    assert ledger.get_event("order-2", scope="depot") is None


def test_an_event_belongs_to_the_caller_s_transaction(ledger: Ledger) -> None:
    ledger.list_events()
    connection = _connection(ledger)
    connection.execute("BEGIN")
    assert ledger.emit_event("paid", conn=connection)
    assert ledger.get_event("paid") is None
    connection.rollback()
    assert ledger.get_event("paid") is None
    connection.execute("BEGIN")
    assert ledger.emit_event("paid", 7, conn=connection)
    connection.commit()
    connection.close()
    found = ledger.get_event("paid")
    assert found is not None
    assert found.payload == "7"


def test_what_cannot_be_an_event_is_refused(ledger: Ledger) -> None:
    for name in ("", "two\nlines", "x" * 256, 7):
        with pytest.raises(ConfigurationError, match="is not an event name"):
            ledger.emit_event(name)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="'no scope' is not a scope name"):
        ledger.emit_event("paid", scope="no scope")
    with pytest.raises(ValueNotStorable):
        ledger.emit_event("paid", object())
    assert ledger.list_events() == []


def test_a_paused_queue_gives_nothing_until_it_is_resumed(ledger: Ledger) -> None:
    dag = Dag("greet")
    dag.node(lambda: "hello", label="hello")
    handle = dag.submit(ledger=ledger)
    ledger.pause_queue("default")
    ledger.pause_queue("default")
    (queue,) = ledger.list_queues()
    assert (queue.name, queue.pending, queue.paused_at is None) == ("default", 1, False)
    worker = Worker([dag], ledger=ledger, heartbeat_process=False)
    assert worker.run_until_idle() == 0
    assert [ledger.resume_queue("default"), ledger.resume_queue("default")] == [True, False]
    assert worker.run_until_idle() == 1
    assert handle.status() == RunStatus.COMPLETED
    assert ledger.list_queues() == []
    for verb in (ledger.pause_queue, ledger.resume_queue):
        with pytest.raises(ConfigurationError, match="'no name' is not a queue name"):
            verb("no name")


def test_workers_are_remembered_until_they_are_deleted_and_live_ones_stay(ledger: Ledger) -> None:
    dag = Dag("greet")
    dag.node(lambda: "hello", label="hello")
    Worker([dag], ledger=ledger, worker_id="done", heartbeat_process=False).run_until_idle()
    (worker,) = ledger.list_workers()
    assert (worker.worker_id, worker.queues, worker.workflows) == ("done", ("default",), ("greet",))
    assert worker.stopped_at is not None
    assert ledger.delete_workers(older_than=timedelta(hours=1)) == 0
    assert ledger.delete_workers(older_than=timedelta(0)) == 1
    assert ledger.list_workers() == []


def test_an_event_stays_while_an_unfinished_run_may_ask_for_it(ledger: Ledger) -> None:
    dag = Dag("nap")
    dag.sleep(3600)
    ledger.emit_event("before")
    handle = dag.submit(ledger=ledger)
    ledger.emit_event("since", scope="other")
    assert ledger.delete_events(older_than=timedelta(0)) == 1
    assert [event.name for event in ledger.list_events(scope="other")] == ["since"]
    handle.cancel()
    assert ledger.delete_events(older_than=timedelta(0)) == 1


def test_a_handle_says_why_its_run_waits(ledger: Ledger) -> None:
    dag = Dag("nap")
    dag.sleep(3600)
    assert dag.submit(ledger=ledger).why().code == "no_worker"
