"""From plain data to a workflow: every mistake of the models at once, in words, with its place."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from milepost.dsl.inputs import InputField
from milepost.dsl.operators import OPERATORS, Child, MultiChoiceBranch
from milepost.dsl.policies import CircuitBreakerPolicy, DataGuard, RetryPolicy, TimeoutPolicy
from milepost.dsl.problems import Path, WorkflowInvalid, WorkflowProblem, with_lines
from milepost.dsl.reading import Lines
from milepost.errors import did_you_mean

__all__ = ["validated", "validated_node"]

W = TypeVar("W", bound=BaseModel)
_NOTHING: Final = object()
_POLICIES: Final[dict[str, type[BaseModel]]] = {
    "retry_policy": RetryPolicy,
    "default_retry_policy": RetryPolicy,
    "timeout_policy": TimeoutPolicy,
    "circuit_breaker_policy": CircuitBreakerPolicy,
}


def validated(cls: type[W], data: Any, lines: Lines, *, lenient: bool) -> tuple[W, list[WorkflowProblem]]:
    """Return the model, and what is only worth a warning.

    Raises:
        WorkflowInvalid: Every mistake that the models find.
    """
    if not isinstance(data, dict):
        message = f"a workflow is a mapping that begins with name: and tasks:, not {type(data).__name__}"
        raise WorkflowInvalid("The workflow", with_lines([WorkflowProblem((), message)], lines))
    what = f"Workflow {data['name']!r}" if isinstance(data.get("name"), str) else "The workflow"
    data = _without_copies(data)
    warned: list[WorkflowProblem] = []
    if lenient:
        data = _copied(data)
    for _ in range(2):
        try:
            return cls.model_validate(data), with_lines(warned, lines)
        except ValidationError as error:
            found = error.errors(include_url=False)
            unknown = [e for e in found if e["type"] == "extra_forbidden"]
            if lenient and unknown and not warned:
                for e in unknown:
                    path, holder = _place(e["loc"], data)
                    warned.append(WorkflowProblem(path, _words(e, path, holder, cls), is_warning=True))
                    if isinstance(holder, dict):
                        holder.pop(path[-1], None)
                continue
            problems = []
            for e in found:
                path, holder = _place(e["loc"], data)
                problems.append(WorkflowProblem(path, _words(e, path, holder, cls)))
            unique = list(dict.fromkeys(problems))
            raise WorkflowInvalid(what, with_lines(unique, lines)) from None
    raise AssertionError("unknown keys were taken out")


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _without_copies(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out nodes of loops that an older file has again beside their loop."""
    tasks = data.get("tasks")
    if not isinstance(tasks, dict):
        return data
    inside = {
        body.get("task_id")
        for task in tasks.values()
        if isinstance(task, dict)
        for body in task.get("loop_body") or ()
        if isinstance(body, dict)
    }
    kept = {
        key: task
        for key, task in tasks.items()
        if not (isinstance(task, dict) and task.get("is_internal_loop_task") and key in inside)
    }
    return data if len(kept) == len(tasks) else {**data, "tasks": kept}


def _place(loc: tuple[str | int, ...], data: Any) -> tuple[Path, Any]:
    """Return the path in the data that pydantic means, its own additions left out, and what holds its end."""
    path: list[str | int] = []
    here, holder = data, data
    for i, part in enumerate(loc):
        is_last = i == len(loc) - 1
        inner = _inside(here, part)
        if inner is not _NOTHING:
            path.append(part)
            holder, here = here, inner
        elif is_last and part not in OPERATORS and isinstance(here, dict) and str(part).isidentifier():
            path.append(part)  # a field that is missing
            holder, here = here, None
    return tuple(path), holder


def _inside(here: Any, part: str | int) -> Any:
    if isinstance(here, dict):
        return here.get(part, _NOTHING)
    if isinstance(here, list) and isinstance(part, int) and part < len(here):
        return here[part]
    return _NOTHING


def _words(error: Any, path: Path, holder: Any, cls: type[BaseModel]) -> str:
    kind, given = error["type"], error.get("input")
    if kind == "extra_forbidden":
        known = _fields(path, holder, cls)
        near = did_you_mean(path[-1], known)
        return f"unknown key {path[-1]!r}.{near or ' Known: ' + ', '.join(known) + '.'}"
    if kind == "missing":
        return f"{path[-1] if path else 'a key'} is missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        if kind == "union_tag_not_found":
            return f"operator_type is missing; it is one of {', '.join(sorted(OPERATORS))}"
        tag = given.get("operator_type") if isinstance(given, dict) else given
        return f"Unknown operator type: {tag}.{did_you_mean(tag, OPERATORS)}"
    message: str = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error":
        return message
    shown = repr(given)
    return f"{message}, not {shown if len(shown) <= 80 else shown[:80] + '…'}"


def _fields(path: Path, holder: Any, cls: type[BaseModel]) -> list[str]:
    parents = [part for part in path[:-1] if isinstance(part, str)]
    above = parents[-1] if parents else ""
    if isinstance(holder, dict) and holder.get("operator_type") in OPERATORS:
        model: type[BaseModel] = OPERATORS[holder["operator_type"]]
    elif above in _POLICIES:
        model = _POLICIES[above]
    elif above in ("preconditions", "postconditions"):
        model = DataGuard
    elif len(parents) > 1 and parents[-2] == "children":
        model = Child
    elif len(parents) > 1 and parents[-2] == "branches":
        model = MultiChoiceBranch
    elif len(parents) > 1 and parents[-2] == "inputs":
        model = InputField
    else:
        model = cls
    return list(model.model_fields)


def validated_node(cls: type[W], data: dict[str, Any], what: str) -> W:
    """Return one part of a workflow, or raise WorkflowInvalid with every mistake of it."""
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        problems = []
        for e in error.errors(include_url=False):
            path, holder = _place(e["loc"], data)
            told = (data["task_id"], *path) if isinstance(data.get("task_id"), str) else path
            problems.append(WorkflowProblem(told, _words(e, path, holder, cls)))
        raise WorkflowInvalid(what, problems) from None
