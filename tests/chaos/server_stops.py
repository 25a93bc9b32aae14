"""PostgreSQL stopped hard under load: every run ends right, none is stuck, no completed step is done twice.

``python tests/chaos/server_stops.py --runs 2000 --stops 3`` is the whole proof; the suite runs a smaller one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from postgres import PostgresServer

from milepost import Dag, Ledger
from milepost.stores.postgres_connection import Address, migrate

WORKER = """
import sys
sys.path.insert(0, sys.argv[2])
from server_stops import dag
from milepost import Ledger, Worker
with Ledger.open(sys.argv[1], lease=5) as ledger:
    Worker([dag], ledger=ledger, concurrency=32, worker_id=sys.argv[3], drain=5).run()
"""


def double(n: int) -> int:
    return 2 * n


def increment(n: int) -> int:
    return n + 1


dag = Dag("chain")
dag.node(increment, n=dag.node(double))


def prove(runs: int, stops: int) -> dict[str, int]:
    """Stop the server so often under so many runs; return what came of them."""
    server = PostgresServer()  # with its own settings: what it acknowledges must survive
    workers: list[subprocess.Popen[bytes]] = []
    try:
        server.start()
        migrate(Address(server.url))
        here = str(Path(__file__).resolve().parent)
        with Ledger.open(server.url, lease=5) as ledger:
            handles = dag.submit_many(({"n": n} for n in range(runs)), ledger=ledger)
            workers += [
                subprocess.Popen([sys.executable, "-c", WORKER, server.url, here, f"w{number}"]) for number in range(2)
            ]
            for stop in range(1, stops + 1):
                _wait_for(ledger, runs * stop // (stops + 1))
                server.stop("immediate")
                server.start()
            _wait_for(ledger, runs)
            results = [handle.result(120) for handle in handles]
            twice = sum(
                count > 1
                for handle in handles
                for count in Counter(
                    step.label for step in ledger.list_steps(handle.run_id) if step.status == "completed"
                ).values()
            )
            return {
                "runs": runs,
                "stops": stops,
                "right": sum(result == 2 * n + 1 for n, result in enumerate(results)),
                "completed twice": twice,
                "open": sum(len(ledger.list_runs(status=status, limit=10)) for status in ("running", "pending")),
                "problems": len(list(ledger.check())),
            }
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(60)
        server.close()


def _wait_for(ledger: Ledger, count: int) -> None:
    deadline = time.monotonic() + 300
    while len(ledger.list_runs(status="completed", limit=count)) < count:
        assert time.monotonic() < deadline, "the runs do not get on"
        time.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--stops", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    started = time.monotonic()
    found = prove(options.runs, options.stops)
    told = ", ".join(f"{name}: {count}" for name, count in found.items())
    print(json.dumps(found) if options.json else f"{told} in {time.monotonic() - started:.1f} s")
    return 0 if is_right(found) else 1


def is_right(found: dict[str, int]) -> bool:
    return found["right"] == found["runs"] and not (found["completed twice"] or found["open"] or found["problems"])


if __name__ == "__main__":
    sys.exit(main())
