"""Frozen plans: what a compiler makes of the classes, and how to walk through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from milepost.runtime.steps import Step as RuntimeStep

if TYPE_CHECKING:
    from milepost.pipeline.declare import Process, Step
    from milepost.pipeline.pipeline import Pipeline

__all__ = [
    "ParallelProcessGroup",
    "ParallelStepGroup",
    "PipelinePlan",
    "ProcessPlan",
    "StepPlan",
    "iter_all_steps",
    "iter_processes",
    "iter_steps_in_process",
]


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step of a process.

    Attributes:
        step_type: The class.
        params_type: The params it takes.
        process: The name of its process.
        takes: The results it takes by name: required ones, and optional ones that an earlier step declares.
        needs: Those of them that it cannot do without, and what it goes over.
        result: The name of its own result, None where no later step can take it.
        body: What the engine runs.
    """

    step_type: type[Step[Any]]
    params_type: type[Any]
    process: str
    takes: tuple[str, ...]
    needs: tuple[str, ...]
    result: str | None
    body: RuntimeStep[..., Any]

    @property
    def label(self) -> str:
        """Its label in the run: ``Process.Step``."""
        return f"{self.process}.{self.step_type.__name__}"


@dataclass(frozen=True, slots=True)
class ParallelStepGroup:
    """Steps of a process that run side by side."""

    plans: tuple[StepPlan, ...]


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One process: its steps and groups of steps, in order."""

    process_type: type[Process[Any]]
    params_type: type[Any]
    nodes: tuple[StepPlan | ParallelStepGroup, ...]


@dataclass(frozen=True, slots=True)
class ParallelProcessGroup:
    """Processes that run side by side."""

    plans: tuple[ProcessPlan, ...]


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """A pipeline: its processes and groups of processes, in order."""

    pipeline_type: type[Pipeline[Any]]
    params_type: type[Any]
    nodes: tuple[ProcessPlan | ParallelProcessGroup, ...]


def iter_processes(plan: PipelinePlan) -> Iterator[ProcessPlan]:
    """Yield the processes in the order they are listed."""
    for node in plan.nodes:
        yield from node.plans if isinstance(node, ParallelProcessGroup) else (node,)


def iter_steps_in_process(plan: ProcessPlan) -> Iterator[StepPlan]:
    """Yield the steps of a process in the order they are listed."""
    for node in plan.nodes:
        yield from node.plans if isinstance(node, ParallelStepGroup) else (node,)


def iter_all_steps(plan: PipelinePlan) -> Iterator[StepPlan]:
    """Yield all steps in the order they are listed."""
    for process in iter_processes(plan):
        yield from iter_steps_in_process(process)


def narrowed(plan: PipelinePlan, labels: frozenset[str]) -> PipelinePlan:
    """Return the plan of these steps alone: emptied processes vanish, and groups of one are no groups."""
    processes: list[ProcessPlan | ParallelProcessGroup] = []
    for node in plan.nodes:
        if isinstance(node, ParallelProcessGroup):
            kept = tuple(found for found in (_narrowed_process(part, labels) for part in node.plans) if found.nodes)
            if kept:
                processes.append(kept[0] if len(kept) == 1 else ParallelProcessGroup(kept))
        else:
            found = _narrowed_process(node, labels)
            if found.nodes:
                processes.append(found)
    return replace(plan, nodes=tuple(processes))


def _narrowed_process(plan: ProcessPlan, labels: frozenset[str]) -> ProcessPlan:
    steps: list[StepPlan | ParallelStepGroup] = []
    for node in plan.nodes:
        parts = node.plans if isinstance(node, ParallelStepGroup) else (node,)
        kept = tuple(part for part in parts if part.label in labels)
        if kept:
            steps.append(kept[0] if len(kept) == 1 else ParallelStepGroup(kept))
    return replace(plan, nodes=tuple(steps))
