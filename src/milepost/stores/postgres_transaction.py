"""A transaction of the PostgreSQL store: its own, or a caller's that it joins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from milepost.stores.postgres_statements import Statements, columns

__all__ = ["PostgresTransaction"]


class PostgresTransaction:
    """Named statements on one connection, inside a transaction.

    Args:
        statements: The statements.
        schema: The schema of the ledger's tables.
        channel: Where those listen who wait for news.
        connection: The connection.
    """

    def __init__(self, statements: Statements, schema: str, channel: str, connection: psycopg.Connection[Any]) -> None:
        """Join the connection's transaction."""
        self._statements = statements
        self._schema = schema
        self._channel = channel
        self._connection = connection
        # The caller's connection may make other cursors than these, and other rows than tuples.
        self._cursor = psycopg.Cursor(connection, row_factory=tuple_row)

    def execute(self, statement: str, /, **parameters: Any) -> int:
        """Run a statement and return how many rows it changed."""
        return self._cursor.execute(self._statements.named[statement], parameters).rowcount

    def rows(self, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        return self._cursor.execute(self._statements.named[statement], parameters).fetchall()

    def write_rows(self, statement: str, rows: Sequence[tuple[Any, ...]], /) -> int:
        """Run a statement for each of many rows; return how many rows changed."""
        raw = psycopg.RawCursor(self._connection)
        if len(rows) == 1 and statement in self._statements.single:
            return raw.execute(self._statements.single[statement], rows[0]).rowcount
        text, row_type = self._statements.batch[statement]
        if text is None:
            raw.executemany(self._statements.single[statement], rows)
            return raw.rowcount
        return sum(raw.execute(text, columns(row_type, wave)).rowcount for wave in _waves(rows))

    def insert_rows(self, statement: str, rows: Sequence[tuple[Any, ...]], /) -> set[str]:
        """Run an INSERT that passes over what is there; return the run ids of the rows that are new."""
        raw = psycopg.RawCursor(self._connection, row_factory=tuple_row)
        text, row_type = self._statements.batch[statement]
        found = raw.execute(f"{text}\nRETURNING run_id", columns(row_type, rows)).fetchall()
        return {run_id for (run_id,) in found}

    def lock(self, name: str, /) -> None:
        """Hold a lock of this name until the transaction ends."""
        self._cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])

    def lock_table(self, name: str, /) -> None:
        """Keep other writers out of a table until the transaction ends."""
        table = sql.Identifier(self._schema, name)
        self._cursor.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table))

    def notify(self, topic: str, /) -> None:
        """Wake those who wait for the topic, once the transaction is committed."""
        self._cursor.execute("SELECT pg_notify(%s, %s)", [self._channel, topic])


def _waves(rows: Sequence[tuple[Any, ...]]) -> list[list[tuple[Any, ...]]]:
    """Split rows so that none has a key twice: one statement may touch a row once only.

    Within each, rows are ordered by run: two writers that lock runs in one order cannot wait for each
    other in a circle.
    """
    waves: list[list[tuple[Any, ...]]] = []
    seen: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        key = row[:3]
        if seen[key] == len(waves):
            waves.append([])
        waves[seen[key]].append(row)
        seen[key] += 1
    return [sorted(wave, key=itemgetter(0)) for wave in waves]
