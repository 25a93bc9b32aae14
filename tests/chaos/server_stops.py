"""PostgreSQL stopped hard under load: every run ends right, none is stuck, no completed step is done twice.

``python tests/chaos/server_stops.py --runs 2000 --stops 3`` is the whole proof; the suite runs a smaller one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from flows import judge_short_runs, three_steps, two_steps
from postgres import PostgresServer

from milepost import Ledger
from milepost.stores.postgres_connection import Address, migrate

WORKER = """
import sys
sys.path.insert(0, sys.argv[2])
from flows import three_steps, two_steps
from milepost import Ledger, Worker
with Ledger.open(sys.argv[1], lease=5) as ledger:
    Worker([two_steps, three_steps], ledger=ledger, concurrency=32, worker_id=sys.argv[3], drain=5).run()
"""


def prove(runs: int, stops: int) -> dict[str, int]:
    """Stop the server so often under so many runs; return what came of them."""
    server = PostgresServer()  # with its own settings: what it acknowledges must survive
    workers: list[subprocess.Popen[bytes]] = []
    try:
        server.start()
        migrate(Address(server.url))
        support = str(Path(__file__).resolve().parents[1] / "support")
        with tempfile.TemporaryDirectory() as folder, Ledger.open(server.url, lease=5) as ledger:
            halves = [
                dag.submit_many(({"folder": folder, "n": n} for n in range(first, runs, 2)), ledger=ledger)
                for first, dag in enumerate((two_steps, three_steps))
            ]
            handles = [halves[n % 2][n // 2] for n in range(runs)]
            workers += [
                subprocess.Popen([sys.executable, "-c", WORKER, server.url, support, f"w{number}"])
                for number in range(2)
            ]
            for stop in range(1, stops + 1):
                _wait_for(ledger, runs * stop // (stops + 1))
                server.stop("immediate")
                server.start()
            _wait_for(ledger, runs)
            return {
                "runs": runs,
                "stops": stops,
                **judge_short_runs(ledger, handles, folder),
                "open": sum(len(ledger.list_runs(status=status, limit=10)) for status in ("running", "pending")),
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
    return found["right"] == found["runs"] and not any(
        found[name] for name in ("completed twice", "again", "open", "problems")
    )


if __name__ == "__main__":
    sys.exit(main())
