"""Connecting to PostgreSQL: the URL, a prepared connection, the schema's migrations."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from milepost.clock import SystemClock
from milepost.errors import ConfigurationError, LedgerUnreadable, SchemaNewer, StoreError
from milepost.stores.postgres_address import Address
from milepost.stores.postgres_errors import is_transient, translate
from milepost.stores.sql import load_migrations

__all__ = ["OLDEST_SERVER", "Address", "connect", "find_schema_number", "migrate", "patiently", "prepare", "url_of"]

OLDEST_SERVER: Final = 130000  # 13: the oldest that the tests' features are known to be in
PATIENCE: Final = 60.0  # seconds that lost connections are tried again before a caller is told
_FIRST_PAUSE: Final = 0.05  # seconds
_LAST_PAUSE: Final = 2.0

_CREDENTIALS: Final = "Check the user and the password: in the URL, in PGPASSWORD or in ~/.pgpass."
_REFUSALS: Final = (
    (re.compile("password authentication failed|no password supplied"), _CREDENTIALS),
    (re.compile('role ".*" does not exist'), _CREDENTIALS),
    (re.compile('database ".*" does not exist'), "Create it with `createdb`, or correct the URL."),
    (re.compile("no pg_hba.conf entry|authentication failed"), "Let the server's pg_hba.conf allow this connection."),
)
_LEAD: Final = re.compile("FATAL:|fe_sendauth:")

# Every statement finds its rows by a key, or walks an index in its order until it has enough. The server keeps
# a plan for each prepared statement, and one that it made while a table was empty would read the whole table
# until statistics are renewed, minutes and a million rows later. So the other ways are closed to it, as far as
# there is an index. A bitmap is among them because it never marks dead entries of an index, as a plain walk does.
_CLOSED: Final = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan", "jit")
_PLANS: Final = "; ".join(f"SET {name} = off" for name in _CLOSED)

T = TypeVar("T")


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Make a new connection fit for our statements."""
    connection.execute(_PLANS)


def connect(address: Address, *, autocommit: bool = True) -> psycopg.Connection[Any]:
    """Open one prepared connection.

    Raises:
        StoreUnavailable: The server cannot be reached.
        LedgerUnreadable: It refuses the user or the database, or is older than supported.
    """
    try:
        connection = psycopg.connect(
            address.conninfo,
            autocommit=autocommit,
            connect_timeout=10,
            application_name="milepost",
            prepare_threshold=2,
        )
    except psycopg.Error as error:
        # Without the driver's error where that is about the URL: it repeats a password that cannot be read.
        cause = None if isinstance(error, psycopg.ProgrammingError) else error
        raise _explain_connect(error, address) from cause
    version = connection.info.server_version
    if version < OLDEST_SERVER:
        connection.close()
        raise LedgerUnreadable(
            address.url, f"the server is PostgreSQL {version // 10000}, and {OLDEST_SERVER // 10000} or newer is needed"
        )
    if autocommit:
        prepare(connection)
    return connection


def _explain_connect(error: psycopg.Error, address: Address) -> StoreError | ConfigurationError:
    # libpq gives no SQLSTATE for a refused start-up: its text is all there is.
    told = address.scrub(str(error)).strip()
    for sign, remedy in _REFUSALS:
        line = next((line for line in told.splitlines() if sign.search(line)), None)
        if line is not None:
            return LedgerUnreadable(address.url, _LEAD.split(line)[-1].strip(), remedy)
    if isinstance(error, psycopg.ProgrammingError):
        return ConfigurationError(f"{address.url!r} is not a URL that PostgreSQL takes: {told}. Correct it.")
    return translate(error, address.url)


def patiently(action: Callable[[], T], renew: Callable[[], None] | None = None, patience: float = PATIENCE) -> T:
    """Perform an action again, with growing pauses, while the server is out of reach.

    The action must be one that may be repeated: a commit whose answer was lost may have gone through.

    Args:
        action: What is done.
        renew: Called before it is done once more, to drop connections that broke meanwhile.
        patience: Seconds after which the error is raised.
    """
    deadline = time.monotonic() + patience
    pause = _FIRST_PAUSE
    while True:
        try:
            return action()
        except (psycopg.Error, StoreError) as error:
            cause = error if isinstance(error, psycopg.Error) else error.__cause__
            if cause is None or not is_transient(cause) or time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)
            if renew is not None:
                renew()


def url_of(conn: Any) -> str:
    """Return a URL of the database that a connection leads to, with its password.

    Raises:
        ConfigurationError: It is closed, or no connection.
    """
    try:
        info = conn.info
        host, port, name = info.host, info.port, info.dbname
        user, parts = info.user, {"host": host, "port": str(port), "password": info.password}
    except (AttributeError, psycopg.Error) as error:
        raise ConfigurationError(f"conn cannot be used here: {error}. Open it again.") from error
    given = urlencode({key: value for key, value in parts.items() if value}, quote_via=quote)
    return f"postgresql://{quote(user)}@/{quote(name)}?{given}"


# --- migrations ----------------------------------------------------------------------------------


def find_schema_number(connection: psycopg.Connection[Any], schema: str) -> int:
    """Return the number of the last migration, 0 where there is none."""
    table = connection.execute("SELECT to_regclass(%s)", [f'"{schema}".schema_migrations']).fetchone()
    if table is None or table[0] is None:
        return 0
    query = sql.SQL("SELECT COALESCE(MAX(number), 0) FROM {}").format(sql.Identifier(schema, "schema_migrations"))
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def migrate(address: Address, *, dry_run: bool = False) -> list[str]:
    """Bring the schema up to date in one transaction; return the names of the migrations it took.

    Safe to run twice at once: the second waits, finds everything done and does nothing.

    Raises:
        SchemaNewer: The ledger was written by a newer Milepost.
        StoreError: The server cannot be reached, or refuses.
    """
    migrations = load_migrations("postgres")
    connection = connect(address, autocommit=False)
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"migrate:{address.schema}"])
            found = find_schema_number(connection, address.schema)
            if found > migrations[-1][0]:
                raise SchemaNewer(address.url, found, migrations[-1][0])
            plan = [migration for migration in migrations if migration[0] > found]
            if plan and not dry_run:
                _apply(connection, address.schema, plan)
    except psycopg.Error as error:
        raise translate(error, address.url) from error
    finally:
        connection.close()
    return [name for _, name, _ in plan]


def _apply(connection: psycopg.Connection[Any], schema: str, plan: list[tuple[int, str, str]]) -> None:
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations "
        "(number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)"
    )
    for number, name, text in plan:
        # Without parameters the driver sends a whole script at once: nothing has to be split.
        connection.execute(text)
        connection.execute(
            "INSERT INTO schema_migrations (number, name, applied_at) VALUES (%s, %s, %s)",
            [number, name, SystemClock().now()],
        )
