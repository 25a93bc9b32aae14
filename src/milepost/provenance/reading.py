"""What is read of runs, whoever executed them: as rows, as typed trees, as lists."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Final

from milepost.clock import to_datetime
from milepost.errors import (
    ConfigurationError,
    NodeNotFound,
    RunNotFound,
    StepNotFound,
    ValueNotRestorable,
    did_you_mean,
)
from milepost.ledger import Ledger
from milepost.model import MANUAL, Run, Storage, step_at
from milepost.provenance.inner import list_inner_runs
from milepost.provenance.models import DagRun, EdgeTraversal, IoPayload, NodeExecution
from milepost.states import RunStatus, StepStatus
from milepost.store import Execution, HandRun
from milepost.values import encode

__all__ = ["Reading", "read_status"]

_STATUS: Final = {
    "running": RunStatus.RUNNING,
    "paused": RunStatus.SUSPENDED,
    "completed": RunStatus.COMPLETED,
    "failed": RunStatus.FAILED,
    "cancelled": RunStatus.CANCELLED,
}
_WORD: Final = {status.value: word for word, status in _STATUS.items()}
_MADE: Final = (StepStatus.COMPLETED.value, StepStatus.SKIPPED.value)
_OPEN: Final = (StepStatus.PENDING.value, StepStatus.RUNNING.value, StepStatus.FAILED.value, "cancelled")
_COMPOSITE: Final = ("map", "subrun", "switch", "composite")

_REMEMBERED: Final = 100  # definitions whose nodes' places are known


class Reading:
    """The base of :class:`milepost.provenance.DagProvenance`.

    Args:
        ledger: Where the runs are.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Read of an open ledger."""
        self.ledger = ledger
        self._store = ledger.store
        self._types: dict[str, dict[str, str]] = {}

    def _require(self, run_id: str) -> HandRun:
        run = self._store.hand_get_run(run_id)
        if run is None:
            raise RunNotFound(run_id)
        return run

    # --- rows --------------------------------------------------------------------------------

    def get_run(self, run_id: str) -> dict[str, Any] | None:
        """Return ``run_id, dag_nsref, status, started_at, finished_at, source_inputs_json``, or None.

        Times are seconds since 1970.
        """
        run = self._store.hand_get_run(run_id)
        if run is None:
            return None
        return {
            "run_id": run.run_id,
            "dag_nsref": self._nsref(run),
            "status": _word(run.status),
            "started_at": run.started_at / 1e6,
            "finished_at": _seconds(_told_end(run)),
            "source_inputs_json": run.inputs,
        }

    def _nsref(self, run: HandRun) -> str:
        """Return what a run is called: inside another by its place there, ``{parent}/{label}[{element or call}]``."""
        parent = None
        if run.kind != MANUAL and run.parent_run_id is not None and run.parent_step is not None:
            parent = self._store.hand_get_run(run.parent_run_id)
        return run.workflow if parent is None else _place_of(run, self._nsref(parent))

    def get_node_executions(self, run_id: str, *, elements: bool = False) -> list[dict[str, Any]]:
        """Return the last attempt of each node, in the order of their starts.

        Args:
            run_id: The run.
            elements: The elements of maps as well, such as ``parse[17]``.

        Returns:
            Rows of ``run_id, node_label, status, node_type, input_json, output_json, started_at, finished_at,
            error``; times are seconds since 1970.
        """
        types = self._node_types(self.ledger.get_run(run_id))
        return [
            {
                "run_id": run_id,
                "node_label": found.label,
                "status": found.status,
                "node_type": types.get(found.label, _own_type(found)),
                "input_json": found.input,
                "output_json": self._output_of(run_id, found),
                "started_at": _seconds(found.started_at),
                "finished_at": _seconds(found.finished_at),
                "error": found.error_message,
            }
            for found in self._executions(run_id, elements=elements, payloads=True)
        ]

    def get_node_output(self, run_id: str, node_label: str) -> str | None:
        """Return what a node has made, as JSON text; None unless it has completed or was skipped."""
        last = self._store.get_execution(run_id, node_label)
        return self._output_of(run_id, last) if last is not None and last.status in _MADE else None

    def get_pending_nodes(self, run_id: str) -> list[str]:
        """Return the labels of nodes that began and are neither completed nor skipped."""
        return [found.label for found in self._executions(run_id) if found.status in _OPEN]

    def get_edge_traversals(self, run_id: str) -> list[dict[str, Any]]:
        """Return rows of ``run_id, upstream_label, downstream_label, traversed_at``, ordered by time."""
        return [
            {
                "run_id": run_id,
                "upstream_label": edge.upstream,
                "downstream_label": edge.downstream,
                "traversed_at": edge.traversed_at / 1e6,
            }
            for edge in self.ledger.list_edges(run_id)
        ]

    def _executions(self, run_id: str, *, elements: bool = False, payloads: bool = False) -> list[Execution]:
        found = self._store.list_executions(run_id, payloads=payloads)
        return found if elements else [one for one in found if one.parent is None]

    def _output_of(self, run_id: str, found: Execution) -> str | None:
        if found.storage == Storage.ELEMENTS and found.status in _MADE:
            try:
                return encode(self.ledger.get_output(run_id, found.label))
            except (ValueNotRestorable, StepNotFound):
                return None
        return found.output if found.storage == Storage.INLINE else None

    def _node_types(self, run: Run | None) -> dict[str, str]:
        """Return the place of each node in the graph of a run that the engine executed."""
        if run is None or run.hash is None:
            return {}
        types = self._types.get(run.hash)  # what a hash names never changes
        if types is None:
            if len(self._types) >= _REMEMBERED:
                self._types.clear()
            types = self._types[run.hash] = self._read_types(run.hash)
        return types

    def _read_types(self, hash_: str) -> dict[str, str]:
        document = self._store.get_definition(hash_)
        nodes = json.loads(document)["nodes"] if document else []
        read = {upstream for node in nodes for upstream in node["upstream"]}
        return {
            node["label"]: "composite"
            if node["kind"] in _COMPOSITE
            else "source"
            if not node["upstream"]
            else "internal"
            if node["label"] in read
            else "sink"
            for node in nodes
        }

    # --- inspecting --------------------------------------------------------------------------

    def inspect_run(self, run_id: str) -> DagRun | None:
        """Return a run with its nodes, edges and inner runs, without payloads; None where there is none."""
        found = self.ledger.get_run(run_id)
        return None if found is None else self._inspect(found, None)

    def _inspect(self, found: Run, place: str | None) -> DagRun | None:
        """Return a run with what is in it; ``place`` is what it is called, where whoever asks knows it."""
        run_id = found.run_id
        run = self._store.hand_get_run(run_id)
        if run is None:
            return None
        whole = _dag_run(run)
        whole.dag_nsref = self._nsref(run) if place is None else place
        types = self._node_types(found)
        edges: dict[str, list[EdgeTraversal]] = {}
        for edge in self.ledger.list_edges(run_id):
            use = EdgeTraversal(downstream_label=edge.downstream, traversed_at=to_datetime(edge.traversed_at))
            edges.setdefault(edge.upstream, []).append(use)
        executions = self._executions(run_id)
        labels = {one.label for one in executions}
        inner: dict[str, list[DagRun]] = {}
        for child in list_inner_runs(self.ledger, run_id):
            seen = self._inspect(child, _place_of(child, whole.dag_nsref))
            if seen is not None:
                label = step_at(child.parent_step or "", labels)
                inner.setdefault(label.partition("[")[0], []).append(seen)
        for one in executions:
            type_ = types.get(one.label, _own_type(one))
            whole.nodes.append(
                NodeExecution(
                    node_label=one.label,
                    status=one.status,
                    node_type=type_,
                    is_source=type_ == "source",
                    is_sink=type_ == "sink",
                    attempt=one.attempt,
                    started_at=to_datetime(one.started_at),
                    finished_at=None if one.finished_at is None else to_datetime(one.finished_at),
                    error=one.error_message,
                    edges=edges.get(one.label, []),
                    sub_dags=inner.get(one.label, []),
                )
            )
        return whole

    def load_io(self, dag_run: DagRun, node_labels: list[str] | None = None) -> DagRun:
        """Fill the payloads of an inspected run in, of all its nodes or of these, and return it. Not of inner runs.

        Raises:
            NodeNotFound: The run has no node of such a label.
        """
        known = {node.node_label for node in dag_run.nodes}
        for label in node_labels or ():
            if label not in known:
                raise NodeNotFound(dag_run.run_id, label, known)
        run = self._require(dag_run.run_id)
        dag_run.io = IoPayload(input_json=run.inputs)
        wanted = [node for node in dag_run.nodes if node_labels is None or node.node_label in node_labels]
        if node_labels is None:
            found = {one.label: one for one in self._executions(dag_run.run_id, payloads=True)}
        else:
            asked = (self._store.get_execution(dag_run.run_id, node.node_label) for node in wanted)
            found = {one.label: one for one in asked if one is not None}
        for node in wanted:
            one = found[node.node_label]
            node.io = IoPayload(input_json=one.input, output_json=self._output_of(dag_run.run_id, one))
        return dag_run

    def get_attempts(self, run_id: str, node_label: str) -> list[dict[str, Any]]:
        """Return every attempt of a node, oldest first, in rows as :meth:`get_node_executions` with ``attempt``."""
        return [
            {
                "run_id": run_id,
                "node_label": node_label,
                "attempt": step.attempt,
                "status": step.status.value,
                "input_json": step.input,
                "output_json": step.output,
                "started_at": step.started_at / 1e6,
                "finished_at": _seconds(step.finished_at),
                "error": step.error_message,
            }
            for step in self._store.get_step(run_id, node_label)
        ]

    def get_recent_runs(self, limit: int = 20, status: str | None = None) -> list[DagRun]:
        """Return runs without their nodes, newest first; runs inside runs are not among them."""
        return self.list_runs(limit=limit, status=status)

    def get_active_runs(self) -> list[DagRun]:
        """Return the runs that are running, newest first, at most 100."""
        return self.list_runs(limit=100, status="running")

    def get_child_runs(self, parent_run_id: str) -> list[DagRun]:
        """Return all runs inside a run, at any depth, each before those inside it."""
        found: list[DagRun] = []
        waiting = [parent_run_id]
        while waiting:
            for run in list_inner_runs(self.ledger, waiting.pop(0)):
                found.append(_of_run(run))
                waiting.append(run.run_id)
        return found

    def list_runs(
        self,
        *,
        dag_nsref: str | None = None,
        status: str | None = None,
        since: timedelta | None = None,
        initiator: str | None = None,
        parent_run_id: str | None = None,
        limit: int = 20,
        before: DagRun | None = None,
    ) -> list[DagRun]:
        """Return runs without their nodes, newest first.

        Args:
            dag_nsref: Only runs of this.
            status: Only runs that are so.
            since: Only runs that were created within this span until now.
            initiator: Only runs that this one started.
            parent_run_id: Only runs inside this one; else only runs that are in none.
            limit: At most this many.
            before: The last run of the page before.

        Raises:
            ConfigurationError: There is no such status, or the limit cannot be.
        """
        page = self.ledger.list_runs(
            status=None if status is None else read_status(status),
            workflow=dag_nsref,
            since=since,
            parent_run_id=parent_run_id,
            created_by=initiator,
            limit=limit,
            before=None if before is None else self.ledger.require_run(before.run_id),
        )
        return [_of_run(run) for run in page]

    def purge(self, *, older_than: timedelta) -> int:
        """Delete runs that ended longer ago than this, with all runs inside them; return how many."""
        return self.ledger.delete_runs(older_than=older_than)


def read_status(status: str) -> RunStatus:
    """Return the status that one of this face's words stands for.

    Raises:
        ConfigurationError: There is no such word.
    """
    found = _STATUS.get(status)
    if found is None:
        raise ConfigurationError(
            f"A run cannot be {status!r}.{did_you_mean(status, _STATUS)} It is one of: {', '.join(_STATUS)}."
        )
    return found


def _word(status: str) -> str:
    return _WORD.get(status, status)


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else micros / 1e6


def _own_type(found: Execution) -> str | None:
    return None if found.kind == "step" else "composite" if found.kind in _COMPOSITE else found.kind


def _place_of(run: Run | HandRun, parent: str) -> str:
    """Return what a run inside another is called, whose own name is given."""
    if run.kind == MANUAL or run.parent_step is None:
        return run.workflow
    return f"{parent}/{run.parent_step if run.parent_step.endswith(']') else f'{run.parent_step}[call]'}"


def _told_end(run: HandRun) -> int | None:
    """Return when a run ended, as it was told last."""
    if run.told is None or run.told_epoch != run.lease_epoch:
        return run.finished_at
    told: int | None = json.loads(run.told)["finished_at"]
    return told


def _dag_run(run: HandRun) -> DagRun:
    end = _told_end(run)
    return DagRun(
        run_id=run.run_id,
        dag_nsref=run.workflow,
        parent_run_id=run.parent_run_id,
        replay_of=run.replay_of,
        initiated_by=run.created_by,
        status=_word(run.status),
        started_at=to_datetime(run.started_at),
        finished_at=None if end is None else to_datetime(end),
    )


def _of_run(run: Run) -> DagRun:
    return DagRun(
        run_id=run.run_id,
        dag_nsref=run.workflow,
        parent_run_id=run.parent_run_id,
        replay_of=run.replay_of,
        initiated_by=run.created_by,
        status=_word(run.status.value),
        started_at=to_datetime(run.started_at if run.started_at is not None else run.created_at),
        finished_at=None if run.finished_at is None else to_datetime(run.finished_at),
    )
