"""Operators that call functions: task, activity, reflexive."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from milepost.dsl.kinds import OperatorType
from milepost.dsl.operators.base import BaseOperator
from milepost.dsl.plain import PlainDict, PlainList

__all__ = ["ActivityOperator", "ReflexiveOperator", "TaskOperator"]


class TaskOperator(BaseOperator):
    """Calls a function by its dotted name."""

    operator_type: Literal[OperatorType.TASK] = Field(OperatorType.TASK, frozen=True)
    function: str
    """The dotted name under which the function is registered."""
    args: PlainList = []
    """Its positional arguments; texts may be templates."""
    kwargs: PlainDict = {}
    """Its keyword arguments; texts may be templates."""


class ActivityOperator(BaseOperator):
    """Calls a long function, outside any transaction of the ledger, which may send heartbeats; it is awaited."""

    operator_type: Literal[OperatorType.ACTIVITY] = Field(OperatorType.ACTIVITY, frozen=True)
    function: str
    """The dotted name under which the function is registered."""
    args: PlainList = []
    """Its positional arguments; texts may be templates."""
    kwargs: PlainDict = {}
    """Its keyword arguments; texts may be templates."""


class ReflexiveOperator(BaseOperator):
    """Generates, verifies and corrects, at most ``max_turns`` times."""

    operator_type: Literal[OperatorType.REFLEXIVE] = Field(OperatorType.REFLEXIVE, frozen=True)
    generator: str
    """The function that makes the result."""
    verifier: str
    """The function that judges it: True, False, or a mapping with ``passed`` and ``feedback``."""
    generator_kwargs: PlainDict = {}
    """Keyword arguments of the generator."""
    verifier_kwargs: PlainDict = {}
    """Keyword arguments of the verifier."""
    max_turns: int = Field(3, ge=1, le=10)
    """How often it may generate."""
    correction_prompt_template: str | None = None
    """A template over ``output``, ``feedback`` and ``turn``, given to the generator as ``correction_prompt``."""
