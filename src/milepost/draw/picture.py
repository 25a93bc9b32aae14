"""What is drawn: nodes and edges, with how far a run came where there is one.

A :class:`Picture` is the one thing that every drawing takes. It is made from a graph, from a stored
definition, or from a run in a ledger (:func:`milepost.draw.picture_of_run`).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from milepost.errors import ConfigurationError, did_you_mean
from milepost.graph import Graph, Source
from milepost.model import StepKind
from milepost.states import RunStatus, StepStatus

__all__ = ["Picture", "PictureEdge", "PictureNode", "Span", "as_picture", "in_order"]


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt in time, in microseconds since 1970; ``end`` is None while it runs."""

    start: int
    end: int | None
    status: StepStatus


@dataclass(frozen=True, slots=True)
class PictureNode:
    """A step, a map, or an element of a map.

    ``status`` is None where no run is drawn. ``done``, ``total``, ``running`` and ``failed`` count a
    map's elements (``total`` is None while nobody knows it), ``retries`` the attempts after each first one.
    ``message`` is what the step itself said last, ``progress`` how far it said it was, in words. ``inside`` says what
    a sub-DAG or a switch runs, and in a run which branch it took.
    """

    label: str
    kind: str = StepKind.STEP
    status: StepStatus | None = None
    done: int = 0
    total: int | None = None
    running: int = 0
    failed: int = 0
    attempts: int = 0
    retries: int = 0
    error: str | None = None
    message: str | None = None
    progress: str | None = None
    inside: str | None = None
    spans: tuple[Span, ...] = ()
    elements: tuple[PictureNode, ...] = ()

    @property
    def is_map(self) -> bool:
        """Whether it runs its step once for each element."""
        return self.kind == StepKind.MAP

    @property
    def started_at(self) -> int | None:
        """When its first attempt started."""
        return self.spans[0].start if self.spans else None

    @property
    def finished_at(self) -> int | None:
        """When its last attempt ended; None while one runs."""
        return self.spans[-1].end if self.spans else None

    @property
    def duration(self) -> float | None:
        """Seconds spent in attempts that have ended, or None where none has."""
        ended = [span.end - span.start for span in self.spans if span.end is not None]
        return sum(ended) / 1e6 if ended else None

    @property
    def counts(self) -> str:
        """How far a map is, such as ``17/400``; ``map`` or ``map of 400`` outside a run; empty for a step."""
        if not self.is_map:
            return ""
        if self.status is None or self.total is None:
            return "map" if self.total is None else f"map of {self.total}"
        return f"{self.done}/{self.total}"


@dataclass(frozen=True, slots=True)
class PictureEdge:
    """One node waits for another; ``is_traversed`` once it took the other's output (always, outside a run)."""

    upstream: str
    downstream: str
    is_traversed: bool = True


@dataclass(frozen=True, slots=True)
class Picture:
    """A graph, or a run of one. Nodes come in an order they can run in.

    ``gaps`` are stretches of time, (start, end), in which nobody executed the run.
    """

    name: str
    nodes: tuple[PictureNode, ...]
    edges: tuple[PictureEdge, ...] = ()
    run_id: str | None = None
    status: RunStatus | None = None
    gaps: tuple[tuple[int, int], ...] = ()

    def _repr_html_(self) -> str:
        """Return the picture as SVG, as notebooks show it."""
        from milepost.draw.as_svg import svg  # late: it is made of pictures

        return svg(self)

    @property
    def is_run(self) -> bool:
        """Whether nodes have a status."""
        return any(node.status is not None for node in self.nodes)


def as_picture(source: Picture | Graph | str, statuses: Mapping[str, StepStatus | str] | None = None) -> Picture:
    """Return the picture of a graph or of a definition (JSON text); a picture stays what it is.

    Args:
        source: What to draw.
        statuses: The status of nodes by label; with it, the others count as pending.

    Raises:
        ConfigurationError: The text is no definition, or a status or label is unknown.

    Example:
        >>> as_picture('{"name":"g","nodes":[{"label":"x","kind":"step","upstream":[]}]}').nodes[0].label
        'x'
    """
    if isinstance(source, Graph):
        picture = _of_graph(source)
    elif isinstance(source, str):
        picture = _of_definition(source)
    else:
        picture = source
    return picture if statuses is None else _with_statuses(picture, statuses)


def in_order(nodes: Sequence[PictureNode], edges: Iterable[PictureEdge]) -> tuple[PictureNode, ...]:
    """Return the nodes in an order they can run in, near the order they came in."""
    waiting = {node.label: 0 for node in nodes}
    downstream: dict[str, list[str]] = {node.label: [] for node in nodes}
    for edge in edges:
        if edge.upstream in waiting and edge.downstream in waiting:
            waiting[edge.downstream] += 1
            downstream[edge.upstream].append(edge.downstream)
    by_label = {node.label: node for node in nodes}
    ready = deque(label for label, count in waiting.items() if not count)
    ordered: dict[str, PictureNode] = {}
    while ready:
        label = ready.popleft()
        ordered[label] = by_label[label]
        for other in downstream[label]:
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    # What is left over goes round in a circle; no graph of ours does, but a picture loses nothing.
    ordered.update({node.label: node for node in nodes if node.label not in ordered})
    return tuple(ordered.values())


def _of_graph(graph: Graph) -> Picture:
    nodes = []
    for index in graph.order:
        node = graph.nodes[index]
        over = node.over
        inside = None if node.branches is None else _inside({name: len(part) for name, part in node.branches.items()})
        if over is None:
            nodes.append(
                PictureNode(node.label, node.kind if node.branches is not None else StepKind.STEP, inside=inside)
            )
        else:
            total = len(over.ref) if over.source == Source.VALUE else None
            nodes.append(PictureNode(node.label, StepKind.MAP, total=total, inside=inside))
    return Picture(graph.name, tuple(nodes), tuple(PictureEdge(up, down) for up, down in graph.edges()))


def _of_definition(text: str) -> Picture:
    try:
        document: Any = json.loads(text)
        name = str(document["name"])
        nodes = [
            PictureNode(str(node["label"]), str(node["kind"]), inside=_inside_of(node.get("branches")))
            for node in document["nodes"]
        ]
        edges = tuple(PictureEdge(str(up), str(node["label"])) for node in document["nodes"] for up in node["upstream"])
    except (ValueError, LookupError, TypeError) as error:
        shown = text if len(text) <= 40 else text[:37] + "..."
        raise ConfigurationError(f"{shown!r} is no definition of a graph. Take it from Graph.definition.") from error
    return Picture(name, in_order(nodes, edges), edges)


def _inside_of(branches: Any) -> str | None:
    if branches is None:
        return None
    return _inside({str(name): len(part["nodes"]) for name, part in branches.items()})


def _inside(sizes: Mapping[str, int]) -> str:
    """Return in words what a node runs as runs of their own, from the number of steps of each graph."""
    if "" not in sizes:
        return f"switch: {' | '.join(sizes)}"
    return f"sub-DAG of {sizes['']} step{'' if sizes[''] == 1 else 's'}"


def _with_statuses(picture: Picture, statuses: Mapping[str, StepStatus | str]) -> Picture:
    labels = {node.label for node in picture.nodes}
    known = [status.value for status in StepStatus]
    for label, status in statuses.items():
        if label not in labels:
            raise ConfigurationError(f"{picture.name!r} has no step {label!r}.{did_you_mean(label, labels)}")
        if status not in known:
            near = did_you_mean(str(status), known)
            raise ConfigurationError(f"{status!r} is not a step status ({', '.join(known)}).{near}")
    nodes = tuple(
        replace(node, status=StepStatus(statuses.get(node.label, StepStatus.PENDING))) for node in picture.nodes
    )
    begun = {node.label for node in nodes if node.status != StepStatus.PENDING}
    edges = tuple(replace(edge, is_traversed=edge.downstream in begun) for edge in picture.edges)
    return replace(picture, nodes=nodes, edges=edges)
