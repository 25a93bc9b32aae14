"""What is wrong with a workflow: all of it at once, each with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from milepost.errors import ConfigurationError

__all__ = ["WorkflowInvalid", "WorkflowProblem", "WorkflowWarning", "place"]

Path = tuple[str | int, ...]


class WorkflowWarning(UserWarning):
    """Something in a workflow that is allowed and hardly meant."""


@dataclass(frozen=True, slots=True)
class WorkflowProblem:
    """One mistake: where it is, and what to do.

    ``line`` and ``column`` are 1 for the first of the file; None where there is no file.
    """

    path: Path
    message: str
    line: int | None = None
    column: int | None = None
    is_warning: bool = False

    def __str__(self) -> str:
        """Return place and message in one line."""
        where = place(self.path)
        spot = f"line {self.line}: " if self.line is not None else ""
        return f"{spot}{where}: {self.message}" if where else f"{spot}{self.message}"


class WorkflowInvalid(ConfigurationError, ValueError):
    """A workflow cannot be: every mistake that was found, each with its path and, in a file, its line."""

    def __init__(self, what: str, problems: Sequence[WorkflowProblem]) -> None:
        """Build the sentence from what was found."""
        self.what = what
        self.problems = tuple(problems)
        count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        told = "; ".join(str(problem).rstrip(".") for problem in problems)
        super().__init__(" ".join(f"{what} has {count}: {told}.".split()))


def place(path: Path) -> str:
    """Return a path as text.

    Example:
        >>> place(("tasks", "load", "args", 0))
        'tasks.load.args[0]'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def with_lines(problems: Sequence[WorkflowProblem], lines: Mapping[Path, tuple[int, int]]) -> list[WorkflowProblem]:
    """Return problems with the line of the nearest part of their path that stands in the file."""
    told = []
    for problem in problems:
        path = problem.path
        while path and path not in lines:
            path = path[:-1]
        line, column = lines.get(path, (None, None))
        told.append(WorkflowProblem(problem.path, problem.message, line, column, problem.is_warning))
    return sorted(told, key=lambda found: (found.line or 0, found.column or 0))
