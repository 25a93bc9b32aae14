"""Who is told what becomes of runs and nodes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["NodeEvent", "Subscribers"]

_LOGGER: Final = logging.getLogger("milepost.provenance")


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """What a subscriber is told: what a node, or where the label is None the run, has become."""

    run_id: str
    node_label: str | None
    status: str
    error: str | None = None


class Subscribers:
    """The callbacks of one provenance; none of them can break what it is told of.

    Args:
        url: Of the ledger, for the log.
    """

    def __init__(self, url: str) -> None:
        """Begin with none."""
        self._url = url
        self._callbacks: list[Callable[[NodeEvent], None]] = []

    def add(self, callback: Callable[[NodeEvent], None]) -> Callable[[], None]:
        """Call back from now on; return what ends that."""
        self._callbacks.append(callback)

        def stop() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return stop

    def tell(self, event: NodeEvent) -> None:
        """Call everybody back, in this thread; log what fails."""
        for callback in list(self._callbacks):
            try:
                callback(event)
            except Exception:
                _LOGGER.exception("A subscriber of %s failed.", self._url)
