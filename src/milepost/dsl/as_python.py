"""A workflow as Python: the models, written out."""

from __future__ import annotations

import pprint

from milepost.dsl.workflow import Workflow

__all__ = ["to_python"]


def to_python(workflow: Workflow) -> str:
    """Return a module that makes the workflow.

    Example:
        >>> from milepost.dsl import WorkflowBuilder
        >>> print(to_python(WorkflowBuilder("nightly").task("load", "etl.load").build()).splitlines()[2])
        from milepost.dsl import Workflow
    """
    data = pprint.pformat(workflow.to_dict(), width=100, sort_dicts=False)
    return (
        f'"""The workflow {workflow.name} {workflow.version}."""\n\n'
        f"from milepost.dsl import Workflow\n\nworkflow = Workflow.from_dict(\n{data}\n)\n"
    )
