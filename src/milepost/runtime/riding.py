"""Rows that wait for a commit that happens anyway: pure completions and traversed edges."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from milepost.store import EdgeWrite, StepWrite

__all__ = ["Riding", "Waiting"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waited at one moment: a copy to commit, and what it was copied from."""

    ends: list[StepWrite]
    edges: list[EdgeWrite]
    source: tuple[list[StepWrite], list[EdgeWrite]]


class Riding:
    """The rows of one run that wait; safe between its driver and the keeper.

    The driver takes rows out when it commits them itself. The keeper looks, commits its copy, and only
    then drops them: whoever commits in between writes them once more, which changes nothing.
    """

    __slots__ = ("_edges", "_ends", "_lock")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._lock = threading.Lock()  # held for list operations only, never across a commit
        self._ends: list[StepWrite] = []
        self._edges: list[EdgeWrite] = []

    @property
    def has_ends(self) -> bool:
        """Whether completions wait."""
        return bool(self._ends)

    @property
    def count(self) -> int:
        """How many rows wait."""
        return len(self._ends) + len(self._edges)

    def add(self, ends: Sequence[StepWrite], edges: Sequence[EdgeWrite]) -> None:
        """Let rows wait."""
        with self._lock:
            self._ends += ends
            self._edges += edges

    def take(self) -> tuple[list[StepWrite], list[EdgeWrite]]:
        """Return everything that waits; nothing waits any more."""
        with self._lock:
            taken = self._ends, self._edges
            self._ends, self._edges = [], []
        return taken

    def look(self) -> Waiting:
        """Return a copy of what waits; it goes on waiting until it is dropped or taken."""
        with self._lock:
            return Waiting(list(self._ends), list(self._edges), (self._ends, self._edges))

    def drop(self, waiting: Waiting) -> None:
        """Let rows that have become durable wait no longer, unless they were taken meanwhile."""
        with self._lock:
            if self._ends is waiting.source[0]:
                del self._ends[: len(waiting.ends)]
                del self._edges[: len(waiting.edges)]
