"""``Dag``: nodes, edges, and the four ways to run them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Self

from milepost.dag.build import Built, NodeSpec, build
from milepost.dag.face import LedgerLike, options_of
from milepost.dag.inputs import inputs_of_call
from milepost.dag.place import find_target, lasting_target
from milepost.dag.replaying import Replaying
from milepost.dag.rolling_back import RollingBack
from milepost.dag.runner import DagRunResult, result_of
from milepost.dag.scheduling import Scheduling
from milepost.dag.submitting import Submitting
from milepost.dag.writing import NodeRef, Writing
from milepost.errors import ConfigurationError
from milepost.graph import Graph
from milepost.runtime.outcome import FinishedRun
from milepost.runtime.progress import Progress
from milepost.runtime.run import RunOptions, resume_graph, resume_graph_async, run_graph, run_graph_async
from milepost.runtime.steps import Step
from milepost.runtime.unrecorded import run_unrecorded

__all__ = ["Dag", "NodeRef"]


class Dag(Writing, Submitting, Scheduling, Replaying, RollingBack):
    """A directed graph of steps that runs durably.

    Args:
        name: The workflow's name in the ledger.

    As a context manager it is checked when the block ends, as :meth:`build` does. Called, ``await dag(n=4)`` runs it
    and records nothing.

    Example:
        >>> def numbers(n: int) -> list[int]:
        ...     return list(range(n))
        >>> def square(n: int) -> int:
        ...     return n * n
        >>> dag = Dag("squares")
        >>> found = dag.node(numbers)                 # n is left open: an input of the run
        >>> squared = dag.map(square, found)          # one step for each element
        >>> total = dag.node(sum, label="total", iterable=squared)
        >>> dag.run(n=4, ledger=":memory:").result()
        14
    """

    kind = "dag"

    def __init__(self, name: str = "unknown") -> None:
        """Begin an empty graph."""
        if not isinstance(name, str) or not name.isprintable() or not name.strip():
            raise ConfigurationError(f"A Dag's name must be printable text that is not empty, not {name!r}.")
        self.name = name
        self._specs: list[NodeSpec] = []
        self._steps: dict[Any, Step[..., Any]] = {}
        self._built: Built | None = None
        self._module = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 - to tell `resume` where we live

    def __repr__(self) -> str:
        """Return name and size."""
        return f"<Dag {self.name!r} with {len(self._specs)} nodes>"

    def __enter__(self) -> Self:
        """Return the Dag; leaving the block checks it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Check it, unless something else went wrong."""
        if kind is None:
            self.build()

    async def __call__(self, **inputs: Any) -> DagRunResult:
        """Run the graph on the running event loop, recording and encoding nothing, and return what it came to.

        Args:
            inputs: The inputs by name; or under the label of a node, a dict of the inputs of that node alone.

        Raises:
            InputError: Inputs are missing, unknown or of the wrong type.
            GraphError: The graph cannot be built.
        """
        built = self._build()
        values = built.validate(inputs_of_call(built, inputs, self.name), self.name)
        return result_of(await run_unrecorded(built.graph, values))

    def _repr_html_(self) -> str:
        """Return the graph's picture as SVG, as notebooks show it."""
        from milepost.draw import svg  # late: most programs draw nothing

        return svg(self.build())

    # --- building ----------------------------------------------------------------------------

    def build(self) -> Graph:
        """Check everything and return the graph.

        Raises:
            GraphError: Ambiguity, a cycle, a label used twice, an unknown parameter, a type that
                does not fit; the message names the nodes and the remedy.
        """
        return self._build().graph

    def validate(self) -> None:
        """Check everything, as :meth:`build` does.

        Raises:
            GraphError: As :meth:`build`.
        """
        self.build()

    def topological_order(self) -> list[str]:
        """Return the labels of the nodes in an order they can run in.

        Example:
            >>> dag = Dag("pair")
            >>> a, b = dag.node(lambda: 1, label="a"), dag.node(lambda n: n, label="b")
            >>> _ = a >> b
            >>> dag.topological_order(), dag.sources(), dag.sinks()
            (['a', 'b'], ['a'], ['b'])
        """
        graph = self.build()
        return [graph.nodes[index].label for index in graph.order]

    def sources(self) -> list[str]:
        """Return the labels of the nodes that no other node comes before."""
        return [node.label for node in self.build().nodes if not node.upstream]

    def sinks(self) -> list[str]:
        """Return the labels of the final nodes: whose outputs are those of a run."""
        graph = self.build()
        return [graph.nodes[index].label for index in graph.sinks]

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs of a run: parameter name to annotation, required ones first."""
        specs = self._build().inputs
        ordered = sorted(specs.values(), key=lambda spec: not spec.is_required)
        return {spec.name: spec.annotation for spec in ordered}

    def _build(self) -> Built:
        if self._built is None:
            self._built = build(self.name, self._specs)
        return self._built

    # --- running -----------------------------------------------------------------------------

    def run(
        self,
        *,
        inputs: Mapping[str, Any] | None = None,
        ledger: LedgerLike = None,
        run_id: str | None = None,
        max_concurrency: int | None = None,
        executor: Executor | None = None,
        durability: str | None = None,
        tags: Mapping[str, Any] | None = None,
        target: str | None = None,
        on_start: Callable[[Progress], None] | None = None,
        **more_inputs: Any,
    ) -> FinishedRun:
        """Run the graph to its end in this thread and return the finished run, whatever its status.

        Args:
            inputs: The inputs by name; for names that are arguments here.
            ledger: An open ledger, a path or a URL; None means ``MILEPOST_LEDGER``, else
                ``milepost.db``.
            run_id: The run's id; a new UUIDv7 if left out.
            max_concurrency: How many steps may run at once (32).
            executor: Where bodies of sync steps run; threads if left out.
            durability: ``"power"`` (default) or ``"process"``, where the ledger is opened here.
            tags: Plain JSON data kept with the run.
            target: Where ``milepost resume`` finds this Dag again: ``file.py:dag``, or ``file.py:build``
                for a function without required parameters that returns it. Found by itself where
                the Dag is a variable that importing its file makes.
            on_start: Called once with the live progress before the first step.
            more_inputs: The inputs by name.

        Raises:
            InputError: Inputs are missing, unknown or of the wrong type; no run was created.
            GraphError: The graph cannot be built.
            RunExists: The run id is taken.
            StoreError: The ledger cannot be opened or written.
            KeyboardInterrupt: Recorded, then raised again.
        """
        built = self._build()
        values = built.validate(inputs, self.name, more_inputs)
        options = options_of(RunOptions, locals(), target=self._locate(target))
        return run_graph(built.graph, values, self.kind, options)

    async def run_async(
        self,
        *,
        inputs: Mapping[str, Any] | None = None,
        ledger: LedgerLike = None,
        run_id: str | None = None,
        max_concurrency: int | None = None,
        executor: Executor | None = None,
        durability: str | None = None,
        tags: Mapping[str, Any] | None = None,
        target: str | None = None,
        on_start: Callable[[Progress], None] | None = None,
        **more_inputs: Any,
    ) -> FinishedRun:
        """Do what :meth:`run` does on the running event loop, without ever blocking it."""
        built = self._build()
        values = built.validate(inputs, self.name, more_inputs)
        options = options_of(RunOptions, locals(), target=self._locate(target))
        return await run_graph_async(built.graph, values, self.kind, options)

    def resume(
        self,
        run_id: str,
        *,
        ledger: LedgerLike = None,
        max_concurrency: int | None = None,
        executor: Executor | None = None,
        durability: str | None = None,
        target: str | None = None,
        allow_changes: bool = False,
        on_start: Callable[[Progress], None] | None = None,
    ) -> FinishedRun:
        """Take a run up where it died, failed, was cancelled or paused; completed steps do not run again.

        Args:
            run_id: The run.
            ledger: As for :meth:`run`.
            max_concurrency: As for :meth:`run`.
            executor: As for :meth:`run`.
            durability: As for :meth:`run`.
            target: Replaces the stored target.
            allow_changes: Go on with a graph that is not the one it started with: completed steps that it still has
                count as done. Code that changed needs no permission; ``changes`` of the finished run tells of both.
            on_start: As for :meth:`run`.

        Raises:
            RunNotFound: There is no such run.
            InvalidTransition: It is completed.
            RunBusy: Another live process executes it.
            GraphChanged: This graph is not the one it started with; the message says how.
            ValueNotRestorable: A stored output that is needed cannot be restored.
        """
        options = options_of(RunOptions, locals(), target=lasting_target(target), run_id=None)
        return resume_graph(self.build(), run_id, options)

    async def resume_async(
        self,
        run_id: str,
        *,
        ledger: LedgerLike = None,
        max_concurrency: int | None = None,
        executor: Executor | None = None,
        durability: str | None = None,
        target: str | None = None,
        allow_changes: bool = False,
        on_start: Callable[[Progress], None] | None = None,
    ) -> FinishedRun:
        """Do what :meth:`resume` does on the running event loop, without ever blocking it."""
        options = options_of(RunOptions, locals(), target=lasting_target(target), run_id=None)
        return await resume_graph_async(self.build(), run_id, options)

    def _locate(self, target: str | None = None) -> str | None:
        """Return where this Dag is found again: the place that the caller named, else one that leads here."""
        return lasting_target(target) or find_target(self, self._module)
