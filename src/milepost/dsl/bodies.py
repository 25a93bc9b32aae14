"""What the steps of a workflow's run do: evaluate, call functions, check guards, emit events, run children."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from milepost.clock import to_datetime
from milepost.dsl.kinds import GuardCheck
from milepost.dsl.operators import (
    BaseOperator,
    ChildWorkflowOperator,
    ConditionOperator,
    EmitEventOperator,
    ForEachOperator,
    MultiChoiceOperator,
    SwitchOperator,
    TerminateOperator,
    WhileOperator,
)
from milepost.dsl.policies import CircuitBreakerPolicy, DataGuard
from milepost.dsl.secrets import environment, secrets
from milepost.dsl.templates import TemplateFailed, evaluate, evaluate_condition, evaluate_items
from milepost.errors import NonRetryable
from milepost.runtime import StepContext
from milepost.runtime.flight import Flight
from milepost.runtime.session import RunSession
from milepost.runtime.steps import Step, as_step
from milepost.runtime.subruns import SubContext
from milepost.values import decode

__all__ = [
    "CircuitOpen",
    "GuardFailed",
    "JoinFailed",
    "TooFewBranches",
    "Work",
    "evaluating",
    "function_step",
    "giving",
]


class GuardFailed(NonRetryable):
    """A data guard of a node does not hold."""


class CircuitOpen(Exception):
    """A circuit breaker keeps the function from being called."""


class JoinFailed(NonRetryable):
    """What a join waited for did not succeed."""


class TooFewBranches(NonRetryable):
    """Fewer conditions of a multi_choice node hold than it asks for."""


class TooManyRounds(NonRetryable):
    """A while loop's condition still holds after its last round."""


@dataclass(slots=True)
class Work:
    """What one step gets: its operator, the values its templates name, and what its kind needs besides."""

    op: BaseOperator
    names: dict[str, Any]
    workflow: str
    extra: dict[str, Any] = field(default_factory=dict)


def _filled(work: Work, context: StepContext) -> dict[str, Any]:
    names = work.names
    if "run" in names:
        run = context._ledger.require_run(context.run_id)  # noqa: SLF001 - the runtime's own
        started = None if run.started_at is None else to_datetime(run.started_at)
        names["run"] = {"id": run.run_id, "status": run.status.value, "started_at": started}
    if "ENV" in names:
        names["ENV"] = environment()
    if "secrets" in names:
        names["secrets"] = secrets()
    return names


def giving(value: Any) -> Callable[..., Any]:
    """Return a body that gives a value which the plan knows already, or raises an error that it knows."""

    def give(work: Any) -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    return give


def evaluate_node(work: Work, context: StepContext) -> Any:
    """Evaluate what a condition, a switch, a loop or a choice asks for."""
    op, names = work.op, _filled(work, context)
    try:
        if isinstance(op, (ConditionOperator, WhileOperator)):
            return evaluate_condition(op.condition, names)
        if isinstance(op, SwitchOperator):
            value = str(evaluate(op.switch_on, names))
            return value if value in op.cases else None
        if isinstance(op, ForEachOperator):
            return evaluate_items(op.items, names)
        if isinstance(op, TerminateOperator):
            return evaluate(op.result, names)
        assert isinstance(op, MultiChoiceOperator)
        chosen = [name for name, branch in op.branches.items() if evaluate_condition(branch.condition, names)]
    except TemplateFailed as error:
        raise _named(error, op) from None
    if len(chosen) < op.minimum_branches:
        raise TooFewBranches(
            f"{op.task_id!r}: {len(chosen)} of its conditions hold, and {op.minimum_branches} must: {chosen}."
        )
    return chosen


def check_guards(work: Work, context: StepContext) -> None:
    """Check the guards that stand before or after a node that calls no function."""
    check(work.extra["guards"], _filled(work, context), work.op.task_id)


def emit(work: Work, context: StepContext) -> str:
    """Emit an event; the first emit of a name stands."""
    op = work.op
    assert isinstance(op, EmitEventOperator)
    names = _filled(work, context)
    name, payload = evaluate(op.event_name, names), evaluate(op.payload, names)
    context._ledger.emit_event(str(name), payload)  # noqa: SLF001 - the runtime's own
    return str(name)


class ChildContext(StepContext):
    """What a step that runs a child knows of its run."""

    def __init__(self, session: RunSession, flight: Flight) -> None:
        """Made by the driver."""
        super().__init__(session.ledger, session.run_id, session.lease_epoch, flight)
        self.place = SubContext(session, flight)


class ChildStep(Step[..., Any]):
    """A step that is a run of its own."""

    def make_context(self, session: RunSession, flight: Flight) -> ChildContext:
        """Return where the child belongs."""
        return ChildContext(session, flight)


async def run_child(work: Work, context: ChildContext) -> dict[str, Any]:
    """Run a child workflow to its end, as a run inside this one; after a crash or a failure it goes on."""
    from milepost.dsl.running import run_child_workflow  # it compiles workflows, whose bodies stand here

    op = work.op
    assert isinstance(op, ChildWorkflowOperator)
    child = op.children[work.extra["branch"]]
    inputs = evaluate(child.inputs, await _off_the_loop(work, _filled, work, context))
    result = await run_child_workflow(child.workflow_name, inputs, context.place)
    return {"status": "completed", "result": result}


def evaluating(kind: Callable[..., Any], name: str, *, pure: bool) -> Step[..., Any]:
    """Return the step for one of the bodies here."""
    return Step(kind, name=name, pure=pure)


# --- functions -----------------------------------------------------------------------------------


def function_step(name: str, fn: Callable[..., Any], timeout: float | None) -> Step[..., Any]:
    """Return the step that calls a function for an operator."""
    step = as_step(fn)

    def begin(work: Work, context: StepContext) -> tuple[list[Any], dict[str, Any], str | None, tuple[Any] | None]:
        op, names = work.op, _filled(work, context)
        check(op.preconditions, names, op.task_id)
        try:
            args = evaluate(work.extra["args"], names)
            kwargs = evaluate(work.extra["kwargs"], names)
        except TemplateFailed as error:
            raise _named(error, op) from None
        kwargs = {**kwargs, **work.extra.get("more", {})}
        if step.context_parameter is not None:
            kwargs[step.context_parameter] = context
        return args, kwargs, *_kept(work, context)

    def end(work: Work, context: StepContext, key: str | None, value: Any) -> Any:
        op = work.op
        if op.postconditions:
            own = {**work.names, "result": value, op.task_id: value}
            if op.result_key:
                own[op.result_key] = value
            check(op.postconditions, own, op.task_id)
        return _keep(key, context, value)

    if step.is_async:

        async def call_async(work: Work, context: StepContext) -> Any:
            args, kwargs, key, kept = await _off_the_loop(work, begin, work, context)
            if kept is not None:
                return kept[0]
            with _breaker(work, name):
                value = await step.fn(*args, **kwargs)
            return await _off_the_loop(work, end, work, context, key, value)

        return Step(call_async, name=name, timeout=timeout)

    def call(work: Work, context: StepContext) -> Any:
        args, kwargs, key, kept = begin(work, context)
        if kept is not None:
            return kept[0]
        with _breaker(work, name):
            value = step.fn(*args, **kwargs)
        return end(work, context, key, value)

    return Step(call, name=name, timeout=timeout)


async def _off_the_loop(work: Work, fn: Callable[..., Any], *args: Any) -> Any:
    """Call what stands before or after an async function; in a thread where it reads or writes the ledger."""
    if work.op.idempotency_key is None and "run" not in work.names:
        return fn(*args)
    return await asyncio.to_thread(fn, *args)


def _kept(work: Work, context: StepContext) -> tuple[str | None, tuple[Any] | None]:
    """Return the event under which a result is kept by its idempotency key, and the result if there is one."""
    if work.op.idempotency_key is None:
        return None, None
    key = f"idempotency:{work.workflow}:{work.op.task_id}:{evaluate(work.op.idempotency_key, work.names)}"
    if len(key) > 255 or not key.isprintable():  # no name of an event, and what is cut could be another's
        key = "idempotency:" + hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    event = context._ledger.get_event(key)  # noqa: SLF001 - the runtime's own
    return key, None if event is None else (decode(event.payload),)


def _keep(key: str | None, context: StepContext, value: Any) -> Any:
    if key is not None:
        context._ledger.emit_event(key, value)  # noqa: SLF001 - the first one stands, whoever was faster
    return value


def _named(error: TemplateFailed, op: BaseOperator) -> TemplateFailed:
    return TemplateFailed(error.text, f"node {op.task_id!r}: {error.reason}")


# --- guards --------------------------------------------------------------------------------------


def check(guards: list[DataGuard], names: Mapping[str, Any], task_id: str) -> None:
    """Check guards.

    Raises:
        GuardFailed: One does not hold.
    """
    for guard in guards:
        try:
            value, is_there = evaluate(guard.variable, names), True
        except TemplateFailed:
            value, is_there = None, False
        if not _holds(guard, value, is_there):
            told = guard.message or f"{guard.variable} is {value!r}" if is_there else f"{guard.variable} is not there"
            raise GuardFailed(
                f"Node {task_id!r}: the check {guard.check.value} does not hold: {guard.message or told}."
            )


def _holds(guard: DataGuard, value: Any, is_there: bool) -> bool:
    wanted = guard.value
    if not is_there:
        return False
    match guard.check:
        case GuardCheck.EXISTS:
            return True
        case GuardCheck.NOT_NULL:
            return value is not None
        case GuardCheck.EQUALS:
            return bool(value == wanted)
        case GuardCheck.NOT_EQUALS:
            return bool(value != wanted)
        case GuardCheck.IN_RANGE:
            return isinstance(value, (int, float)) and bool(wanted[0] <= value <= wanted[1])
        case GuardCheck.MATCHES_REGEX:
            return re.search(wanted, str(value)) is not None
        case GuardCheck.TYPE_CHECK:
            return wanted in {kind.__name__ for kind in type(value).__mro__}
        case GuardCheck.IN_SET:
            return value in wanted


# --- circuit breakers ----------------------------------------------------------------------------


class _Breaker:
    """The state of one circuit, shared by the runs of this process. A clock that never goes back tells its time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.failures = 0
        self.successes = 0
        self.opened: float | None = None


_BREAKERS: dict[tuple[str, str], _Breaker] = {}


class _breaker:  # noqa: N801 - reads as a function where it is used
    """Let a call through, or raise CircuitOpen; count how it ended."""

    def __init__(self, work: Work, name: str) -> None:
        self._policy = work.op.circuit_breaker_policy
        self._name = name
        self._key = work.workflow, name

    def __enter__(self) -> None:
        policy = self._policy
        if policy is None:
            return
        state = self._state = _BREAKERS.setdefault(self._key, _Breaker())
        with state.lock:
            if state.opened is None:
                return
            left = state.opened + policy.isolation_duration.total_seconds() - time.monotonic()
            if left > 0:
                raise CircuitOpen(
                    f"{self._name!r} failed {state.failures} times in a row: its circuit stays open for {left:.1f} s."
                )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        policy = self._policy
        if policy is None:
            return
        state = self._state
        with state.lock:
            if error is None:
                state.successes += 1
                if state.opened is None or state.successes >= policy.success_threshold:
                    state.failures, state.opened = 0, None
            elif _counts(policy, error):
                state.failures += 1
                state.successes = 0
                if state.opened is not None or state.failures >= policy.failure_threshold:
                    state.opened = time.monotonic()


def _counts(policy: CircuitBreakerPolicy, error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    if policy.ignore_exceptions is not None and names & set(policy.ignore_exceptions):
        return False
    return policy.catch_exceptions is None or bool(names & set(policy.catch_exceptions))
