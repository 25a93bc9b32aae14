"""The connection that commits what drivers write, where one statement says it all.

A statement outside any transaction is a transaction of its own: one round trip, one sync. The driver's cursors
spend more on each call than the server does on the row, so what is sent all the time is sent without them,
through the driver's own interface to libpq.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
from psycopg import errors, generators, pq

from milepost.states import RunStatus
from milepost.store import EdgeWrite, RunWrite, StepWrite, Write
from milepost.stores.postgres_connection import Address, connect
from milepost.stores.postgres_statements import Statements, columns
from milepost.stores.rows import EndRow, FenceRow, end_row

__all__ = ["Writer"]

_DONE: Final = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class Writer:
    """One connection and what is prepared on it; used by one thread at a time.

    Attributes:
        connection: For what takes a transaction of several statements.
    """

    def __init__(self, address: Address, statements: Statements) -> None:
        """Connect."""
        self.connection: psycopg.Connection[Any] = connect(address)
        self._statements = statements
        self._prepared: set[bytes] = set()

    @property
    def is_closed(self) -> bool:
        """Whether the connection is lost."""
        return self.connection.closed

    def close(self) -> None:
        """Give the connection back."""
        self.connection.close()

    def write_at_once(self, batch: Sequence[Write], before: Callable[[], None]) -> bool:
        """Commit a batch by one statement, if it is of the kinds that one can; return whether all of it now stands.

        Where the answer is no, the long way finds out what stands and why the rest was refused.

        Args:
            batch: The writes.
            before: Called before anything is sent.
        """
        if len(batch) == 1:
            write = batch[0]
            if type(write) is RunWrite and len(write.ends) == 1 and write.is_plain:
                return self._end_one_step(write.ends[0], before)
        parts = _parts(batch)
        if parts is None:
            return False
        before()
        return self._write_parts(*parts)

    def _end_one_step(self, row: StepWrite, before: Callable[[], None]) -> bool:
        values: list[bytes | None] = []
        for value in row:
            if value is None:
                values.append(None)
            elif isinstance(value, str) and "\0" not in value:
                values.append(value.encode())
            elif isinstance(value, int):
                values.append(b"%d" % value)
            else:
                return False  # the long way says what is wrong with it
        before()
        return self._run(b"milepost_end_step", self._statements.single["end_step"], values).command_tuples == 1

    def _write_parts(
        self,
        fences: Sequence[FenceRow],
        steps: Sequence[StepWrite],
        edges: Sequence[EdgeWrite],
        ends: Sequence[EndRow],
    ) -> bool:
        text, row_types = self._statements.at_once["write_at_once"]
        rows: dict[str, Sequence[Any]] = {
            "FenceRow": fences,
            "StepWrite": steps,
            "EdgeWrite": edges,
            "EndRow": ends,
        }
        arrays = [array for row_type in row_types for array in columns(row_type, rows[row_type])]
        values = [None if array is None else array.encode() for array in arrays]
        written = self._run(b"milepost_write_at_once", text, values).get_value(0, 0)
        return written is not None and int(written) == len(steps) + len(ends)

    def _run(self, name: bytes, text: str, values: list[bytes | None]) -> pq.abc.PGresult:
        if name in self._prepared:
            try:
                return self._run_prepared(name, values)
            except errors.InvalidSqlStatementName:
                pass  # psycopg lets go of all that is prepared on a connection when a transaction was rolled back
        self.connection.pgconn.send_prepare(name, text.encode())
        self._fetch()
        self._prepared.add(name)
        return self._run_prepared(name, values)

    def _run_prepared(self, name: bytes, values: list[bytes | None]) -> pq.abc.PGresult:
        self.connection.pgconn.send_query_prepared(name, values)
        return self._fetch()

    def _fetch(self) -> pq.abc.PGresult:
        results: list[pq.abc.PGresult] = self.connection.wait(generators.execute(self.connection.pgconn))
        result = results[-1]
        if result.status not in _DONE:
            raise errors.error_from_result(result)
        return result


def _parts(
    batch: Sequence[Write],
) -> tuple[list[FenceRow], list[StepWrite], list[EdgeWrite], list[EndRow]] | None:
    """Return the rows of a batch that one statement can write, or None where it holds anything else."""
    fences: dict[FenceRow, None] = {}
    steps: list[StepWrite] = []
    edges: list[EdgeWrite] = []
    ends: list[EndRow] = []
    for write in batch:
        if (
            type(write) is not RunWrite
            or write.starts
            or write.progress
            or write.checkpoints
            or not (write.ends or write.end)
        ):
            return None
        if write.end is not None:
            if write.end.status != RunStatus.COMPLETED:
                return None
            ends.append(end_row(write))
        fences[FenceRow(write.run_id, write.lease_epoch)] = None
        steps += write.ends
        edges += write.edges
    if len({row[:3] for row in steps}) < len(steps) or len({row.run_id for row in ends}) < len(ends):
        return None  # a statement touches a row once only
    return sorted(fences), steps, edges, ends
