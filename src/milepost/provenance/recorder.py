"""``DagProvenance``: record runs by hand, and read any run of the ledger, whoever executed it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from milepost.clock import FOR_EVER, to_datetime
from milepost.errors import ConfigurationError, NodeNotFound, RunBusy, RunNotFound
from milepost.graph import Graph
from milepost.ledger import Ledger
from milepost.model import MANUAL, check_run_id
from milepost.owner import current_owner, describe_owner
from milepost.provenance.initiator import run_initiator
from milepost.provenance.reading import Reading, read_status
from milepost.provenance.telling import NodeEvent, Subscribers
from milepost.states import RunStatus, StepStatus
from milepost.store import NewRun
from milepost.stores.original import adopt_original, import_original
from milepost.values import content_hash, encode

__all__ = ["DagProvenance"]


class DagProvenance(Reading):
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
        self._is_own = not isinstance(db_path, Ledger)
        if isinstance(db_path, Ledger):
            ledger = db_path
            self.db_path: str | os.PathLike[str] = db_path.url
        else:
            self.db_path = db_path
            path = os.fspath(db_path)
            is_file = "://" not in path and path != ":memory:"
            if is_file:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                adopt_original(path)
            ledger = Ledger.open(path, durability=durability)
            if is_file:
                import_original(path)
        super().__init__(ledger)
        self._subscribers = Subscribers(self.ledger.url)
        self._now = self.ledger.clock.now
        self._lock = threading.Lock()
        self._seq = 0

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
                lease_until=FOR_EVER,
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
        if not self._store.hand_set_status(
            run_id, read_status(status), is_end=is_end, owner=current_owner(), now=self._now(), result=result
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
        return self._subscribers.add(callback)

    def _tell(self, run_id: str, label: str | None, status: str, error: str | None = None) -> None:
        self._subscribers.tell(NodeEvent(run_id, label, status, error))

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
        is_new = self._store.hand_insert_edge(run_id, upstream_label, downstream_label, self._now())
        if not is_new and self._require(run_id).is_executed:
            raise self._refused(run_id)

    def _refused(self, run_id: str, label: str | None = None) -> Exception:
        """Return why a write changed nothing."""
        run = self._store.hand_get_run(run_id)
        if run is None:
            return RunNotFound(run_id)
        known = {found.label for found in self._store.list_executions(run_id)} if not run.is_executed else ()
        if label is not None and label not in known and not run.is_executed:
            return NodeNotFound(run_id, label, known)
        # Where it is held no more, it was when it refused the write.
        until = to_datetime(self._now() if run.lease_until is None else run.lease_until)
        return RunBusy(run_id, describe_owner(run.lease_owner or "nobody"), until.isoformat(timespec="seconds"))


def _check_json(text: str, name: str) -> None:
    try:
        json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} must be JSON text, not {text!r:.60} ({error}). Use json.dumps.") from error
