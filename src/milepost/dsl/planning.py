"""What runs next in a workflow's run: the engine's questions, answered for conditions, loops, joins and handlers.

Pure: no I/O, no clock, no threads. The drivers ask :class:`WorkflowExecution` as they ask the engine's own
execution. Everything that is decided by data (a condition, the items of a loop, who won a join) is itself a
recorded step, so that a run that is resumed decides the same.

Labels: ``branch nodes fan/branch/task``, iterations ``loop[3]/task``; what stands in brackets at the end,
``loop[items]``, is a part of the node before it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from milepost.dsl import bodies
from milepost.dsl.bodies import Work
from milepost.dsl.compiling import WAIT, BlockPlan, Plan, WorkflowGraph
from milepost.dsl.kinds import JoinMode, TriggerRule
from milepost.dsl.operators import (
    ActivityOperator,
    ChildWorkflowOperator,
    ConditionOperator,
    ForEachOperator,
    JoinOperator,
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
from milepost.dsl.structure import Route
from milepost.dsl.templates import TemplateFailed, evaluate
from milepost.engine import Call, Failure, MapMark
from milepost.engine.retry import next_delay
from milepost.errors import ConfigurationError, NonRetryable, StepTimedOut
from milepost.graph import Node
from milepost.runtime.steps import Step

__all__ = ["WorkflowExecution", "WorkflowFailed"]

_PENDING, _RUNNING, _COMPLETED, _FAILED, _SKIPPED, _BLOCKED = range(6)
_FINAL: Final = (_COMPLETED, _FAILED, _SKIPPED, _BLOCKED)
_SIDE_BY_SIDE: Final = 32  # items of a parallel loop at once, where it names no limit
_DURABLE_DELAY: Final = 10.0  # seconds; a retry that waits longer waits in the ledger

Then = Callable[[Any], None]
Fail = Callable[[BaseException], None]


class WorkflowFailed(NonRetryable):
    """A terminate node ended the run as failed, or its deadline passed."""


class FailedBefore(NonRetryable):
    """What a step failed with in an earlier process."""


class WorkflowCancelled(NonRetryable):
    """A terminate node or a deadline ended the run as cancelled."""


class _Scope:
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
        self, plan: BlockPlan, prefix: str, parent: _Scope | None, holder: _Inst | None, values: dict[str, Any]
    ) -> None:
        self.plan = plan
        self.prefix = prefix
        self.parent = parent
        self.holder = holder
        self.values = values
        self.states: dict[str, int] = dict.fromkeys(plan.plans, _PENDING)
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
        scope: _Scope | None = self
        while scope is not None:
            if scope.is_stopped:
                return True
            scope = None if scope.holder is None else scope.holder.scope
        return False


class _Inst:
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

    def __init__(self, scope: _Scope, name: str) -> None:
        self.scope = scope
        self.id = name
        self.plan: Plan = scope.plan.plans[name]
        self.op = self.plan.op
        self.label = scope.prefix + name
        self.failures = 0
        self.reset()

    def reset(self) -> None:
        self.children: list[_Scope] = []
        self.left = 0
        self.error: Failure | None = None
        self.results: Any = None
        self.exports: dict[str, Any] = {}
        self.items: list[Any] = []
        self.index = 0
        self.carry: _Scope | None = None
        self.timer: str | None = None

    @property
    def own(self) -> str:
        """The label of what it does, different for each attempt of the whole."""
        return f"{self.label}[again {self.failures}]" if self.failures else self.label


class _Pending:
    """What a call is for: its arguments, and what follows."""

    __slots__ = ("arguments", "fail", "inst", "node", "retry", "scope", "then")

    def __init__(
        self,
        scope: _Scope,
        inst: _Inst | None,
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


class WorkflowExecution:
    """The progress of one run of a workflow.

    Args:
        graph: The compiled workflow.
        inputs: The run's inputs.
        history: What an earlier process recorded: ``recorded`` values by label, ``lost`` failures by label.
        run_id: The run.
    """

    def __init__(self, graph: WorkflowGraph, inputs: Mapping[str, Any], history: Any, run_id: str) -> None:
        """Find what can run first."""
        self.graph = graph
        self.failure: Failure | None = None
        self.is_halted = False
        self.running = 0
        self.marks: list[MapMark] = []
        self.results: dict[int, Any] = {}
        self.dropped: list[Call] = []
        self.is_done = False
        self._wants_done = False
        self._inputs = dict(inputs)
        self._run_id = run_id
        self._recorded: dict[str, Any] = dict(getattr(history, "recorded", {}))
        self._lost: dict[str, str] = dict(getattr(history, "lost", {}))
        self._tries: dict[str, tuple[int, int]] = dict(getattr(history, "tries", {}))
        self._ready: deque[Call] = deque()
        self._delayed: list[tuple[float, int, Call]] = []
        self._flying: dict[str, Call] = {}  # waits that are registered
        self._tick = 0
        self._events: deque[Callable[[], None]] = deque()
        self._workflow = graph.workflow
        self._top = _Scope(graph.plan, "", None, None, dict(graph.plan.variables))
        self._begin_scope(self._top)
        if self._workflow.deadline_seconds is not None:
            self._begin_deadline(self._workflow.deadline_seconds)
        self._pump()

    # --- asked by the drivers ----------------------------------------------------------------

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do or to wait for."""
        return self.is_completed or (self.is_halted and self.running == 0)

    @property
    def is_completed(self) -> bool:
        """Whether the workflow has come to a good end."""
        return self.is_done or (self._wants_done and self.running == 0)

    @property
    def has_ready(self) -> bool:
        """Whether :meth:`next_call` hands something out."""
        return not self.is_halted and bool(self._ready)

    def next_call(self) -> Call | None:
        """Hand out the next call, or None when nothing can start now."""
        if self.is_halted or not self._ready:
            return None
        call = self._ready.popleft()
        self.running += 1
        if call.node.wait is not None:
            self._flying[call.label] = call
        return call

    def next_due(self) -> float | None:
        """Return when the earliest delayed retry is due."""
        return self._delayed[0][0] if self._delayed and not self.is_halted else None

    def wake(self, now: float) -> None:
        """Make every retry ready whose time has come."""
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(heapq.heappop(self._delayed)[2])

    def arguments(self, call: Call) -> dict[str, Any]:
        """Return the keyword arguments of a call."""
        pending: _Pending = call.element
        return pending.arguments()

    def succeeded(self, call: Call, value: Any) -> None:
        """Take in a result and make ready what waited for it."""
        self.running -= 1
        self._flying.pop(call.label, None)
        pending: _Pending = call.element
        self._events.append(lambda: pending.then(value))
        self._pump()

    def failed(self, call: Call, error: BaseException, *, final: bool, now: float, draw: float) -> float | None:
        """Take in a failure: schedule the next attempt, or let it stand; as the engine's own execution does."""
        self.running -= 1
        self._flying.pop(call.label, None)
        pending: _Pending = call.element
        delay = None
        if not final and not self.is_halted and not pending.scope.is_halted:
            delay = next_delay(pending.retry, call.failures + 1, error, draw)
        if delay is None:
            self._events.append(lambda: pending.fail(error))
            self._pump()
            return None
        call.attempt += 1
        call.failures += 1
        if delay >= _DURABLE_DELAY:
            self._wait_to_retry(call, delay)
        elif delay > 0:
            self._tick += 1
            heapq.heappush(self._delayed, (now + delay, self._tick, call))
        else:
            self._ready.append(call)
        return delay

    def abandoned(self, call: Call) -> None:
        """Take in that nobody waits for this call any more."""
        self.running -= 1
        self._flying.pop(call.label, None)

    def halt(self) -> None:
        """Hand out nothing new from now on."""
        self.is_halted = True

    # --- the loop ----------------------------------------------------------------------------

    def _pump(self) -> None:
        while self._events:
            self._events.popleft()()

    def _later(self, event: Callable[[], None]) -> None:
        self._events.append(event)

    # --- calls -------------------------------------------------------------------------------

    def _emit(
        self,
        scope: _Scope,
        inst: _Inst | None,
        label: str,
        node: Node,
        arguments: Callable[[], dict[str, Any]],
        then: Then,
        fail: Fail,
        retry: Any = None,
    ) -> None:
        if self.is_halted:
            return
        if label in self._recorded:
            value = self._recorded.pop(label)
            self._later(lambda: then(value))
            return
        tries = self._tries.get(label, (0, 0))
        if label in self._lost and (retry is None or tries[1] > retry.max_retries):
            error = FailedBefore(self._lost.pop(label))
            self._later(lambda: fail(error))
            return
        pending = _Pending(scope, inst, arguments, then, fail, retry)
        call = Call(node, label, tries, None, 0, pending)
        if tries[1] and retry is not None:
            delay = _delay_of(retry, tries[1])
            if delay >= _DURABLE_DELAY:
                self._wait_to_retry(call, delay)
                return
        self._ready.append(call)

    def _wait_to_retry(self, call: Call, delay: float) -> None:
        pending: _Pending = call.element
        node = self._aux(call.node, WAIT, wait="sleep")
        label = f"{call.label}[retry {call.failures}]"

        def again(_: Any) -> None:
            if not self.is_halted and not pending.scope.is_halted:
                self._ready.append(call)
            else:
                pending.fail(NonRetryable("the run goes another way"))

        self._emit(pending.scope, pending.inst, label, node, lambda: {"duration": delay}, again, pending.fail)

    @staticmethod
    def _aux(like: Node, step: Step[..., Any], *, wait: str | None = None, pure: bool = False) -> Node:
        node = Node(like.label, step, wait=wait, pure=pure)
        node.index = like.index
        return node

    def _work(
        self, inst: _Inst, scope: _Scope | None = None, more: Mapping[str, Any] | None = None, **extra: Any
    ) -> dict[str, Any]:
        names = self._names(inst.plan.names, scope or inst.scope)
        if more:
            names.update(more)
        return {"work": Work(inst.op, names, self._workflow.name, extra)}

    def _names(self, wanted: frozenset[str], scope: _Scope) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in wanted:
            if name == "inputs":
                found[name] = self._inputs
            elif name == "ds":
                found[name] = self._inputs.get("data_interval_start")
            elif name in ("ENV", "secrets"):
                found[name] = {}  # filled where the step begins
            elif name == "run":
                found[name] = {"id": self._run_id}
            elif name == "workflow":
                own = self._workflow
                found[name] = {**own.variables, "name": own.name, "version": own.version}
            else:
                here: _Scope | None = scope
                while here is not None:
                    if name in here.values:
                        found[name] = here.values[name]
                        break
                    here = here.parent
        return found

    # --- scopes ------------------------------------------------------------------------------

    def _begin_scope(self, scope: _Scope) -> None:
        for name in scope.plan.plans:
            block = scope.plan.block
            if not block.needs[name] and not block.gates[name] and not block.routes[name]:
                self._consider(scope, name)
        self._later(lambda: self._look(scope))

    def _consider(self, scope: _Scope, name: str) -> None:
        scope.queued += 1
        self._later(lambda: self._decide(scope, name))

    def _look(self, scope: _Scope) -> None:
        """End a scope in which nothing runs and nothing can start."""
        if scope.is_over or scope.active or scope.queued:
            return
        scope.is_over = True
        if scope.holder is not None:
            self._inner_over(scope.holder, scope)
            return
        if self.is_halted:
            return
        if scope.error is not None:
            self.failure = scope.error
            self._end_all()
            return
        self.results = {
            scope.plan.plans[s].node.index: self._plain(scope, s)
            for s in scope.plan.sinks
            if scope.states[s] == _COMPLETED
        }
        self.is_done = True
        self._drop(lambda _: True)

    def _plain(self, scope: _Scope, name: str) -> Any:
        return scope.items.get(name)

    def _end_all(self) -> None:
        self.is_halted = True
        self._ready.clear()
        self._delayed.clear()
        self._drop(lambda _: True)

    def _drop(self, which: Callable[[_Pending], bool]) -> list[_Pending]:
        """Let go of waits that nobody needs any more, and of calls that have not begun."""
        gone = []
        for label, call in list(self._flying.items()):
            if which(call.element):
                del self._flying[label]
                self.running -= 1
                self.dropped.append(call)
                gone.append(call.element)
        for queue in (self._ready,):
            for call in list(queue):
                if which(call.element):
                    queue.remove(call)
                    gone.append(call.element)
        kept = [entry for entry in self._delayed if not which(entry[2].element)]
        gone += [entry[2].element for entry in self._delayed if which(entry[2].element)]
        if len(kept) < len(self._delayed):
            self._delayed = kept
            heapq.heapify(self._delayed)
        return gone

    # --- deciding ----------------------------------------------------------------------------

    def _decide(self, scope: _Scope, name: str) -> None:
        scope.queued -= 1
        if scope.states[name] == _PENDING and not self.is_halted and not scope.is_halted:
            self._decide_pending(scope, name)
        self._later(lambda: self._look(scope))

    def _decide_pending(self, scope: _Scope, name: str) -> None:
        block, states = scope.plan.block, scope.states
        for gate in block.gates[name]:
            state = states[gate.source]
            if state not in _FINAL:
                return
            if state != _COMPLETED or scope.chosen.get(gate.source) != gate.key:
                self._pass_over(scope, name, _SKIPPED)
                return
        routes = block.routes[name]
        is_chosen = bool(block.gates[name])
        if routes:
            called = [route for route in routes if self._calls(scope, route)]
            if not called:
                if all(states[route.source] in _FINAL for route in routes):
                    self._pass_over(scope, name, _SKIPPED)
                return
            is_chosen = True
            if any(route.key in ("success", "failure") for route in called):
                self._tell_failure(scope, called)
                self._start(scope, name)
                return
        if scope.is_draining and name not in scope.plan.cleanup:
            return
        op = scope.plan.plans[name].op
        needs = block.needs[name]
        found = [states[other] for other in needs]
        if isinstance(op, JoinOperator):
            self._decide_join(scope, name, op, found)
            return
        verdict = _judge(op.trigger_rule, found, is_chosen=is_chosen)
        if verdict == _RUNNING:
            self._start(scope, name)
        elif verdict is not None:
            self._pass_over(scope, name, verdict)

    def _calls(self, scope: _Scope, route: Route) -> bool:
        state = scope.states[route.source]
        if route.key == "success":
            return state == _COMPLETED
        if route.key == "failure":
            return state == _FAILED
        return state == _COMPLETED and scope.chosen.get(route.source) == route.key

    def _tell_failure(self, scope: _Scope, routes: list[Route]) -> None:
        for route in routes:
            failure = scope.errors.get(route.source)
            if route.key == "failure" and failure is not None:
                scope.values["failed_task_id"] = route.source
                scope.values["error_message"] = str(failure.error)

    def _decide_join(self, scope: _Scope, name: str, op: JoinOperator, found: list[int]) -> None:
        block = scope.plan.block
        pairs = list(zip(block.needs[name], found, strict=True))
        done = [other for other, state in pairs if state == _COMPLETED]
        bad = [other for other, state in pairs if state in (_FAILED, _BLOCKED)]
        is_over = all(state in _FINAL for state in found)
        mode = op.join_mode
        if pairs and is_over and not done and not bad:
            self._pass_over(scope, name, _SKIPPED)
            return
        decider: str | None = None
        error: BaseException | None = None
        if mode == JoinMode.ALL_OF:
            if not is_over:
                return
        elif mode == JoinMode.ANY_OF:
            first = next((other for other in scope.items if other in done), None) or next(iter(bad), None)
            if pairs and first is None:
                return
            decider = first
            if first in bad:
                error = bodies.JoinFailed(f"Join {name!r}: {first!r} was the first to end, and failed.")
        elif mode == JoinMode.ALL_SUCCESS:
            if bad:
                error = bodies.JoinFailed(f"Join {name!r} needs all to succeed: {', '.join(map(repr, bad))} did not.")
            elif not is_over:
                return
        elif done:
            decider = next(other for other in scope.items if other in done)
        elif is_over and pairs:
            error = bodies.JoinFailed(
                f"Join {name!r} needs one to succeed, and all failed: {', '.join(map(repr, bad))}."
            )
        elif pairs:
            return
        if error is not None:
            value: Any = error
        elif decider is not None:
            value = {"decided_by": decider, "value": scope.items.get(decider)}
        else:
            value = {"decided_by": None, "value": {other: scope.items[other] for other in done}}
        self._begin(scope, name, value)

    def _pass_over(self, scope: _Scope, name: str, state: int) -> None:
        scope.states[name] = state
        if state == _BLOCKED:
            lost = [scope.errors[o] for o in scope.plan.block.needs[name] if o in scope.errors]
            if lost and scope.error is None:
                scope.error = lost[0]  # what it could have tolerated left it nothing to go on with
                scope.is_draining = True
        self._tell(scope, name)

    def _tell(self, scope: _Scope, name: str) -> None:
        """Look again at everybody whom the end of a node concerns."""
        block = scope.plan.block
        for other in block.dependants[name]:
            self._consider(scope, other)
        for other in self._followers(scope.plan).get(name, ()):
            self._consider(scope, other)
        self._later(lambda: self._look(scope))

    def _followers(self, plan: BlockPlan) -> dict[str, list[str]]:
        key = id(plan)
        found = _FOLLOWERS.get(key)
        if found is None or found[0] is not plan:
            followers: dict[str, list[str]] = {}
            for name in plan.plans:
                for route in (*plan.block.gates[name], *plan.block.routes[name]):
                    followers.setdefault(route.source, []).append(name)
            if len(_FOLLOWERS) > 1000:
                _FOLLOWERS.clear()
            found = _FOLLOWERS[key] = (plan, followers)
        return found[1]

    # --- running one node --------------------------------------------------------------------

    def _start(self, scope: _Scope, name: str) -> None:
        self._begin(scope, name, None)

    def _begin(self, scope: _Scope, name: str, value: Any) -> None:
        scope.states[name] = _RUNNING
        scope.active += 1
        inst = _Inst(scope, name)
        op = inst.op
        calls = isinstance(op, (TaskOperator, ActivityOperator))
        if op.preconditions and not calls:
            node = inst.plan.aux(_GUARDS, pure=True)
            self._emit(
                scope, inst, f"{inst.label}[guard]", node,
                lambda: self._work(inst, guards=op.preconditions),
                lambda _: self._run(inst, value), lambda error: self._fail(inst, error),
            )  # fmt: skip
            return
        self._run(inst, value)

    def _run(self, inst: _Inst, value: Any) -> None:
        op, scope = inst.op, inst.scope

        def fail(error: BaseException) -> None:
            self._fail_whole(inst, Failure(inst.label, error))

        node = inst.plan.node
        if isinstance(op, (TaskOperator, ActivityOperator)):
            self._emit(
                scope, inst, inst.label, node,
                lambda: self._work(inst, args=op.args, kwargs=op.kwargs),
                lambda result: self._complete(inst, result), lambda error: self._fail(inst, error), inst.plan.retry,
            )  # fmt: skip
        elif isinstance(op, WaitOperator):
            self._emit(
                scope,
                inst,
                inst.label,
                node,
                lambda: {"duration": _moment(op.wait_for)},
                lambda _: self._complete(inst, None),
                fail,
            )
        elif isinstance(op, WaitForEventOperator):
            self._emit(
                scope, inst, inst.label, node,
                lambda: {"event": self._text(inst, op.event_name), "timeout": op.timeout_seconds},
                lambda payload: self._complete(inst, {"payload": payload}), fail,
            )  # fmt: skip
        elif isinstance(op, JoinOperator):
            body = Step(bodies.giving(value), name="join")
            self._emit(
                scope,
                inst,
                inst.label,
                inst.plan.aux(body),
                lambda: {"work": None},
                lambda won: self._complete(inst, won),
                fail,
            )
        elif isinstance(
            op,
            (
                ParallelOperator,
                MultiChoiceOperator,
                ForEachOperator,
                WhileOperator,
                ReflexiveOperator,
                ChildWorkflowOperator,
            ),
        ):
            self._run_whole(inst)
        else:
            self._emit(
                scope,
                inst,
                inst.label,
                node,
                lambda: self._work(inst),
                lambda result: self._complete(inst, result),
                fail,
                inst.plan.retry,
            )

    def _text(self, inst: _Inst, template: str) -> str:
        try:
            return str(evaluate(template, self._names(inst.plan.names, inst.scope)))
        except TemplateFailed as error:
            raise ConfigurationError(f"Node {inst.id!r}: {error}") from error

    def _complete(self, inst: _Inst, value: Any) -> None:
        op = inst.op
        if op.postconditions and not isinstance(op, (TaskOperator, ActivityOperator)):
            node = inst.plan.aux(_GUARDS, pure=True)
            own = {"result": value, op.task_id: value, **({op.result_key: value} if op.result_key else {})}
            self._emit(
                inst.scope, inst, f"{inst.label}[check]", node,
                lambda: self._work(inst, more=own, guards=op.postconditions),
                lambda _: self._completed(inst, value), lambda error: self._fail(inst, error),
            )  # fmt: skip
            return
        self._completed(inst, value)

    def _completed(self, inst: _Inst, value: Any) -> None:
        scope, op = inst.scope, inst.op
        if isinstance(op, ConditionOperator):
            scope.chosen[inst.id] = "true" if value else "false"
        elif isinstance(op, SwitchOperator):
            scope.chosen[inst.id] = "default" if value is None else f"={value}"
        elif isinstance(op, JoinOperator):
            decider = value["decided_by"]
            value = value["value"]
            key = None if decider is None else scope.plan.plans[decider].op.result_key
            if key is not None:
                scope.values[key] = value
        elif isinstance(op, TerminateOperator):
            self._terminate(inst, op, value)
            return
        scope.states[inst.id] = _COMPLETED
        scope.items[inst.id] = value
        scope.values.update(inst.exports)
        scope.values[inst.id] = value
        if op.result_key is not None:
            scope.values[op.result_key] = value
        scope.active -= 1
        self._tell(scope, inst.id)

    def _terminate(self, inst: _Inst, op: TerminateOperator, value: Any) -> None:
        told = op.reason or f"ended by {inst.label!r}"
        if op.status == "completed":
            self.results = {inst.plan.node.index: value}
            self.is_halted = True
            self._end_all()
            self._wants_done = True
        else:
            is_cancel = op.status == "cancelled"
            error = (WorkflowCancelled if is_cancel else WorkflowFailed)(told)
            self.failure = Failure(inst.label, error, is_cancel=is_cancel)
            self._end_all()

    def _fail(self, inst: _Inst, error: BaseException) -> None:
        self._failed_node(inst, Failure(inst.label, error))

    def _failed_node(self, inst: _Inst, failure: Failure) -> None:
        scope = inst.scope
        scope.states[inst.id] = _FAILED
        scope.errors[inst.id] = failure
        scope.active -= 1
        if not scope.plan.block.tolerates(inst.id) and scope.error is None:
            scope.error = failure
            scope.is_draining = True
        self._tell(scope, inst.id)

    # --- nodes that hold others --------------------------------------------------------------

    def _run_whole(self, inst: _Inst) -> None:
        op = inst.op
        seconds = op.timeout_policy.timeout.total_seconds() if op.timeout_policy is not None else None
        own = getattr(op, "timeout", None) or getattr(op, "timeout_seconds", None)
        limit = min((s for s in (seconds, own) if s is not None), default=None)
        if limit is not None and not isinstance(op, ReflexiveOperator):
            self._begin_timer(inst, float(limit))
        if isinstance(op, ParallelOperator):
            self._begin_branches(inst, [name for name, _ in inst.plan.inner])
        elif isinstance(op, MultiChoiceOperator):
            self._ask(inst, f"{inst.own}[choice]", lambda chosen: self._begin_branches(inst, chosen))
        elif isinstance(op, ForEachOperator):
            self._ask(inst, f"{inst.own}[items]", lambda items: self._begin_items(inst, list(items)))
        elif isinstance(op, WhileOperator):
            self._next_round(inst)
        elif isinstance(op, ReflexiveOperator):
            inst.results = {"output": None, "feedback": None, "prompt": None}
            self._next_turn(inst)
        else:
            self._begin_children(inst)

    def _ask(self, inst: _Inst, label: str, then: Then, scope: _Scope | None = None, **more: Any) -> None:
        node = inst.plan.aux(_EVALUATE, pure=True)

        def fail(error: BaseException) -> None:
            self._fail_whole(inst, Failure(inst.label, error))

        self._emit(inst.scope, inst, label, node, lambda: self._work(inst, scope, more=more), then, fail)

    def _begin_timer(self, inst: _Inst, seconds: float) -> None:
        label = inst.timer = f"{inst.own}[timeout]"
        node = inst.plan.aux(WAIT, wait="sleep")

        def over(_: Any) -> None:
            if inst.timer == label and inst.scope.states[inst.id] == _RUNNING and inst.error is None:
                inst.timer = None
                self._fail_whole(inst, Failure(inst.label, StepTimedOut(inst.label, seconds)))

        self._emit(inst.scope, None, label, node, lambda: {"duration": seconds}, over, lambda _: None)

    def _stop_timer(self, inst: _Inst) -> None:
        label, inst.timer = inst.timer, None
        if label is None:
            return
        self._recorded.pop(label, None)
        call = self._flying.pop(label, None)
        if call is not None:
            self.running -= 1
            self.dropped.append(call)
        else:
            self._ready = deque(call for call in self._ready if call.label != label)

    def _begin_branches(self, inst: _Inst, names: list[str]) -> None:
        inst.results = dict.fromkeys(names)
        inner = dict(inst.plan.inner)
        for name in names:
            plan = inner[name]
            first = next(iter(plan.plans.values()), None)
            part = "" if first is None else first.node.label.removeprefix(inst.plan.node.label).rpartition("/")[0]
            prefix = f"{inst.own}{part}/"
            self._open(inst, _Scope(plan, prefix, inst.scope, inst, dict(plan.variables)))
        if not names:
            self._close(inst, {})

    def _open(self, inst: _Inst, child: _Scope) -> None:
        inst.children.append(child)
        inst.left += 1
        self._begin_scope(child)

    def _begin_items(self, inst: _Inst, items: list[Any]) -> None:
        op = inst.op
        assert isinstance(op, ForEachOperator)
        begun = len(inst.items)
        if inst.results is None:
            inst.results = []
        if len(items) <= begun:
            self._close(inst, inst.results)
            return
        inst.items = items
        inst.results += [None] * (len(items) - begun)
        many = (op.max_concurrency or _SIDE_BY_SIDE) if op.parallel else 1
        for _ in range(many):
            self._next_item(inst)

    def _next_item(self, inst: _Inst) -> None:
        if inst.index >= len(inst.items) or inst.error is not None:
            return
        i = inst.index
        inst.index += 1
        values = {"item": inst.items[i], "index": i}
        self._open(inst, _Scope(inst.plan.inner[0][1], f"{inst.own}[{i}]/", inst.scope, inst, values))

    def _next_round(self, inst: _Inst) -> None:
        op = inst.op
        assert isinstance(op, WhileOperator)
        if inst.carry is None:
            inst.carry = _Scope(_EMPTY, "", inst.scope, None, {"index": 0})
        carry = inst.carry
        i = inst.index
        carry.values["index"] = i

        def go(holds: Any) -> None:
            if not holds:
                keys = {body.result_key for body in op.loop_body if body.result_key is not None}
                inst.exports = {key: carry.values[key] for key in keys if key in carry.values}
                self._close(inst, i)
            elif i >= op.max_iterations:
                told = f"Node {inst.id!r}: its condition still holds after {op.max_iterations} rounds (max_iterations)."
                self._fail_whole(inst, Failure(inst.label, bodies.TooManyRounds(told)))
            else:
                inst.index += 1
                self._open(inst, _Scope(inst.plan.inner[0][1], f"{inst.own}[{i}]/", carry, inst, {"index": i}))

        self._ask(inst, f"{inst.own}[{i}][condition]", go, carry)

    def _next_turn(self, inst: _Inst) -> None:
        op = inst.op
        assert isinstance(op, ReflexiveOperator)
        turn = inst.index = inst.index + 1
        state = inst.results

        def fail(error: BaseException) -> None:
            self._fail_whole(inst, Failure(inst.label, error))

        def call(
            part: str, kwargs: dict[str, Any], more: Callable[[], dict[str, Any]], names: dict[str, Any], then: Then
        ) -> None:
            def arguments() -> dict[str, Any]:
                found = self._work(inst, more=names, args=[], kwargs=kwargs, more_=None)
                found["work"].extra.pop("more_")
                found["work"].extra["more"] = more()
                return found

            node = inst.plan.aux(inst.plan.steps[part])
            self._emit(
                inst.scope, inst, f"{inst.own}[turn {turn}][{part}]", node, arguments, then, fail, inst.plan.retry
            )

        def generated(output: Any) -> None:
            state["output"] = output
            names = {"output": output, "turn": turn, "result": output}
            call(
                "verify",
                op.verifier_kwargs,
                lambda: {"output": output},
                names,
                lambda verdict: verified(output, verdict),
            )

        def verified(output: Any, verdict: Any) -> None:
            has_passed, feedback = _verdict(verdict)
            if has_passed is None:
                told = (
                    f"Node {inst.id!r}: the verifier must return True, False, or a mapping with 'passed' and "
                    f"'feedback', not {verdict!r}."
                )
                fail(NonRetryable(told))
            elif has_passed:
                self._close(inst, output)
            elif turn >= op.max_turns:
                fail(NonRetryable(f"Node {inst.id!r}: nothing passed the verifier in {turn} turns: {feedback!r}."))
            else:
                state["feedback"] = feedback
                self._next_turn(inst)

        def corrections() -> dict[str, Any]:
            if turn == 1:
                return {}
            if op.correction_prompt_template is None:
                return {"feedback": state["feedback"], "previous": state["output"]}
            names = {"output": state["output"], "feedback": state["feedback"], "turn": turn}
            prompt = evaluate(op.correction_prompt_template, {**self._names(inst.plan.names, inst.scope), **names})
            return {"correction_prompt": prompt}

        call("generate", op.generator_kwargs, corrections, {}, generated)

    def _begin_children(self, inst: _Inst) -> None:
        op = inst.op
        assert isinstance(op, ChildWorkflowOperator)
        inst.results = {}
        inst.left = len(op.children)
        for branch in op.children:
            self._begin_child(inst, branch)
        if not op.children:
            self._close(inst, {})

    def _begin_child(self, inst: _Inst, branch: str) -> None:
        def done(result: Any) -> None:
            inst.results[branch] = result
            inst.left -= 1
            if inst.left == 0 and inst.error is None:
                bad = [name for name, found in inst.results.items() if found["status"] != "completed"]
                if bad:
                    child = inst.results[bad[0]]
                    told = f"Node {inst.id!r}: the child {bad[0]!r} {child['status']}: {child.get('error')}"
                    self._fail_whole(inst, Failure(inst.label, NonRetryable(told)))
                else:
                    self._close(inst, {name: inst.results[name] for name in inst.op.children})  # type: ignore[attr-defined]

        def fail(error: BaseException) -> None:
            inst.left -= 1
            self._fail_whole(inst, Failure(inst.label, error))

        node = inst.plan.aux(_CHILD)
        self._emit(inst.scope, inst, f"{inst.own}[{branch}]", node, lambda: self._work(inst, branch=branch), done, fail)

    def _inner_over(self, inst: _Inst, child: _Scope) -> None:
        """Take in that a scope inside a node has ended."""
        inst.children.remove(child)
        inst.left -= 1
        if child.error is not None and inst.error is None and not child.is_stopped:
            self._fail_whole(inst, child.error)
            return
        if inst.error is not None:
            self._end_failed(inst)
            return
        if self.is_halted or inst.scope.is_halted:
            if inst.left == 0:
                self._give_up(inst)
            return
        op = inst.op
        result = self._result_of(child)
        if isinstance(op, (ParallelOperator, MultiChoiceOperator)):
            name = next(name for name, plan in inst.plan.inner if plan is child.plan)
            inst.results[name] = result
            inst.exports.update(child.values)
            for variable in child.plan.variables:
                inst.exports.pop(variable, None)
            if inst.left == 0:
                self._close(inst, inst.results)
        elif isinstance(op, ForEachOperator):
            inst.results[child.values["index"]] = result
            if inst.index < len(inst.items):
                self._next_item(inst)
            elif inst.left == 0:
                if op.dynamic:
                    count = len(inst.items)
                    self._ask(inst, f"{inst.own}[items {count}]", lambda items: self._begin_items(inst, list(items)))
                else:
                    self._close(inst, inst.results)
        else:
            assert inst.carry is not None
            inst.carry.values.update(child.values)
            self._next_round(inst)

    def _result_of(self, scope: _Scope) -> Any:
        done = {name: scope.items[name] for name in scope.plan.sinks if scope.states[name] == _COMPLETED}
        return next(iter(done.values())) if len(done) == 1 else (done or None)

    def _close(self, inst: _Inst, value: Any) -> None:
        """Record the end of a node that holds others."""
        self._stop_timer(inst)
        if self.is_halted or inst.scope.is_halted:
            self._give_up(inst)
            return
        body = Step(bodies.giving(value), name=inst.op.operator_type.value, pure=True)
        node = inst.plan.aux(body, pure=True)
        self._emit(
            inst.scope, inst, inst.label, node, lambda: {"work": None},
            lambda result: self._complete(inst, result), lambda error: self._fail(inst, error),
        )  # fmt: skip

    def _fail_whole(self, inst: _Inst, failure: Failure) -> None:
        """Let a node that holds others fail once what runs in it has ended."""
        if inst.error is None:
            inst.error = failure
            for child in inst.children:
                child.is_stopped = True
            mine = inst
            for pending in self._drop(lambda pending: _is_inside(pending.scope, mine)):
                if pending.inst is not None:
                    self._give_up(pending.inst)
            for child in list(inst.children):
                self._later(lambda child=child: self._look(child))  # type: ignore[misc]
        self._later(lambda: self._end_failed(inst))

    def _end_failed(self, inst: _Inst) -> None:
        if inst.children or inst.error is None or inst.scope.states[inst.id] != _RUNNING:
            return
        failure = inst.error
        self._stop_timer(inst)
        if self.is_halted or inst.scope.is_halted:
            self._give_up(inst)
            return
        policy = inst.plan.retry
        delay = None if policy is None else next_delay(policy, inst.failures + 1, failure.error, 0.0)
        if delay is None or isinstance(failure.error, NonRetryable):
            self._failed_node(inst, failure)
            return
        inst.failures += 1
        count = inst.failures
        inst.reset()
        node = inst.plan.aux(WAIT, wait="sleep")
        self._emit(
            inst.scope, inst, f"{inst.label}[retry {count}]", node, lambda: {"duration": delay},
            lambda _: self._run_whole(inst), lambda error: self._fail(inst, error),
        )  # fmt: skip

    def _give_up(self, inst: _Inst) -> None:
        """Let go of a node in a scope that starts nothing any more."""
        scope = inst.scope
        if scope.states[inst.id] == _RUNNING:
            scope.states[inst.id] = _SKIPPED
            scope.active -= 1
            self._later(lambda: self._look(scope))

    # --- the deadline ------------------------------------------------------------------------

    def _begin_deadline(self, seconds: float) -> None:
        first = next(iter(self.graph.plan.plans.values()), None)
        if first is None:
            return
        node = first.aux(WAIT, wait="sleep")

        def over(_: Any) -> None:
            if self.is_done or self.is_halted:
                return
            is_cancel = self._workflow.deadline_action == "cancel"
            told = f"the deadline of {seconds:g} s has passed"
            error = (WorkflowCancelled if is_cancel else WorkflowFailed)(told)
            self.failure = Failure("[deadline]", error, is_cancel=is_cancel)
            self._end_all()

        self._emit(self._top, None, "[deadline]", node, lambda: {"duration": seconds}, over, lambda _: None)


_EVALUATE: Final = bodies.evaluating(bodies.evaluate_node, "evaluate", pure=True)
_GUARDS: Final = bodies.evaluating(bodies.check_guards, "guard", pure=True)
_CHILD: Final = bodies.evaluating(bodies.run_child, "child_workflow", pure=False)
_EMPTY: Final = BlockPlan(None, {}, [], frozenset())  # type: ignore[arg-type]
_FOLLOWERS: dict[int, tuple[BlockPlan, dict[str, list[str]]]] = {}


def _delay_of(retry: Any, failures: int) -> float:
    return min(retry.delay * retry.backoff_factor ** (failures - 1), retry.max_delay) if failures else 0.0


def _judge(rule: TriggerRule, found: list[int], *, is_chosen: bool) -> int | None:
    """Return what becomes of a node whose dependencies stand so: running, skipped, blocked, or None for not yet."""
    if not found:
        return _RUNNING
    is_over = all(state in _FINAL for state in found)
    bad = any(state in (_FAILED, _BLOCKED) for state in found)
    if rule in (TriggerRule.ALL_SUCCESS, TriggerRule.NONE_FAILED):
        if bad:
            return _BLOCKED
        if not is_over:
            return None
        is_passed_over = all(state == _SKIPPED for state in found) and rule == TriggerRule.ALL_SUCCESS
        return _SKIPPED if is_passed_over and not is_chosen else _RUNNING
    if rule == TriggerRule.ALL_DONE:
        return _RUNNING if is_over else None
    if rule == TriggerRule.ONE_DONE:
        if any(state in (_COMPLETED, _FAILED) for state in found):
            return _RUNNING
        return (_BLOCKED if bad else _SKIPPED) if is_over else None
    if any(state == _COMPLETED for state in found):
        return _RUNNING
    return (_BLOCKED if bad else _SKIPPED) if is_over else None


def _is_inside(scope: _Scope, inst: _Inst) -> bool:
    here: _Scope | None = scope
    while here is not None:
        if here.holder is inst:
            return True
        here = None if here.holder is None else here.holder.scope
    return False


def _verdict(verdict: Any) -> tuple[bool | None, Any]:
    if isinstance(verdict, bool):
        return verdict, None
    if isinstance(verdict, Mapping):
        for word in ("passed", "is_valid", "valid", "approved", "ok"):
            if isinstance(verdict.get(word), bool):
                return verdict[word], verdict.get("feedback")
    return None, None


def _moment(wait: Any) -> Any:
    return wait.astimezone() if isinstance(wait, datetime) and wait.tzinfo is None else wait
