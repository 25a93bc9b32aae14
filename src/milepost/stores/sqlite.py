"""The ledger in one SQLite file.

One connection writes, guarded by a lock; one reads beside it (WAL lets both go on at once). Writers
in other processes are waited for, so "database is locked" never leaves this room. In memory, one
connection does both.

Invariants: every transaction that writes begins IMMEDIATE; a batch is committed whole or not at
all; a stale writer's rows are refused by the fence inside each statement.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, TypeVar

from milepost.errors import ConfigurationError, StoreError
from milepost.model import Problem
from milepost.store import FaultHook, RunWrite, Write
from milepost.stores.batch import write_batch
from milepost.stores.checks import check_ledger
from milepost.stores.news import News
from milepost.stores.original import KEPT_TABLES
from milepost.stores.sql import keep_given
from milepost.stores.sqlite_connection import connect, migrate, patiently
from milepost.stores.sqlite_errors import translate
from milepost.stores.sqlite_fork import guard_forks
from milepost.stores.sqlite_transaction import SQLiteStatements, SQLiteTransaction
from milepost.stores.verbs import StoreVerbs

__all__ = ["SQLiteStore"]

_GLANCE: Final = 0.005  # seconds between looks at whether another process wrote

# What a statement raises when it, or one of its values, cannot be: the driver refuses an integer of more
# than 64 bits and a text with half a surrogate pair by Python's own errors.
_REFUSALS: Final = (sqlite3.Error, OverflowError, UnicodeEncodeError)

T = TypeVar("T")


class SQLiteStore(StoreVerbs):
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

    is_shared = False

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
        self._sql = SQLiteStatements()
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
        self._news = News()
        self._tx = SQLiteTransaction(self._writer, self._sql, self._news)

    # --- transactions ------------------------------------------------------------------------

    @contextmanager
    def transaction(self, conn: Any = None) -> Iterator[SQLiteTransaction]:
        """Open a transaction; with ``conn``, join the caller's and neither begin nor commit it."""
        if conn is not None:
            try:
                yield SQLiteTransaction(self._join(conn), self._sql, self._news)
            except sqlite3.ProgrammingError as error:  # closed, or of another thread
                raise ConfigurationError(f"conn cannot be used here: {error}") from error
            except _REFUSALS as error:
                raise self._told(error) from error
            return
        with self._write_lock:
            try:
                self._begin()
                yield self._tx
                self._commit()
            except BaseException as error:
                self._roll_back()
                if isinstance(error, _REFUSALS):
                    raise self._told(error) from error
                raise

    def execute_alone(self, statement: str, /, *, lock: str | None = None, **parameters: Any) -> int:
        """Run one statement as a transaction of its own, without BEGIN and COMMIT to pay for."""
        if self.fault is None:
            try:
                with self._write_lock:
                    return self._writer.execute(self._sql[statement], parameters).rowcount
            except _REFUSALS:
                pass  # out of the ordinary: the long way waits for a lock, or says what is wrong
        return super().execute_alone(statement, lock=lock, **parameters)

    def _told(self, error: Exception) -> StoreError:
        if isinstance(error, sqlite3.Error):
            return translate(error, self.url)
        return StoreError(f"The ledger {self.url} cannot hold a value: {error}.")

    def _join(self, conn: Any) -> sqlite3.Cursor:
        """Return a cursor in the caller's transaction, or refuse what is none of this ledger's."""
        cursor = self._own_cursor(conn)
        if conn.in_transaction:
            return cursor
        if not _begins_by_itself(conn):
            raise ConfigurationError(
                "conn has no open transaction, and would commit each row alone. Execute BEGIN IMMEDIATE first."
            )
        # The driver begins one before the statements it knows to write, and would let others commit by themselves.
        cursor.execute("BEGIN IMMEDIATE")
        return cursor

    def _own_cursor(self, conn: Any) -> sqlite3.Cursor:
        """Return a cursor of the caller's connection, or refuse what is none to this ledger's file."""
        if not isinstance(conn, sqlite3.Connection):
            raise ConfigurationError(
                f"conn must be a sqlite3 connection to the ledger's file, not {type(conn).__qualname__}."
            )
        cursor = conn.cursor()
        cursor.row_factory = None  # the caller's connection may make other rows than tuples
        file = next(file for _, name, file in cursor.execute("PRAGMA database_list").fetchall() if name == "main")
        if self._is_memory or not file or not os.path.samefile(file, self.url):
            raise ConfigurationError(
                f"conn must be a connection to the ledger's file {self.url}, not to {file or 'a database in memory'}."
            )
        return cursor

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
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.ProgrammingError:
            pass  # it was closed: the error that led here says so

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

    def look(self, statement: str, /, *, conn: Any = None, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a reading statement, on the caller's connection where one is given; nothing is locked."""
        if conn is None:
            return self._rows(statement, **parameters)
        given = frozenset(name for name, value in parameters.items() if value is not None)
        try:
            return self._own_cursor(conn).execute(keep_given(self._sql[statement], given), parameters).fetchall()
        except sqlite3.ProgrammingError as error:  # closed, or of another thread
            raise ConfigurationError(f"conn cannot be used here: {error}") from error
        except _REFUSALS as error:
            raise self._told(error) from error

    # --- writing -----------------------------------------------------------------------------

    def apply(self, batch: Sequence[Write]) -> list[Exception | None]:
        """Commit a batch in one transaction; return each write's error, or None where it stands."""
        if len(batch) == 1 and self._end_one_step(batch[0]):
            return [None]
        try:
            with self._write_lock:
                try:
                    self._begin()
                    outcomes = write_batch(self._tx, batch)
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

    # --- waking ------------------------------------------------------------------------------

    def await_news(self, seen: Any, timeout: float) -> Any:
        """Return once something may have changed since ``seen``, or after so many seconds.

        Args:
            seen: What an earlier call returned; None returns at once.
            timeout: Seconds to wait at most.
        """
        if seen is None:
            return self._news.count, self._data_version()
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if self._news.wait(seen[0], min(_GLANCE, left)):
                break
            # A cheap look (no file is read but the shared memory of the log) at whether another connection,
            # be it of another process, has committed.
            if self._data_version() != seen[1]:
                break
        return self._news.count, self._data_version()

    def _data_version(self) -> int:
        return int(self._read(lambda reader: reader.execute("PRAGMA data_version").fetchone()[0]))

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
            if table in KEPT_TABLES:
                continue  # kept as they came; nothing reads them any more
            complaints.append(f"a row of {table} belongs to no row of {parent}")
    except sqlite3.OperationalError:
        raise  # a lock or a failing disk says nothing about the file's content
    except sqlite3.DatabaseError as error:
        complaints.append(str(error))
    return complaints


def _begins_by_itself(conn: sqlite3.Connection) -> bool:
    # Python 3.12 has a second way to say it: True, False, or -1 for what isolation_level says.
    autocommit = getattr(conn, "autocommit", -1)
    return autocommit is False or (autocommit == -1 and conn.isolation_level is not None)
