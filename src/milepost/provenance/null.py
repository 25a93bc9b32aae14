"""A provenance that keeps nothing: the same verbs, for runners that must not care."""

from __future__ import annotations

from typing import Any

from milepost.provenance.models import DagRun

__all__ = ["NullProvenance"]


class NullProvenance:
    """Takes every write and keeps nothing; every read finds nothing.

    Example:
        >>> provenance = NullProvenance()
        >>> provenance.create_run("r1", "etl", {})
        >>> provenance.get_run("r1") is None, provenance.get_node_executions("r1")
        (True, [])
    """

    ledger = None

    def create_run(
        self,
        run_id: str,
        dag_nsref: str,
        source_inputs: dict[str, Any] | None,
        parent_run_id: str | None = None,
        initiator: str | None = None,
    ) -> None:
        """Keep nothing."""

    def update_run_status(self, run_id: str, status: str) -> None:
        """Keep nothing."""

    def finish_run(self, run_id: str, status: str, sink_outputs_json: str | None = None) -> None:
        """Keep nothing."""

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
        """Keep nothing."""

    def record_node_complete(self, run_id: str, node_label: str, output_json: str) -> None:
        """Keep nothing."""

    def record_node_failed(self, run_id: str, node_label: str, error: str) -> None:
        """Keep nothing."""

    def record_node_skipped(self, run_id: str, node_label: str, output_json: str) -> None:
        """Keep nothing."""

    def record_edge_traversal(self, run_id: str, upstream_label: str, downstream_label: str) -> None:
        """Keep nothing."""

    def complete_node_with_edges(
        self, run_id: str, node_label: str, output_json: str, edges: list[tuple[str, str]]
    ) -> None:
        """Keep nothing."""

    def fail_node_and_finish_run(self, run_id: str, node_label: str, error: str) -> None:
        """Keep nothing."""

    def get_run(self, run_id: str) -> dict[str, Any] | None:
        """Return None."""
        return None

    def get_node_executions(self, run_id: str, *, elements: bool = False) -> list[dict[str, Any]]:
        """Return nothing."""
        return []

    def get_node_output(self, run_id: str, node_label: str) -> str | None:
        """Return None."""
        return None

    def get_pending_nodes(self, run_id: str) -> list[str]:
        """Return nothing."""
        return []

    def get_edge_traversals(self, run_id: str) -> list[dict[str, Any]]:
        """Return nothing."""
        return []

    def inspect_run(self, run_id: str) -> DagRun | None:
        """Return None."""
        return None

    def load_io(self, dag_run: DagRun, node_labels: list[str] | None = None) -> DagRun:
        """Return the run as it is."""
        return dag_run

    def get_recent_runs(self, limit: int = 20, status: str | None = None) -> list[DagRun]:
        """Return nothing."""
        return []

    def get_active_runs(self) -> list[DagRun]:
        """Return nothing."""
        return []

    def get_child_runs(self, parent_run_id: str) -> list[DagRun]:
        """Return nothing."""
        return []

    def close(self) -> None:
        """Do nothing."""
