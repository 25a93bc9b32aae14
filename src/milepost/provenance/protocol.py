"""What a runner may ask of a provenance, whether it keeps anything or not."""

from __future__ import annotations

from typing import Any, Protocol

from milepost.provenance.models import DagRun

__all__ = ["Provenance"]


class Provenance(Protocol):
    """The verbs that :class:`DagProvenance` and :class:`NullProvenance` share."""

    def create_run(
        self,
        run_id: str,
        dag_nsref: str,
        source_inputs: dict[str, Any] | None,
        parent_run_id: str | None = None,
        initiator: str | None = None,
    ) -> None:
        """Record a new run, running."""
        ...

    def update_run_status(self, run_id: str, status: str) -> None:
        """Set a run's status, and nothing else of it."""
        ...

    def finish_run(self, run_id: str, status: str, sink_outputs_json: str | None = None) -> None:
        """Set a run's status and the time of its end."""
        ...

    def record_node_start(
        self,
        run_id: str,
        node_label: str,
        input_json: str | None,
        node_type: str | None = None,
        *,
        is_source: bool = False,
        is_sink: bool = False,
    ) -> None:
        """Record that a node has started: a new attempt."""
        ...

    def record_node_complete(self, run_id: str, node_label: str, output_json: str) -> None:
        """Record what a node has made."""
        ...

    def record_node_failed(self, run_id: str, node_label: str, error: str) -> None:
        """Record that a node has failed."""
        ...

    def record_node_skipped(self, run_id: str, node_label: str, output_json: str) -> None:
        """Record a node that was not run, with the output that it is taken to have."""
        ...

    def record_edge_traversal(self, run_id: str, upstream_label: str, downstream_label: str) -> None:
        """Record that a node got what another one made."""
        ...

    def complete_node_with_edges(
        self, run_id: str, node_label: str, output_json: str, edges: list[tuple[str, str]]
    ) -> None:
        """Record what a node has made and where it flows, at once."""
        ...

    def fail_node_and_finish_run(self, run_id: str, node_label: str, error: str) -> None:
        """Record that a node has failed and its run with it, at once."""
        ...

    def get_run(self, run_id: str) -> dict[str, Any] | None:
        """Return a run, or None."""
        ...

    def get_node_executions(self, run_id: str, *, elements: bool = False) -> list[dict[str, Any]]:
        """Return the last attempt of each node."""
        ...

    def get_node_output(self, run_id: str, node_label: str) -> str | None:
        """Return what a node has made, as JSON text, or None."""
        ...

    def get_pending_nodes(self, run_id: str) -> list[str]:
        """Return the labels of nodes that began and have not completed."""
        ...

    def get_edge_traversals(self, run_id: str) -> list[dict[str, Any]]:
        """Return the edges that were traversed, in their order."""
        ...

    def inspect_run(self, run_id: str) -> DagRun | None:
        """Return a run with its nodes, without payloads, or None."""
        ...

    def load_io(self, dag_run: DagRun, node_labels: list[str] | None = None) -> DagRun:
        """Fill the payloads of an inspected run in, and return it."""
        ...

    def get_recent_runs(self, limit: int = 20, status: str | None = None) -> list[DagRun]:
        """Return runs without their nodes, newest first."""
        ...

    def get_active_runs(self) -> list[DagRun]:
        """Return runs that are running, newest first."""
        ...

    def get_child_runs(self, parent_run_id: str) -> list[DagRun]:
        """Return all runs inside a run, at any depth."""
        ...

    def close(self) -> None:
        """Give back what is open."""
        ...
