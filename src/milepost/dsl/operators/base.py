"""What all operators have in common."""

from __future__ import annotations

from pydantic import Field, field_validator

from milepost.dsl.kinds import OperatorType, TriggerRule
from milepost.dsl.names import check_id, check_result_key
from milepost.dsl.plain import PlainDict
from milepost.dsl.policies import CircuitBreakerPolicy, DataGuard, Part, RetryPolicy, TimeoutPolicy

__all__ = ["BaseOperator"]


class BaseOperator(Part):
    """A node of a workflow.

    Example:
        >>> from milepost.dsl import TaskOperator
        >>> TaskOperator(task_id="load", function="etl.load").operator_type.value
        'task'
    """

    task_id: str
    """Names the node in its workflow."""
    operator_type: OperatorType = Field(frozen=True)
    """Which operator it is."""
    dependencies: list[str] = []
    """Nodes that must have ended before."""
    trigger_rule: TriggerRule = TriggerRule.ALL_SUCCESS
    """What is asked of the dependencies."""
    retry_policy: RetryPolicy | None = None
    """None: the workflow's default."""
    timeout_policy: TimeoutPolicy | None = None
    """The limit of one attempt."""
    circuit_breaker_policy: CircuitBreakerPolicy | None = None
    """Keeps a failing function from being called."""
    idempotency_key: str | None = None
    """A template: the function is called once for each value of it, over all runs of the workflow."""
    metadata: PlainDict = {}
    """Anything of yours; nothing reads it."""
    description: str = ""
    """What it is for."""
    result_key: str | None = None
    """A further name of the result in templates."""
    on_success_task_id: str | None = None
    """The node that starts when this one has succeeded."""
    on_failure_task_id: str | None = None
    """The node that starts when this one has failed after its last retry."""
    is_internal_loop_task: bool = False
    """Read from older files, where the nodes of loops stand twice."""
    is_internal_parallel_task: bool = False
    """Read from older files."""
    preconditions: list[DataGuard] = []
    """Checked before the node starts; a failure prevents it."""
    postconditions: list[DataGuard] = []
    """Checked when it has ended; a failure fails it."""

    @field_validator("task_id")
    @classmethod
    def _check_id(cls, value: str) -> str:
        return check_id(value)

    @field_validator("result_key")
    @classmethod
    def _check_key(cls, value: str | None) -> str | None:
        return None if value is None else check_result_key(value)

    @field_validator("dependencies")
    @classmethod
    def _sorted(cls, value: list[str]) -> list[str]:
        return sorted(set(value))
