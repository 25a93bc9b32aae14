"""Transactions of the SQLite store: its own, or a caller's that it joins."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from milepost.stores.dialect import SQLITE
from milepost.stores.news import News
from milepost.stores.rows import fields_of
from milepost.stores.sql import load_statements, numbered, over_source
from milepost.stores.verbs import STATEMENT_FILES

__all__ = ["SQLiteStatements", "SQLiteTransaction"]

_SIZES: Final = (32, 8, 3)  # rows that go into one statement; few sizes, so that each is prepared once


class SQLiteStatements(dict[str, str]):
    """The statements by name, bound by name or, where they have a row type, from a row of it."""

    def __init__(self) -> None:
        """Make them."""
        super().__init__()
        self._portable: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._over_values: dict[tuple[str, int], str] = {}
        for name, statement in load_statements(*STATEMENT_FILES).items():
            text = SQLITE.render(statement.text)
            if statement.row is None:
                self[name] = text
            else:
                fields = fields_of(statement.row)
                self[name] = numbered(text, fields)
                self._portable[name] = text, fields

    def over_values(self, name: str, count: int) -> str:
        """Return a statement that is bound from so many rows, one after the other."""
        text = self._over_values.get((name, count))
        if text is None:
            portable, fields = self._portable[name]
            columns = ", ".join(f"column{place} AS {field}" for place, field in enumerate(fields, 1))
            row = f"({', '.join('?' * len(fields))})"
            source = f"(SELECT {columns} FROM (VALUES {', '.join([row] * count)})) AS given"  # noqa: S608 - names of ours
            made = over_source(portable, source)
            assert made is not None, f"{name} has no WHERE on a line of its own"
            text = self._over_values[name, count] = made
        return text


class SQLiteTransaction:
    """Named statements on one connection, inside a transaction."""

    def __init__(self, connection: sqlite3.Connection | sqlite3.Cursor, sql: SQLiteStatements, news: News) -> None:
        """Join the connection's transaction."""
        self._connection = connection
        self._sql = sql
        self._news = news

    def execute(self, statement: str, /, **parameters: Any) -> int:
        """Run a statement and return how many rows it changed."""
        return self._connection.execute(self._sql[statement], parameters).rowcount

    def rows(self, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        return self._connection.execute(self._sql[statement], parameters).fetchall()

    def write_rows(self, statement: str, rows: Sequence[tuple[Any, ...]], /) -> int:
        """Run a statement for each of many rows; return how many rows changed.

        The interpreter lock is let go and taken again at each call of the driver, and to get it back may take longer
        than to write a hundred rows. So as many rows as possible go into one.
        """
        execute, written, begin = self._connection.execute, 0, 0
        for size in _SIZES:
            while len(rows) - begin >= size:
                text = self._sql.over_values(statement, size)
                written += execute(text, list(chain.from_iterable(rows[begin : begin + size]))).rowcount
                begin += size
        for row in rows[begin:]:
            written += execute(self._sql[statement], row).rowcount
        return written

    def insert_rows(self, statement: str, rows: Sequence[tuple[Any, ...]], /) -> set[str]:
        """Run an INSERT that passes over what is there; return the run ids of the rows that are new."""
        execute, text = self._connection.execute, self._sql[statement]
        return {row[0] for row in rows if execute(text, row).rowcount}

    def lock(self, name: str, /) -> None:
        """Nothing to do: there is one writer at a time."""

    def lock_table(self, name: str, /) -> None:
        """Nothing to do: there is one writer at a time."""

    def notify(self, topic: str, /) -> None:
        """Wake those who wait in this process."""
        # Heard a moment before the commit; whoever looks too early looks again when the file has changed.
        self._news.tell()
