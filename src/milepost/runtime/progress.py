"""A live view of a run for whoever shows it: read by polling, so that it costs the run nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from milepost.graph import Graph
from milepost.states import StepStatus

__all__ = ["NodeProgress", "Progress"]


@dataclass(slots=True)
class NodeProgress:
    """How one node stands. For a map, ``done``, ``total``, ``running`` and ``failed`` count elements."""

    label: str
    kind: str
    status: StepStatus
    done: int = 0
    total: int = 1
    running: int = 0
    failed: int = 0
    retries: int = 0
    message: str | None = None
    started_at: int | None = None
    finished_at: int | None = None


class Progress:
    """The nodes of a run in the order they can run. Written by the run's driver alone."""

    def __init__(self, run_id: str, workflow: str, graph: Graph) -> None:
        """Begin with every node pending."""
        self.run_id = run_id
        self.workflow = workflow
        self._nodes = [
            NodeProgress(
                node.label, "map" if node.is_map else "step", StepStatus.PENDING, total=0 if node.is_map else 1
            )
            for node in graph.nodes
        ]
        self._order = graph.order

    @property
    def total_nodes(self) -> int:
        """How many nodes the run has."""
        return len(self._nodes)

    def node(self, index: int) -> NodeProgress:
        """Return the record of one node, for the driver to write."""
        return self._nodes[index]

    def snapshot(self) -> list[NodeProgress]:
        """Return a copy of every node's record, in the order the nodes can run."""
        return [replace(self._nodes[index]) for index in self._order]
