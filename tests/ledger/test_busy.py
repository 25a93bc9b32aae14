"""Another process holds the write lock: everybody waits, for long, and is told when it is too long."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rows import new_run

from milepost import Dag, Ledger
from milepost.errors import LedgerBusy
from milepost.stores import sqlite_connection

DEADLINE = 20.0  # seconds


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Return a connection that holds the write lock of a new ledger, as another program would."""
    Ledger.open(tmp_path / "runs.db").close()
    connection = sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


@pytest.fixture(autouse=True)
def _short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connection, "_BUSY_STEP", 0.01)


def test_a_writer_waits_until_the_lock_is_given_back(tmp_path: Path, holder: sqlite3.Connection) -> None:
    with Ledger.open(tmp_path / "runs.db") as ledger:
        thread = threading.Thread(target=ledger.commit, args=(new_run(),))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert ledger.list_runs() == []  # reading goes on meanwhile
        holder.execute("ROLLBACK")
        thread.join(DEADLINE)
        assert not thread.is_alive()
        assert [run.run_id for run in ledger.list_runs()] == ["run"]


@pytest.mark.usefixtures("holder")
def test_a_lock_that_is_never_given_back_is_named_as_the_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connection, "BUSY_PATIENCE", 0.2)
    dag = Dag("sum")
    dag.node(sum, label="total", iterable=[1, 2])
    with Ledger.open(tmp_path / "runs.db") as ledger:
        with pytest.raises(LedgerBusy, match=r"stayed locked by another process .* end it\."):
            dag.run(ledger=ledger)
        with pytest.raises(LedgerBusy):
            ledger.store.request_cancel("run", 0)
        assert ledger.list_runs() == []


def test_a_run_whose_ledger_was_busy_for_too_long_goes_on_later(
    tmp_path: Path, holder: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connection, "BUSY_PATIENCE", 0.2)
    holder.execute("ROLLBACK")
    calls: list[str] = []

    def first() -> int:
        calls.append("first")
        return 1

    def second(value: int) -> int:
        calls.append("second")
        if len(calls) == 2:
            holder.execute("BEGIN IMMEDIATE")
        return value + 1

    dag = Dag("two")
    dag.node(second, value=dag.node(first))
    with Ledger.open(tmp_path / "runs.db") as ledger:
        with pytest.raises(LedgerBusy):
            dag.run(ledger=ledger, run_id="run")
        holder.execute("ROLLBACK")
        assert dag.resume("run", ledger=ledger).result() == 2
        assert calls == ["first", "second", "second"]  # the end of the second could not be recorded
        assert list(ledger.check()) == []
