"""Staged tasks: what the ledger adds to a stage, and the task to a record."""

from __future__ import annotations

import time
import tracemalloc
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.floors import SQLiteFloor
from benchmarks.report import Row, against_floor, at_most
from milepost import Ledger
from milepost.stages import BaseStage, BaseStageState, SimpleRecordsResult, TaskEngine

STAGES = 100
RECORDS = 1_000_000


class State(BaseStageState[SimpleRecordsResult]):
    """A state whose JSON text is 2 KB long."""

    filling: str = "x" * 1850


class Stage(BaseStage[State]):
    """Does nothing."""

    def execute_stage(self) -> None:
        """Do nothing."""


class Records(BaseStage[State]):
    """Processes records of which each costs next to nothing."""

    def execute_stage(self) -> SimpleRecordsResult:
        """Process them."""
        return self.process_records(range(RECORDS), _nothing)


def _nothing(record: int) -> None:
    pass


def stages_per_second(ledger: Ledger, numbers: count[int]) -> float:
    """Return stages per second of one task."""
    stages = [Stage(stage_name=f"s{number}") for number in range(STAGES)]
    engine = TaskEngine[SimpleRecordsResult](f"stages-{next(numbers)}", stages, ledger=ledger)
    started = time.perf_counter()
    engine.run()
    return STAGES / (time.perf_counter() - started)


def overhead_per_record(ledger: Ledger, numbers: count[int]) -> float:
    """Return microseconds that a record costs beside the call of its function."""
    engine = TaskEngine[SimpleRecordsResult](f"records-{next(numbers)}", [Records(stage_name="r")], ledger=ledger)
    started = time.perf_counter()
    engine.run()
    whole = time.perf_counter() - started
    started = time.perf_counter()
    for record in range(RECORDS):
        _nothing(record)
    return (whole - (time.perf_counter() - started)) / RECORDS * 1e6


def memory_of_records(ledger: Ledger, numbers: count[int]) -> float:
    """Return the most kilobytes that a million records take at any moment."""
    engine = TaskEngine[SimpleRecordsResult](f"records-{next(numbers)}", [Records(stage_name="r")], ledger=ledger)
    tracemalloc.start()
    engine.run()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 1024


def measure(folder: Path) -> list[Row]:
    """Return the rows about staged tasks on SQLite."""
    floor = SQLiteFloor(folder)
    numbers = count()
    with Ledger.open(folder / "stages.db") as ledger:
        rows = [
            against_floor(
                f"task of {STAGES} no-op stages, 2 KB state, SQLite FULL",
                0.5,
                partial(stages_per_second, ledger, numbers),
                floor,
                "stages/s",
            ),
            at_most("process_records, 1 M records: overhead", 5, partial(overhead_per_record, ledger, numbers), "us"),
            at_most(
                "process_records, 1 M records: most memory",
                1024,
                partial(memory_of_records, ledger, numbers),
                "KB",
                repeats=1,
            ),
        ]
    floor.close()
    return rows
