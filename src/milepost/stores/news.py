"""Waking those who wait for something to happen in the ledger."""

from __future__ import annotations

import threading

__all__ = ["News"]


class News:
    """A count of what happened, to wait for the next of."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._changed = threading.Condition()
        self._count = 0

    @property
    def count(self) -> int:
        """How often something happened."""
        return self._count

    def tell(self) -> None:
        """Something happened: wake everybody."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait(self, seen: int, timeout: float) -> bool:
        """Wait until more has happened than was seen; return whether it did before the time was up."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count != seen, timeout)
