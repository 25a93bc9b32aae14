"""Operators that repeat nodes: foreach, while. Their nodes live in ``loop_body`` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from milepost.dsl.kinds import OperatorType
from milepost.dsl.operators.base import BaseOperator

if TYPE_CHECKING:
    from milepost.dsl.operators import AnyOperator

__all__ = ["ForEachOperator", "WhileOperator"]

WHILE_LIMIT = 1000  # rounds, where a loop names no limit of its own


class ForEachOperator(BaseOperator):
    """Runs its body once for each item, with ``item`` and ``index`` in scope."""

    operator_type: Literal[OperatorType.FOREACH] = Field(OperatorType.FOREACH, frozen=True)
    items: str
    """A template that gives a list, or text that is a JSON list."""
    loop_body: list[AnyOperator] = []
    """The nodes of the body: a scope of their own."""
    parallel: bool = False
    """Whether several items may run at once."""
    dynamic: bool = False
    """Whether the items are asked for again when all have run: those that were added run as well."""
    max_concurrency: int | None = Field(None, ge=1)
    """How many items may run at once where ``parallel`` is set; None: as many as the run allows."""


class WhileOperator(BaseOperator):
    """Runs its body while a condition holds, tested before each round, with ``index`` in scope."""

    operator_type: Literal[OperatorType.WHILE] = Field(OperatorType.WHILE, frozen=True)
    condition: str
    """A template, or a comparison of templates."""
    loop_body: list[AnyOperator] = []
    """The nodes of the body: a scope of their own."""
    max_iterations: int = Field(WHILE_LIMIT, ge=1)
    """After so many rounds a condition that still holds fails the node."""
