"""The operators, one small module per family, and the one union of all of them."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from milepost.dsl.operators.base import BaseOperator
from milepost.dsl.operators.groups import (
    Child,
    ChildWorkflowOperator,
    MultiChoiceBranch,
    MultiChoiceOperator,
    ParallelOperator,
    TerminateOperator,
)
from milepost.dsl.operators.loops import ForEachOperator, WhileOperator
from milepost.dsl.operators.routes import ConditionOperator, JoinOperator, SwitchOperator
from milepost.dsl.operators.waits import EmitEventOperator, WaitForEventOperator, WaitOperator
from milepost.dsl.operators.work import ActivityOperator, ReflexiveOperator, TaskOperator

__all__ = [
    "OPERATORS",
    "ActivityOperator",
    "AnyOperator",
    "BaseOperator",
    "Child",
    "ChildWorkflowOperator",
    "ConditionOperator",
    "EmitEventOperator",
    "ForEachOperator",
    "JoinOperator",
    "MultiChoiceBranch",
    "MultiChoiceOperator",
    "ParallelOperator",
    "ReflexiveOperator",
    "SwitchOperator",
    "TaskOperator",
    "TerminateOperator",
    "WaitForEventOperator",
    "WaitOperator",
    "WhileOperator",
]

AnyOperator = Annotated[
    TaskOperator
    | ActivityOperator
    | ReflexiveOperator
    | ConditionOperator
    | SwitchOperator
    | JoinOperator
    | ParallelOperator
    | MultiChoiceOperator
    | TerminateOperator
    | ChildWorkflowOperator
    | ForEachOperator
    | WhileOperator
    | WaitOperator
    | EmitEventOperator
    | WaitForEventOperator,
    Field(discriminator="operator_type"),
]

OPERATORS: Final[dict[str, type[BaseOperator]]] = {
    kind.model_fields["operator_type"].default.value: kind
    for kind in (
        TaskOperator,
        ActivityOperator,
        ReflexiveOperator,
        ConditionOperator,
        SwitchOperator,
        JoinOperator,
        ParallelOperator,
        MultiChoiceOperator,
        TerminateOperator,
        ChildWorkflowOperator,
        ForEachOperator,
        WhileOperator,
        WaitOperator,
        EmitEventOperator,
        WaitForEventOperator,
    )
}
