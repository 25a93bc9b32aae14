"""Which errors of the SQLite driver mean what, decided in one place."""

from __future__ import annotations

import sqlite3
from typing import Final

from milepost.errors import (
    LedgerBusy,
    LedgerFull,
    LedgerReadOnly,
    LedgerUnreadable,
    NotALedger,
    StoreError,
    StoreUnavailable,
)

__all__ = ["is_busy", "translate"]

_RECOVER: Final = "See how far with `milepost doctor`, and restore a copy or use `sqlite3 FILE .recover`."
_PRIMARY: Final = 0xFF  # extended result codes carry the primary one in their low byte


def _code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & _PRIMARY


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another connection holds the lock and waiting helps."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def translate(error: sqlite3.Error, url: str) -> StoreError:
    """Return the error of ours that says what to do about a driver's error."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHMSIZE:
        return LedgerFull(url)  # the index beside the WAL could not grow
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return LedgerFull(url)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return LedgerReadOnly(url)
        case sqlite3.SQLITE_CANTOPEN:
            return LedgerUnreadable(url, "the file or its folder cannot be opened")
        case sqlite3.SQLITE_NOTADB:
            return NotALedger(url, "the file is not an SQLite database")
        case sqlite3.SQLITE_CORRUPT:
            return LedgerUnreadable(url, "the database file is damaged", _RECOVER)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LedgerBusy(url, 0)
        case sqlite3.SQLITE_IOERR:
            return StoreUnavailable(f"The ledger {url} could not be read or written: {error}. Check the disk.")
        case sqlite3.SQLITE_TOOBIG:
            return StoreError(f"A value is too big for the ledger {url}: {error}. Store large data in a file.")
        case None if "Could not decode to UTF-8" in str(error):  # the driver's own error, without a code
            return LedgerUnreadable(url, "a text in the database file is damaged", _RECOVER)
        case None if "closed database" in str(error):
            return StoreError(f"The ledger {url} has been closed. Open it again: Ledger.open.")
        case _:
            return StoreError(f"The ledger {url} refused a statement: {error}.")
