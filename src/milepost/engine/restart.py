"""What a run that starts again takes over from its recorded steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from milepost.graph import Graph
from milepost.model import Storage
from milepost.states import StepStatus

__all__ = ["NOT_LOADED", "History", "RestartPlan", "StepSummary", "plan_restart"]

NOT_LOADED: Final = object()
"""Stands for the value of a completed step that nobody downstream asks for any more."""

_DONE: Final = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED})


@dataclass(frozen=True, slots=True)
class StepSummary:
    """What the ledger knows of one label, over all its attempts.

    ``failures`` counts only failed attempts that use up the retry budget: not those that a crash
    or a request stopped, and none from before the last restart by hand.
    """

    label: str
    parent: str | None
    status: StepStatus
    storage: str
    last_attempt: int
    failures: int


@dataclass(slots=True)
class RestartPlan:
    """Which nodes and elements count as done, and whose outputs must be read back.

    ``load`` names steps with a stored output of their own; ``load_maps`` names completed maps,
    whose value is the list of all their elements; ``load_elements`` names unfinished maps of
    which the completed elements' outputs will be needed.
    """

    done: set[int] = field(default_factory=set)
    elements: dict[int, set[str]] = field(default_factory=dict)
    load: list[str] = field(default_factory=list)
    load_maps: list[str] = field(default_factory=list)
    load_elements: list[str] = field(default_factory=list)
    tries: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(slots=True)
class History:
    """The outcome of a :class:`RestartPlan` after the values were read: what Execution starts from.

    ``keep_maps``: also the outputs of final maps are kept, because no ledger can give them back.
    """

    done: dict[int, Any] = field(default_factory=dict)
    elements: dict[int, dict[str, Any]] = field(default_factory=dict)
    tries: dict[str, tuple[int, int]] = field(default_factory=dict)
    undone: dict[str, int] = field(default_factory=dict)  # the last attempt of each label whose last one was undone
    invalid: dict[str, str] = field(default_factory=dict)  # labels whose output is marked as bad, with the reason
    void: dict[str, int] = field(default_factory=dict)  # of labels that are runs, the last attempt whose run is void
    keep_maps: bool = False
    recorded: dict[str, Any] = field(default_factory=dict)  # every completed label's value, for graphs that replay
    lost: dict[str, str] = field(default_factory=dict)  # labels that failed, for the same


def plan_restart(graph: Graph, steps: Iterable[StepSummary]) -> RestartPlan:
    """Decide what a restart reuses.

    A completed step is done. One whose output was not kept (``transient=True``) counts as done
    only while no unfinished step reads it; otherwise it runs again, and what it reads is loaded.
    """
    plan = RestartPlan()
    of_label: dict[str, StepSummary] = {}
    of_parent: dict[str, list[StepSummary]] = {}
    for step in steps:
        of_label[step.label] = step
        if step.parent is not None:
            of_parent.setdefault(step.parent, []).append(step)
        plan.tries[step.label] = (step.last_attempt, step.failures)

    unread = [0] * len(graph)  # readers of each node that still have to run
    for index in reversed(graph.order):
        node = graph.nodes[index]
        own = of_label.get(node.label)
        is_needed = unread[index] > 0
        is_done = own is not None and own.status in _DONE
        elements = of_parent.get(node.label, ()) if node.is_map else ()
        kept = {s.label for s in elements if s.status in _DONE and s.storage != Storage.NONE}
        if is_done and is_needed:
            lost = own is not None and own.storage == Storage.NONE
            lost = lost or any(s.storage == Storage.NONE and s.status in _DONE for s in elements)
            is_done = not lost
        if is_done:
            plan.done.add(index)
            if is_needed:
                (plan.load_maps if node.is_map else plan.load).append(node.label)
            continue
        if node.is_map and kept:
            plan.elements[index] = kept
            if node.readers:
                plan.load_elements.append(node.label)
        for ref in node.reads:
            unread[ref] += 1
    return plan
