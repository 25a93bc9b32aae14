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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, Final, TypeVar

import psycopg
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
from milepost.model import Problem, Run, RunPayload
from milepost.store import ClaimedTask, FaultHook, NewRun, Write
from milepost.stores.batch import write_batch
from milepost.stores.checks import check_ledger
from milepost.stores.news import News
from milepost.stores.postgres_connection import Address, find_schema_number, patiently, prepare
from milepost.stores.postgres_errors import is_transient, translate
from milepost.stores.postgres_listener import Listener
from milepost.stores.postgres_statements import Statements
from milepost.stores.postgres_text import named
from milepost.stores.postgres_transaction import PostgresTransaction
from milepost.stores.postgres_writer import Writer
from milepost.stores.queueing import PROMOTE, in_claim_order
from milepost.stores.reading import to_run
from milepost.stores.sql import keep_given, load_migrations
from milepost.stores.transaction import Transaction, repeatable
from milepost.stores.verbs import StoreVerbs

__all__ = ["PostgresStore"]

# What a write raises when one of its values cannot be: the driver refuses half a surrogate pair, and a number
# of more than 64 bits, by Python's own errors.
_REFUSALS: Final = (MilepostError, UnicodeEncodeError, OverflowError)

_POOL: Final = 8  # connections beside the one that commits


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
        self._statements = Statements(self._address.schema)
        self._writer: Writer | None = Writer(self._address, self._statements)
        self._check_schema(self._writer.connection)
        self._database = self._writer.connection.info.dbname
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

    def _join(self, connection: psycopg.Connection[Any]) -> PostgresTransaction:
        return PostgresTransaction(self._statements, self._address.schema, self.channel, connection)

    def _join_caller(self, conn: Any) -> PostgresTransaction:
        """Join the caller's transaction, or refuse what is none of this ledger's database."""
        self._check_caller(conn)
        if conn.autocommit and conn.info.transaction_status == TransactionStatus.IDLE:
            raise ConfigurationError(
                "conn has no open transaction, and would commit each row alone. Open one: `with conn.transaction():`."
            )
        return self._join(conn)

    def _check_caller(self, conn: Any) -> None:
        """Refuse a connection that is none to this ledger's database, or of no use."""
        if not isinstance(conn, psycopg.Connection):
            raise ConfigurationError(
                f"conn must be a psycopg connection to the ledger's database, not {type(conn).__qualname__}."
            )
        if conn.closed:
            raise ConfigurationError("conn is closed. Open a connection and use it while it is open.")
        if conn.info.transaction_status == TransactionStatus.INERROR:
            raise ConfigurationError("conn is in a failed transaction. Roll it back first: conn.rollback().")
        if conn.info.dbname != self._database:
            raise ConfigurationError(
                f"conn must be a connection to the ledger's own database {self._database!r}, "
                f"not to {conn.info.dbname!r}."
            )

    def _fire(self, point: str) -> None:
        if self.fault is not None:
            self.fault(point)

    def _rows(self, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        given = frozenset(name for name, value in parameters.items() if value is not None)
        text = named(keep_given(self._statements.portable[statement], given))

        def read() -> list[tuple[Any, ...]]:
            with self._borrow() as connection:
                return connection.execute(text, parameters).fetchall()

        return self.patiently(read)

    def look(self, statement: str, /, *, conn: Any = None, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a reading statement, on the caller's connection where one is given; nothing is locked."""
        if conn is None:
            return self._rows(statement, **parameters)
        self._check_caller(conn)
        given = frozenset(name for name, value in parameters.items() if value is not None)
        text = named(keep_given(self._statements.portable[statement], given))
        try:
            return psycopg.Cursor(conn, row_factory=tuple_row).execute(text, parameters).fetchall()
        except psycopg.Error as error:
            raise translate(error, self.url) from error

    def _at_once(self, statement: str, /, *, conn: Any = None, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement that is a whole verb, in one round trip and one commit of its own."""
        parameters["channel"] = self.channel
        try:
            if conn is not None:
                return self._join_caller(conn).rows(statement, **parameters)
            self._fire("before_commit")
            with self._borrow() as connection:
                rows = connection.execute(self._statements.named[statement], parameters).fetchall()
            self._fire("after_commit")
        except psycopg.Error as error:
            if conn is None:
                raise  # whoever repeats the verb decides
            raise translate(error, self.url) from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise StoreError(f"The ledger {self.url} cannot hold a value: {error}.") from error
        return rows

    def _claim(
        self, tx: Transaction, queue: str, *, owner: str, now: int, lease: int, limit: int
    ) -> list[tuple[Run, RunPayload]]:
        rows = tx.rows("claim_at_once", queue=queue, owner=owner, now=now, lease=lease, limit=limit)
        claimed = [(task.run, task.payload) for task in map(_claimed, rows)]
        return sorted(claimed, key=lambda task: in_claim_order(task[0]))

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
            if writer is None or writer.is_closed:
                writer = self._writer = Writer(self._address, self._statements)
            try:
                if writer.write_at_once(batch, partial(self._fire, "before_commit")):
                    outcomes: list[Exception | None] = [None] * len(batch)
                else:
                    with writer.connection.transaction():
                        outcomes = write_batch(self._join(writer.connection), batch)
                        self._fire("before_commit")
            except BaseException as error:
                # After an interruption nobody knows what the connection has to answer, and what is prepared on it.
                if is_transient(error) or not isinstance(error, Exception):
                    writer.close()
                    self._writer = None
                raise
        self._fire("after_commit")
        return outcomes

    # --- claiming ----------------------------------------------------------------------------

    @repeatable
    def claim_tasks(self, queues: Sequence[str], *, owner: str, now: int, lease: int, limit: int) -> list[ClaimedTask]:
        """Lease up to ``limit`` runs that are due, from the queues in their order.

        One round trip, and one transaction, for each queue that is looked at; mostly that is one.
        """
        statements = self._statements.named
        claimed: list[ClaimedTask] = []
        asked: dict[str, Any] = {"owner": owner, "now": now, "lease": lease}
        with self._borrow() as connection:
            for place, queue in enumerate(queues):
                asked |= {"queue": queue, "limit": limit - len(claimed)}
                self._fire("before_commit")
                with connection.pipeline():
                    if place == 0:
                        connection.execute(statements["promote_due"], {"now": now, "limit": PROMOTE})
                    cursor = connection.execute(statements["claim_at_once"], asked)
                claimed += sorted(map(_claimed, cursor.fetchall()), key=lambda task: in_claim_order(task.run))
                self._fire("after_commit")
                if len(claimed) >= limit:
                    break
        return claimed

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


_RUN_FIELDS: Final = len(Run.__dataclass_fields__)


def _claimed(row: tuple[Any, ...]) -> ClaimedTask:
    return ClaimedTask(to_run(row[:_RUN_FIELDS]), RunPayload(row[0], *row[_RUN_FIELDS:]))
