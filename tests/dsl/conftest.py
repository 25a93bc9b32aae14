"""Functions that the workflows of these tests call, and a ledger for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from milepost import FinishedRun, Ledger
from milepost.dsl import Workflow, WorkflowBuilder, task_function

CALLS: list[tuple[str, Any]] = []


@task_function("t.add")
def add(a: Any, b: Any = 1) -> Any:
    CALLS.append(("add", (a, b)))
    return a + b


@task_function("t.echo")
def echo(x: Any = None) -> Any:
    CALLS.append(("echo", x))
    return x


@task_function("t.fail")
def fail(message: str = "no") -> None:
    CALLS.append(("fail", message))
    raise ValueError(message)


@task_function("t.fail_times")
def fail_times(times: int) -> int:
    CALLS.append(("fail_times", times))
    count = sum(name == "fail_times" for name, _ in CALLS)
    if count <= times:
        raise ValueError(f"attempt {count}")
    return count


@task_function("t.sleepy")
async def sleepy(times: int) -> str:
    """Do not wake up, so many times."""
    CALLS.append(("sleepy", times))
    if sum(name == "sleepy" for name, _ in CALLS) <= times:
        await asyncio.Event().wait()
    return "awake"


@task_function("t.generate")
def generate(start: int = 0, feedback: Any = None, previous: Any = None) -> int:
    return (start if previous is None else previous) + 1


@task_function("t.verify")
def verify(output: int) -> dict[str, Any]:
    return {"passed": output >= 3, "feedback": "more"}


@pytest.fixture(autouse=True)
def calls() -> list[tuple[str, Any]]:
    CALLS.clear()
    return CALLS


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger.open(":memory:") as opened:
        yield opened


@pytest.fixture
def run(ledger: Ledger) -> Callable[..., FinishedRun]:
    """Build, write as YAML, load and run: what is tested is what a file gives."""

    def perform(builder: WorkflowBuilder, inputs: dict[str, Any] | None = None, **options: Any) -> FinishedRun:
        workflow = builder.build()
        loaded = Workflow.from_yaml(workflow.to_yaml())
        assert loaded == workflow
        assert Workflow.from_json(workflow.to_json()) == workflow
        return loaded.run(inputs, ledger=ledger, **options)

    return perform
