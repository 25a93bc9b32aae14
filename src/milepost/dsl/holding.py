"""Nodes that hold others: their branches, rounds and turns, their time limits, and how they fail as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from milepost.dsl import bodies
from milepost.dsl.compiling import WAIT
from milepost.dsl.deciding import Deciding
from milepost.dsl.operators import (
    ChildWorkflowOperator,
    ForEachOperator,
    MultiChoiceOperator,
    ParallelOperator,
    ReflexiveOperator,
    WhileOperator,
)
from milepost.dsl.scopes import (
    CHILD,
    COMPLETED,
    EMPTY,
    EVALUATE,
    INSIDE,
    RUNNING,
    SIDE_BY_SIDE,
    SKIPPED,
    Activation,
    Scope,
    Then,
    is_inside,
    verdict_of,
)
from milepost.dsl.templates import evaluate
from milepost.engine import Failure
from milepost.engine.retry import next_delay
from milepost.errors import NonRetryable, StepTimedOut
from milepost.runtime.steps import Step

__all__ = ["Holding"]


class Holding(Deciding):
    """Nodes that hold others: parallel, choices, loops, reflexive nodes and children."""

    def _complete(self, inst: Activation, value: Any) -> None:
        raise NotImplementedError

    def _run_whole(self, inst: Activation) -> None:
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

    def _ask(self, inst: Activation, label: str, then: Then, scope: Scope | None = None, **more: Any) -> None:
        node = inst.plan.aux(EVALUATE, pure=True)

        def fail(error: BaseException) -> None:
            self._fail_whole(inst, Failure(inst.label, error))

        self._emit(inst.scope, inst, label, node, lambda: self._work(inst, scope, more=more), then, fail)

    def _begin_timer(self, inst: Activation, seconds: float) -> None:
        label = inst.timer = f"{inst.own}[timeout]"
        node = inst.plan.aux(WAIT, wait="sleep")

        def over(_: Any) -> None:
            if inst.timer == label and inst.scope.states[inst.id] == RUNNING and inst.error is None:
                inst.timer = None
                self._fail_whole(inst, Failure(inst.label, StepTimedOut(inst.label, seconds)))

        self._emit(inst.scope, None, label, node, lambda: {"duration": seconds}, over, lambda _: None)

    def _stop_timer(self, inst: Activation) -> None:
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

    def _begin_branches(self, inst: Activation, names: list[str]) -> None:
        inst.results = dict.fromkeys(names)
        inner = dict(inst.plan.inner)
        for name in names:
            plan = inner[name]
            first = next(iter(plan.plans.values()), None)
            part = "" if first is None else first.node.label.removeprefix(inst.plan.node.label).rpartition("/")[0]
            prefix = f"{inst.own}{part}/"
            self._open(inst, Scope(plan, prefix, inst.scope, inst, dict(plan.variables)))
        if not names:
            self._close(inst, {})

    def _open(self, inst: Activation, child: Scope) -> None:
        inst.children.append(child)
        inst.left += 1
        self._begin_scope(child)

    def _begin_items(self, inst: Activation, items: list[Any]) -> None:
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
        many = (op.max_concurrency or SIDE_BY_SIDE) if op.parallel else 1
        for _ in range(many):
            self._next_item(inst)

    def _next_item(self, inst: Activation) -> None:
        if inst.index >= len(inst.items) or inst.error is not None:
            return
        i = inst.index
        inst.index += 1
        values = {"item": inst.items[i], "index": i}
        self._open(inst, Scope(inst.plan.inner[0][1], f"{inst.own}[{i}]/", inst.scope, inst, values))

    def _next_round(self, inst: Activation) -> None:
        op = inst.op
        assert isinstance(op, WhileOperator)
        if inst.carry is None:
            inst.carry = Scope(EMPTY, "", inst.scope, None, {"index": 0})
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
                self._open(inst, Scope(inst.plan.inner[0][1], f"{inst.own}[{i}]/", carry, inst, {"index": i}))

        self._ask(inst, f"{inst.own}[{i}][condition]", go, carry)

    def _next_turn(self, inst: Activation) -> None:
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
                found = self._work(inst, more=names, args=[], kwargs=kwargs)
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
            has_passed, feedback = verdict_of(verdict)
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

    def _begin_children(self, inst: Activation) -> None:
        op = inst.op
        assert isinstance(op, ChildWorkflowOperator)
        inst.results = {}
        inst.left = len(op.children)
        for branch in op.children:
            self._begin_child(inst, op, branch)
        if not op.children:
            self._close(inst, {})

    def _begin_child(self, inst: Activation, op: ChildWorkflowOperator, branch: str) -> None:
        def done(result: Any) -> None:
            inst.results[branch] = result
            inst.left -= 1
            if inst.left == 0 and inst.error is None:
                self._close(inst, {name: inst.results[name] for name in op.children})

        def fail(error: BaseException) -> None:
            inst.left -= 1
            self._fail_whole(inst, Failure(inst.label, error))

        node = inst.plan.aux(CHILD, branches=INSIDE)
        self._emit(inst.scope, inst, f"{inst.own}[{branch}]", node, lambda: self._work(inst, branch=branch), done, fail)

    def _inner_over(self, inst: Activation, child: Scope) -> None:
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

    def _result_of(self, scope: Scope) -> Any:
        done = {name: scope.items[name] for name in scope.plan.sinks if scope.states[name] == COMPLETED}
        return next(iter(done.values())) if len(done) == 1 else (done or None)

    def _close(self, inst: Activation, value: Any) -> None:
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

    def _fail_whole(self, inst: Activation, failure: Failure) -> None:
        """Let a node that holds others fail once what runs in it has ended."""
        if inst.error is None:
            inst.error = failure
            for child in inst.children:
                child.is_stopped = True
            mine = inst
            for pending in self._drop(lambda pending: is_inside(pending.scope, mine)):
                if pending.inst is not None:
                    self._give_up(pending.inst)
            for child in list(inst.children):
                self._later(lambda child=child: self._look(child))  # type: ignore[misc]
        self._later(lambda: self._end_failed(inst))

    def _end_failed(self, inst: Activation) -> None:
        if inst.children or inst.error is None or inst.scope.states[inst.id] != RUNNING:
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

    def _give_up(self, inst: Activation) -> None:
        """Let go of a node in a scope that starts nothing any more."""
        scope = inst.scope
        if scope.states[inst.id] == RUNNING:
            scope.states[inst.id] = SKIPPED
            scope.active -= 1
            self._later(lambda: self._look(scope))
