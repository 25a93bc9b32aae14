"""The ledger in a PostgreSQL schema, shared by many workers.

One connection commits what drivers write, guarded by a lock; a small pool serves every other verb. A
lost connection is opened again with growing pauses and the work is done once more: every verb may be
repeated, because each write is guarded and says what it already did.

Invariants: the fence inside each statement locks the run's row FOR SHARE until the commit, so that no
claim falls between the look and the write; a batch is committed whole or not at all; rows of a batch
are ordered by run, so that two writers never wait for each other in a circle.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from milepost.errors import (
    ConfigurationError,
    MilepostError,
    RunExists,
    SchemaNewer,
    SchemaOutdated,
    StoreError,
    StoreUnavailable,
)
from milepost.model import Problem
from milepost.store import FaultHook, NewRun, RunWrite, Write
from milepost.stores.batch import write_batch
from milepost.stores.checks import check_ledger
from milepost.stores.dialect import POSTGRES
from milepost.stores.news import News
from milepost.stores.postgres_connection import Address, connect, find_schema_number, patiently, prepare
from milepost.stores.postgres_errors import is_transient, translate
from milepost.stores.postgres_listener import Listener
from milepost.stores.postgres_text import int_array, named, numbered, over_arrays, text_array
from milepost.stores.rows import fields_of, is_number
from milepost.stores.sql import PARAMETER, keep_given, load_migrations, load_statements
from milepost.stores.transaction import Transaction
from milepost.stores.verbs import STATEMENT_FILES, StoreVerbs

__all__ = ["PostgresStore"]

# What a write raises when one of its values cannot be: the driver refuses half a surrogate pair, and a number
# of more than 64 bits, by Python's own errors.
_REFUSALS: Final = (MilepostError, UnicodeEncodeError, OverflowError)

_POOL: Final = 8  # connections beside the one that commits


class _Texts(NamedTuple):
    """The statements by name: as they are written, bound by name, from one row, from arrays of many rows."""

    portable: dict[str, str]
    named: dict[str, str]
    single: dict[str, str]
    batch: dict[str, tuple[str | None, tuple[_Array, ...]]]


_Array = Callable[[Sequence[Any]], str | None]


def _load_texts(schema: str) -> _Texts:
    texts = _Texts({}, {}, {}, {})
    for name, statement in load_statements(*STATEMENT_FILES).items():
        text = POSTGRES.render(statement.text, schema=schema)
        texts.portable[name] = text
        texts.named[name] = named(text)
        if statement.row is not None:
            fields, numbers = fields_of(statement.row), is_number(statement.row)
            types = ["bigint" if is_int else "text" for is_int in numbers]
            if set(PARAMETER.findall(text)).issuperset(fields):  # the server asks for the type of one that is not used
                texts.single[name] = numbered(text, fields, types)
            arrays = tuple(int_array if is_int else text_array for is_int in numbers)
            texts.batch[name] = over_arrays(text, fields, types), arrays
    return texts


T = TypeVar("T")


class PostgresStore(StoreVerbs):
    """A :class:`milepost.store.Store` in a schema of a PostgreSQL database.

    Args:
        url: ``postgresql://user@host/database``, with ``?schema=name`` for another schema than ``milepost``.
        read_only: Never write.
        fault: Called at named points of a commit; for crash tests.

    Raises:
        StoreUnavailable: The server cannot be reached.
        LedgerUnreadable: It refuses the user or the database, or is older than supported.
        SchemaOutdated: `milepost migrate` has not been run.
        SchemaNewer: The ledger was written by a newer Milepost.
    """

    is_shared = True

    def __init__(self, url: str, *, read_only: bool = False, fault: FaultHook | None = None) -> None:
        """Connect, and check the schema."""
        self._address = Address(url)
        self.url = self._address.url
        self.is_read_only = read_only
        self.fault = fault
        self._lock = threading.Lock()
        self._news = News()
        self._listener: Listener | None = None
        self._is_closed = False
        self._writer: psycopg.Connection[Any] | None = connect(self._address)
        self._check_schema(self._writer)
        self._database = self._writer.info.dbname
        self._texts = _load_texts(self._address.schema)
        self._pool = ConnectionPool(
            self._address.conninfo,
            min_size=1,
            max_size=_POOL,
            open=True,
            timeout=10,
            configure=prepare,
            kwargs={"autocommit": True, "application_name": "milepost", "prepare_threshold": 2, "connect_timeout": 10},
        )

    def _check_schema(self, connection: psycopg.Connection[Any]) -> None:
        known = load_migrations("postgres")[-1][0]
        found = find_schema_number(connection, self._address.schema)
        if found == known:
            return
        connection.close()
        raise (SchemaNewer if found > known else SchemaOutdated)(self.url, found, known)

    # --- connections -------------------------------------------------------------------------

    def patiently(self, action: Callable[[], T]) -> T:
        """Perform work that may be repeated, again while the server is out of reach."""
        try:
            # One lost connection is seldom alone: without a look at the others, each would fail in its turn.
            return patiently(action, self._pool.check)
        except psycopg.Error as error:
            raise translate(error, self.url) from error

    @contextmanager
    def _borrow(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with self._pool.connection() as connection:
                yield connection
        except PoolClosed:
            raise self._closed_error() from None  # nothing that another attempt could mend
        except PoolTimeout as error:
            unavailable = StoreUnavailable(
                f"The ledger {self.url} cannot be reached. Start the server, or check the URL."
            )
            raise unavailable from psycopg.OperationalError(str(error))

    @contextmanager
    def transaction(self, conn: Any = None) -> Iterator[Transaction]:
        """Open a transaction on a connection of the pool; with ``conn``, join the caller's."""
        try:
            if conn is not None:
                yield self._join_caller(conn)
                return
            with self._borrow() as connection, connection.transaction():
                yield self._join(connection)
                self._fire("before_commit")
            self._fire("after_commit")
        except psycopg.Error as error:
            if conn is None:
                raise  # whoever repeats the verb decides
            raise translate(error, self.url) from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise StoreError(f"The ledger {self.url} cannot hold a value: {error}.") from error

    def _join(self, connection: psycopg.Connection[Any]) -> _Transaction:
        return _Transaction(self._texts, self._address.schema, self.channel, connection)

    def _join_caller(self, conn: Any) -> _Transaction:
        """Join the caller's transaction, or refuse what is none of this ledger's database."""
        if not isinstance(conn, psycopg.Connection):
            raise ConfigurationError(
                f"conn must be a psycopg connection to the ledger's database, not {type(conn).__qualname__}."
            )
        if conn.info.dbname != self._database:
            raise ConfigurationError(
                f"conn must be a connection to the ledger's own database {self._database!r}, "
                f"not to {conn.info.dbname!r}."
            )
        if conn.autocommit and conn.info.transaction_status == TransactionStatus.IDLE:
            raise ConfigurationError(
                "conn has no open transaction, and would commit each row alone. Open one: `with conn.transaction():`."
            )
        return self._join(conn)

    def _fire(self, point: str) -> None:
        if self.fault is not None:
            self.fault(point)

    def _rows(self, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        given = frozenset(name for name, value in parameters.items() if value is not None)
        text = named(keep_given(self._texts.portable[statement], given))

        def read() -> list[tuple[Any, ...]]:
            with self._borrow() as connection:
                return connection.execute(text, parameters).fetchall()

        return self.patiently(read)

    # --- what drivers write ------------------------------------------------------------------

    def apply(self, batch: Sequence[Write]) -> list[Exception | None]:
        """Commit a batch in one transaction; return each write's error, or None where it stands."""
        try:
            return self.patiently(lambda: self._apply_once(batch))
        except StoreUnavailable as error:
            return [error] * len(batch)
        except _REFUSALS as error:
            if len(batch) > 1:
                # One write poisoned the transaction it shared: give each its own.
                return list(chain.from_iterable(self.apply([write]) for write in batch))
            return [self._explain(error, batch[0])]

    def _explain(self, error: Exception, write: Write) -> Exception:
        if isinstance(write, NewRun) and isinstance(error.__cause__, psycopg.errors.UniqueViolation):
            return RunExists(write.run_id)
        if isinstance(error, MilepostError):
            return error
        explained = StoreError(f"The ledger {self.url} cannot hold a value of run {write.run_id}: {error}.")
        explained.__cause__ = error
        return explained

    def _apply_once(self, batch: Sequence[Write]) -> list[Exception | None]:
        with self._lock:
            if self._is_closed:
                raise self._closed_error()
            writer = self._writer
            if writer is None or writer.closed:
                writer = self._writer = connect(self._address)
            try:
                if len(batch) == 1 and self._end_one_step(writer, batch[0]):
                    return [None]
                with writer.transaction():
                    outcomes = write_batch(self._join(writer), batch)
                    self._fire("before_commit")
            except psycopg.Error as error:
                if is_transient(error):
                    writer.close()
                    self._writer = None
                raise
        self._fire("after_commit")
        return outcomes

    def _end_one_step(self, writer: psycopg.Connection[Any], write: Write) -> bool:
        """Write the one row of a completed step: one statement, one round trip, one commit."""
        if type(write) is not RunWrite or len(write.ends) != 1 or not write.is_plain:
            return False
        self._fire("before_commit")
        written = psycopg.RawCursor(writer).execute(self._texts.single["end_step"], write.ends[0]).rowcount
        if written:
            self._fire("after_commit")
        return written == 1

    # --- waking ------------------------------------------------------------------------------

    @property
    def channel(self) -> str:
        """The name under which the server passes news on."""
        return f"milepost_{self._address.schema}"

    def await_news(self, seen: Any, timeout: float) -> Any:
        """Return once something may have changed in the queues since ``seen``, or after so many seconds."""
        if self._listener is None:
            with self._lock:
                if self._is_closed:
                    raise self._closed_error()
                if self._listener is None:
                    self._listener = Listener(self._address, self.channel, self._news)
        if seen is not None:
            self._news.wait(seen, timeout)
        return self._news.count

    # --- health ------------------------------------------------------------------------------

    def check(self) -> list[Problem]:
        """Check the ledger's invariants; the pages themselves are the server's business."""
        return list(check_ledger(self.url, [], self._rows))

    def close(self) -> None:
        """Give the connections back; a second call does nothing."""
        with self._lock:
            self._is_closed = True
        if self._listener is not None:
            self._listener.close()
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        self._pool.close()

    def _closed_error(self) -> StoreError:
        return StoreError(f"The ledger {self.url} has been closed. Open it again: Ledger.open.")


class _Transaction:
    """Named statements on one connection, inside a transaction."""

    def __init__(self, texts: _Texts, schema: str, channel: str, connection: psycopg.Connection[Any]) -> None:
        self._texts = texts
        self._schema = schema
        self._channel = channel
        self._connection = connection
        # The caller's connection may make other cursors than these, and other rows than tuples.
        self._cursor = psycopg.Cursor(connection, row_factory=tuple_row)

    def execute(self, statement: str, /, **parameters: Any) -> int:
        return self._cursor.execute(self._texts.named[statement], parameters).rowcount

    def rows(self, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        return self._cursor.execute(self._texts.named[statement], parameters).fetchall()

    def write_rows(self, statement: str, rows: Sequence[tuple[Any, ...]], /) -> int:
        raw = psycopg.RawCursor(self._connection)
        if len(rows) == 1 and statement in self._texts.single:
            return raw.execute(self._texts.single[statement], rows[0]).rowcount
        text, arrays = self._texts.batch[statement]
        if text is None:
            raw.executemany(self._texts.single[statement], rows)
            return raw.rowcount
        return sum(raw.execute(text, _columns(wave, arrays)).rowcount for wave in _waves(rows))

    def insert_rows(self, statement: str, rows: Sequence[tuple[Any, ...]], /) -> set[str]:
        raw = psycopg.RawCursor(self._connection, row_factory=tuple_row)
        text, arrays = self._texts.batch[statement]
        found = raw.execute(f"{text}\nRETURNING run_id", _columns(rows, arrays)).fetchall()
        return {run_id for (run_id,) in found}

    def lock(self, name: str, /) -> None:
        self._cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])

    def lock_table(self, name: str, /) -> None:
        table = sql.Identifier(self._schema, name)
        self._cursor.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table))

    def notify(self, topic: str, /) -> None:
        self._cursor.execute("SELECT pg_notify(%s, %s)", [self._channel, topic])


def _columns(rows: Sequence[tuple[Any, ...]], arrays: Sequence[_Array]) -> list[str | None]:
    """Return rows as one array for each of their fields."""
    return [array(column) for array, column in zip(arrays, zip(*rows, strict=True), strict=True)]


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
