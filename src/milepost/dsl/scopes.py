"""The state of a workflow's run while it is planned: scopes, the nodes that are active in them, and pure rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from milepost.dsl import bodies
from milepost.dsl.compiling import BlockPlan, Plan
from milepost.dsl.kinds import TriggerRule
from milepost.engine import Failure
from milepost.errors import NonRetryable
from milepost.graph import Graph

__all__ = [
    "BLOCKED",
    "CHILD",
    "COMPLETED",
    "DURABLE_DELAY",
    "EMPTY",
    "EVALUATE",
    "FAILED",
    "FINAL",
    "GUARDS",
    "INSIDE",
    "PENDING",
    "RUNNING",
    "SIDE_BY_SIDE",
    "SKIPPED",
    "Activation",
    "Fail",
    "FailedBefore",
    "Pending",
    "Scope",
    "Then",
    "WorkflowCancelled",
    "WorkflowFailed",
    "is_inside",
    "judge",
    "moment_of",
    "verdict_of",
]

PENDING, RUNNING, COMPLETED, FAILED, SKIPPED, BLOCKED = range(6)
FINAL: Final = (COMPLETED, FAILED, SKIPPED, BLOCKED)
SIDE_BY_SIDE: Final = 32  # items of a parallel loop at once, where it names no limit
DURABLE_DELAY: Final = 10.0  # seconds; a retry that waits longer waits in the ledger

Then = Callable[[Any], None]
Fail = Callable[[BaseException], None]


class WorkflowFailed(NonRetryable):
    """A terminate node ended the run as failed, or its deadline passed."""


class FailedBefore(NonRetryable):
    """What a step failed with in an earlier process."""


class WorkflowCancelled(NonRetryable):
    """A terminate node or a deadline ended the run as cancelled."""


class Scope:
    """The nodes of one block while they run."""

    __slots__ = (
        "active",
        "chosen",
        "error",
        "errors",
        "holder",
        "is_draining",
        "is_over",
        "is_stopped",
        "items",
        "parent",
        "plan",
        "prefix",
        "queued",
        "states",
        "values",
    )

    def __init__(
        self, plan: BlockPlan, prefix: str, parent: Scope | None, holder: Activation | None, values: dict[str, Any]
    ) -> None:
        self.plan = plan
        self.prefix = prefix
        self.parent = parent
        self.holder = holder
        self.values = values
        self.states: dict[str, int] = dict.fromkeys(plan.plans, PENDING)
        self.items: dict[str, Any] = {}  # results by id
        self.errors: dict[str, Failure] = {}
        self.chosen: dict[str, str] = {}  # what conditions and switches chose
        self.active = 0
        self.queued = 0
        self.error: Failure | None = None
        self.is_draining = False
        self.is_stopped = False
        self.is_over = False

    @property
    def is_halted(self) -> bool:
        """Whether this scope, or one around it, starts nothing any more."""
        scope: Scope | None = self
        while scope is not None:
            if scope.is_stopped:
                return True
            scope = None if scope.holder is None else scope.holder.scope
        return False


class Activation:
    """One operator while it runs."""

    __slots__ = (
        "carry",
        "children",
        "error",
        "exports",
        "failures",
        "id",
        "index",
        "items",
        "label",
        "left",
        "op",
        "plan",
        "results",
        "scope",
        "timer",
    )

    def __init__(self, scope: Scope, name: str) -> None:
        self.scope = scope
        self.id = name
        self.plan: Plan = scope.plan.plans[name]
        self.op = self.plan.op
        self.label = scope.prefix + name
        self.failures = 0
        self.reset()

    def reset(self) -> None:
        """Forget what an attempt of the whole has come to."""
        self.children: list[Scope] = []
        self.left = 0
        self.error: Failure | None = None
        self.results: Any = None
        self.exports: dict[str, Any] = {}
        self.items: list[Any] = []
        self.index = 0
        self.carry: Scope | None = None
        self.timer: str | None = None

    @property
    def own(self) -> str:
        """The label of what it does, different for each attempt of the whole."""
        return f"{self.label}[again {self.failures}]" if self.failures else self.label


class Pending:
    """What a call is for: its arguments, and what follows."""

    __slots__ = ("arguments", "fail", "inst", "retry", "scope", "then")

    def __init__(
        self,
        scope: Scope,
        inst: Activation | None,
        arguments: Callable[[], dict[str, Any]],
        then: Then,
        fail: Fail,
        retry: Any,
    ) -> None:
        self.scope = scope
        self.inst = inst
        self.arguments = arguments
        self.then = then
        self.fail = fail
        self.retry = retry


EVALUATE: Final = bodies.evaluating(bodies.evaluate_node, "evaluate", pure=True)
GUARDS: Final = bodies.evaluating(bodies.check_guards, "guard", pure=True)
CHILD: Final = bodies.ChildStep(bodies.run_child, name="child_workflow")
INSIDE: Final = {"": Graph("child_workflow", [])}  # marks a run inside; which one is known when it begins
EMPTY: Final = BlockPlan(None, {}, [], frozenset())  # type: ignore[arg-type]


def judge(rule: TriggerRule, found: list[int], *, is_chosen: bool) -> int | None:
    """Return what becomes of a node whose dependencies stand so: running, skipped, blocked, or None for not yet."""
    if not found:
        return RUNNING
    is_over = all(state in FINAL for state in found)
    bad = any(state in (FAILED, BLOCKED) for state in found)
    if rule in (TriggerRule.ALL_SUCCESS, TriggerRule.NONE_FAILED):
        if bad:
            return BLOCKED
        if not is_over:
            return None
        is_passed_over = all(state == SKIPPED for state in found) and rule == TriggerRule.ALL_SUCCESS
        return SKIPPED if is_passed_over and not is_chosen else RUNNING
    if rule == TriggerRule.ALL_DONE:
        return RUNNING if is_over else None
    if rule == TriggerRule.ONE_DONE:
        if any(state in (COMPLETED, FAILED) for state in found):
            return RUNNING
        return (BLOCKED if bad else SKIPPED) if is_over else None
    if any(state == COMPLETED for state in found):
        return RUNNING
    return (BLOCKED if bad else SKIPPED) if is_over else None


def is_inside(scope: Scope, inst: Activation) -> bool:
    """Return whether a scope is one of a node's own, at any depth."""
    here: Scope | None = scope
    while here is not None:
        if here.holder is inst:
            return True
        here = None if here.holder is None else here.holder.scope
    return False


def verdict_of(verdict: Any) -> tuple[bool | None, Any]:
    """Return whether a verifier was content, None where it did not say, and its feedback."""
    if isinstance(verdict, bool):
        return verdict, None
    if isinstance(verdict, Mapping):
        for word in ("passed", "is_valid", "valid", "approved", "ok"):
            if isinstance(verdict.get(word), bool):
                return verdict[word], verdict.get("feedback")
    return None, None


def moment_of(wait: Any) -> Any:
    """Return what a wait waits for; a naive moment is local time."""
    return wait.astimezone() if isinstance(wait, datetime) and wait.tzinfo is None else wait
