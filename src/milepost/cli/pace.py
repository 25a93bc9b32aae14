"""How fast a map goes, and how long it still needs: from what was seen in the last seconds."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Pace"]

_WINDOW: Final = 15.0  # seconds: long enough to be steady, short enough to follow a change
_SETTLED: Final = 0.5  # seconds to look on before saying anything


class Pace:
    """The speed of one map. What was done before the first look (in an earlier attempt) does not count.

    Example:
        >>> pace = Pace()
        >>> for second, done in enumerate([100, 104, 108]):
        ...     pace.look(float(second), done)
        >>> pace.rate, pace.seconds_left(128)
        (4.0, 5.0)
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._seen: deque[tuple[float, int]] = deque()

    def look(self, now: float, done: int) -> None:
        """Note how many elements are done at a moment (seconds, of any clock that only goes forward)."""
        seen = self._seen
        seen.append((now, done))
        while len(seen) > 2 and seen[1][0] <= now - _WINDOW:
            seen.popleft()

    @property
    def rate(self) -> float | None:
        """Elements per second, or None while that cannot be told."""
        if len(self._seen) < 2:
            return None
        (start, before), (now, done) = self._seen[0], self._seen[-1]
        if now - start < _SETTLED or done <= before:
            return None
        return (done - before) / (now - start)

    def seconds_left(self, total: int) -> float | None:
        """Return the seconds until all are done at this rate, or None while that cannot be told."""
        rate = self.rate
        return None if rate is None else max(0, total - self._seen[-1][1]) / rate
