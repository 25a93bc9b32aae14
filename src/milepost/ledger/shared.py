"""Stores that several ledgers of one process share, so that their writes meet in one queue.

A store is opened when the first ledger asks for it and closed when the last gives it back. Where a
process forks, the child begins with none: an SQLite connection must not cross a fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from milepost.ledger.group_commit import GroupCommit
from milepost.store import Store

__all__ = ["SharedStore", "share_store"]

_open: Final[dict[tuple[Any, ...], SharedStore]] = {}


class SharedStore:
    """An open store and the queue of its writes.

    Args:
        store: The open store.
        key: Under which others find it; None where nobody else may share it.
    """

    def __init__(self, store: Store, key: tuple[Any, ...] | None = None) -> None:
        """Begin with one holder."""
        self.store = store
        self.committer = GroupCommit(store)
        self._key = key
        self._holders = 1

    def give_back(self) -> None:
        """Close the store if nobody else holds it."""
        with _lock:
            self._holders -= 1
            if self._holders:
                return
            if self._key is not None and _open.get(self._key) is self:
                del _open[self._key]
        self.committer.close()

    def _take(self) -> bool:
        # The caller holds the lock.
        if not self._holders:
            return False  # it is being closed
        self._holders += 1
        return True


def share_store(path: str, open_store: Callable[[str], Store], options: tuple[Any, ...]) -> SharedStore:
    """Return the store of this file that is open with these options, or open it."""
    shared = _find((path, *options, _identity(path)))
    if shared is not None:
        return shared
    # Opened outside the lock, since it may wait for other processes: two threads may both come this far.
    store = open_store(path)
    key = (path, *options, _identity(path))  # a new file has its identity only now
    with _lock:
        other = _open.get(key)
        if other is None or not other._take():  # noqa: SLF001 - its own module
            _open[key] = shared = SharedStore(store, key)
            return shared
    store.close()
    return other


def _find(key: tuple[Any, ...]) -> SharedStore | None:
    with _lock:
        shared = _open.get(key)
        return shared if shared is not None and shared._take() else None  # noqa: SLF001 - its own module


def _identity(path: str) -> tuple[int, int] | None:
    # A file that was deleted and made again under the same name is another ledger.
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None
    return status.st_dev, status.st_ino


def _begin() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it at the fork
    # Reentrant: the last reference to a ledger may go while this thread is in here.
    _lock = threading.RLock()
    _open.clear()


_lock: threading.RLock
_begin()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin)
