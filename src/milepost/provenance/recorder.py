"""``DagProvenance``: record runs by hand, and read any run of the ledger, whoever executed it."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

from milepost.clock import to_datetime
from milepost.errors import (
    ConfigurationError,
    RunBusy,
    RunNotFound,
    StepNotFound,
    ValueNotRestorable,
    did_you_mean,
)
from milepost.graph import Graph
from milepost.ledger import Ledger
from milepost.model import MANUAL, Run, Storage, check_run_id
from milepost.owner import current_owner, describe_owner
from milepost.provenance.initiator import run_initiator
from milepost.provenance.inner import list_inner_runs
from milepost.provenance.models import DagRun, EdgeTraversal, IoPayload, NodeExecution
from milepost.states import RunStatus, StepStatus
from milepost.store import Execution, HandRun, NewRun
from milepost.stores.original import adopt_original, import_original
from milepost.values import content_hash, encode

__all__ = ["DagProvenance", "NodeEvent", "NodeNotFound"]

_LOGGER: Final = logging.getLogger("milepost.provenance")

_FOR_EVER: Final = 2**62
_REMEMBERED: Final = 100  # definitions whose nodes' places are known
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


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """What a subscriber is told: what a node, or where the label is None the run, has become."""

    run_id: str
    node_label: str | None
    status: str
    error: str | None = None


class NodeNotFound(RunNotFound):
    """No attempt of this node was recorded for the run."""

    def __init__(self, run_id: str, label: str, known: Iterable[str] = ()) -> None:
        """Build the sentence from the run and the label."""
        super().__init__(run_id)
        self.label = label
        near = did_you_mean(label, known)
        self.args = (f"Run {run_id!r} has no node {label!r}.{near} Record its start first: record_node_start.",)


class DagProvenance:
    """Records DAG runs by hand, and reads any run of a ledger.

    Whatever is written is durable when the call returns, and shows in ``milepost show``. Runs that the engine executes
    can be read here as well; while they are executed they cannot be written.

    Args:
        db_path: A path, a ledger's URL or an open ledger. A file in the table layout of the library that this face
            comes from is taken over when it is opened; its own tables are kept.
        durability: ``"power"`` or ``"process"``, where the ledger is opened here.
        redact: Given the label of a node (None for a run) and the JSON text of an input or output that is recorded by
            hand; returns the JSON text that is stored instead. Payloads are never logged.

    Attributes:
        ledger: The ledger.

    Raises:
        StoreError: The ledger cannot be opened, or was written by a newer version.

    Example:
        >>> with DagProvenance(":memory:") as provenance:
        ...     provenance.create_run("r1", "etl", {"load": {"n": 3}})
        ...     provenance.record_node_start("r1", "load", '{"n": 3}', "source")
        ...     provenance.record_node_complete("r1", "load", "[0, 1, 2]")
        ...     provenance.finish_run("r1", "completed")
        ...     print(provenance.get_run("r1")["status"], provenance.get_node_output("r1", "load"))
        completed [0, 1, 2]
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] | Ledger,
        *,
        durability: str = "power",
        redact: Callable[[str | None, str], str] | None = None,
    ) -> None:
        """Open the ledger, and take over what an older file has."""
        self._redact = redact
        self._subscribers: list[Callable[[NodeEvent], None]] = []
        self._is_own = not isinstance(db_path, Ledger)
        if isinstance(db_path, Ledger):
            self.ledger = db_path
            self.db_path: str | os.PathLike[str] = db_path.url
        else:
            self.db_path = db_path
            path = os.fspath(db_path)
            is_file = "://" not in path and path != ":memory:"
            if is_file:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                adopt_original(path)
            self.ledger = Ledger.open(path, durability=durability)
            if is_file:
                import_original(path)
        self._store = self.ledger.store
        self._now = self.ledger.clock.now
        self._lock = threading.Lock()
        self._seq = 0
        self._types: dict[str, dict[str, str]] = {}

    def close(self) -> None:
        """Close the ledger, where it was opened here."""
        if self._is_own:
            self.ledger.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # --- runs --------------------------------------------------------------------------------

    def create_run(
        self,
        run_id: str,
        dag_nsref: str,
        source_inputs: dict[str, Any] | None,
        parent_run_id: str | None = None,
        initiator: str | None = None,
    ) -> None:
        """Record a new run, running.

        Args:
            run_id: Its id.
            dag_nsref: What it runs.
            source_inputs: What its source nodes get.
            parent_run_id: The run that it is part of.
            initiator: Who started it; what :func:`initiated_by` says if left out.

        Raises:
            RunExists: The id is taken.
            RunNotFound: There is no such parent.
            ConfigurationError: The id or the name cannot be.
            ValueNotStorable: An input cannot be stored.
        """
        if not isinstance(dag_nsref, str) or not dag_nsref:
            raise ConfigurationError(f"dag_nsref must be a text that names what runs, not {dag_nsref!r}.")
        parent = None if parent_run_id is None else self._require(parent_run_id)
        root = None if parent is None else self.ledger.require_run(parent.run_id).root_run_id
        graph = Graph(dag_nsref, [])
        now = self._now()
        self.ledger.commit(
            NewRun(
                run_id=check_run_id(run_id),
                workflow=dag_nsref,
                kind=MANUAL,
                definition_hash=graph.fingerprint,
                definition=graph.definition,
                inputs=self._kept(None, encode(source_inputs)),
                owner=current_owner(),
                now=now,
                lease_until=_FOR_EVER,
                parent_run_id=parent_run_id,
                root_run_id=root,
                created_by=run_initiator.get() if initiator is None else initiator,
            )
        )

    def update_run_status(self, run_id: str, status: str) -> None:
        """Set a run's status and nothing else of it: neither its end, nor its nodes.

        Raises:
            RunNotFound: There is no such run.
            ConfigurationError: There is no such status.
            RunBusy: The engine executes the run.
        """
        self._set_status(run_id, status, is_end=False)

    def finish_run(self, run_id: str, status: str, sink_outputs_json: str | None = None) -> None:
        """Set a run's status and the time of its end.

        Raises:
            RunNotFound: There is no such run.
            ConfigurationError: There is no such status, or the outputs are no JSON text.
            RunBusy: The engine executes the run.
        """
        if sink_outputs_json is not None:
            _check_json(sink_outputs_json, "sink_outputs_json")
        self._set_status(run_id, status, is_end=True, result=sink_outputs_json)

    def _set_status(self, run_id: str, status: str, *, is_end: bool, result: str | None = None) -> None:
        found = _STATUS.get(status)
        if found is None:
            raise ConfigurationError(
                f"A run cannot be {status!r}.{did_you_mean(str(status), _STATUS)} It is one of: {', '.join(_STATUS)}."
            )
        if not self._store.hand_set_status(
            run_id, found, is_end=is_end, owner=current_owner(), now=self._now(), result=result
        ):
            raise self._refused(run_id)
        self._tell(run_id, None, status)

    # --- telling -----------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[NodeEvent], None]) -> Callable[[], None]:
        """Call back after each start and end that is recorded here; return what ends that.

        It is called in the thread that recorded, once the write is durable. What it raises is logged, and changes
        nothing for the run.

        Example:
            >>> with DagProvenance(":memory:") as provenance:
            ...     stop = provenance.subscribe(lambda event: print(event.node_label, event.status))
            ...     provenance.create_run("r1", "etl", {})
            ...     provenance.record_node_start("r1", "load", "{}")
            ...     stop()
            ...     provenance.record_node_complete("r1", "load", "1")
            load running
        """
        self._subscribers.append(callback)

        def stop() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return stop

    def _tell(self, run_id: str, label: str | None, status: str, error: str | None = None) -> None:
        for callback in list(self._subscribers):
            try:
                callback(NodeEvent(run_id, label, status, error))
            except Exception:
                _LOGGER.exception("A subscriber of %s failed.", self.ledger.url)

    def _kept(self, label: str | None, text: str) -> str:
        """Return what is stored of a payload."""
        if self._redact is None:
            return text
        kept = self._redact(label, text)
        _check_json(kept, "what redact returned")
        return kept

    # --- nodes -------------------------------------------------------------------------------

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
        """Record that a node has started: a new attempt; what earlier ones made stays in the history.

        Raises:
            RunNotFound: There is no such run.
            ConfigurationError: The label is empty, or the input is no JSON text.
            RunBusy: The engine executes the run.
        """
        if input_json is not None:
            _check_json(input_json, "input_json")
            input_json = self._kept(node_label, input_json)
        kind = node_type or ("source" if is_source else "sink" if is_sink else "step")
        self._begin(run_id, node_label, kind, StepStatus.RUNNING, input_json, None)

    def record_node_skipped(self, run_id: str, node_label: str, output_json: str) -> None:
        """Record a node that was not run, with the output that it is taken to have.

        Raises:
            RunNotFound: There is no such run.
            ConfigurationError: The label is empty, or the output is no JSON text.
            RunBusy: The engine executes the run.
        """
        _check_json(output_json, "output_json")
        self._begin(run_id, node_label, "step", StepStatus.SKIPPED, None, self._kept(node_label, output_json))

    def _begin(
        self, run_id: str, label: str, kind: str, status: StepStatus, input_text: str | None, output: str | None
    ) -> None:
        if not isinstance(label, str) or not label:
            raise ConfigurationError(f"node_label must be a text, not {label!r}.")
        now = self._now()
        with self._lock:
            self._seq = seq = max(self._seq + 1, now)
        if not self._store.hand_begin_step(
            run_id,
            label,
            seq=seq,
            kind=kind,
            status=status.value,
            input_text=input_text,
            output=output,
            output_hash=None if output is None else content_hash(output),
            now=now,
        ):
            raise self._refused(run_id)
        self._tell(run_id, label, status.value)

    def record_node_complete(self, run_id: str, node_label: str, output_json: str) -> None:
        """Record what the last attempt of a node has made.

        Raises:
            RunNotFound: There is no such run, or the node has not started (:class:`NodeNotFound`).
            ConfigurationError: The output is no JSON text.
            RunBusy: The engine executes the run.
        """
        self.complete_node_with_edges(run_id, node_label, output_json, [])

    def complete_node_with_edges(
        self, run_id: str, node_label: str, output_json: str, edges: list[tuple[str, str]]
    ) -> None:
        """Do what :meth:`record_node_complete` does, with edges in the same transaction."""
        _check_json(output_json, "output_json")
        output_json = self._kept(node_label, output_json)
        hash_ = content_hash(output_json)
        if not self._store.hand_complete_step(run_id, node_label, output_json, hash_, self._now(), edges=tuple(edges)):
            raise self._refused(run_id, node_label)
        self._tell(run_id, node_label, StepStatus.COMPLETED.value)

    def record_node_failed(self, run_id: str, node_label: str, error: str) -> None:
        """Record that the last attempt of a node has failed; what it made before stays, and no longer counts.

        Raises:
            RunNotFound: There is no such run, or the node has not started (:class:`NodeNotFound`).
            RunBusy: The engine executes the run.
        """
        if not self._store.hand_fail_step(run_id, node_label, error, self._now()):
            raise self._refused(run_id, node_label)
        self._tell(run_id, node_label, StepStatus.FAILED.value, error)

    def fail_node_and_finish_run(self, run_id: str, node_label: str, error: str) -> None:
        """Do what :meth:`record_node_failed` does, and end the run as failed in the same transaction."""
        run = (RunStatus.FAILED, current_owner())
        if not self._store.hand_fail_step(run_id, node_label, error, self._now(), run=run):
            raise self._refused(run_id, node_label)
        self._tell(run_id, node_label, StepStatus.FAILED.value, error)
        self._tell(run_id, None, "failed")

    def record_edge_traversal(self, run_id: str, upstream_label: str, downstream_label: str) -> None:
        """Record that a node got what another one made; an edge that was recorded before is kept once.

        Raises:
            RunNotFound: There is no such run.
            RunBusy: The engine executes the run.
        """
        if not self._store.hand_insert_edge(run_id, upstream_label, downstream_label, self._now()):
            run = self._require(run_id)
            if run.kind != MANUAL and run.status == RunStatus.RUNNING:
                raise self._refused(run_id)

    def _require(self, run_id: str) -> HandRun:
        run = self._store.hand_get_run(run_id)
        if run is None:
            raise RunNotFound(run_id)
        return run

    def _refused(self, run_id: str, label: str | None = None) -> Exception:
        """Return why a write changed nothing."""
        run = self._store.hand_get_run(run_id)
        if run is None:
            return RunNotFound(run_id)
        if run.kind != MANUAL and run.status == RunStatus.RUNNING:
            until = to_datetime(run.lease_until or 0).isoformat(timespec="seconds")
            return RunBusy(run_id, describe_owner(run.lease_owner or "nobody"), until)
        return NodeNotFound(run_id, str(label), {found.label for found in self._store.list_executions(run_id)})

    # --- reading -----------------------------------------------------------------------------

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
        inner: dict[str, list[DagRun]] = {}
        for child in list_inner_runs(self.ledger, run_id):
            seen = self._inspect(child, _place_of(child, whole.dag_nsref))
            if seen is not None:
                label = child.parent_step or ""
                inner.setdefault(label.partition("[")[0], []).append(seen)
        for one in self._executions(run_id):
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
        if status is not None and status not in _STATUS:
            raise ConfigurationError(
                f"A run cannot be {status!r}.{did_you_mean(status, _STATUS)} It is one of: {', '.join(_STATUS)}."
            )
        page = self.ledger.list_runs(
            status=None if status is None else _STATUS[status],
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


def _check_json(text: str, name: str) -> None:
    try:
        json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} must be JSON text, not {text!r:.60} ({error}). Use json.dumps.") from error


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
