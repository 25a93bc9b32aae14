"""The workflow DSL: build a workflow or load it from YAML, check it, draw it, run it durably."""

from milepost.dsl.builder import WorkflowBuilder
from milepost.dsl.builtins import configure_builtins
from milepost.dsl.drawing import generate_dot
from milepost.dsl.functions import FunctionNotFound, allow_module, resolve_function, task_function
from milepost.dsl.inputs import InputField
from milepost.dsl.kinds import JoinMode, OperatorType, TriggerRule
from milepost.dsl.operators import (
    ActivityOperator,
    BaseOperator,
    ChildWorkflowOperator,
    ConditionOperator,
    EmitEventOperator,
    ForEachOperator,
    JoinOperator,
    MultiChoiceBranch,
    MultiChoiceOperator,
    ParallelOperator,
    ReflexiveOperator,
    SwitchOperator,
    TaskOperator,
    TerminateOperator,
    WaitForEventOperator,
    WaitOperator,
    WhileOperator,
)
from milepost.dsl.policies import CircuitBreakerPolicy, DataGuard, RetryPolicy, TimeoutPolicy
from milepost.dsl.problems import WorkflowInvalid, WorkflowProblem, WorkflowWarning
from milepost.dsl.running import RunnableWorkflow, register_workflow
from milepost.dsl.secrets import allow_environment, set_secrets
from milepost.dsl.templates import TemplateFailed
from milepost.dsl.times import Duration
from milepost.dsl.workflow import Workflow

__all__ = [
    "ActivityOperator",
    "BaseOperator",
    "ChildWorkflowOperator",
    "CircuitBreakerPolicy",
    "ConditionOperator",
    "DataGuard",
    "Duration",
    "EmitEventOperator",
    "ForEachOperator",
    "FunctionNotFound",
    "InputField",
    "JoinMode",
    "JoinOperator",
    "MultiChoiceBranch",
    "MultiChoiceOperator",
    "OperatorType",
    "ParallelOperator",
    "ReflexiveOperator",
    "RetryPolicy",
    "RunnableWorkflow",
    "SwitchOperator",
    "TaskOperator",
    "TemplateFailed",
    "TerminateOperator",
    "TimeoutPolicy",
    "TriggerRule",
    "WaitForEventOperator",
    "WaitOperator",
    "WhileOperator",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowInvalid",
    "WorkflowProblem",
    "WorkflowWarning",
    "allow_environment",
    "allow_module",
    "configure_builtins",
    "generate_dot",
    "register_workflow",
    "resolve_function",
    "set_secrets",
    "task_function",
]
