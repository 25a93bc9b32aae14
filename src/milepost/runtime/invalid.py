"""Outputs that somebody marked as bad: nothing new is made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from milepost.graph import Graph
from milepost.ledger import Ledger

__all__ = ["INVALID", "find_invalid", "void_labels"]

INVALID: Final = "invalid"  # the name under which a mark is saved beside a step


def find_invalid(ledger: Ledger, run_id: str) -> dict[str, str]:
    """Return the labels whose output is marked as bad, with the reason; one that was made anew since is good again."""
    found = {}
    for label, value in ledger.store.list_saved(run_id, INVALID):
        mark = json.loads(value)
        steps = ledger.store.get_step(run_id, label)
        if steps and steps[-1].attempt == mark["attempt"]:
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
