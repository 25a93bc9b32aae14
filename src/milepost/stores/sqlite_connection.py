"""Opening SQLite: one place prepares a connection and brings the schema up to date."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from milepost.clock import SystemClock
from milepost.errors import (
    ConfigurationError,
    LedgerBusy,
    LedgerReadOnly,
    LedgerUnreadable,
    NotALedger,
    SchemaNewer,
    SchemaOutdated,
)
from milepost.stores.sql import load_migrations
from milepost.stores.sqlite_errors import is_busy, translate

__all__ = ["APPLICATION_ID", "BUSY_PATIENCE", "connect", "file_of", "migrate", "patiently", "schema_number"]

APPLICATION_ID: Final = 0x4D504C45  # "MPLE", so that `file` and we can tell a ledger from any database
BUSY_PATIENCE: Final = 300.0  # seconds; a lock held this long is a stuck process, not contention
_BUSY_STEP: Final = 1.0  # seconds the driver waits in C, where Ctrl-C cannot reach it

T = TypeVar("T")


def patiently(action: Callable[[], T], url: str) -> T:
    """Perform an action again while another process holds the lock.

    Raises:
        LedgerBusy: The lock was held for longer than ``BUSY_PATIENCE``.
    """
    deadline = time.monotonic() + BUSY_PATIENCE
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            if time.monotonic() > deadline:
                raise LedgerBusy(url, BUSY_PATIENCE) from error
            # Some lock conflicts (recovery, a change of journal mode) return at once without
            # consulting the busy handler: do not spin on those.
            time.sleep(0.005)


def connect(path: str, url: str, *, durability: str, read_only: bool, is_memory: bool) -> sqlite3.Connection:
    """Open and prepare one connection to an existing or new ledger.

    Raises:
        LedgerUnreadable: The file or its folder is missing or may not be opened.
        NotALedger: The file is something else.
        LedgerReadOnly: The file may not be written and ``read_only`` was not asked for.
    """
    if not is_memory:
        _check_path(Path(path), url, read_only=read_only)
    try:
        connection = _open(path, read_only=read_only, is_memory=is_memory)
        try:
            patiently(lambda: _refuse_foreign(connection, url), url)
            _prepare(connection, url, durability=durability, read_only=read_only, is_memory=is_memory)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise translate(error, url) from error
    return connection


def file_of(conn: object) -> str:
    """Return the file that a caller's connection leads to.

    Raises:
        ConfigurationError: It is closed, or in memory.
    """
    assert isinstance(conn, sqlite3.Connection)
    try:
        cursor = conn.cursor()
        cursor.row_factory = None
        file = next(file for _, name, file in cursor.execute("PRAGMA database_list").fetchall() if name == "main")
    except sqlite3.Error as error:
        raise ConfigurationError(f"conn cannot be used here: {error}. Open it again.") from error
    if not file:
        raise ConfigurationError("conn leads to a database in memory, which nobody else can open. Use a file.")
    return str(file)


def _open(path: str, *, read_only: bool, is_memory: bool) -> sqlite3.Connection:
    target = ":memory:" if is_memory else Path(path).absolute().as_uri()
    if read_only:
        # Without a -wal file, and without the right to make one, only an immutable open can succeed.
        is_cold = not os.path.exists(f"{path}-wal") and not os.access(Path(path).absolute().parent, os.W_OK)
        target += "?immutable=1" if is_cold else "?mode=ro"
    return sqlite3.connect(
        target,
        timeout=_BUSY_STEP,
        isolation_level=None,
        check_same_thread=False,
        uri=not is_memory,
        cached_statements=256,
    )


def _prepare(connection: sqlite3.Connection, url: str, *, durability: str, read_only: bool, is_memory: bool) -> None:
    if read_only:
        connection.execute("PRAGMA query_only = ON")
        return
    if not is_memory:
        mode = patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone()[0], url)
        if mode != "wal":
            raise LedgerUnreadable(url, f"its journal mode stays {mode!r} where WAL is needed (a network drive?)")
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if durability == 'process' else 'FULL'}")
    connection.execute("PRAGMA foreign_keys = ON")


def _check_path(path: Path, url: str, *, read_only: bool) -> None:
    # Looks at the path, never into the file: when a process closes any descriptor of a file, POSIX drops
    # all its locks on that file, those of SQLite's open connections among them, and then another process
    # that closes the ledger takes itself for the last one and deletes the WAL under our feet.
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if read_only:
            raise LedgerUnreadable(url, "there is no such file") from None
        if not path.absolute().parent.is_dir():
            raise LedgerUnreadable(url, f"the folder {path.absolute().parent} does not exist") from None
        if not os.access(path.absolute().parent, os.W_OK):
            raise LedgerReadOnly(url) from None
        return
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise LedgerUnreadable(url, getattr(error, "strerror", None) or str(error)) from error
    if stat.S_ISDIR(mode):
        raise NotALedger(url, "it is a folder")
    if not stat.S_ISREG(mode):
        raise NotALedger(url, "it is not a regular file")
    if not os.access(path, os.R_OK):
        raise LedgerUnreadable(url, "permission denied")
    if not read_only and not os.access(path, os.W_OK):
        raise LedgerReadOnly(url)


def _refuse_foreign(connection: sqlite3.Connection, url: str) -> None:
    # Before anything is changed: a database of another program stays as it is, journal mode and all.
    # Tables first: a process that is just making a new ledger commits them together with the number.
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()]
    if tables and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise NotALedger(url, f"it is a database with other tables ({', '.join(sorted(tables)[:3])})")


def schema_number(connection: sqlite3.Connection) -> int:
    """Return the number of the last migration, 0 for an empty database."""
    is_new = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'schema_migrations'").fetchone() is None
    if is_new:
        return 0
    return int(connection.execute("SELECT COALESCE(MAX(number), 0) FROM schema_migrations").fetchone()[0])


def migrate(connection: sqlite3.Connection, url: str, *, read_only: bool) -> int:
    """Bring the schema up to date and return its number; safe in many processes at once.

    Raises:
        SchemaNewer: The ledger was written by a newer Milepost.
        SchemaOutdated: It is older, and this connection may not write.
        NotALedger: It is empty, and this connection may not write.
    """
    migrations = load_migrations("sqlite")
    known = migrations[-1][0]
    try:
        found = patiently(lambda: schema_number(connection), url)
        if found > known:
            raise SchemaNewer(url, found, known)
        if found < known and read_only:
            raise SchemaOutdated(url, found, known) if found else NotALedger(url, "it is empty")
        for number, name, text in migrations:
            if number > found:
                patiently(lambda n=number, m=name, t=text: _run_migration(connection, n, m, t), url)  # type: ignore[misc]
    except sqlite3.Error as error:
        raise translate(error, url) from error
    return known


def _run_migration(connection: sqlite3.Connection, number: int, name: str, text: str) -> None:
    # The number goes in first: of two processes that migrate at once, the second waits for the
    # write lock, finds the number there, and has nothing to do.
    first = number == 1
    connection.execute("BEGIN IMMEDIATE")
    try:
        if first:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations ("
                "number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT"
            )
        is_new = connection.execute(
            "INSERT INTO schema_migrations (number, name, applied_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (number, name, SystemClock().now()),
        ).rowcount
        if is_new:
            if first:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for statement in _statements(text):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(text: str) -> list[str]:
    # Never split on ";" alone: triggers contain it. The driver's own parser says where one ends.
    statements, pending = [], ""
    for line in text.splitlines(keepends=True):
        pending += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
