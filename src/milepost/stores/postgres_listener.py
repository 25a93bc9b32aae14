"""Hears what other processes notify: one connection in a thread of its own."""

from __future__ import annotations

import threading
from typing import Final

import psycopg
from psycopg import sql

from milepost.errors import MilepostError
from milepost.stores.news import News
from milepost.stores.postgres_connection import Address, connect

__all__ = ["Listener"]

_TURN: Final = 0.5  # seconds between looks at whether to go on
_PAUSE: Final = 1.0  # seconds before a lost connection is opened again


class Listener:
    """Passes notifications of a channel on until it is closed.

    While the connection is lost nothing is heard; whoever waits for news polls as well.
    """

    def __init__(self, address: Address, channel: str, news: News) -> None:
        """Start to listen."""
        self._address = address
        self._channel = channel
        self._news = news
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="milepost-listen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait for the thread."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._listen()
            except (psycopg.Error, MilepostError):
                self._over.wait(_PAUSE)

    def _listen(self) -> None:
        with connect(self._address) as connection:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            self._news.tell()  # something may have happened while nobody listened
            while not self._over.is_set():
                for _ in connection.notifies(timeout=_TURN, stop_after=1):
                    self._news.tell()
