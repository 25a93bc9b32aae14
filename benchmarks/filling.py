"""Very many runs in a ledger, put there past the library: what counts is what a claim then meets."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import psycopg

from milepost import Ledger
from milepost.stores.postgres_address import Address

_BATCH = 100_000
_SERIES = "WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s WHERE n < {last})"
_RUNS = (
    "INSERT INTO {schema}runs (run_id, workflow, kind, status, queue, priority, root_run_id, lease_epoch, attempt, "
    "created_at, started_at, finished_at) {series} "
    "SELECT '{letter}' || n, 'one', 'dag', '{status}', 'default', 0, '{letter}' || n, {epoch}, 1, n, {ended}, {ended} "
    "FROM s"
)
_PAYLOADS = "INSERT INTO {schema}run_payloads (run_id, inputs) {series} SELECT '{letter}' || n, '{{\"n\":1}}' FROM s"
_FIRST = 100_000_000  # numbers of one width: they sort as texts


def add_runs(ledger: Ledger, begin: int, end: int, *, finished: bool = False) -> None:
    """Add the runs numbered from ``begin`` to ``end`` (exclusive), waiting or finished."""
    what = {
        "letter": "d" if finished else "w",
        "status": "completed" if finished else "pending",
        "ended": "n" if finished else "NULL",
        "epoch": "1" if finished else "0",
    }
    execute, close = _open(ledger, what)
    for first in range(begin, end, _BATCH):
        last = min(first + _BATCH, end) - 1
        series = _SERIES.format(first=first + _FIRST, last=last + _FIRST)
        for text in (_RUNS, _PAYLOADS):
            execute(text.format(series=series, **what))
    close()


def _open(ledger: Ledger, what: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], None]]:
    if ledger.store.is_shared:
        address = Address(ledger.full_url)
        what["schema"] = f'"{address.schema}".'
        connection = psycopg.connect(address.conninfo, autocommit=True)
        return connection.execute, connection.close
    what["schema"] = ""
    file = sqlite3.connect(ledger.url, isolation_level=None)
    return file.execute, file.close
