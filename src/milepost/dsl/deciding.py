"""Which node of a workflow starts next: gates, routes, trigger rules and joins."""

from __future__ import annotations

from typing import Any

from milepost.dsl import bodies
from milepost.dsl.calling import Calls
from milepost.dsl.kinds import JoinMode
from milepost.dsl.operators import JoinOperator
from milepost.dsl.scopes import (
    BLOCKED,
    COMPLETED,
    FAILED,
    FINAL,
    PENDING,
    RUNNING,
    SKIPPED,
    Activation,
    Scope,
    judge,
)
from milepost.dsl.structure import Route
from milepost.engine import Failure

__all__ = ["Deciding"]


class Deciding(Calls):
    """Who may start, who is passed over, and when a scope is over."""

    _top: Scope

    def _begin(self, scope: Scope, name: str, value: Any) -> None:
        raise NotImplementedError

    def _inner_over(self, inst: Activation, child: Scope) -> None:
        raise NotImplementedError

    # --- scopes ------------------------------------------------------------------------------

    def _begin_scope(self, scope: Scope) -> None:
        for name in scope.plan.plans:
            block = scope.plan.block
            if not block.needs[name] and not block.gates[name] and not block.routes[name]:
                self._consider(scope, name)
        self._later(lambda: self._look(scope))

    def _consider(self, scope: Scope, name: str) -> None:
        scope.queued += 1
        self._later(lambda: self._decide(scope, name))

    def _look(self, scope: Scope) -> None:
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
            scope.plan.plans[s].node.index: scope.items.get(s) for s in scope.plan.sinks if scope.states[s] == COMPLETED
        }
        self.is_done = True
        self._drop(lambda _: True)

    # --- deciding ----------------------------------------------------------------------------

    def _decide(self, scope: Scope, name: str) -> None:
        scope.queued -= 1
        if scope.states[name] == PENDING and not self.is_halted and not scope.is_halted:
            self._decide_pending(scope, name)
        self._later(lambda: self._look(scope))

    def _decide_pending(self, scope: Scope, name: str) -> None:
        block, states = scope.plan.block, scope.states
        for gate in block.gates[name]:
            state = states[gate.source]
            if state not in FINAL:
                return
            if state != COMPLETED or scope.chosen.get(gate.source) != gate.key:
                self._pass_over(scope, name, SKIPPED)
                return
        routes = block.routes[name]
        is_chosen = bool(block.gates[name])
        if routes:
            called = [route for route in routes if self._calls(scope, route)]
            if not called:
                if all(states[route.source] in FINAL for route in routes):
                    self._pass_over(scope, name, SKIPPED)
                return
            is_chosen = True
            if any(route.key in ("success", "failure") for route in called):
                self._tell_failure(scope, called)
                self._begin(scope, name, None)
                return
        if scope.is_draining and name not in scope.plan.cleanup:
            return
        op = scope.plan.plans[name].op
        needs = block.needs[name]
        found = [states[other] for other in needs]
        if isinstance(op, JoinOperator):
            self._decide_join(scope, name, op, found)
            return
        verdict = judge(op.trigger_rule, found, is_chosen=is_chosen)
        if verdict == RUNNING:
            self._begin(scope, name, None)
        elif verdict is not None:
            self._pass_over(scope, name, verdict)

    def _calls(self, scope: Scope, route: Route) -> bool:
        state = scope.states[route.source]
        if route.key == "success":
            return state == COMPLETED
        if route.key == "failure":
            return state == FAILED
        return state == COMPLETED and scope.chosen.get(route.source) == route.key

    def _tell_failure(self, scope: Scope, routes: list[Route]) -> None:
        for route in routes:
            failure = scope.errors.get(route.source)
            if route.key == "failure" and failure is not None:
                scope.values["failed_task_id"] = route.source
                scope.values["error_message"] = str(failure.error)

    def _decide_join(self, scope: Scope, name: str, op: JoinOperator, found: list[int]) -> None:
        block = scope.plan.block
        pairs = list(zip(block.needs[name], found, strict=True))
        done = [other for other, state in pairs if state == COMPLETED]
        bad = [other for other, state in pairs if state in (FAILED, BLOCKED)]
        is_over = all(state in FINAL for state in found)
        mode = op.join_mode
        if pairs and is_over and not done and not bad:
            self._pass_over(scope, name, SKIPPED)
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

    def _pass_over(self, scope: Scope, name: str, state: int) -> None:
        scope.states[name] = state
        if state == BLOCKED:
            lost = [scope.errors[o] for o in scope.plan.block.needs[name] if o in scope.errors]
            if lost and scope.error is None:
                scope.error = lost[0]  # what it could have tolerated left it nothing to go on with
                scope.is_draining = True
        self._tell(scope, name)

    def _tell(self, scope: Scope, name: str) -> None:
        """Look again at everybody whom the end of a node concerns."""
        for other in scope.plan.followers[name]:
            self._consider(scope, other)
        self._later(lambda: self._look(scope))

    def _fail(self, inst: Activation, error: BaseException) -> None:
        self._failed_node(inst, Failure(inst.label, error))

    def _failed_node(self, inst: Activation, failure: Failure) -> None:
        scope = inst.scope
        scope.states[inst.id] = FAILED
        scope.errors[inst.id] = failure
        scope.active -= 1
        if not scope.plan.block.tolerates(inst.id) and scope.error is None:
            scope.error = failure
            scope.is_draining = True
        self._tell(scope, inst.id)
