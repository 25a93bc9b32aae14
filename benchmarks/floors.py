"""What the bare driver does: the floors that rates are held against."""

from __future__ import annotations

import sqlite3
import time
from itertools import count
from pathlib import Path

import psycopg

_ROWS = 2000
_COLUMNS = (
    "run TEXT NOT NULL, label TEXT NOT NULL, status TEXT, input TEXT, output TEXT, "
    "hash TEXT, started_at BIGINT, finished_at BIGINT, PRIMARY KEY (run, label)"
)
_INPUT = '{"n":{"step":"s"}}'
_HASH = "9a4882a9a5b9d4ee6a6ef2dcd2bb1dd8"
_numbers = count()


def _run_id() -> str:
    return f"018bcfe5-6800-7000-8000-{next(_numbers):012d}"


class SQLiteFloor:
    """Single-row INSERT+COMMIT through the standard library's driver, in WAL with synchronous=FULL.

    The row has the width of a step's: the floor pays for the same bytes, and for nothing else.
    """

    def __init__(self, folder: Path) -> None:
        """Make a file of its own in the folder that the work is measured in."""
        self._connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("DROP TABLE IF EXISTS floor")  # of another part in the same folder
        self._connection.execute(f"CREATE TABLE floor ({_COLUMNS}) WITHOUT ROWID")

    def __call__(self) -> float:
        """Return commits per second."""
        execute = self._connection.execute
        run = _run_id()
        started = time.perf_counter()
        for number in range(_ROWS):
            execute(
                f"INSERT INTO floor VALUES (?, ?, 'completed', '{_INPUT}', '1', ?, ?, ?)",
                (run, f"s{number}", _HASH, number, number),
            )
        return _ROWS / (time.perf_counter() - started)

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()


class PostgresFloor:
    """Single-row INSERT in autocommit through psycopg: one connection, a prepared statement, nothing else."""

    def __init__(self, url: str) -> None:
        """Make a table of its own in the database that the work is measured in."""
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("DROP TABLE IF EXISTS floor")
        self._connection.execute(f"CREATE TABLE floor ({_COLUMNS})")

    def __call__(self) -> float:
        """Return commits per second."""
        cursor = self._connection.cursor()
        run = _run_id()
        text = f"INSERT INTO floor VALUES (%s, %s, 'completed', '{_INPUT}', '1', %s, %s, %s)"
        started = time.perf_counter()
        for number in range(_ROWS):
            cursor.execute(text, (run, f"s{number}", _HASH, number, number), prepare=True)
        return _ROWS / (time.perf_counter() - started)

    def close(self) -> None:
        """Leave nothing behind."""
        self._connection.execute("DROP TABLE floor")
        self._connection.close()
