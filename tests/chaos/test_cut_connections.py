"""Every connection of every worker is ended by the server, again and again, while runs are executed."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Self

import psycopg
import pytest
from flows import judge_short_runs, three_steps, two_steps
from nursery import Nursery
from postgres import PostgresServer
from tasks import until

from milepost import Ledger
from milepost.stores.postgres_connection import Address, migrate

RUNS = 2000 if os.environ.get("MILEPOST_CHAOS") == "full" else 300
PAUSE = 0.1  # seconds between two blows: some work gets done in between


class Axe:
    """Ends every connection but its own, until the block ends."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._swing, daemon=True)
        self.ended = 0

    def _swing(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._over.wait(PAUSE):
                (count,) = connection.execute(
                    "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                ).fetchone() or (0,)
                self.ended += count

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_runs_end_right_though_every_connection_is_ended_again_and_again(workers: Nursery, tmp_path: Path) -> None:
    server = PostgresServer(fsync="off")
    try:
        server.start()
        migrate(Address(server.url))
        with Ledger.open(server.url) as ledger:
            given = [{"folder": str(tmp_path), "n": n} for n in range(RUNS)]
            halves = [
                dag.submit_many(given[first::2], ledger=ledger) for first, dag in enumerate((two_steps, three_steps))
            ]
            handles = [halves[n % 2][n // 2] for n in range(RUNS)]
            with Axe(server.url) as axe:
                until(lambda: axe.ended)
                for _ in range(2):
                    workers.start(server.url, lease=3.0, concurrency=4)
                until(lambda: len(ledger.list_runs(status="completed", limit=RUNS)) == RUNS, 240, pause=0.2)
            assert axe.ended > 20
            found = judge_short_runs(ledger, handles, tmp_path)
            del found["extra"]
            assert found == {"right": RUNS, "completed twice": 0, "again": 0, "problems": 0}
    finally:
        workers.close()
        server.close()
