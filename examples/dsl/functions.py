"""The functions that the example workflows call, registered under the names that the files use."""

from __future__ import annotations

from typing import Any

from milepost.dsl import task_function


@task_function("demo.give")
def give(value: Any = None) -> Any:
    """Return what it was given."""
    return value


@task_function("demo.add")
def add(left: Any, right: Any) -> Any:
    """Return the sum of two values."""
    return left + right


@task_function("demo.fail")
def fail(message: str) -> None:
    """Fail."""
    raise RuntimeError(message)


@task_function("demo.draft")
def draft(topic: str, correction_prompt: str = "") -> str:
    """Write a text, longer each time somebody asks for it."""
    return f"{topic} {correction_prompt}".strip()


@task_function("demo.review")
def review(output: str) -> dict[str, Any]:
    """Judge a text by its length."""
    return {"passed": len(output) > 10, "feedback": "say more"}
