"""Operators that choose and gather: condition, switch, join."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from milepost.dsl.kinds import JoinMode, OperatorType
from milepost.dsl.operators.base import BaseOperator

__all__ = ["ConditionOperator", "JoinOperator", "SwitchOperator"]


class ConditionOperator(BaseOperator):
    """Runs one of two branches."""

    operator_type: Literal[OperatorType.CONDITION] = Field(OperatorType.CONDITION, frozen=True)
    condition: str
    """A template, or a comparison of templates."""
    if_true: str | None = None
    """The first node of the branch taken when it is true."""
    if_false: str | None = None
    """The first node of the other branch."""
    true_tasks: list[str] | None = None
    """All nodes of the first branch; None in older files, where dependencies tell."""
    false_tasks: list[str] | None = None
    """All nodes of the other branch."""


class SwitchOperator(BaseOperator):
    """Runs the node that a value names."""

    operator_type: Literal[OperatorType.SWITCH] = Field(OperatorType.SWITCH, frozen=True)
    switch_on: str
    """A template that gives the value; its text is looked up."""
    cases: dict[str, str]
    """The node for each text."""
    default: str | None = None
    """The node for any other text; None: nothing runs."""


class JoinOperator(BaseOperator):
    """Waits for several nodes."""

    operator_type: Literal[OperatorType.JOIN] = Field(OperatorType.JOIN, frozen=True)
    join_tasks: list[str]
    """The nodes it waits for."""
    join_mode: JoinMode = JoinMode.ALL_OF
    """When it is over, and how."""
