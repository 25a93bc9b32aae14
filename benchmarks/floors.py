"""What the bare driver does: the floors that rates are held against."""

from __future__ import annotations

import sqlite3
import time
from itertools import count
from pathlib import Path

_ROWS = 2000


class SQLiteFloor:
    """Single-row INSERT+COMMIT through the standard library's driver, in WAL with synchronous=FULL.

    The row has the width of a step's: the floor pays for the same bytes, and for nothing else.
    """

    def __init__(self, folder: Path) -> None:
        """Make a file of its own in the folder that the work is measured in."""
        self._connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE floor (run TEXT NOT NULL, label TEXT NOT NULL, status TEXT, input TEXT, output TEXT, "
            "hash TEXT, started_at INTEGER, finished_at INTEGER, PRIMARY KEY (run, label)) WITHOUT ROWID"
        )
        self._numbers = count()

    def __call__(self) -> float:
        """Return commits per second."""
        execute = self._connection.execute
        run = f"018bcfe5-6800-7000-8000-{next(self._numbers):012d}"
        started = time.perf_counter()
        for number in range(_ROWS):
            execute(
                "INSERT INTO floor VALUES (?, ?, 'completed', '{\"n\":{\"step\":\"s\"}}', '1', ?, ?, ?)",
                (run, f"s{number}", "9a4882a9a5b9d4ee6a6ef2dcd2bb1dd8", number, number),
            )
        return _ROWS / (time.perf_counter() - started)

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()
