"""Dags beside the library whose documents ours follows, and replays.

Its release is measured by the same graphs, in a process of its own, where it can be installed: with the interpreter
that ``MILEPOST_BENCH_ORIGINAL`` names, or in a virtual environment made for it. Elsewhere the figure is the one
that was measured when its documents were written down.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

from benchmarks.floors import SQLiteFloor
from benchmarks.report import Row, against_floor, at_most
from milepost import Dag, DagRunner, Ledger
from milepost.provenance import DagProvenance

ORIGINAL = "lythonic==0.0.12"
WRITTEN_DOWN = {"line": 200.0, "fan": 150.0, "line, no record": 3700.0}  # nodes/s
REPEATS = 5
PAIRS = 1000


async def begin() -> int:
    return 1


async def go_on(n: int) -> int:
    return n


async def gather(numbers: list[int]) -> int:
    return len(numbers)


def line(size: int) -> Dag:
    dag = Dag("line")
    node = dag.node(begin, label="n0")
    for place in range(1, size):
        node = node >> dag.node(go_on, label=f"n{place}")
    return dag


def fan(size: int) -> Dag:
    dag = Dag("fan")
    first, last = dag.node(begin, label="first"), dag.node(gather, label="last")
    for place in range(size):
        first >> dag.node(go_on, label=f"n{place}") >> last
    return dag


def nodes_per_second(dag: Dag, size: int, ledger: Ledger | None) -> float:
    """Return nodes per second of one run."""
    runner = DagRunner(dag, ledger)
    started = time.perf_counter()
    result = asyncio.run(runner.run())
    took = time.perf_counter() - started
    assert result.status == "completed", result
    return size / took


def original(folder: Path) -> dict[str, float] | None:
    """Return the original's nodes per second, or None where it cannot be installed."""
    python = os.environ.get("MILEPOST_BENCH_ORIGINAL")
    try:
        if python is None:
            home = folder / "original"
            subprocess.run([sys.executable, "-m", "venv", home], check=True, capture_output=True)
            python = str(home / "bin" / "python")
            subprocess.run([python, "-m", "pip", "install", "--quiet", ORIGINAL], check=True, capture_output=True)
        command = [python, str(Path(__file__).with_name("original.py")), str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    found: dict[str, float] = json.loads(done.stdout)
    return found


def replay_of_one(ledger: Ledger, dag: Dag, run_id: str, numbers: count[int]) -> float:
    """Return the milliseconds of a replay of 1,000 nodes of which the last one runs."""
    started = time.perf_counter()
    run = dag.replay(run_id, ["n999"], ledger=ledger, new_run_id=f"again-{next(numbers)}")
    took = time.perf_counter() - started
    assert run.result() == 1
    return took * 1e3


def commits_by_hand(provenance: DagProvenance, numbers: count[int]) -> float:
    """Return commits per second of starts and completions, each of them one."""
    run_id = f"by-hand-{next(numbers)}"
    provenance.create_run(run_id, "bench", {})
    started = time.perf_counter()
    for place in range(PAIRS):
        label = f"n{place}"
        provenance.record_node_start(run_id, label, '{"n":{"step":"s"}}')
        provenance.record_node_complete(run_id, label, "1")
    return 2 * PAIRS / (time.perf_counter() - started)


def measure(folder: Path) -> list[Row]:
    """Return the rows about Dags."""
    found = original(folder)
    base, told = (found, "measured") if found else (WRITTEN_DOWN, "as written down")
    rows = []
    with Ledger.open(folder / "dags.db") as ledger:
        for name, dag, size, key, limit, where in (
            ("line of 1,000 nodes, SQLite FULL", line(1000), 1000, "line", 10.0, ledger),
            ("1 > 500 > 1 nodes, SQLite FULL", fan(500), 502, "fan", 10.0, ledger),
            ("line of 1,000 nodes, no record", line(1000), 1000, "line, no record", 1.0, None),
        ):
            nodes_per_second(dag, size, where)
            rate = statistics.median(nodes_per_second(dag, size, where) for _ in range(REPEATS))
            rows.append(
                Row(
                    name,
                    f"{rate:,.0f} nodes/s",
                    f"{base[key]:,.0f} /s (original, {told})",
                    f"{rate / base[key]:.1f} x",
                    f"{limit:g} x",
                    rate >= limit * base[key],
                )
            )
        dag, numbers = line(1000), count()
        first = dag.run(ledger=ledger)
        rows.append(
            at_most(
                "replay of 1,000 nodes with one to run, SQLite FULL",
                50,
                lambda: replay_of_one(ledger, dag, first.run_id, numbers),
                "ms",
            )
        )
        provenance, floor = DagProvenance(ledger), SQLiteFloor(folder)
        rows.append(
            against_floor(
                "start + complete by hand through DagProvenance, SQLite FULL",
                0.8,
                lambda: commits_by_hand(provenance, numbers),
                floor,
                "commits/s",
            )
        )
        floor.close()
    return rows
