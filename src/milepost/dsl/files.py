"""Workflow files: loaded by path, mistakes told with the file's name."""

from __future__ import annotations

import os

from milepost.dsl.problems import WorkflowInvalid, WorkflowProblem
from milepost.dsl.reading import LARGEST
from milepost.dsl.workflow import Workflow
from milepost.errors import TargetNotFound

__all__ = ["load_workflow"]


def load_workflow(path: str, *, lenient: bool = False) -> Workflow:
    """Load a workflow from a YAML or JSON file and check it.

    Raises:
        TargetNotFound: There is no such file.
        WorkflowInvalid: All mistakes at once, each with its path and line.
    """
    try:
        if os.path.getsize(path) > 4 * LARGEST:
            message = f"it has {os.path.getsize(path):,} bytes; {LARGEST:,} characters are the limit"
            raise WorkflowInvalid(path, [WorkflowProblem((), message, 1, 1)])
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise WorkflowInvalid(path, [WorkflowProblem((), f"it is no UTF-8 text: {error}", 1, 1)]) from None
    except OSError as error:
        raise TargetNotFound(f"{path!r} cannot be read: {error.strerror}.") from None
    load = Workflow.from_json if path.endswith(".json") else Workflow.from_yaml
    try:
        return load(text, lenient=lenient)
    except WorkflowInvalid as error:
        raise WorkflowInvalid(path, error.problems) from None
