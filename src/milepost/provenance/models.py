"""What an inspection of a run gives: typed, with aware times, without payloads until they are asked for."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DagRun", "EdgeTraversal", "IoPayload", "NodeExecution"]


class IoPayload(BaseModel):
    """What went in and what came out, as JSON text."""

    input_json: str | None = None
    output_json: str | None = None


class EdgeTraversal(BaseModel):
    """One use of a node's output by another node."""

    downstream_label: str
    traversed_at: datetime


class NodeExecution(BaseModel):
    """The last attempt of a node, with how many there were."""

    node_label: str
    status: str
    node_type: str | None = None
    is_source: bool = False
    is_sink: bool = False
    attempt: int = 1
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    edges: list[EdgeTraversal] = Field(default_factory=list)
    sub_dags: list[DagRun] = Field(default_factory=list)
    io: IoPayload | None = None


class DagRun(BaseModel):
    """A run and its nodes.

    Attributes:
        io: The run's inputs and outputs; None until ``load_io``.
    """

    model_config = ConfigDict(extra="forbid")

    run_id: str
    dag_nsref: str
    parent_run_id: str | None = None
    replay_of: str | None = None
    initiated_by: str | None = None
    status: str
    started_at: datetime
    finished_at: datetime | None = None
    nodes: list[NodeExecution] = Field(default_factory=list)
    io: IoPayload | None = None

    def latest_update(self) -> datetime:
        """Return when something of the run changed last.

        Example:
            >>> from milepost.provenance import DagProvenance
            >>> with DagProvenance(":memory:") as provenance:
            ...     provenance.create_run("r1", "etl", {})
            ...     run = provenance.inspect_run("r1")
            >>> run.latest_update() == run.started_at
            True
        """
        times = [self.started_at, self.finished_at]
        times += [moment for node in self.nodes for moment in (node.started_at, node.finished_at)]
        return max(moment for moment in times if moment is not None)

    def nodes_changed_since(self, moment: datetime) -> list[NodeExecution]:
        """Return the nodes that began or ended after a moment."""
        return [
            node
            for node in self.nodes
            if any(at is not None and at > moment for at in (node.started_at, node.finished_at))
        ]
