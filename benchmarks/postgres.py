"""Runs of no-op steps on PostgreSQL, and tasks through its queues."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.floors import PostgresFloor
from benchmarks.report import Row, against_floor, at_least
from benchmarks.server import new_schema, running_server
from benchmarks.steps import STEPS, STEPS_PER_RUN, async_noop, chain, concurrent_async, noop, sequential
from benchmarks.tasks import SLOTS, one_step, submit_many, through_worker
from milepost import Ledger


def measure(folder: Path) -> list[Row]:
    """Return the rows about PostgreSQL."""
    with running_server(folder) as url, Ledger.open(new_schema(url)) as ledger:
        floor = PostgresFloor(url)
        rows = [
            against_floor(
                "sequential no-op steps, PostgreSQL", 0.8, partial(sequential, chain(noop, STEPS), ledger), floor
            ),
            against_floor(
                "100 runs x 10 steps at once, async, PostgreSQL",
                3,
                partial(concurrent_async, chain(async_noop, STEPS_PER_RUN), ledger),
                floor,
            ),
            against_floor(
                f"no-op tasks through one worker of {SLOTS} slots, PostgreSQL",
                1,
                partial(through_worker, one_step(async_noop), ledger),
                floor,
                "tasks/s",
            ),
            at_least("bulk submit, PostgreSQL", 20_000, partial(submit_many, one_step(noop), ledger), "tasks/s"),
        ]
        floor.close()
    return rows
