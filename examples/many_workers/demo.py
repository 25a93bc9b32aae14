"""The main job through a queue: PostgreSQL, four worker processes, and one of them killed.

``make demo-postgres`` runs this. It starts a PostgreSQL server of its own (from a pip package, on a unix socket, in
a temporary folder), submits one run for each of a few packages of the standard library, starts four workers, kills
the worker that is busiest in the middle of its run, and shows that every run completes and that nothing finished was
done again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from pathlib import Path

from milepost import Ledger
from milepost.stores.postgres_connection import Address, migrate

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests" / "support")]

from postgres import PostgresServer  # noqa: E402 - found by the line above

from stdlib_index.job import dag  # noqa: E402

PACKAGES = ("asyncio", "email", "json", "http", "xml", "unittest", "importlib", "multiprocessing", "test", "encodings")
WORKERS = 4


def start_worker(url: str, number: int) -> subprocess.Popen[bytes]:
    """Start a worker process that knows the main job."""
    target = ROOT / "examples" / "stdlib_index" / "job.py"
    command = [sys.executable, "-m", "milepost", "worker", f"{target}:dag", "--worker-id", f"worker-{number}"]
    return subprocess.Popen(  # noqa: S603 - our own command
        [*command, "--concurrency", "2", "--ledger", url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def busiest(ledger: Ledger) -> tuple[int, str] | None:
    """Return the process id and the run of the worker with the most finished elements of an unfinished run."""
    best: tuple[int, int, str] | None = None
    for run in ledger.list_runs(status="running"):
        done = ledger.store.count_steps(run.run_id).get("completed", 0)
        pid = int((run.lease_owner or "0@").split("@")[0])
        if done > 40 and (best is None or done > best[0]):
            best = done, pid, run.run_id
    return None if best is None else best[1:]


def main() -> int:
    """Run the demonstration; return 0 when every run completed and nothing was done twice."""
    server = PostgresServer()
    workers: list[subprocess.Popen[bytes]] = []
    try:
        server.start()
        print(f"PostgreSQL is up. Its ledger takes the migrations {', '.join(migrate(Address(server.url)))}.")
        with Ledger.open(server.url) as ledger, tempfile.TemporaryDirectory() as out:
            library = Path(sysconfig.get_paths()["stdlib"])
            inputs = [
                {"source": library / name, "out": Path(out) / name} for name in PACKAGES if (library / name).is_dir()
            ]
            handles = dag.submit_many(inputs, ledger=ledger)
            print(f"Submitted {len(handles)} runs of {dag.name!r}. Starting {WORKERS} workers ...")
            workers += [start_worker(server.url, number + 1) for number in range(WORKERS)]
            while (found := busiest(ledger)) is None:
                time.sleep(0.01)  # to look again: how far runs in other processes are stands only in the ledger
            pid, run_id = found
            os.kill(pid, signal.SIGKILL)
            done = ledger.store.count_steps(run_id).get("completed", 0)
            print(f"Killed the worker with process id {pid} in the middle of run {run_id}: {done} steps were recorded.")
            started = time.monotonic()
            ended = [handle.wait(120) for handle in handles]
            print(f"All runs ended {time.monotonic() - started:.1f} s later:")
            for run in ended:
                claims = len(ledger.list_attempts(run.run_id))
                steps = ledger.store.count_steps(run.run_id).get("completed", 0)
                print(f"  {run.run_id}  {run.status.value:<10} {steps:>5} steps  {claims} claim{'s' * (claims > 1)}")
            twice = [
                label
                for run in ended
                for label, count in Counter(
                    step.label for step in ledger.list_steps(run.run_id) if step.status == "completed"
                ).items()
                if count > 1
            ]
            print(f"Steps that were completed twice: {len(twice)}.")
            return 0 if all(run.status == "completed" for run in ended) and not twice else 1
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(timeout=30)
        server.close()


if __name__ == "__main__":
    sys.exit(main())
