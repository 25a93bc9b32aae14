"""Schemas of every age meet this version: they are brought up to date once, or refused with a reason."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from milepost import Dag, Ledger
from milepost.errors import SchemaNewer, SchemaOutdated
from milepost.stores import sqlite_connection
from milepost.stores.sql import load_migrations
from milepost.stores.sqlite_connection import APPLICATION_ID

MIGRATIONS = load_migrations("sqlite")
NUMBERS = [number for number, _, _ in MIGRATIONS]
KNOWN = NUMBERS[-1]


def _schema(path: Path) -> set[tuple[str, ...]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    connection.close()
    return {(kind, name, table, re.sub(r"\s+", " ", sql or "")) for kind, name, table, sql in rows}


def _numbers(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT number FROM schema_migrations ORDER BY number").fetchall()
    connection.close()
    return [number for (number,) in rows]


def _make_ledger_of_schema(path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a ledger as a release that knew only the first migrations would have made it."""
    with monkeypatch.context() as patch:
        patch.setattr(
            sqlite_connection, "load_migrations", lambda dialect: tuple(m for m in MIGRATIONS if m[0] <= number)
        )
        Ledger.open(path).close()


def test_migrations_are_numbered_upwards_from_one_and_no_number_is_taken_twice() -> None:
    assert sorted(set(NUMBERS)) == NUMBERS
    assert NUMBERS[0] == 1


@pytest.mark.parametrize("number", NUMBERS)
def test_a_ledger_of_any_older_schema_becomes_equal_to_a_fresh_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    _make_ledger_of_schema(tmp_path / "old.db", number, monkeypatch)
    Ledger.open(tmp_path / "old.db").close()
    Ledger.open(tmp_path / "fresh.db").close()
    assert _schema(tmp_path / "old.db") == _schema(tmp_path / "fresh.db")
    assert _numbers(tmp_path / "old.db") == NUMBERS


def test_a_new_ledger_carries_the_application_id_and_uses_the_wal(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "runs.db").close()
    connection = sqlite3.connect(tmp_path / "runs.db")
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_ledger_of_a_newer_version_is_refused_and_keeps_its_schema(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "runs.db"
    Ledger.open(path).close()
    newer = sqlite3.connect(path)
    newer.execute("INSERT INTO schema_migrations VALUES (?, 'from the future', 0)", (KNOWN + 3,))
    newer.commit()
    newer.close()
    before = _schema(path)
    with pytest.raises(SchemaNewer, match=f"has schema {KNOWN + 3}, newer than the {KNOWN} this version knows"):
        Ledger.open(path, read_only=read_only)
    assert _schema(path) == before


@pytest.fixture
def next_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process know one migration more than the release that made a ledger."""
    text = """
    CREATE TABLE extra (run_id TEXT NOT NULL PRIMARY KEY, seen INTEGER NOT NULL DEFAULT 0) STRICT;
    -- A trigger contains semicolons: a migration must not be cut in two at them.
    CREATE TRIGGER count_runs AFTER INSERT ON runs BEGIN
        INSERT INTO extra (run_id) VALUES (NEW.run_id);
        UPDATE extra SET seen = seen + 1;
    END;
    """
    more = (*MIGRATIONS, (KNOWN + 1, "extra", text))
    monkeypatch.setattr(sqlite_connection, "load_migrations", lambda dialect: more)


def test_a_ledger_of_an_older_version_keeps_its_runs_when_it_is_brought_up_to_date(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "runs.db"
    dag = Dag("sum")
    dag.node(sum, label="total", iterable=[1, 2])
    with Ledger.open(path) as ledger:
        dag.run(ledger=ledger, run_id="old")
    request.getfixturevalue("next_release")
    with pytest.raises(SchemaOutdated, match=f"has schema {KNOWN}, this version needs {KNOWN + 1}"):
        Ledger.open(path, read_only=True)
    with Ledger.open(path) as ledger:
        dag.run(ledger=ledger, run_id="new")
        assert {run.run_id for run in ledger.list_runs()} == {"old", "new"}
        assert ledger.get_output("old", "total") == 3
    assert _numbers(path) == [*NUMBERS, KNOWN + 1]
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT run_id, seen FROM extra").fetchall() == [("new", 1)]
    connection.close()


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.db"
    Ledger.open(path).close()
    before = _schema(path)
    broken = (*MIGRATIONS, (KNOWN + 1, "broken", "CREATE TABLE extra (a TEXT) STRICT;\nCREATE TABLE runs (a TEXT);\n"))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_connection, "load_migrations", lambda dialect: broken)
        with pytest.raises(Exception, match="table runs already exists"):
            Ledger.open(path)
    assert _schema(path) == before
    Ledger.open(path).close()
    assert _numbers(path) == NUMBERS


_OPEN_AT_ONCE = """
import sys
from milepost import Dag, Ledger
dag = Dag("sum")
dag.node(sum, label="total", iterable=[1, 2])
Ledger.open(":memory:").close()
print("ready", flush=True)
sys.stdin.readline()
with Ledger.open(sys.argv[1]) as ledger:
    dag.run(ledger=ledger, run_id=sys.argv[2])
"""


def test_processes_that_open_a_new_file_at_once_make_one_ledger(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN_AT_ONCE, str(path), f"run{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(6)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert (child.returncode, errors) == (0, "")
    assert _numbers(path) == NUMBERS
    with Ledger.open(path) as ledger:
        assert len(ledger.list_runs()) == 6
        assert list(ledger.check()) == []
