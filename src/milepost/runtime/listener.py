"""Hears of news in the ledger's queues, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from milepost.errors import StoreError
from milepost.ledger import Ledger

__all__ = ["Listener"]

_TURN: Final = 0.5  # seconds between looks at whether to go on


class Listener:
    """A thread that waits for news of the ledger's queues and passes them on."""

    def __init__(self, ledger: Ledger, tell: Callable[[], None]) -> None:
        """Start to listen; ``tell`` is called in the thread."""
        self._is_open = True
        self._ledger = ledger
        self._tell = tell
        self._thread = threading.Thread(target=self._listen, name="milepost-listener", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        news: Any = None
        while self._is_open:
            try:
                news = self._ledger.store.await_news(news, timeout=_TURN)
            except StoreError:
                threading.Event().wait(_TURN)  # out of reach: the worker's own poll goes on
                continue
            self._tell()

    def close(self) -> None:
        """Stop, and wait for the thread."""
        self._is_open = False
        self._thread.join()
