"""What was recorded and no longer counts: outputs that are marked as bad, and what was made of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from milepost.graph import Graph, Node
from milepost.ledger import Ledger
from milepost.model import Run, StepKind
from milepost.states import StepStatus
from milepost.store import CheckpointWrite, StepRow

__all__ = ["INVALID", "find_invalid", "mark_writes", "void_attempts", "void_labels", "void_steps"]

INVALID: Final = "invalid"  # the name under which a mark is saved beside a step
_DONE: Final = frozenset({StepStatus.COMPLETED.value, StepStatus.SKIPPED.value})


def find_invalid(ledger: Ledger, run_id: str) -> dict[str, str]:
    """Return the labels whose output is marked as bad, with the reason; one that was made anew since is good again."""
    found = {}
    for label, value in ledger.store.list_saved(run_id, INVALID):
        mark = json.loads(value)
        made = [step.attempt for step in ledger.store.get_step(run_id, label) if step.status in _DONE]
        if made and made[-1] == mark["attempt"]:  # an attempt that was only begun has made nothing
            found[label] = mark["reason"]
    return found


def void_labels(graph: Graph, labels: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return these labels and all that depends on them, and those of them of which also every element is void.

    An element takes its map along, and leaves the map's other elements as they are.
    """
    labels = list(labels)
    void, whole = set(labels), set()
    waiting: list[int] = []
    for label in labels:
        name = label.partition("[")[0]
        if name not in graph:
            continue
        node = graph[name]
        void.add(name)
        if name == label:
            whole.add(name)
        waiting += node.downstream
    while waiting:
        node = graph.nodes[waiting.pop()]
        if node.label not in whole:
            void.add(node.label)
            whole.add(node.label)
            waiting += node.downstream
    return void, whole


def void_steps(graph: Graph, rows: Sequence[StepRow], invalid: Collection[str]) -> set[str]:
    """Return the labels that do not count, as their outputs are marked as bad or depend on one that is.

    Elements that a map has made anew since it was marked count.
    """
    void, whole = void_labels(graph, invalid)
    marked = {row.label: row.attempt for row in rows if row.label in whole and row.status in _DONE}
    again: dict[str, int] = {}  # of maps whose mark alone makes them void, where they were begun again
    for row in rows:
        if row.label in invalid and row.attempt > marked.get(row.label, row.attempt) and row.label not in again:
            node = graph[row.label]
            if void.isdisjoint(graph.nodes[ref].label for ref in node.upstream):
                again[row.label] = row.seq
    for row in rows:
        if row.parent in whole:
            void.add(row.label)
    for row in rows:
        if row.parent in again and row.status in _DONE and row.seq > again[row.parent]:
            void.discard(row.label)
    return void


def mark_writes(
    run: Run, graph: Graph, rows: Iterable[StepRow], invalid: Mapping[str, str], now: int
) -> list[CheckpointWrite]:
    """Return the marks of the outputs that were made of bad ones: these may be made anew before a death, those not."""
    if not invalid:
        return []
    _, whole = void_labels(graph, invalid)
    made = {row.label: row.attempt for row in rows if row.label in whole and row.status in _DONE}
    told = ", ".join(map(repr, sorted(invalid)[:3])) + (", ..." if len(invalid) > 3 else "")
    return [
        CheckpointWrite(
            run.run_id,
            label,
            INVALID,
            json.dumps({"attempt": attempt, "reason": f"made of the output of {told}, which is bad"}),
            run.lease_epoch,
            now,
        )
        for label, attempt in made.items()
        if label not in invalid
    ]


def void_attempts(
    graph: Graph, rows: Sequence[StepRow], done: Collection[str], void: Collection[str], undone: Mapping[str, int]
) -> dict[str, int]:
    """Return for steps that are runs, and the elements of maps over one, the last attempt whose run no longer counts.

    Args:
        graph: What the run executes.
        rows: Its steps.
        done: The labels that need not run again.
        void: Those whose outputs are bad.
        undone: Where a label was undone, the sequence number of its last undo.
    """
    since: dict[str, int | None] = {}  # where the last of its inputs was made; None: one has still to be made
    if any(node.branches is not None for node in graph.nodes):
        began = {row.label: row.seq for row in rows if row.parent is None and row.kind != StepKind.UNDO}
        since = {node.label: _made(graph, node, began, done) for node in graph.nodes if node.branches is not None}
    found: dict[str, int] = {}
    for row in rows:
        name = row.label if row.parent is None else row.parent
        if name not in since:
            continue
        limit = since[name]
        is_bad = row.label in void and row.status in _DONE
        if limit is None or is_bad or row.seq <= max(limit, undone.get(row.label, 0)):
            found[row.label] = max(row.attempt, found.get(row.label, 0))
    return found


def _made(graph: Graph, node: Node, began: Mapping[str, int], done: Collection[str]) -> int | None:
    last = 0
    seen = set(node.reads)
    waiting = list(node.reads)
    while waiting:
        other = graph.nodes[waiting.pop()]
        if other.transient:  # made again for every process, of the same
            waiting += [ref for ref in other.reads if ref not in seen]
            seen.update(other.reads)
        elif other.label not in done:
            return None
        else:
            last = max(last, began.get(other.label, 0))
    return last
