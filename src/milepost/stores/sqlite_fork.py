"""SQLite and fork: a child must not use its parent's connections, nor may they stand in its way.

SQLite keeps what it knows of a file's locks once per process, and a fork copies that knowledge: a
child that merely leaves the parent's connections alone takes the parent's locks for its own, and may
wait for ever for a lock that a thread held at the fork which does not exist in the child. So a fork
waits until no thread is inside SQLite; the child then closes its copies, which touches no lock of
the parent's, and opens what it needs anew.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from typing import Final, NoReturn, Protocol, cast

from milepost.errors import StoreError

__all__ = ["Connections", "guard_forks"]

_PATIENCE: Final = 5.0  # seconds that a fork waits for one store; a thread may hold it while it waits for others


class Connections(Protocol):
    """What a store lets the fork guard see of it."""

    url: str
    _writer: sqlite3.Connection
    _reader: sqlite3.Connection
    _write_lock: threading.Lock
    _read_lock: threading.Lock


class _Inherited:
    """Stands in a forked child for a connection of its parent."""

    in_transaction = False

    def __init__(self, url: str) -> None:
        self._url = url

    def execute(self, *_: object) -> NoReturn:
        raise StoreError(
            f"The ledger {self._url} was opened by the process that forked this one, and a connection must not "
            "cross a fork. Open it here as well: Ledger.open."
        )

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


_guarded: Final[weakref.WeakSet[Connections]] = weakref.WeakSet()
_held: Final[dict[threading.Lock, bool]] = {}  # during a fork: each store's locks, and whether we got them
_lock = threading.Lock()  # held during a fork, so that no store appears meanwhile


def guard_forks(store: Connections) -> None:
    """Look after a store's connections from now on; call it before they are opened, with its write lock held."""
    with _lock:
        _guarded.add(store)


def _before() -> None:
    _lock.acquire()
    for store in list(_guarded):
        for lock in (store._write_lock, store._read_lock):  # noqa: SLF001
            if lock not in _held:
                _held[lock] = lock.acquire(timeout=_PATIENCE)


def _after_in_parent() -> None:
    for lock, is_ours in _held.items():
        if is_ours:
            lock.release()
    _held.clear()
    _lock.release()


def _after_in_child() -> None:
    global _lock  # noqa: PLW0603 - the one that was held belongs to the parent
    _lock = threading.Lock()
    for store in list(_guarded):
        _disown(store)
    _held.clear()


def _disown(store: Connections) -> None:
    pairs = ((store._reader, store._read_lock), (store._writer, store._write_lock))  # noqa: SLF001
    for connection, lock in pairs:
        if _held.get(lock):
            connection.close()
        else:
            # A thread that does not exist here was using it. One reference is never given back, since even at
            # the interpreter's end closing would wait for that thread's mutex.
            import ctypes  # imported late: hardly a fork needs it

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    store._writer = store._reader = cast("sqlite3.Connection", _Inherited(store.url))  # noqa: SLF001
    store._write_lock = store._read_lock = threading.Lock()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
