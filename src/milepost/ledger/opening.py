"""From a path or URL to an open store; the driver is loaded only now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from milepost.errors import ConfigurationError
from milepost.store import FaultHook, Store
from milepost.stores.postgres_address import Address, hide_password, is_postgres

__all__ = ["ENVIRONMENT", "default_ledger", "migrate", "open_store", "path_of", "url_of_connection"]

DEFAULT_FILE: Final = "milepost.db"
ENVIRONMENT: Final = "MILEPOST_LEDGER"


def default_ledger() -> str:
    """Return the ledger that is used when none is named: ``MILEPOST_LEDGER``, else ``milepost.db``."""
    return os.environ.get(ENVIRONMENT) or DEFAULT_FILE


def path_of(url: str | os.PathLike[str] | None) -> str:
    """Return the path or the PostgreSQL URL that is meant.

    Raises:
        ConfigurationError: It is neither.
    """
    try:
        text = os.fsdecode(url) if url is not None else default_ledger()
    except TypeError:
        raise ConfigurationError(f"A ledger is a path, a URL or an open Ledger, not {url!r}.") from None
    if not text:
        raise ConfigurationError("The ledger's path is empty. Name a file, such as --ledger runs.db.")
    if is_postgres(text):
        return text
    if text.startswith("sqlite:///"):
        return text.removeprefix("sqlite:///")
    if "://" in text:
        known = "a path, sqlite:///path or postgresql://user@host/database"
        raise ConfigurationError(f"{hide_password(text)!r} is not a ledger URL this version knows. Use {known}.")
    return text


def open_store(path: str, *, durability: str, read_only: bool, fault: FaultHook | None = None) -> Store:
    """Open the store at what :func:`path_of` returned.

    Raises:
        ConfigurationError: An option is not for this database, or its driver is not installed.
        StoreError: It cannot be opened.
    """
    if is_postgres(path):
        if durability != "power":
            raise ConfigurationError("durability= is for SQLite; a PostgreSQL server has its own setting.")
        with _needing_driver():
            from milepost.stores.postgres import PostgresStore
        return PostgresStore(path, read_only=read_only, fault=fault)
    from milepost.stores.sqlite import SQLiteStore

    return SQLiteStore(path, durability=durability, read_only=read_only, fault=fault)


def migrate(path: str, *, dry_run: bool) -> list[str]:
    """Bring a PostgreSQL ledger up to date; return the names of its migrations. Nothing is done to SQLite."""
    if not is_postgres(path):
        return []
    with _needing_driver():
        from milepost.stores.postgres_connection import migrate as migrate_schema
    return migrate_schema(Address(path), dry_run=dry_run)


def url_of_connection(conn: object) -> str:
    """Return the path or URL of the ledger in the database that a caller's connection leads to.

    Raises:
        ConfigurationError: It is no connection of sqlite3 or psycopg, or leads to no file.
    """
    module = type(conn).__mro__[-2].__module__ if len(type(conn).__mro__) > 1 else ""
    if any(kind.__module__.startswith("psycopg") for kind in type(conn).__mro__):
        with _needing_driver():
            from milepost.stores.postgres_connection import url_of
        return url_of(conn)
    if module == "sqlite3":
        from milepost.stores.sqlite_connection import file_of

        return file_of(conn)
    raise ConfigurationError(
        f"conn must be a connection of sqlite3 or psycopg, not {type(conn).__qualname__}. Open one, or leave it out."
    )


@contextmanager
def _needing_driver() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"A PostgreSQL ledger needs the driver ({error}). Install it: pip install 'milepost[postgres]'."
        ) from error
