"""``DagRunner``: run, restart, replay and pause a Dag, with or without a record of it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from milepost.dag.inputs import inputs_by_name
from milepost.errors import ConfigurationError, RunNotFound
from milepost.ledger import Ledger
from milepost.runtime.outcome import FinishedRun
from milepost.runtime.replaying import plan
from milepost.runtime.run import RunOptions, replay_graph_async, resume_graph_async, run_graph_async
from milepost.runtime.session import RunSession
from milepost.runtime.unrecorded import run_unrecorded
from milepost.states import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from milepost.dag.dag import Dag

__all__ = ["DagRunResult", "DagRunStatus", "DagRunner", "result_of"]

REQUESTED: Final = "somebody asked to pause the run"


class DagRunStatus(StrEnum):
    """How a run of a DagRunner has ended, or that it is paused.

    Example:
        >>> DagRunStatus.PAUSED == "paused"
        True
    """

    COMPLETED = "completed"
    FAILED = "failed"
    PAUSED = "paused"
    CANCELLED = "cancelled"


_STATUS: Final = {
    RunStatus.COMPLETED: DagRunStatus.COMPLETED,
    RunStatus.FAILED: DagRunStatus.FAILED,
    RunStatus.SUSPENDED: DagRunStatus.PAUSED,
    RunStatus.CANCELLED: DagRunStatus.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class DagRunResult:
    """What a run came to.

    Attributes:
        run_id: Its id.
        status: How it ended, or that it is paused.
        outputs: What the final nodes that completed have made, by label; also of a run that failed or is paused.
        failed_node: The node that failed, or that paused the run; None where there is none.
        error: Its message.
        run: The run itself, with more to ask of it.
    """

    run_id: str
    status: DagRunStatus
    outputs: dict[str, Any]
    failed_node: str | None = None
    error: str | None = None
    run: FinishedRun | None = field(default=None, repr=False, compare=False)

    def _repr_html_(self) -> str:
        """Return the run's picture as SVG, as notebooks show it."""
        return f"<pre>{self!r}</pre>" if self.run is None else self.run._repr_html_()


class DagRunner:
    """Runs a Dag on the running event loop; what its nodes raise is in the result, not raised.

    Args:
        dag: What it runs.
        provenance: Where runs are recorded: a ``DagProvenance``, an open ledger, a path or a URL. None, or a
            ``NullProvenance``: nowhere, and nothing is encoded.
        max_concurrency: How many nodes of one run may run at once (32).

    Raises:
        ConfigurationError: The provenance is nothing of these.

    Example:
        >>> import asyncio
        >>> from milepost import Dag, DagRunner
        >>> def double(n: int) -> int:
        ...     return 2 * n
        >>> with Dag("doubling") as dag:
        ...     _ = dag.node(double)
        >>> asyncio.run(DagRunner(dag, ":memory:").run({"double": {"n": 4}})).outputs
        {'double': 8}
    """

    def __init__(
        self,
        dag: Dag,
        provenance: object | Ledger | str | os.PathLike[str] | None = None,
        *,
        max_concurrency: int | None = None,
    ) -> None:
        """Open where it records; nothing runs yet."""
        self.dag = dag
        self.provenance = provenance
        self.ledger = _ledger_of(provenance)
        self._limit = max_concurrency
        self._lock = threading.Lock()
        self._sessions: list[RunSession] = []
        self._pause_next = False

    async def run(
        self,
        source_inputs: Mapping[str, Mapping[str, Any]] | None = None,
        dag_nsref: str | None = None,
        *,
        run_id: str | None = None,
        created_by: str | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> DagRunResult:
        """Run the Dag and return what it came to.

        Args:
            source_inputs: For each node with open parameters, by its label, their values by name.
            dag_nsref: What the run is listed under; the Dag's name if left out.
            run_id: The run's id; a new UUIDv7 if left out.
            created_by: Who started it.
            tags: Plain JSON data kept with the run.

        Raises:
            InputError: A label or a parameter is unknown, or a value is missing or of the wrong type; no run was
                created. It is a ValueError.
            GraphError: The Dag cannot be built.
            RunExists: The run id is taken.
        """
        built = self.dag._build()  # noqa: SLF001 - of one package
        values = built.validate(inputs_by_name(built, source_inputs, self.dag.name), self.dag.name)
        with self._following() as follow:
            if self.ledger is None:
                limit = self._limit or 32
                run = await run_unrecorded(built.graph, values, max_concurrency=limit, on_session=follow)
            else:
                target = self.dag._locate()  # noqa: SLF001
                options = self._options(
                    follow, run_id=run_id, created_by=created_by, tags=tags, workflow=dag_nsref, target=target
                )
                run = await run_graph_async(built.graph, values, "dag", options)
        return await asyncio.to_thread(result_of, run)

    async def restart(self, run_id: str, *, allow_changes: bool = False) -> DagRunResult:
        """Go on with a run that is paused, failed, was cancelled or died, from its completed and skipped nodes.

        Args:
            run_id: The run.
            allow_changes: Take a graph that is not the one it started with. Changed code needs no permission.

        Raises:
            RunNotFound: There is no such run; always so where nothing is recorded.
            InvalidTransition: It has completed.
            RunBusy: A live process executes it; the message names it.
            GraphChanged: The graph has changed; the message says how, node by node.
        """
        self._recorded(run_id)
        with self._following() as follow:
            options = self._options(follow, allow_changes=allow_changes)
            run = await resume_graph_async(self.dag.build(), run_id, options)
        return await asyncio.to_thread(result_of, run)

    async def replay(
        self,
        run_id: str,
        rerun_nodes: Collection[str] = (),
        *,
        downstream: bool = True,
        changed: bool = False,
        allow_changes: bool = False,
        new_run_id: str | None = None,
        created_by: str | None = None,
    ) -> DagRunResult:
        """Make a new run with the inputs of another one, which reuses its outputs.

        The arguments mean what they mean in :meth:`milepost.Dag.replay`.
        """
        ledger = self._recorded(run_id)
        replay = await asyncio.to_thread(
            plan,
            ledger,
            run_id,
            self.dag.build(),
            rerun_nodes,
            changed=changed,
            downstream=downstream,
            allow_changes=allow_changes,
        )
        with self._following() as follow:
            options = self._options(follow, run_id=new_run_id, created_by=created_by)
            run = await replay_graph_async(self.dag.build(), replay, options)
        return await asyncio.to_thread(result_of, run)

    def pause(self) -> None:
        """Ask the runs that this runner executes to pause; where it executes none, the next one. From any thread.

        Nodes that run already end, and are recorded; nothing new starts. A run of which nothing is left completes.
        """
        with self._lock:
            if not self._sessions:
                self._pause_next = True
            for session in self._sessions:
                session.ask_to_pause(REQUESTED)
                session.wake()

    def _recorded(self, run_id: str) -> Ledger:
        if self.ledger is None:
            raise RunNotFound(run_id)
        return self.ledger

    def _options(self, follow: Callable[[RunSession], None], **more: Any) -> RunOptions:
        return RunOptions(ledger=self.ledger, max_concurrency=self._limit, on_session=follow, **more)

    @contextmanager
    def _following(self) -> Iterator[Callable[[RunSession], None]]:
        """Know the session of a run from its beginning to its end."""
        followed: list[RunSession] = []

        def follow(session: RunSession) -> None:
            with self._lock:
                followed.append(session)
                self._sessions.append(session)
                if self._pause_next:
                    self._pause_next = False
                    session.ask_to_pause(REQUESTED)

        try:
            yield follow
        finally:
            with self._lock:
                for session in followed:
                    self._sessions.remove(session)


def result_of(run: FinishedRun) -> DagRunResult:
    """Return what a run came to, with the outputs at hand."""
    error = run.error_message
    return DagRunResult(run.run_id, _STATUS[run.status], dict(run.outputs), run.failed_step, error, run)


def _ledger_of(provenance: object) -> Ledger | None:
    if provenance is None or isinstance(provenance, Ledger):
        return provenance
    if isinstance(provenance, (str, os.PathLike)):
        return Ledger.open(provenance)
    if hasattr(provenance, "create_run") and hasattr(provenance, "get_node_output"):  # one of the provenance classes
        ledger = getattr(provenance, "ledger", None)
        return ledger if isinstance(ledger, Ledger) else None
    raise ConfigurationError(
        f"provenance must be a DagProvenance, a NullProvenance, an open ledger, a path or a URL, not {provenance!r}."
    )
