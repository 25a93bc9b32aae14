"""A ledger as the tracking client's tests have it: on either database, with connections and clocks of their own."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack
from typing import Any

import psycopg
from tasks import shift_server_clock

from milepost import Ledger
from milepost.stores.postgres import PostgresStore
from milepost.stores.postgres_address import Address
from milepost.tracking import Client


class Base:
    """One empty ledger, and connections of a caller's own to its database."""

    def __init__(self, url: str, stack: ExitStack, *, is_postgres: bool) -> None:
        self.url = url
        self.is_postgres = is_postgres
        self._stack = stack
        self._passed = 0

    def connect(self, **options: Any) -> Any:
        """Open a connection in the driver's own default mode."""
        if self.is_postgres:
            connection: Any = psycopg.connect(Address(self.url).conninfo, **options)
        else:
            connection = sqlite3.connect(self.url, **options)
        self._stack.callback(connection.close)
        return connection

    def open_ledger(self, **options: Any) -> Ledger:
        """Open the ledger; it is closed when the test ends."""
        ledger = Ledger.open(self.url, **options)
        self._stack.callback(ledger.close)
        return ledger

    def client(self, queue: str = "work", **options: Any) -> Client:
        """Return a client of the ledger."""
        client = Client(queue, ledger=self.url, **options)
        self._stack.callback(client.close)
        return client

    def let_pass(self, client: Client, seconds: float) -> None:
        """Let time pass for a client: for its clock, and for the server's."""
        ledger = client.ledger
        if not isinstance(ledger.clock, ShiftedClock):
            ledger.clock = ShiftedClock()
        ledger.clock.shift += int(seconds * 1e6)
        if isinstance(ledger.store, PostgresStore):
            shift_server_clock(ledger.store, ledger.clock.shift)


class ShiftedClock:
    """The machine's clock, moved by a test."""

    def __init__(self) -> None:
        self.shift = 0

    def now(self) -> int:
        return time.time_ns() // 1000 + self.shift

    def monotonic(self) -> float:
        return time.monotonic()
