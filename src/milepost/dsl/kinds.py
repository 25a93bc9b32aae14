"""The closed sets of words that a workflow file uses."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["GuardCheck", "JoinMode", "OperatorType", "TriggerRule"]


class OperatorType(StrEnum):
    """What kind of node an operator is.

    Example:
        >>> OperatorType("wait_for_event").name
        'WAIT_FOR_EVENT'
    """

    TASK = "task"
    CONDITION = "condition"
    WAIT = "wait"
    PARALLEL = "parallel"
    FOREACH = "foreach"
    SWITCH = "switch"
    TRY_CATCH = "try_catch"  # a word of the format that no operator uses
    WHILE = "while"
    EMIT_EVENT = "emit_event"
    WAIT_FOR_EVENT = "wait_for_event"
    JOIN = "join"
    ACTIVITY = "activity"
    REFLEXIVE = "reflexive"
    MULTI_CHOICE = "multi_choice"
    TERMINATE = "terminate"
    CHILD_WORKFLOW = "child_workflow"


class JoinMode(StrEnum):
    """When a join is over, and how.

    Example:
        >>> JoinMode.ONE_SUCCESS.value
        'one_success'
    """

    ALL_OF = "all_of"
    ANY_OF = "any_of"
    ALL_SUCCESS = "all_success"
    ONE_SUCCESS = "one_success"


class TriggerRule(StrEnum):
    """What a node asks of the nodes it depends on; a join says the same more clearly.

    Example:
        >>> TriggerRule.ALL_DONE.value
        'all_done'
    """

    ALL_SUCCESS = "all_success"
    ALL_DONE = "all_done"
    ONE_SUCCESS = "one_success"
    ONE_DONE = "one_done"
    NONE_FAILED = "none_failed"


class GuardCheck(StrEnum):
    """What a data guard asks of a value."""

    EXISTS = "exists"
    NOT_NULL = "not_null"
    EQUALS = "equals"
    NOT_EQUALS = "not_equals"
    IN_RANGE = "in_range"
    MATCHES_REGEX = "matches_regex"
    TYPE_CHECK = "type_check"
    IN_SET = "in_set"
