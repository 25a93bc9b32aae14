"""Which errors of the PostgreSQL driver mean what, decided in one place."""

from __future__ import annotations

import psycopg
from psycopg import errors

from milepost.errors import (
    ConfigurationError,
    LedgerFull,
    LedgerReadOnly,
    LedgerUnreadable,
    SchemaOutdated,
    StoreError,
    StoreUnavailable,
)

__all__ = ["is_transient", "translate"]

_TRANSIENT = (
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.LockNotAvailable,
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
)


def is_transient(error: BaseException) -> bool:
    """Return whether the same work may succeed when it is done again, on a new connection if need be."""
    if isinstance(error, _TRANSIENT):
        return True
    # Without an SQLSTATE the server said nothing: the connection broke.
    return (
        isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        and getattr(error, "sqlstate", None) is None
    )


def translate(error: psycopg.Error, url: str) -> StoreError | ConfigurationError:
    """Return the error of ours that says what to do about a driver's error."""
    told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    match error:
        case errors.InvalidPassword() | errors.InvalidAuthorizationSpecification():
            return LedgerUnreadable(url, f"the server refuses this user or password ({told})")
        case errors.InvalidCatalogName():
            return LedgerUnreadable(url, f"{told}; create it with `createdb`")
        case errors.UndefinedTable() | errors.InvalidSchemaName():
            return SchemaOutdated(url, 0, 1)
        case errors.DiskFull():
            return LedgerFull(url)
        case errors.ReadOnlySqlTransaction() | errors.InsufficientPrivilege():
            return LedgerReadOnly(url)
        case errors.UntranslatableCharacter() | errors.CharacterNotInRepertoire():
            return StoreError(f"The ledger {url} cannot store a text: {told}. Remove the NUL characters from it.")
        case _ if is_transient(error):
            return StoreUnavailable(f"The ledger {url} cannot be reached: {told}. Start the server, or check the URL.")
        case _:
            return StoreError(f"The ledger {url} refused a statement: {told}.")
