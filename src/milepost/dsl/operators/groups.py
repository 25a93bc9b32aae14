"""Operators that hold workflows: parallel, multi_choice, child_workflow; and terminate, which ends one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from milepost.dsl.kinds import OperatorType
from milepost.dsl.operators.base import BaseOperator
from milepost.dsl.plain import Plain, PlainDict
from milepost.dsl.policies import Part

if TYPE_CHECKING:
    from milepost.dsl.workflow import Workflow

__all__ = [
    "Child",
    "ChildWorkflowOperator",
    "MultiChoiceBranch",
    "MultiChoiceOperator",
    "ParallelOperator",
    "TerminateOperator",
]


class ParallelOperator(BaseOperator):
    """Runs branches side by side; complete when all of them are."""

    operator_type: Literal[OperatorType.PARALLEL] = Field(OperatorType.PARALLEL, frozen=True)
    branches: dict[str, list[str]] = {}
    """The ids of each branch."""
    branch_workflows: dict[str, Workflow] = {}
    """The nodes of each branch."""
    timeout: int | None = Field(None, gt=0)
    """Seconds for all branches together."""


class MultiChoiceBranch(Part):
    """A branch that runs if its condition holds."""

    condition: str
    """A template, or a comparison of templates."""
    tasks: list[str] = []
    """The ids of the branch."""


class MultiChoiceOperator(BaseOperator):
    """Runs every branch whose condition holds."""

    operator_type: Literal[OperatorType.MULTI_CHOICE] = Field(OperatorType.MULTI_CHOICE, frozen=True)
    branches: dict[str, MultiChoiceBranch] = {}
    """The condition and the ids of each branch."""
    branch_workflows: dict[str, Workflow] = {}
    """The nodes of each branch."""
    minimum_branches: int = Field(1, ge=0)
    """With fewer true conditions the node fails."""
    timeout: int | None = Field(None, gt=0)
    """Seconds for all branches together."""


class TerminateOperator(BaseOperator):
    """Ends the run at once; what has not run is skipped."""

    operator_type: Literal[OperatorType.TERMINATE] = Field(OperatorType.TERMINATE, frozen=True)
    status: Literal["completed", "failed", "cancelled"] = "completed"
    """How the run ends."""
    result: Plain = None
    """The run's result; texts may be templates."""
    reason: str = ""
    """Why it ends."""


class Child(Part):
    """One child of a child_workflow node."""

    workflow_name: str
    """The name of a registered workflow."""
    inputs: PlainDict = {}
    """Its inputs; texts may be templates."""


class ChildWorkflowOperator(BaseOperator):
    """Runs other workflows, each as a run of its own with a parent."""

    operator_type: Literal[OperatorType.CHILD_WORKFLOW] = Field(OperatorType.CHILD_WORKFLOW, frozen=True)
    children: dict[str, Child]
    """The children by branch name."""
    timeout_seconds: float | None = Field(None, gt=0)
    """Seconds for all children together."""
