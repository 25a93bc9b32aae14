"""A validated, ordered graph of steps: plain data, no I/O.

A :class:`Graph` is built once and then only read. Everything the engine asks per step (who waits
for me, whose output do I use) is an index made here, so that the cost of a step does not grow
with the graph.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from milepost.errors import GraphError, MilepostError
from milepost.model import Retry
from milepost.values import content_hash, encode

__all__ = [
    "ELEMENT_MARK",
    "Binding",
    "Graph",
    "Node",
    "Source",
    "changed_code",
    "compare_definitions",
    "fingerprint",
]


_LONGEST_VALUE: Final = 2**24  # characters of a plain value that a row repeats: the row needs room for the output

ELEMENT_MARK: Final = '"\x00"'  # stands for an element's position: a text that JSON can never contain


class Source:
    """Where the value of a parameter comes from."""

    NODE: Final = 0  # the output of another node
    INPUT: Final = 1  # an input of the run
    VALUE: Final = 2  # a plain value written into the graph
    ELEMENT: Final = 3  # the element that a map hands to this step
    NODES: Final = 4  # the outputs of several nodes, as a list in the order of their edges


@dataclass(frozen=True, slots=True)
class Binding:
    """One parameter of a node and the source of its value.

    ``ref`` is the upstream's index (of several, a tuple of them), the input's name or the value itself, as ``source``
    says.
    """

    param: str
    source: int
    ref: Any = None


@dataclass(slots=True)
class Node:
    """One node: a step, or a map that runs its step once for each element.

    ``body`` is opaque here: the drivers know how to call it. ``after`` names upstream nodes (by
    index) that only order this one. ``branches`` are the graphs of which it runs one as a run of its own: the only
    one is named "" in a sub-DAG, each has its label in a switch.
    """

    label: str
    body: Any
    bindings: tuple[Binding, ...] = ()
    over: Binding | None = None
    concurrency: int | None = None
    after: tuple[int, ...] = ()
    retry: Retry | None = None
    transient: bool = False
    at_most_once: bool = False
    pure: bool = False
    wait: str | None = None  # "sleep" or "event": nothing runs, the run waits
    branches: Mapping[str, Graph] | None = None
    flatten: bool = False  # of a map: its output is one list of what the elements' lists hold
    tolerate: float = 0  # of a map, how many elements may fail: a number, or below 1 a part of all
    undoes: str | None = None  # the label of the completed step that this one undoes
    index: int = -1
    upstream: tuple[int, ...] = field(default=(), repr=False)
    downstream: list[int] = field(default_factory=list, repr=False)
    reads: tuple[int, ...] = field(default=(), repr=False)  # upstream nodes whose value is used
    readers: int = 0  # downstream nodes that use the value, not only the order

    @property
    def is_map(self) -> bool:
        """Whether this node runs its step once for each element."""
        return self.over is not None

    @property
    def kind(self) -> str:
        """What the node is called in definitions: ``step``, ``map``, ``wait``, ``subrun`` or ``switch``."""
        if self.wait is not None:
            return "wait"
        return "map" if self.is_map else self.own_kind

    @property
    def own_kind(self) -> str:
        """What its step is, whether or not a map runs it: ``step``, ``subrun`` or ``switch``."""
        if self.branches is None:
            return "step"
        return "subrun" if "" in self.branches else "switch"

    @property
    def code(self) -> str | None:
        """The hash of what it runs, None where nobody can tell."""
        code: str | None = getattr(self.body, "code", None)
        return code


class Graph:
    """Nodes in the order they were added, their edges, and the order they can run in.

    Attributes:
        check_inputs: Returns a run's inputs, checked and converted, or raises InputError; None where the
            face that made the graph has no way to say what fits.

    Raises:
        GraphError: Two nodes share a label, or the edges form a cycle.
    """

    __slots__ = (
        "_definition",
        "_element_texts",
        "_input_texts",
        "_labels",
        "check_inputs",
        "name",
        "nodes",
        "order",
        "sinks",
        "version",
    )

    def __init__(self, name: str, nodes: Sequence[Node]) -> None:
        """Index, check and order the nodes."""
        self.name = name
        self.version: str | None = None  # of the workflow, where its face knows versions
        self.nodes = nodes
        self.check_inputs: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
        self._labels: dict[str, int] = {}
        for index, node in enumerate(nodes):
            if node.label in self._labels:
                message = (
                    f"Two nodes of {name!r} are labelled {node.label!r}. "
                    'Give one of them another name with label="...".'
                )
                raise GraphError(message)
            self._labels[node.label] = index
            node.index = index
            node.downstream = []
            node.readers = 0
        for node in nodes:
            used = [b.ref for b in node.bindings if b.source == Source.NODE]
            used += [ref for b in node.bindings if b.source == Source.NODES for ref in b.ref]
            if node.over is not None and node.over.source == Source.NODE:
                used.append(node.over.ref)
            node.reads = tuple(dict.fromkeys(used))
            for ref in node.reads:
                nodes[ref].readers += 1
            node.upstream = tuple(dict.fromkeys((*used, *node.after)))
            for ref in node.upstream:
                nodes[ref].downstream.append(node.index)
        self.order = self._topological_order()
        self._definition: tuple[str, str] | None = None
        self._input_texts: list[str] | None = None
        self._element_texts: dict[int, str] | None = None
        self.sinks = tuple(node.index for node in nodes if not node.downstream)

    @property
    def replays(self) -> bool:
        """Whether its execution takes every recorded value, by label, when a run goes on."""
        return False

    def begin(self, inputs: Mapping[str, Any], history: Any, run_id: str) -> Any:
        """Return an execution of its own for a run, or None: the engine executes it as it stands."""
        return None

    def plans(self) -> tuple[Any, Mapping[str, tuple[Any, Any]]] | None:
        """Return what observers hear of it: its own plan, and by label those of a step's process and of the step.

        None where it is no pipeline: every step belongs to the run itself.
        """
        return None

    def of_definition(self, stored: str) -> Graph | None:
        """Return the graph of a definition that a run began with, or None where only this one can be executed."""
        return None

    def as_submitted(self, stored: str) -> Graph:
        """Return what a run of this graph begins with that was submitted with such a definition: the graph of today.

        Another one only where the definition says which part of it was asked for.
        """
        return self

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.nodes)

    def __contains__(self, label: object) -> bool:
        """Return whether a node bears this label."""
        return label in self._labels

    def __getitem__(self, label: str) -> Node:
        """Return the node of this label.

        Raises:
            KeyError: No node bears it.
        """
        return self.nodes[self._labels[label]]

    @property
    def labels(self) -> Iterable[str]:
        """All labels, in the order the nodes were added."""
        return self._labels.keys()

    def edges(self) -> Iterable[tuple[str, str]]:
        """Yield every edge as (upstream label, downstream label)."""
        for node in self.nodes:
            for ref in node.upstream:
                yield self.nodes[ref].label, node.label

    @property
    def definition(self) -> str:
        """The graph as JSON text: what a stored run is compared with, and drawn from.

        It names labels, kinds, parameters with their sources, edges, and the graphs of sub-DAGs. The hashes of the
        steps' code in it tell what changed since; they are no difference that keeps a corrected function from
        resuming a run.
        """
        return self._define()[0]

    @property
    def fingerprint(self) -> str:
        """The hash under which the definition is stored."""
        return self._define()[1]

    @property
    def input_texts(self) -> list[str]:
        """For each node the JSON text that says where its arguments come from, by reference.

        A run records "the output of step s" instead of a second copy of the value.
        """
        if self._input_texts is None:
            self._input_texts = [self._input_text(node) for node in self.nodes]
        return self._input_texts

    @property
    def element_texts(self) -> dict[int, str]:
        """For each map the same for one element, whose position takes the place of :data:`ELEMENT_MARK`.

        A plain value is not repeated for every element: it is named by the map, whose own row has it.
        """
        if self._element_texts is None:
            maps = [node for node in self.nodes if node.is_map]
            self._element_texts = {node.index: self._input_text(node, is_element=True) for node in maps}
        return self._element_texts

    def with_inputs(self, inputs: Mapping[str, Any]) -> Graph:
        """Return the graph in which ``label.name`` among the inputs is the input ``name`` of that one node.

        Example:
            >>> graph = Graph("g", [Node("a", None, (Binding("n", Source.INPUT, "n"),))])
            >>> graph.with_inputs({"a.n": 1}).nodes[0].bindings[0].ref
            'a.n'
        """
        if not any("." in name for name in inputs):
            return self
        nodes = []
        for node in self.nodes:
            bindings = tuple(
                Binding(b.param, b.source, f"{node.label}.{b.ref}")
                if b.source == Source.INPUT and f"{node.label}.{b.ref}" in inputs
                else b
                for b in node.bindings
            )
            nodes.append(replace(node, bindings=bindings))
        graph = Graph(self.name, nodes)
        graph._definition = self._define()
        graph.check_inputs = self.check_inputs
        return graph

    def _input_text(self, node: Node, *, is_element: bool = False) -> str:
        parts = [f"{encode(b.param)}:{self._source_text(node, b, is_element=is_element)}" for b in node.bindings]
        return "{" + ",".join(parts) + "}"

    def _source_text(self, node: Node, binding: Binding, *, is_element: bool) -> str:
        if binding.source == Source.ELEMENT:
            assert node.over is not None
            item = ELEMENT_MARK if is_element else "null"
            return self._source_text(node, node.over, is_element=is_element)[:-1] + f',"item":{item}}}'
        if binding.source == Source.NODE:
            return f'{{"step":{encode(self.nodes[binding.ref].label)}}}'
        if binding.source == Source.NODES:
            return f'{{"steps":{encode([self.nodes[ref].label for ref in binding.ref])}}}'
        if binding.source == Source.INPUT:
            return f'{{"input":{encode(binding.ref)}}}'
        if is_element:
            return f'{{"map":{encode(node.label)}}}'
        try:
            text = encode(binding.ref)
        except MilepostError:  # a value written into the graph lives in code: it need not be storable
            text = ""
        if not 0 < len(text) <= _LONGEST_VALUE:
            return f'{{"unstored":{encode(type(binding.ref).__qualname__)}}}'
        return f'{{"value":{text}}}'

    def _define(self) -> tuple[str, str]:
        if self._definition is None:
            text = self._definition_text()
            self._definition = text, fingerprint(text)
        return self._definition

    def _definition_text(self) -> str:
        nodes = [
            {
                "label": node.label,
                "kind": node.kind,
                "params": {b.param: self._describe(b) for b in node.bindings},
                **({"over": self._describe_over(node.over)} if node.over is not None else {}),
                "upstream": [self.nodes[ref].label for ref in node.upstream],
                **({} if node.code is None else {"code": node.code}),
                **({} if node.branches is None else {"branches": _definitions(node.branches)}),
            }
            for node in self.nodes
        ]
        return json.dumps({"name": self.name, "nodes": nodes}, separators=(",", ":"), ensure_ascii=False)

    def _describe(self, binding: Binding) -> dict[str, Any]:
        if binding.source == Source.NODE:
            return {"step": self.nodes[binding.ref].label}
        if binding.source == Source.NODES:
            return {"steps": [self.nodes[ref].label for ref in binding.ref]}
        if binding.source == Source.INPUT:
            return {"input": binding.ref}
        if binding.source == Source.ELEMENT:
            return {"element": ""}
        return {"value": type(binding.ref).__qualname__}

    def _describe_over(self, binding: Binding) -> dict[str, str]:
        described = self._describe(binding)
        if binding.source == Source.VALUE:
            # Finished elements are known by their position: they may only meet the same values again.
            try:
                described["hash"] = content_hash(encode(binding.ref))
            except MilepostError:
                pass  # what cannot be stored cannot be compared either
        return described

    def _topological_order(self) -> tuple[int, ...]:
        waiting = [len(node.upstream) for node in self.nodes]
        ready = deque(index for index, count in enumerate(waiting) if count == 0)
        order: list[int] = []
        while ready:
            index = ready.popleft()
            order.append(index)
            for ref in self.nodes[index].downstream:
                waiting[ref] -= 1
                if waiting[ref] == 0:
                    ready.append(ref)
        if len(order) < len(self.nodes):
            cycle = self._find_cycle({i for i, count in enumerate(waiting) if count})
            message = (
                f"The graph {self.name!r} goes round in a circle: {' -> '.join(cycle)}. "
                "Remove one of these edges; to repeat work, loop inside a step."
            )
            raise GraphError(message)
        return tuple(order)

    def _find_cycle(self, blocked: set[int]) -> list[str]:
        # Every blocked node has a blocked upstream: walking upstream must meet a node twice.
        index = min(blocked)
        seen: dict[int, int] = {}
        path: list[int] = []
        while index not in seen:
            seen[index] = len(path)
            path.append(index)
            index = next(ref for ref in self.nodes[index].upstream if ref in blocked)
        loop = [*path[seen[index] :], index]
        return [self.nodes[ref].label for ref in reversed(loop)]


def _definitions(branches: Mapping[str, Graph]) -> dict[str, Any]:
    return {name: json.loads(graph.definition) for name, graph in branches.items()}


def fingerprint(definition: str) -> str:
    """Return the hash under which a definition is stored.

    Example:
        >>> len(fingerprint("{}"))
        32
    """
    return hashlib.blake2b(definition.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def compare_definitions(stored: str, offered: str) -> list[str]:
    """Say, one sentence part per difference, how the offered graph differs from the stored one.

    Example:
        >>> a = '{"name":"g","nodes":[{"label":"x","kind":"step","params":{},"upstream":[]}]}'
        >>> compare_definitions(a, a.replace('"x"', '"y"'))
        ["step 'x' is gone", "step 'y' is new"]
    """
    return _compare(json.loads(stored), json.loads(offered))


def changed_code(stored: str, offered: str) -> list[str]:
    """Return the labels of the steps whose code is not what it was, in the order of the offered graph.

    Example:
        >>> a = '{"name":"g","nodes":[{"label":"x","kind":"step","params":{},"upstream":[],"code":"1"}]}'
        >>> changed_code(a, a.replace('"1"', '"2"'))
        ['x']
    """
    before = {node["label"]: node.get("code") for node in json.loads(stored)["nodes"]}
    return [
        node["label"]
        for node in json.loads(offered)["nodes"]
        if node["label"] in before and before[node["label"]] != node.get("code")
    ]


def _compare(stored: dict[str, Any], offered: dict[str, Any]) -> list[str]:
    before = {node["label"]: node for node in stored["nodes"]}
    after = {node["label"]: node for node in offered["nodes"]}
    changes = [f"step {label!r} is gone" for label in before if label not in after]
    changes += [f"step {label!r} is new" for label in after if label not in before]
    for label, old in before.items():
        new = after.get(label)
        if new is None or new == old:
            continue
        if old["kind"] != new["kind"]:
            changes.append(f"step {label!r} was a {old['kind']} and is a {new['kind']}")
        changes += _compare_params(label, old["params"], new["params"])
        changes += _compare_over(label, old.get("over"), new.get("over"))
        changes += _compare_branches(label, old.get("branches") or {}, new.get("branches") or {})
        lost = [name for name in old["upstream"] if name not in new["upstream"]]
        gained = [name for name in new["upstream"] if name not in old["upstream"]]
        changes += [f"the edge {name!r} -> {label!r} is gone" for name in lost]
        changes += [f"the edge {name!r} -> {label!r} is new" for name in gained]
    return changes


def _compare_branches(label: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    changes = [f"branch {name!r} of step {label!r} is gone" for name in old if name not in new and name]
    changes += [f"branch {name!r} of step {label!r} is new" for name in new if name not in old and name]
    for name in old.keys() & new.keys():
        where = f"in {label!r}" if not name else f"in branch {name!r} of {label!r}"
        changes += [f"{where}: {change}" for change in _compare(old[name], new[name])]
    return changes


def _compare_over(label: str, old: dict[str, str] | None, new: dict[str, str] | None) -> list[str]:
    if old == new:
        return []
    if old and new and "hash" in old and "hash" in new and old["value"] == new["value"]:
        return [f"map {label!r} goes over a {new['value']} with other elements"]
    return [f"map {label!r} goes over {_told(new)}, no longer {_told(old)}"]


def _compare_params(label: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    changes = [f"step {label!r} lost its parameter {name!r}" for name in old if name not in new]
    changes += [f"step {label!r} has a new parameter {name!r}" for name in new if name not in old]
    changes += [
        f"parameter {name!r} of step {label!r} comes from {_told(new[name])}, no longer from {_told(old[name])}"
        for name in old
        if name in new and old[name] != new[name]
    ]
    return changes


def _told(source: dict[str, str] | None) -> str:
    if not source:
        return "nothing"
    kind, ref = next(iter(source.items()))
    return "the element" if kind == "element" else f"{kind} {ref!r}"
