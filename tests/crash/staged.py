"""The staged tasks whose process is killed: five stages that retry, save, process records, and are undone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from milepost import Ledger, RunStatus
from milepost.errors import RunCancelled, RunFailed
from milepost.stages import BaseStage, BaseStageState, FileStateIO, RetryPolicy, SimpleRecordsResult, TaskEngine

SCENARIOS = ("task", "task keeper", "task async", "task files", "task rollback", "task rollback on failure")


class Life:
    """What this process does."""

    trace: Callable[[str], None]  # performs the side effect of an execution, which no kill takes back


class State(BaseStageState[SimpleRecordsResult]):
    """What the stages count."""

    total: int = 0
    done: list[str] = []
    parts: int = 0


class Stage(BaseStage[State]):
    """Counts itself once."""

    def execute_stage(self) -> Any:
        self.count()

    def count(self) -> None:
        Life.trace(self.stage_name)
        self.state.total += len(self.stage_name)
        self.state.done.append(self.stage_name)

    def rollback_stage(self) -> None:
        Life.trace(f"undo:{self.stage_name}")
        assert self.state.done[-1] == self.stage_name


class Flaky(Stage):
    """Fails once, before it counts itself."""

    def execute_stage(self) -> None:
        if self.attempts == 1:
            Life.trace(self.stage_name)
            raise ConnectionError("the first attempt fails")
        self.count()


class Parts(Stage):
    """Goes on, after a crash, at the part it saved."""

    def execute_stage(self) -> None:
        while self.state.parts < 3:
            Life.trace(self.stage_name)
            self.state.parts += 1
            self.checkpoint()
        self.state.done.append(self.stage_name)


class Records(Stage):
    """Counts records, three at a time."""

    def execute_stage(self) -> None:
        Life.trace(self.stage_name)
        found = self.process_records(range(10), self.look, key=lambda n: n + 100, batch=3)
        self.state.total += found.success_count
        self.state.done.append(self.stage_name)

    @staticmethod
    def look(number: int) -> None:
        if number == 4:
            raise ValueError("a bad record")


class Last(Stage):
    """Ends the task with a result."""

    async def execute_stage(self) -> SimpleRecordsResult:
        self.count()
        return SimpleRecordsResult(total_count=self.state.total, success_count=self.state.total)


class Broken(Stage):
    """Fails for good."""

    def execute_stage(self) -> None:
        Life.trace(self.stage_name)
        raise RuntimeError("the last stage fails")


def engine(scenario: str, ledger: Ledger, folder: Path, task_id: str) -> TaskEngine[SimpleRecordsResult]:
    """Return the engine of a scenario, with new stages."""
    is_broken = scenario == "task rollback on failure"
    return TaskEngine(
        task_id,
        [
            Stage(stage_name="one"),
            Flaky(stage_name="two"),
            Parts(stage_name="three"),
            Records(stage_name="four"),
            Broken(stage_name="five") if is_broken else Last(stage_name="five"),
        ],
        ledger=ledger,
        retry_policy=RetryPolicy.STAGE,
        max_attempts=2,
        rollback_on_failure=is_broken,
        state_io=FileStateIO(folder / "states") if scenario == "task files" else None,
    )


def advance(scenario: str, ledger: Ledger, folder: Path, task_id: str) -> None:
    """Bring the task from wherever it stands to its end, as its program would when it is started again."""
    while True:
        run = ledger.get_run(task_id)
        made = engine(scenario, ledger, folder, task_id)
        if run is not None and run.error_type == "RolledBack":
            return
        if run is not None and run.status == RunStatus.FAILED and scenario == "task rollback on failure":
            return
        if run is not None and run.status == RunStatus.COMPLETED:
            if scenario != "task rollback":
                return
            made.rollback()
            continue
        with contextlib.suppress(RunCancelled, RunFailed):
            if scenario == "task async":
                asyncio.run(made.run_async())
            else:
                made.run()
