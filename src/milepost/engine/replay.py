"""What a replay runs again and what it takes over, and why: decided before anything is written."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from milepost.engine.restart import StepSummary
from milepost.errors import ConfigurationError, did_you_mean
from milepost.graph import Graph, Node
from milepost.model import Storage
from milepost.states import StepStatus

__all__ = ["PlannedStep", "Recorded", "ReplayPlan", "find_changes", "plan_replay"]

_DONE: Final = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED})


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What a replay does with one node: run it, whole or some elements of a map, or reuse its output; and why."""

    label: str
    runs: bool
    reason: str
    elements: tuple[str, ...] = ()  # of a map of which elements were chosen: those
    keeps_elements: bool = False  # a map that goes on with what is left of it


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What a replay would do.

    Attributes:
        run_id: The run that is replayed.
        steps: Each node of the graph, in an order they can run in.
        chosen: The labels that were asked for, or found to have changed.
        downstream: Whether what depends on them runs again as well.
        changes: How the graph differs from the one the run was recorded with, one sentence part each.
        labels: The recorded steps whose outputs are copied, elements of maps among them.
    """

    run_id: str
    steps: tuple[PlannedStep, ...]
    chosen: tuple[str, ...]
    downstream: bool
    changes: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def to_run(self) -> tuple[str, ...]:
        """The labels of the nodes that run, whole or in part."""
        return tuple(step.label for step in self.steps if step.runs)

    @property
    def reused(self) -> tuple[str, ...]:
        """The labels of the nodes whose outputs are reused."""
        return tuple(step.label for step in self.steps if not step.runs)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is known of the execution of one step: the node as it was defined, and where its arguments came from."""

    node: Mapping[str, Any]
    input: str | None


def find_changes(graph: Graph, recorded: Mapping[str, Recorded]) -> dict[str, str]:
    """Return the steps that would not run today as they ran, each with the reason; in the order of the graph.

    Args:
        graph: The graph as it is now.
        recorded: What is known of each completed step.
    """
    offered = {node["label"]: node for node in json.loads(graph.definition)["nodes"]}
    found = {}
    for index in graph.order:
        node = graph.nodes[index]
        before = recorded.get(node.label)
        if before is None:
            continue
        reason = _change(before, offered[node.label], graph.input_texts[index])
        if reason is not None:
            found[node.label] = reason
    return found


def _change(before: Recorded, now: Mapping[str, Any], input_text: str) -> str | None:
    old = before.node
    if old.get("code") != now.get("code"):
        return "its code changed"
    if old.get("params") != now.get("params") or set(old.get("upstream", ())) != set(now.get("upstream", ())):
        return "its wiring changed"
    if old.get("over") != now.get("over") or (before.input is not None and before.input != input_text):
        return "its inputs changed"
    return None


def plan_replay(
    run_id: str,
    graph: Graph,
    steps: Iterable[StepSummary],
    chosen: Mapping[str, str],
    *,
    downstream: bool = True,
    changes: Iterable[str] = (),
) -> ReplayPlan:
    """Decide what a replay runs again.

    Nodes without an output run in any case; so does, unless ``downstream`` is False, everything downstream of a node
    that runs. An element of a map, such as ``parse[17]``, may be chosen by itself.

    Args:
        run_id: The run that is replayed.
        graph: The graph as it is now.
        steps: What the run recorded.
        chosen: The labels that run again, each with the reason.
        downstream: Whether what depends on them runs again.
        changes: How the graph differs from the recorded one, to be told.

    Raises:
        ConfigurationError: A label is unknown.
    """
    of_label = {step.label: step for step in steps}
    of_parent: dict[str, list[StepSummary]] = {}
    for step in of_label.values():
        if step.parent is not None:
            of_parent.setdefault(step.parent, []).append(step)
    dropped = _check_labels(run_id, graph, of_label, chosen)
    planned: dict[int, PlannedStep] = {}
    for index in graph.order:
        node = graph.nodes[index]
        above = next((graph.nodes[ref].label for ref in node.upstream if planned[ref].runs), None)
        planned[index] = _decide(node, of_label, chosen, dropped, above if downstream else None)
    _run_what_was_not_kept(graph, of_label, of_parent, planned)
    labels: list[str] = []
    for index in graph.order:
        labels += _copied(graph.nodes[index], planned[index], of_parent, dropped)
    return ReplayPlan(
        run_id,
        tuple(planned[index] for index in graph.order),
        tuple(chosen),
        downstream,
        tuple(changes),
        tuple(labels),
    )


def _check_labels(
    run_id: str, graph: Graph, of_label: Mapping[str, StepSummary], chosen: Collection[str]
) -> dict[str, list[str]]:
    """Refuse labels that nothing bears; return the chosen elements by their map."""
    dropped: dict[str, list[str]] = {}
    unknown = []
    for label in chosen:
        if label in graph:
            continue
        own = of_label.get(label)
        if own is not None and own.parent is not None and own.parent in graph and graph[own.parent].is_map:
            dropped.setdefault(own.parent, []).append(label)
        else:
            unknown.append(label)
    if unknown:
        known = {*graph.labels, *of_label}
        near = did_you_mean(unknown[0], known) if len(unknown) == 1 else ""
        raise ConfigurationError(
            f"Run {run_id} has no step {', '.join(map(repr, unknown))}.{near} "
            f"Name steps of the graph {graph.name!r}, or elements of its maps."
        )
    return dropped


def _decide(
    node: Node,
    of_label: Mapping[str, StepSummary],
    chosen: Mapping[str, str],
    dropped: Mapping[str, list[str]],
    above: str | None,
) -> PlannedStep:
    label = node.label
    own = of_label.get(label)
    if label in chosen:
        return PlannedStep(label, True, chosen[label])
    if above is not None:
        return PlannedStep(label, True, f"it is downstream of {above!r}")
    if own is None:
        return PlannedStep(label, True, "it has never run")
    if own.status not in _DONE:
        return PlannedStep(label, True, f"it has no output: it is {own.status.value}", keeps_elements=True)
    if label in dropped:
        elements = tuple(dropped[label])
        return PlannedStep(
            label, True, f"elements of it were chosen: {', '.join(elements)}", elements, keeps_elements=True
        )
    return PlannedStep(label, False, "its output is reused")


def _run_what_was_not_kept(
    graph: Graph,
    of_label: Mapping[str, StepSummary],
    of_parent: Mapping[str, list[StepSummary]],
    planned: dict[int, PlannedStep],
) -> None:
    """Run transient steps again that a step which runs reads; what else is downstream of them stays as it is."""
    for index in reversed(graph.order):
        node = graph.nodes[index]
        if planned[index].runs:
            continue
        parts = [of_label[node.label], *(of_parent.get(node.label, ()) if node.is_map else ())]
        if all(part.storage != Storage.NONE for part in parts):
            continue
        reader = next(
            (
                graph.nodes[ref].label
                for ref in node.downstream
                if planned[ref].runs and index in graph.nodes[ref].reads
            ),
            None,
        )
        if reader is not None:
            planned[index] = PlannedStep(node.label, True, f"its output was not kept, and {reader!r} needs it")


def _copied(
    node: Node,
    planned: PlannedStep,
    of_parent: Mapping[str, list[StepSummary]],
    dropped: Mapping[str, list[str]],
) -> list[str]:
    """Return the recorded steps of a node that are copied."""
    elements = of_parent.get(node.label, ()) if node.is_map else ()
    done = [step.label for step in elements if step.status in _DONE]
    if not planned.runs:
        return [node.label, *done]
    if planned.keeps_elements:
        left = dropped.get(node.label, ())
        kept = {step.label for step in elements if step.storage != Storage.NONE}
        return [label for label in done if label not in left and label in kept]
    return []
