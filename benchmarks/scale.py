"""What grows with the size of a graph, and what must not."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import Row, at_most, flat
from benchmarks.steps import chain, pure_noop
from milepost import Ledger

SIZES = (100, 1_000, 10_000, 100_000)
ELEMENTS = 100_000

# A process of its own: a peak never comes down again.
_MEMORY = f"""
import sys
from milepost import Dag, step

@step(pure=True)
def square(n: int) -> int:
    return n * n

@step
def total(squares: list[int]) -> int:
    return sum(squares)

def peak():  # not getrusage: there a child begins with its parent's peak
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

def run(elements, ledger):
    dag = Dag("squares")
    squares = dag.map(square, range(elements), concurrency=64)
    if sys.argv[2] == "read":
        dag.node(total, squares=squares)
    run = dag.run(ledger=ledger, durability="process")
    assert run.status == "completed", run.error

run(1000, sys.argv[1] + ".warm")
before = peak()
run({ELEMENTS}, sys.argv[1])
print(peak() - before)
"""


def cost_per_node(folder: Path, size: int) -> float:
    """Return microseconds for each node: building the graph, and running it with pure no-op steps."""
    costs = []
    for number in range(3 if size >= 100_000 else 5):
        with Ledger.open(folder / f"nodes-{size}-{number}.db", durability="process") as ledger:
            chain(pure_noop, 2).run(ledger=ledger).result()  # a fresh file's first commits are its own cost
            started = time.perf_counter()
            chain(pure_noop, size).run(ledger=ledger).result()
            costs.append((time.perf_counter() - started) / size * 1e6)
    return statistics.median(costs)


def peak_memory(folder: Path, use: str) -> float:
    """Return the mebibytes that a map of 100,000 small values adds at its peak."""
    command = [sys.executable, "-c", _MEMORY, str(folder / f"memory-{use}.db"), use]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def import_time() -> float:
    """Return the milliseconds that ``import milepost`` takes in a fresh interpreter."""
    code = (
        "import time, sys; t = time.perf_counter(); import milepost; print((time.perf_counter() - t) * 1e3);"
        "assert not {'sqlite3', 'psycopg'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=os.environ)
    return float(done.stdout)


def measure(folder: Path) -> list[Row]:
    """Return the rows about size, memory and start."""
    return [
        flat(
            "cost per node, graphs of n nodes",
            1.5,
            {f"{size:,}": cost_per_node(folder, size) for size in SIZES},
            "us",
        ),
        Row(
            "peak memory of a 100,000-element map, outputs not read",
            f"{peak_memory(folder, 'ignore'):,.0f} MiB",
            "",
            "",
            "",
            None,
        ),
        Row(
            "peak memory of a 100,000-element map, outputs read by one step",
            f"{peak_memory(folder, 'read'):,.0f} MiB",
            "",
            "",
            "",
            None,
        ),
        at_most("import milepost, no driver loaded", 150, import_time, "ms", repeats=9),
    ]
