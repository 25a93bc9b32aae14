"""Runs of no-op steps: what the ledger adds to a step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.floors import SQLiteFloor
from benchmarks.report import Row, against_floor, at_least, at_most
from milepost import Dag, Ledger, step

STEPS = 2000
RUNS, STEPS_PER_RUN = 100, 10


@step
def noop(n: int) -> int:
    return n


@step(pure=True)
def pure_noop(n: int) -> int:
    return n


@step
async def async_noop(n: int) -> int:
    return n


def chain(body: Callable[..., object], length: int) -> Dag:
    """Return a Dag of steps of which each takes the one before."""
    dag = Dag("chain")
    last = dag.node(body, label="s0", n=1)
    for number in range(1, length):
        last = dag.node(body, label=f"s{number}", n=last)
    dag.build()
    return dag


def sequential(dag: Dag, ledger: Ledger) -> float:
    """Return steps per second of one run."""
    started = time.perf_counter()
    dag.run(ledger=ledger).result()
    return STEPS / (time.perf_counter() - started)


def cpu_per_step(dag: Dag, ledger: Ledger) -> float:
    """Return microseconds of this process's CPU for each step."""
    started = time.process_time()
    dag.run(ledger=ledger).result()
    return (time.process_time() - started) / STEPS * 1e6


def concurrent_async(dag: Dag, ledger: Ledger) -> float:
    """Return steps per second of many runs on one loop."""

    async def work() -> None:
        runs = await asyncio.gather(*(dag.run_async(ledger=ledger) for _ in range(RUNS)))
        assert all(run.status == "completed" for run in runs)

    started = time.perf_counter()
    asyncio.run(work())
    return RUNS * STEPS_PER_RUN / (time.perf_counter() - started)


def concurrent_threads(dag: Dag, ledger: Ledger, pool: ThreadPoolExecutor) -> float:
    """Return steps per second of many runs in as many threads."""
    started = time.perf_counter()
    runs = list(pool.map(lambda _: dag.run(ledger=ledger), range(RUNS)))
    elapsed = time.perf_counter() - started
    assert all(run.status == "completed" for run in runs)
    return RUNS * STEPS_PER_RUN / elapsed


def measure(folder: Path) -> list[Row]:
    """Return the rows about steps on SQLite."""
    floor = SQLiteFloor(folder)
    rows = []
    with Ledger.open(folder / "full.db") as full, Ledger.open(folder / "normal.db", durability="process") as normal:
        plain, pure = chain(noop, STEPS), chain(pure_noop, STEPS)
        rows.append(against_floor("sequential no-op steps, SQLite FULL", 0.8, partial(sequential, plain, full), floor))
        rows.append(
            at_least("sequential no-op steps, SQLite NORMAL", 10_000, partial(sequential, plain, normal), "steps/s")
        )
        rows.append(at_most("engine CPU per step, SQLite NORMAL", 60, partial(cpu_per_step, plain, normal), "us"))
        rows.append(
            at_least("sequential no-op pure steps, SQLite FULL", 10_000, partial(sequential, pure, full), "steps/s")
        )
        many = chain(async_noop, STEPS_PER_RUN)
        rows.append(
            against_floor(
                "100 runs x 10 steps at once, async, SQLite FULL", 6, partial(concurrent_async, many, full), floor
            )
        )
        short = chain(noop, STEPS_PER_RUN)
        with ThreadPoolExecutor(RUNS) as pool:
            rows.append(
                against_floor(
                    "100 runs x 10 steps at once, threads, SQLite FULL",
                    2.5,
                    partial(concurrent_threads, short, full, pool),
                    floor,
                )
            )
    floor.close()
    return rows
