"""What runs next in a workflow's run: the engine's questions, answered for conditions, loops, joins and handlers.

Pure: no I/O, no clock, no threads. The drivers ask :class:`WorkflowExecution` as they ask the engine's own
execution. Everything that is decided by data (a condition, the items of a loop, who won a join) is itself a
recorded step, so that a run that is resumed decides the same.

Labels: branch nodes ``fan/branch/task``, iterations ``loop[3]/task``; what stands in brackets at the end,
``loop[items]``, is a part of the node before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milepost.dsl import bodies
from milepost.dsl.compiling import WAIT, WorkflowGraph
from milepost.dsl.holding import Holding
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
from milepost.dsl.scopes import (
    COMPLETED,
    GUARDS,
    RUNNING,
    Activation,
    Scope,
    WorkflowCancelled,
    WorkflowFailed,
    moment_of,
)
from milepost.dsl.templates import TemplateFailed, evaluate
from milepost.engine import Failure
from milepost.errors import ConfigurationError
from milepost.runtime.steps import Step

__all__ = ["WorkflowExecution"]


class WorkflowExecution(Holding):
    """The progress of one run of a workflow.

    Args:
        graph: The compiled workflow.
        inputs: The run's inputs.
        history: What an earlier process recorded.
        run_id: The run.
    """

    def __init__(self, graph: WorkflowGraph, inputs: Mapping[str, Any], history: Any, run_id: str) -> None:
        """Find what can run first."""
        super().__init__(graph, inputs, history, run_id)
        self._top = Scope(graph.plan, "", None, None, dict(graph.plan.variables))
        self._begin_scope(self._top)
        if self._workflow.deadline_seconds is not None:
            self._begin_deadline(self._workflow.deadline_seconds)
        self._pump()

    # --- running one node --------------------------------------------------------------------

    def _begin(self, scope: Scope, name: str, value: Any) -> None:
        scope.states[name] = RUNNING
        scope.active += 1
        inst = Activation(scope, name)
        op = inst.op
        calls = isinstance(op, (TaskOperator, ActivityOperator))
        if op.preconditions and not calls:
            node = inst.plan.aux(GUARDS, pure=True)
            self._emit(
                scope, inst, f"{inst.label}[guard]", node,
                lambda: self._work(inst, guards=op.preconditions),
                lambda _: self._run(inst, value), lambda error: self._fail(inst, error),
            )  # fmt: skip
            return
        self._run(inst, value)

    def _run(self, inst: Activation, value: Any) -> None:
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
                lambda: {"duration": moment_of(op.wait_for)},
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

    def _text(self, inst: Activation, template: str) -> str:
        try:
            return str(evaluate(template, self._names(inst.plan.names, inst.scope)))
        except TemplateFailed as error:
            raise ConfigurationError(f"Node {inst.id!r}: {error}") from error

    def _complete(self, inst: Activation, value: Any) -> None:
        op = inst.op
        if op.postconditions and not isinstance(op, (TaskOperator, ActivityOperator)):
            node = inst.plan.aux(GUARDS, pure=True)
            own = {"result": value, op.task_id: value, **({op.result_key: value} if op.result_key else {})}
            self._emit(
                inst.scope, inst, f"{inst.label}[check]", node,
                lambda: self._work(inst, more=own, guards=op.postconditions),
                lambda _: self._completed(inst, value), lambda error: self._fail(inst, error),
            )  # fmt: skip
            return
        self._completed(inst, value)

    def _completed(self, inst: Activation, value: Any) -> None:
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
        scope.states[inst.id] = COMPLETED
        scope.items[inst.id] = value
        scope.values.update(inst.exports)
        scope.values[inst.id] = value
        if op.result_key is not None:
            scope.values[op.result_key] = value
        scope.active -= 1
        self._tell(scope, inst.id)

    def _terminate(self, inst: Activation, op: TerminateOperator, value: Any) -> None:
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
