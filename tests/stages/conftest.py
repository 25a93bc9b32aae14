"""Stages that leave a trace, and tasks made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from milepost import Ledger
from milepost.stages import BaseStage, BaseStageState, SimpleRecordsResult, TaskEngine

Plan = dict[str, Callable[["Traced"], Any]]


class State(BaseStageState[SimpleRecordsResult]):
    """What the stages of these tests set."""

    seen: list[str] = []
    count: int = 0
    anything: Any = None


class Traced(BaseStage[State]):
    """Does what the test's plan says for its name, and traces it."""

    trace: list[str] = []
    plan: dict[str, Any] = {}

    def execute_stage(self) -> Any:
        self.trace.append(self.stage_name)
        self.state.seen.append(self.stage_name)
        return self.plan[self.stage_name](self) if self.stage_name in self.plan else None

    def rollback_stage(self) -> Any:
        self.trace.append(f"undo {self.stage_name}")
        name = f"undo {self.stage_name}"
        return self.plan[name](self) if name in self.plan else None


class TracedAsync(Traced):
    """The same, as async methods."""

    async def execute_stage(self) -> Any:
        return Traced.execute_stage(self)

    async def rollback_stage(self) -> Any:
        return Traced.rollback_stage(self)


class Task:
    """A task that can be begun again and again, as new processes would, with one trace."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.trace: list[str] = []
        self.plan: dict[str, Any] = {}
        self.kind: type[Traced] = Traced

    def engine(self, names: str = "abc", task_id: str = "task", **options: Any) -> TaskEngine[SimpleRecordsResult]:
        stages = []
        for name in names:
            stage = self.kind(stage_name=name)
            stage.trace, stage.plan = self.trace, self.plan
            stages.append(stage)
        return TaskEngine(task_id, stages, ledger=self.ledger, **options)

    def fail(self, name: str, times: int = 10**6) -> None:
        """Let a stage fail so many times."""
        left = [times]

        def raise_(stage: Traced) -> None:
            if left[0]:
                left[0] -= 1
                raise ValueError(f"{name} fails")

        self.plan[name] = raise_


@pytest.fixture(params=["sync", "async"])
def task(request: pytest.FixtureRequest, ledger: Ledger) -> Task:
    """Return a task of three stages, once with sync and once with async methods."""
    made = Task(ledger)
    made.kind = Traced if request.param == "sync" else TracedAsync
    return made


@pytest.fixture
def sync_task(ledger: Ledger) -> Task:
    """Return a task of three sync stages."""
    return Task(ledger)
