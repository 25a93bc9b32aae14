"""Undoing the steps of a run: what was undone, what is left of a rollback, and the session that goes on with it.

A step is undone by a step of its own, ``undo:<label>``, which is recorded as any other; from then on the
undone one counts as not begun. A rollback that has begun is marked in the ledger, by a checkpoint of the run
itself, in the commit before its first undo; the mark is taken away by the commit of its last. While it stands,
whoever takes the run up goes on backward.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from milepost.engine import History, RollbackPlan, Undoable, list_elements, plan_rollback
from milepost.graph import Binding, Graph, Node, Source
from milepost.ledger import Ledger
from milepost.model import Run, StepKind
from milepost.runtime.context import StepContext
from milepost.runtime.flight import Flight
from milepost.runtime.session import RunSession
from milepost.runtime.steps import OUTPUT, Step, classes_of
from milepost.states import RunStatus, StepStatus
from milepost.store import CheckpointWrite, RunEnd, StepRow

__all__ = ["ROLLED_BACK", "UNDO", "Mark", "begin_write", "find_mark", "plan_undo", "undo_session", "undone_after"]

UNDO: Final = "undo:"  # before the label of a step, the label of the one that undoes it
ROLLED_BACK: Final = "RolledBack"  # the type of error that a run ends with when everything asked for is undone
_OF_RUN: Final = ""  # the label of what belongs to the run and to none of its steps
_NAME: Final = "rollback"
_CACHED: Final = 32  # outputs that are kept at hand for the undos to come

Mark = dict[str, Any]
"""``{"to": label or None}``: where a rollback that has begun is going."""


# --- what was undone -----------------------------------------------------------------------------


def undone_after(rows: Iterable[StepRow]) -> dict[str, int]:
    """Return for each label that was undone the sequence number of its last undo: what came before it is void."""
    found: dict[str, int] = {}
    for row in rows:
        if row.kind == StepKind.UNDO and row.status == StepStatus.COMPLETED.value:
            label = row.label.removeprefix(UNDO)
            found[label] = max(row.seq, found.get(label, 0))
    return found


def find_mark(ledger: Ledger, run_id: str) -> Mark | None:
    """Return the mark of a rollback that has begun and not ended, or None."""
    text = ledger.store.get_checkpoint(run_id, _OF_RUN, _NAME)
    found: Mark | None = None if text is None else json.loads(text)
    return found


def begin_write(ledger: Ledger, run: Run, to: str | None) -> CheckpointWrite:
    """Return the checkpoint that says that a rollback begins."""
    return _mark_write(ledger, run, {"to": to})


def _mark_write(ledger: Ledger, run: Run, mark: Mark | None) -> CheckpointWrite:
    return CheckpointWrite(run.run_id, _OF_RUN, _NAME, json.dumps(mark), run.lease_epoch, ledger.clock.now())


def plan_undo(graph: Graph, rows: Sequence[StepRow], to: str | None) -> RollbackPlan:
    """Decide what a rollback undoes.

    Steps are undone in the reverse of the order in which they began; a map counts as begun after its last element,
    so that its elements stay with it.

    Raises:
        KeyError: Nothing of the label ``to`` has run.
    """
    void = undone_after(rows)
    # The earliest attempt that completed and still counts; a copy of another run's has nothing to undo.
    first = {row.label: row for row in rows if row.status == StepStatus.SKIPPED.value}
    last: dict[str, int] = {}
    for row in rows:
        if row.kind != StepKind.UNDO and row.status == StepStatus.COMPLETED.value and row.seq > void.get(row.label, 0):
            known = first.get(row.label)
            if known is None or known.status == StepStatus.SKIPPED.value or row.seq < known.seq:
                first[row.label] = row
            if row.parent is not None:
                last[row.parent] = max(last.get(row.parent, 0), row.seq)
    ordered = sorted(first.values(), key=lambda row: (max(row.seq, last.get(row.label, 0)), row.parent is None))
    steps = []
    for row in ordered:
        is_own = row.status == StepStatus.COMPLETED.value
        steps.append(Undoable(row.label, is_own, False, _is_settled(_node_of(graph, row.label, row.parent))))
    return plan_rollback(steps, to)


def _node_of(graph: Graph, label: str, parent: str | None) -> Node | None:
    """Return the node of a step or an element, None where a resume went on with a graph that has none."""
    name = label if parent is None else parent
    if name not in graph:
        return None
    node = graph[name]
    return node if parent is None or node.is_map else None


def _is_settled(node: Node | None) -> bool:
    """Return whether somebody says how to undo a node, or nothing is there to undo."""
    return node is not None and (node.pure or node.wait is not None or _undo_of(node) is not None)


def _undo_of(node: Node) -> Step[..., Any] | None:
    found: Step[..., Any] | None = getattr(node.body, "undo", None)
    return found


# --- going backward ------------------------------------------------------------------------------


def undo_session(
    ledger: Ledger, run: Run, graph: Graph, inputs: Mapping[str, Any], rows: Sequence[StepRow], to: str | None
) -> RunSession:
    """Return the session that undoes what is left of a rollback, and then ends the run as rolled back.

    Args:
        ledger: Where it is recorded.
        run: The run, claimed.
        graph: What it executed.
        inputs: Its inputs.
        rows: Its steps.
        to: The step that stays, None for none.
    """
    plan = plan_undo(graph, rows, to)
    parents = {row.label: row.parent for row in rows if row.parent is not None}
    recorded = _Recorded(ledger, run.run_id, graph, inputs)
    nodes: list[Node] = []
    for index, label in enumerate(plan.undo):
        body, retry = _NOTHING, None
        node = _node_of(graph, label, parents.get(label))
        if node is not None and not (node.is_map and label == node.label) and (undo := _undo_of(node)) is not None:
            body, retry = _body(undo, recorded, node, label), undo.retry
        nodes.append(Node(UNDO + label, body, after=(index - 1,) if index else (), retry=retry, undoes=label))
    tries: dict[str, tuple[int, int]] = {}
    for row in rows:
        tries[row.label] = max(tries.get(row.label, (0, 0)), (row.attempt, 0))
    session = RunSession(
        ledger,
        run.run_id,
        run.lease_epoch,
        Graph(graph.name, nodes),
        {},
        history=History(tries=tries),
        seq=ledger.store.max_seq(run.run_id),
        companion=_Undoing(ledger, run, to, {node.label for node in nodes}),
    )
    session.family = run.root_run_id, run.created_by
    session.belongs_to(run)
    session.workflow = run.workflow
    return session


class _Undoing:
    """Takes the mark away with the last undo, and ends the run as what it is then."""

    def __init__(self, ledger: Ledger, run: Run, to: str | None, left: set[str]) -> None:
        self._ledger = ledger
        self._run = run
        self._to = to
        self._left = left

    def gives_up(self, flight: Flight) -> bool:
        """Return False: an undo may have a retry policy of its own."""
        return False

    def ended(self, flight: Flight, status: StepStatus, delay: float | None) -> Sequence[CheckpointWrite]:
        """Return the end of the mark with the last undo; an interrupted driver may tell of one twice."""
        if status == StepStatus.COMPLETED:
            self._left.discard(flight.call.label)
        return () if self._left else [_mark_write(self._ledger, self._run, None)]

    def stopped(self, flights: Sequence[Flight], message: str) -> Sequence[CheckpointWrite]:
        """Return nothing: what was not undone stays complete until the rollback goes on."""
        return ()

    def holds_on(self) -> bool:
        """Return False: the run ends with its last undo."""
        return False

    def ending(self, now: int) -> RunEnd:
        """Return the end of a run whose steps are undone."""
        until = "all its steps" if self._to is None else f"to step {self._to!r}"
        return RunEnd(RunStatus.CANCELLED, now, None, ROLLED_BACK, f"rolled back {until}")


class _Recorded:
    """What the steps of a run were given and made, read back from the ledger when an undo asks for it."""

    def __init__(self, ledger: Ledger, run_id: str, graph: Graph, inputs: Mapping[str, Any]) -> None:
        known = classes_of(graph)
        self._graph = graph
        self._inputs = inputs
        self._output = lru_cache(_CACHED)(lambda label: ledger.get_output(run_id, label, known=known))
        self._elements = lru_cache(_CACHED)(self._load_elements)

    def arguments(self, undo: Step[..., Any], node: Node, label: str) -> dict[str, Any]:
        """Return what an undo has parameters for."""
        asked = {parameter.name for parameter in undo.parameters}
        kwargs = {}
        for binding in node.bindings:
            if (binding.param in asked or undo.takes_any_keyword) and binding.param != OUTPUT:
                found = self._value(binding, node, label)
                if found is not _ABSENT:
                    kwargs[binding.param] = found
        if OUTPUT in asked:
            kwargs[OUTPUT] = self._output(label)
        return kwargs

    def _value(self, binding: Binding, node: Node, label: str) -> Any:
        if binding.source == Source.NODE:
            return self._output(self._graph.nodes[binding.ref].label)
        if binding.source == Source.NODES:
            return [self._output(self._graph.nodes[ref].label) for ref in binding.ref]
        if binding.source == Source.ELEMENT:
            return self._elements(node.label)[label]
        if binding.source == Source.INPUT:
            return self._inputs.get(binding.ref, _ABSENT)  # an optional one that was left out: the undo's own default
        return binding.ref

    def _load_elements(self, label: str) -> dict[str, Any]:
        node = self._graph[label]
        assert node.over is not None
        elements, keys = list_elements(label, self._value(node.over, node, label))
        names = range(len(elements)) if keys is None else keys
        return {f"{label}[{name!r}]": element for name, element in zip(names, elements, strict=True)}


_ABSENT: Final = object()


def _body(undo: Step[..., Any], recorded: _Recorded, node: Node, label: str) -> Step[..., Any]:
    def arguments(context: StepContext) -> dict[str, Any]:
        kwargs = recorded.arguments(undo, node, label)
        if undo.context_parameter is not None:
            kwargs[undo.context_parameter] = context
        return kwargs

    async def perform_async(context: StepContext) -> None:
        await undo.fn(**await asyncio.to_thread(arguments, context))

    def perform(context: StepContext) -> None:
        undo.fn(**arguments(context))

    body: Callable[..., Any] = perform_async if undo.is_async else perform
    body.__annotations__["context"] = undo.context_class
    return Step(body, name=undo.name, timeout=undo.timeout)


def _nothing() -> None:
    pass


_NOTHING: Final = Step(_nothing, name="nothing to undo")
