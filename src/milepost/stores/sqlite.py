"""The ledger in one SQLite file.

One connection writes, guarded by a lock; one reads beside it (WAL lets both go on at once). Writers
in other processes are waited for, so "database is locked" never leaves this room. In memory, one
connection does both.

Invariants: every transaction that writes begins IMMEDIATE; a batch is committed whole or not at
all; a stale writer's rows are refused by the fence inside each statement.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, TypeVar

from milepost.errors import StoreConflict, StoreError
from milepost.model import Problem, Run
from milepost.store import FaultHook, RunWrite, Write
from milepost.stores.checks import check_ledger
from milepost.stores.reading import ReadingVerbs, to_run
from milepost.stores.sql import Statement, keep_given, load_statements
from milepost.stores.sqlite_batch import ROW_TYPES, write_batch
from milepost.stores.sqlite_connection import connect, migrate, patiently
from milepost.stores.sqlite_errors import translate
from milepost.stores.sqlite_fork import guard_forks

__all__ = ["SQLiteStore"]

_FRAGMENTS: Final = {
    "run_columns": ", ".join(Run.__dataclass_fields__),
    "output_bytes": "CAST(output AS BLOB)",
}

# What a statement raises when it, or one of its values, cannot be: the driver refuses an integer of more
# than 64 bits and a text with half a surrogate pair by Python's own errors.
_REFUSALS: Final = (sqlite3.Error, OverflowError, UnicodeEncodeError)

_DELETE_ROWS: Final = 20_000  # rows after which a transaction that deletes runs lets others write

T = TypeVar("T")


def _load_sql() -> dict[str, str]:
    statements = load_statements("writes.sql", "leases.sql", "reads.sql", "maintenance.sql")
    return {name: _prepare(s) for name, s in statements.items()}


def _prepare(statement: Statement) -> str:
    text = statement.numbered(ROW_TYPES[statement.row]) if statement.row else statement.text
    for fragment, sql in _FRAGMENTS.items():
        text = text.replace(f"{{{fragment}}}", sql)
    return text


class SQLiteStore(ReadingVerbs):
    """A :class:`milepost.store.Store` in a file, or in memory.

    Args:
        path: The file, or ``":memory:"``.
        durability: ``"power"`` (synchronous=FULL: survives power loss) or ``"process"``
            (synchronous=NORMAL: survives kill -9).
        read_only: Open for reading only; nothing is created or migrated.
        fault: Called at named points of a commit; for crash tests.

    Raises:
        StoreError: The file cannot be opened, is something else, or has a newer schema.
    """

    def __init__(
        self,
        path: str,
        *,
        durability: str = "power",
        read_only: bool = False,
        fault: FaultHook | None = None,
    ) -> None:
        """Open the file, bring its schema up to date, prepare both connections."""
        self.url = path
        self.is_read_only = read_only
        self.fault = fault
        self._is_memory = path == ":memory:"
        self._sql = _load_sql()
        self._write_lock = threading.Lock()
        self._read_lock = self._write_lock if self._is_memory or read_only else threading.Lock()
        options: dict[str, Any] = {"durability": durability, "is_memory": self._is_memory}
        with self._write_lock:
            guard_forks(self)
            self._writer = self._reader = connect(path, path, read_only=read_only, **options)
            try:
                migrate(self._writer, path, read_only=read_only)
                if self._read_lock is not self._write_lock:
                    self._reader = connect(path, path, read_only=True, **options)
            except BaseException:
                self._writer.close()
                raise

    # --- transactions ------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        writer = self._writer
        with self._write_lock:
            try:
                self._begin()
                yield writer
                self._commit()
            except BaseException as error:
                self._roll_back()
                if isinstance(error, sqlite3.Error):
                    raise translate(error, self.url) from error
                raise

    def _begin(self) -> None:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            patiently(lambda: self._writer.execute("BEGIN IMMEDIATE"), self.url)

    def _commit(self) -> None:
        fault = self.fault
        if fault is not None:
            fault("before_commit")
        self._writer.execute("COMMIT")
        if fault is not None:
            fault("after_commit")

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _read(self, action: Callable[[sqlite3.Connection], T]) -> T:
        with self._read_lock:
            try:
                return patiently(lambda: action(self._reader), self.url)
            except sqlite3.Error as error:
                raise translate(error, self.url) from error

    def _rows(self, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        given = frozenset(name for name, value in parameters.items() if value is not None)
        text = keep_given(self._sql[statement], given)
        return self._read(lambda reader: reader.execute(text, parameters).fetchall())

    # --- writing -----------------------------------------------------------------------------

    def apply(self, batch: Sequence[Write]) -> list[Exception | None]:
        """Commit a batch in one transaction; return each write's error, or None where it stands."""
        if len(batch) == 1 and self._end_one_step(batch[0]):
            return [None]
        try:
            with self._write_lock:
                try:
                    self._begin()
                    outcomes = write_batch(self._writer, self._sql, batch)
                    self._commit()
                except BaseException:
                    self._roll_back()
                    raise
                else:
                    return outcomes
        except _REFUSALS as error:
            if len(batch) > 1:
                # One write poisoned the transaction it shared: give each its own.
                return list(chain.from_iterable(self.apply([write]) for write in batch))
            return [self._explain(error, batch[0])]
        except StoreError as error:
            return [error] * len(batch)

    def _end_one_step(self, write: Write) -> bool:
        """Write the one row of a completed step by one statement; return whether it now stands.

        This is what a run mostly does. A statement outside any transaction is a transaction of its own: it
        takes the write lock as BEGIN IMMEDIATE does, and there is no BEGIN and no COMMIT to pay for. Whatever
        is out of the ordinary (a refused row, a lock held for long, a full disk) goes the long way.
        """
        if type(write) is not RunWrite or len(write.ends) != 1 or not write.is_plain:
            return False
        fault = self.fault
        try:
            with self._write_lock:
                if fault is not None:
                    fault("before_commit")
                written = self._writer.execute(self._sql["end_step"], write.ends[0]).rowcount
                if fault is not None and written:
                    fault("after_commit")
        except _REFUSALS:
            return False
        return written == 1

    def _explain(self, error: Exception, write: Write) -> Exception:
        explained = (
            translate(error, self.url)
            if isinstance(error, sqlite3.Error)
            else StoreError(f"The ledger {self.url} cannot hold a value of run {write.run_id}: {error}.")
        )
        explained.__cause__ = error
        return explained

    def claim_run(
        self,
        run: Run,
        *,
        owner: str,
        now: int,
        lease_until: int,
        attempt: int,
        target: str | None,
        reason: tuple[str, str],
    ) -> Run:
        """Take a run over from the state that was read."""
        parameters = {
            "run_id": run.run_id,
            "owner": owner,
            "now": now,
            "lease_until": lease_until,
            "lease_epoch": run.lease_epoch + 1,
            "attempt": attempt,
            "target": target,
            "error_type": reason[0],
            "error_message": reason[1],
            "expected_status": run.status.value,
            "expected_epoch": run.lease_epoch,
        }
        with self._transaction() as writer:
            if not writer.execute(self._sql["claim_run"], parameters).rowcount:
                raise StoreConflict(
                    f"Run {run.run_id} was taken by somebody else at the same moment. "
                    f"See who holds it: `milepost show {run.run_id}`."
                )
            for name in ("close_attempts", "cancel_open_steps", "insert_attempt", "set_target"):
                writer.execute(self._sql[name], parameters)
            row = writer.execute(self._sql["get_run"], parameters).fetchone()
        return to_run(row)

    def heartbeat(self, owner: str, leases: Sequence[tuple[str, int]], lease_until: int) -> set[tuple[str, int]]:
        """Extend leases given as (run_id, lease_epoch); return those that were lost."""
        lost = set()
        with self._transaction() as writer:
            for run_id, epoch in leases:
                parameters = {"run_id": run_id, "lease_epoch": epoch, "owner": owner, "lease_until": lease_until}
                if not writer.execute(self._sql["heartbeat"], parameters).rowcount:
                    lost.add((run_id, epoch))
        return lost

    def list_cancel_requests(self, owner: str) -> list[tuple[str, int]]:
        """Return (run_id, lease_epoch) of this owner's runs that somebody asked to cancel."""
        return [(run_id, epoch) for run_id, epoch in self._rows("list_cancel_requests", owner=owner)]

    def request_cancel(self, run_id: str, now: int) -> bool:
        """Note that a run should stop; return whether it was still open."""
        with self._transaction() as writer:
            return bool(writer.execute(self._sql["request_cancel"], {"run_id": run_id, "now": now}).rowcount)

    def cancel_unowned(self, run: Run, now: int, reason: tuple[str, str]) -> bool:
        """End a run that nobody executes; return whether it was still as it was read."""
        parameters = {
            "run_id": run.run_id,
            "expected_epoch": run.lease_epoch,
            "now": now,
            "error_type": reason[0],
            "error_message": reason[1],
        }
        with self._transaction() as writer:
            is_ended = bool(writer.execute(self._sql["cancel_unowned"], parameters).rowcount)
            if is_ended:
                writer.execute(self._sql["close_attempts"], parameters)
                writer.execute(self._sql["cancel_open_steps"], parameters)
        return is_ended

    def delete_runs(self, before: int, limit: int) -> int:
        """Delete up to ``limit`` runs that finished before a time, each with all that belongs to it."""
        deleted = 0
        with self._transaction() as writer:
            found = writer.execute(self._sql["list_expired_runs"], {"before": before, "limit": limit}).fetchall()
            rows_before = writer.total_changes
            for (run_id,) in found:
                writer.execute(self._sql["delete_run"], {"run_id": run_id})
                deleted += 1
                if writer.total_changes - rows_before > _DELETE_ROWS:
                    break
            if deleted:
                writer.execute(self._sql["delete_unused_definitions"])
        return deleted

    # --- health ------------------------------------------------------------------------------

    def check(self) -> list[Problem]:
        """Check the database's own integrity and the ledger's invariants."""
        complaints = self._read(_complain)
        return list(check_ledger(self.url, complaints, self._rows))

    def close(self) -> None:
        """Close both connections; a second call does nothing."""
        with self._read_lock:
            self._reader.close()
        with self._write_lock:
            self._writer.close()


def _complain(connection: sqlite3.Connection) -> list[str]:
    complaints: list[str] = []
    try:
        for (text,) in connection.execute("PRAGMA integrity_check").fetchall():
            complaints += [line for line in text.splitlines() if line != "ok" and not line.startswith("***")]
        for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall():
            complaints.append(f"a row of {table} belongs to no row of {parent}")
    except sqlite3.OperationalError:
        raise  # a lock or a failing disk says nothing about the file's content
    except sqlite3.DatabaseError as error:
        complaints.append(str(error))
    return complaints
