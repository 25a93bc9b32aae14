"""Queues on both stores: how soon a task starts, what a claim costs as a ledger grows, tasks through one worker."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.filling import add_runs
from benchmarks.floors import SQLiteFloor
from benchmarks.idle_worker import dag as stamping
from benchmarks.report import Row, against_floor, flat, within
from benchmarks.server import new_schema, running_server
from benchmarks.steps import async_noop
from benchmarks.tasks import SLOTS, one_step, through_worker
from milepost import Ledger
from milepost.states import RunStatus
from milepost.store import RunEnd, RunWrite
from milepost.stores.postgres_address import is_postgres

STARTS = 200
LEDGERS = {  # tasks waiting, runs finished
    "0": (0, 0),
    "10 k": (10_000, 0),
    "100 k": (100_000, 0),
    "1 M": (1_000_000, 0),
    "1 M finished": (0, 1_000_000),
}
CLAIMS, CLAIMED = 100, 16

_OWNER = "1@benchmark#0-1"
_LEASE = 30_000_000  # microseconds


# --- from submit to start ----------------------------------------------------------------------


def start_delays(url: str) -> list[float]:
    """Return milliseconds from before a submit to the start of its step, in an idle worker of another process."""
    delays = []
    with Ledger.open(url) as ledger, _idle_worker(url, ledger):
        for number in range(STARTS):
            # Waits for nothing: it spreads the submits over the worker's own rhythm, as users' submits are. At once
            # after each other, all would come at the same moment of it, and the percentiles would tell of that one.
            time.sleep(random.uniform(0.005, 0.025))
            asked = time.time_ns()
            handle = stamping.submit({"n": number}, ledger=ledger)
            delays.append((handle.result(timeout=30) - asked) / 1e6)
    return delays


@contextmanager
def _idle_worker(url: str, ledger: Ledger) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.idle_worker", url], cwd=Path(__file__).parents[1])
    try:
        stamping.submit({"n": 0}, ledger=ledger).result(timeout=60)  # it is up, and has loaded what it needs
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


# --- claims ------------------------------------------------------------------------------------


def claim_costs(new_ledger: Callable[[], str]) -> dict[str, float]:
    """Return milliseconds of a claim with so many more tasks waiting, and beside so many finished runs.

    All ledgers are filled first and then measured by turns, so that whatever else the machine does meets each;
    and nothing waits for the disk, whose constant share would hide what grows.
    """
    with ExitStack() as stack:
        ledgers = {}
        for name, (waiting, finished) in LEDGERS.items():
            ledgers[name] = ledger = stack.enter_context(_open_without_sync(new_ledger()))
            add_runs(ledger, 0, finished, finished=True)
            add_runs(ledger, 0, waiting + CLAIMED)
        costs: dict[str, list[float]] = {name: [] for name in ledgers}
        for _ in range(CLAIMS):
            for name, ledger in ledgers.items():
                costs[name].append(_claim_and_give_back(ledger))
    return {name: statistics.median(found) for name, found in costs.items()}


def _open_without_sync(url: str) -> Ledger:
    if is_postgres(url):
        return Ledger.open(f"{url}&options=-csynchronous_commit%3Doff")
    return Ledger.open(url, durability="process")


def _claim_and_give_back(ledger: Ledger) -> float:
    """Return milliseconds of one claim; what it took is given back."""
    store, now = ledger.store, ledger.clock.now()
    started = time.perf_counter()
    claimed = store.claim_tasks(["default"], owner=_OWNER, now=now, lease=_LEASE, limit=CLAIMED)
    cost = (time.perf_counter() - started) * 1e3
    assert len(claimed) == CLAIMED
    back = RunEnd(RunStatus.PENDING, now, None, "Released", "measured", outcome="release")
    assert not any(store.apply([RunWrite(task.run.run_id, task.run.lease_epoch, end=back) for task in claimed]))
    return cost


# --- the rows ----------------------------------------------------------------------------------


def _rows(name: str, new_ledger: Callable[[], str]) -> list[Row]:
    return [
        within(f"enqueue to start, idle worker, {name}", {50: 10, 99: 50}, start_delays(new_ledger()), "ms"),
        flat(f"claim of {CLAIMED} without sync, more tasks waiting, {name}", 1.5, claim_costs(new_ledger), "ms"),
    ]


def measure(folder: Path) -> list[Row]:
    """Return the rows about queues."""
    floor = SQLiteFloor(folder)
    with Ledger.open(folder / "tasks.db") as ledger:
        work = f"no-op tasks through one worker of {SLOTS} slots, SQLite FULL"
        rows = [against_floor(work, None, partial(through_worker, one_step(async_noop), ledger), floor, "tasks/s")]
    floor.close()
    files = (str(folder / f"queue-{number}.db") for number in count())
    rows += _rows("SQLite", lambda: next(files))
    with running_server(folder) as url:
        rows += _rows("PostgreSQL", lambda: new_schema(url))
    return rows
