"""From a frozen plan to the graph that the engine runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from milepost.graph import Binding, Graph, Node, Source
from milepost.pipeline.bodies import PARAMS, read_signature
from milepost.pipeline.plan import (
    ParallelProcessGroup,
    ParallelStepGroup,
    PipelinePlan,
    ProcessPlan,
    StepPlan,
    iter_all_steps,
    iter_processes,
    iter_steps_in_process,
    narrowed,
)

__all__ = ["PipelineGraph", "wire"]

_INCLUDE = "include"  # in a definition: the labels of the steps that a run was narrowed to


class PipelineGraph(Graph):
    """The graph of a pipeline, which knows its plan and with which steps a run of it began.

    Attributes:
        plan: The plan it was made of.
        whole: The plan of the whole pipeline.
    """

    __slots__ = ("plan", "whole")

    def __init__(self, nodes: Sequence[Node], plan: PipelinePlan, whole: PipelinePlan) -> None:
        """Index, check and order the nodes."""
        self.plan = plan
        self.whole = whole
        super().__init__(plan.pipeline_type.__name__, nodes)

    def plans(self) -> tuple[Any, Mapping[str, tuple[Any, Any]]]:
        """Return the plan, and by label those of a step's process and of the step."""
        steps = {
            step.label: (process, step)
            for process in iter_processes(self.plan)
            for step in iter_steps_in_process(process)
        }
        return self.plan, steps

    def of_definition(self, stored: str) -> Graph | None:
        """Return the graph of the steps that a run was narrowed to, or None where it ran all of them."""
        labels = json.loads(stored).get(_INCLUDE)
        if labels is None:
            return None if self.plan is self.whole else wire(self.whole)
        known = {step.label for step in iter_all_steps(self.whole)}
        return wire(self.whole, frozenset(labels)) if known.issuperset(labels) else None

    def as_submitted(self, stored: str) -> Graph:
        """Return the graph of the steps that a submitted run was narrowed to."""
        return self.of_definition(stored) or self

    def _definition_text(self) -> str:
        text = super()._definition_text()
        if self.plan is self.whole:
            return text
        labels = [step.label for step in iter_all_steps(self.plan)]
        return json.dumps({**json.loads(text), _INCLUDE: labels}, separators=(",", ":"), ensure_ascii=False)


def wire(whole: PipelinePlan, labels: frozenset[str] | None = None) -> PipelineGraph:
    """Return the graph of a plan, or of these of its steps alone."""
    plan = whole if labels is None else narrowed(whole, labels)
    wirer = _Wirer()
    tails: list[int] = []
    for node in plan.nodes:
        members = node.plans if isinstance(node, ParallelProcessGroup) else (node,)
        tails = [tail for process in members for tail in wirer.add_process(process, tails)]
    return PipelineGraph(wirer.nodes, plan, whole)


class _Wirer:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._makers: dict[str, int] = {}  # by name of a result: the node that makes it

    def add_process(self, process: ProcessPlan, tails: list[int]) -> list[int]:
        """Add the steps of a process after these nodes; return the nodes that come last in it."""
        for node in process.nodes:
            members = node.plans if isinstance(node, ParallelStepGroup) else (node,)
            tails = [self._add_step(step, tails) for step in members]
        return tails

    def _add_step(self, plan: StepPlan, tails: list[int]) -> int:
        body, step_type = plan.body, plan.step_type
        bindings = [Binding(PARAMS, Source.INPUT, PARAMS)]
        over: Binding | None = None
        if step_type.over is not None:
            element: Any = read_signature(step_type).element
            over = Binding("", Source.NODE, self._makers[step_type.over])
            bindings.append(Binding(element.name, Source.ELEMENT))
        bindings += [Binding(name, Source.NODE, self._makers[name]) for name in plan.takes if name in self._makers]
        node = Node(
            label=plan.label,
            body=body,
            bindings=tuple(bindings),
            over=over,
            concurrency=step_type.concurrency,
            after=tuple(tails),
            retry=body.retry,
            transient=body.transient,
            at_most_once=body.at_most_once,
            pure=body.pure,
        )
        self.nodes.append(node)
        place = len(self.nodes) - 1
        if plan.result is not None:
            self._makers[plan.result] = place
        return place
