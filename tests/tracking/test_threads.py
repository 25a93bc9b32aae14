"""A client that threads share."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from milepost.tracking import Client


def test_threads_that_use_a_new_client_at_once_share_one_ledger() -> None:
    barrier = threading.Barrier(8)

    def spawn(client: Client) -> None:
        barrier.wait()
        client.spawn_task(task_name="n")

    for _ in range(5):
        with Client(ledger=":memory:") as client, ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: spawn(client), range(8)))
            assert len(client.claim_task(qty=8)) == 8
