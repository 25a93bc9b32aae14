"""The calls of a workflow's run: handed out to the drivers, taken back, let go of, and found again after a crash."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from milepost.dsl.bodies import Work
from milepost.dsl.compiling import WAIT, WorkflowGraph
from milepost.dsl.scopes import (
    DURABLE_DELAY,
    Activation,
    Fail,
    FailedBefore,
    Pending,
    Scope,
    Then,
)
from milepost.engine import Call, Failure, MapMark
from milepost.engine.retry import next_delay
from milepost.errors import NonRetryable
from milepost.graph import Node

__all__ = ["Calls"]


class Calls:
    """What the drivers ask of a run's execution, and the calls that are under way.

    Args:
        graph: The compiled workflow.
        inputs: The run's inputs.
        history: What an earlier process recorded: ``recorded`` values and ``lost`` failures by label.
        run_id: The run.
    """

    def __init__(self, graph: WorkflowGraph, inputs: Mapping[str, Any], history: Any, run_id: str) -> None:
        """Begin with what was recorded."""
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
        pending: Pending = call.element
        return pending.arguments()

    def succeeded(self, call: Call, value: Any) -> None:
        """Take in a result and make ready what waited for it."""
        self.running -= 1
        self._flying.pop(call.label, None)
        pending: Pending = call.element
        self._events.append(lambda: pending.then(value))
        self._pump()

    def failed(self, call: Call, error: BaseException, *, final: bool, now: float, draw: float) -> float | None:
        """Take in a failure: schedule the next attempt, or let it stand; as the engine's own execution does."""
        self.running -= 1
        self._flying.pop(call.label, None)
        pending: Pending = call.element
        delay = None
        if not final and not self.is_halted and not pending.scope.is_halted:
            delay = next_delay(pending.retry, call.failures + 1, error, draw)
        if delay is None:
            self._events.append(lambda: pending.fail(error))
            self._pump()
            return None
        call.attempt += 1
        call.failures += 1
        if delay >= DURABLE_DELAY:
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
        scope: Scope,
        inst: Activation | None,
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
        if label in self._lost and self._stands(inst, label, retry, tries[1]):
            error = FailedBefore(self._lost.pop(label))
            self._later(lambda: fail(error))
            return
        pending = Pending(scope, inst, arguments, then, fail, retry)
        call = Call(node, label, tries, None, 0, pending)
        if tries[1] and retry is not None:
            delay = next_delay(retry, tries[1], Exception(), 0.0)
            if delay is not None and delay >= DURABLE_DELAY:
                self._wait_to_retry(call, delay)
                return
        self._ready.append(call)

    @staticmethod
    def _stands(inst: Activation | None, label: str, retry: Any, failures: int) -> bool:
        """Return whether a recorded failure stands: its budget is used up, or the run went on without it before."""
        if failures:
            return retry is None or failures > retry.max_retries
        return inst is not None and label == inst.label and inst.scope.plan.block.tolerates(inst.id)

    def _wait_to_retry(self, call: Call, delay: float) -> None:
        pending: Pending = call.element
        assert pending.inst is not None  # what has a policy belongs to an operator
        node = pending.inst.plan.aux(WAIT, wait="sleep")
        label = f"{call.label}[retry {call.failures}]"

        def again(_: Any) -> None:
            if not self.is_halted and not pending.scope.is_halted:
                self._ready.append(call)
            else:
                pending.fail(NonRetryable("the run goes another way"))

        self._emit(pending.scope, pending.inst, label, node, lambda: {"duration": delay}, again, pending.fail)

    def _work(
        self, inst: Activation, scope: Scope | None = None, more: Mapping[str, Any] | None = None, **extra: Any
    ) -> dict[str, Any]:
        names = self._names(inst.plan.names, scope or inst.scope)
        if more:
            names.update(more)
        return {"work": Work(inst.op, names, self._workflow.name, extra)}

    def _names(self, wanted: frozenset[str], scope: Scope) -> dict[str, Any]:
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
                here: Scope | None = scope
                while here is not None:
                    if name in here.values:
                        found[name] = here.values[name]
                        break
                    here = here.parent
        return found

    def _end_all(self) -> None:
        self.is_halted = True
        self._ready.clear()
        self._delayed.clear()
        self._drop(lambda _: True)

    def _drop(self, which: Callable[[Pending], bool]) -> list[Pending]:
        """Let go of waits that nobody needs any more, and of calls that have not begun."""
        gone = []
        for label, call in list(self._flying.items()):
            if which(call.element):
                del self._flying[label]
                self.running -= 1
                self.dropped.append(call)
                gone.append(call.element)
        stopped = {id(call) for call in (*self._ready, *(entry[2] for entry in self._delayed)) if which(call.element)}
        if stopped:
            gone += [call.element for call in self._ready if id(call) in stopped]
            gone += [entry[2].element for entry in self._delayed if id(entry[2]) in stopped]
            self._ready = deque(call for call in self._ready if id(call) not in stopped)
            self._delayed = [entry for entry in self._delayed if id(entry[2]) not in stopped]
            heapq.heapify(self._delayed)
        return gone
