"""A workflow as a picture: Mermaid, DOT, SVG. Valid for every valid workflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from milepost.dsl.operators import BaseOperator, ConditionOperator, SwitchOperator
from milepost.dsl.structure import Block, block_of, inner_blocks

if TYPE_CHECKING:
    from milepost.dsl.workflow import Workflow

__all__ = ["generate_dot", "to_graphviz", "to_mermaid", "to_svg"]

_KINDS = {
    "task": "fill:#e8f0fe",
    "activity": "fill:#e8f0fe",
    "condition": "fill:#fef7e0",
    "switch": "fill:#fef7e0",
    "parallel": "fill:#e6f4ea",
    "foreach": "fill:#f3e8fd",
    "while": "fill:#f3e8fd",
    "wait": "fill:#fce8e6",
}


class _Names:
    """Gives every node of a picture an id of its own, whatever nodes are called."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def name(self, text: str) -> str:
        base = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in text) or "node"
        base = base if not base[0].isdigit() else f"n_{base}"
        if base in _WORDS:
            base += "_"
        found, count = base, 1
        while found in self._used:
            count += 1
            found = f"{base}_{count}"
        self._used.add(found)
        return found


_WORDS = frozenset(
    {
        "state",
        "note",
        "end",
        "class",
        "classDef",
        "direction",
        "as",
        "node",
        "edge",
        "graph",
        "digraph",
        "subgraph",
        "strict",
    }
)


def _edges(block: Block) -> Iterator[tuple[str, str, str]]:
    """Yield (from, to, label) once for each pair."""
    labelled: dict[tuple[str, str], str] = {}
    for name in block.nodes:
        for other in block.needs[name]:
            labelled.setdefault((other, name), "")
    for name, routes in block.routes.items():
        for route in routes:
            labelled[(route.source, name)] = {
                "success": "On Success",
                "failure": "On Failure",
                "default": "Default",
            }.get(route.key, route.key.removeprefix("="))
    for name, node in block.nodes.items():
        if isinstance(node, ConditionOperator):
            for first, told in ((node.if_true, "True"), (node.if_false, "False")):
                if first in block.nodes:
                    labelled[(name, first)] = told
    for (source, target), label in labelled.items():
        yield source, target, label


def to_mermaid(workflow: Workflow) -> str:
    """Return a workflow as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    classDef {kind} {style}" for kind, style in _KINDS.items()]
    names = _Names()
    _mermaid_scope(dict(workflow.tasks), lines, names, "    ")
    return "\n".join(lines) + "\n"


def _mermaid_scope(nodes: dict[str, BaseOperator], lines: list[str], names: _Names, pad: str) -> None:
    block = block_of(nodes)
    ids = {name: names.name(name) for name in nodes}
    for name, node in nodes.items():
        kind = node.operator_type.value
        lines.append(f'{pad}state "{_mermaid_text(name)}" as {ids[name]}')
        if kind in _KINDS:
            lines.append(f"{pad}class {ids[name]} {kind}")
        if node.description:
            lines.append(f"{pad}note right of {ids[name]}: {_mermaid_text(f'{kind}. {node.description}')}")
        scopes = [(branch, inner) for branch, inner in inner_blocks(node) if inner]
        if scopes:
            lines.append(f"{pad}state {ids[name]} {{")
            for i, (_, inner) in enumerate(scopes):
                if i:
                    lines.append(f"{pad}    --")
                _mermaid_scope(inner, lines, names, pad + "    ")
            lines.append(f"{pad}}}")
    for name in nodes:
        if not block.needs[name] and not block.routes[name] and not block.gates[name]:
            lines.append(f"{pad}[*] --> {ids[name]}")
    for source, target, label in _edges(block):
        told = f" : {_mermaid_text(label)}" if label else ""
        lines.append(f"{pad}{ids[source]} --> {ids[target]}{told}")
    for name in nodes:
        if not block.dependants[name] and not _calls(block, name):
            lines.append(f"{pad}{ids[name]} --> [*]")


def _calls(block: Block, name: str) -> bool:
    node = block.nodes[name]
    if isinstance(node, ConditionOperator):
        return node.if_true in block.nodes or node.if_false in block.nodes
    return isinstance(node, SwitchOperator)


def _mermaid_text(text: str) -> str:
    swaps = {
        '"': "#quot;",
        "#": "#35;",
        ";": "#59;",
        "\n": " ",
        ":": "#58;",
        "{": "#123;",
        "}": "#125;",
        "<": "#lt;",
        ">": "#gt;",
    }
    return "".join(swaps.get(c, c) for c in " ".join(text.split()))


def to_graphviz(workflow: Workflow) -> str:
    """Return a workflow in DOT."""
    names = _Names()
    lines = [
        f'digraph "{_dot_text(workflow.name)}" {{',
        "    compound=true;",
        '    node [shape=box, style="rounded,filled", fillcolor="#f8f9fa"];',
    ]
    edges: list[str] = []
    _dot_scope(dict(workflow.tasks), lines, edges, names, "    ")
    return "\n".join([*lines, *edges, "}"]) + "\n"


def _dot_scope(
    nodes: dict[str, BaseOperator], lines: list[str], edges: list[str], names: _Names, pad: str
) -> dict[str, str]:
    block = block_of(nodes)
    ids = {name: names.name(name) for name in nodes}
    for name, node in nodes.items():
        kind = node.operator_type.value
        color = _KINDS.get(kind, "fill:#f8f9fa").removeprefix("fill:")
        lines.append(f'{pad}{ids[name]} [label="{_dot_text(name)}\\n{kind}", fillcolor="{color}"];')
        for branch, inner in inner_blocks(node):
            if not inner:
                continue
            lines.append(f"{pad}subgraph cluster_{names.name(f'{name}_{branch}')} {{")
            lines.append(f'{pad}    label="{_dot_text(branch or name)}";')
            held = _dot_scope(inner, lines, edges, names, pad + "    ")
            lines.append(f"{pad}}}")
            edges.append(f"    {ids[name]} -> {next(iter(held.values()))} [style=dashed];")
    for source, target, label in _edges(block):
        told = f' [label="{_dot_text(label)}"]' if label else ""
        edges.append(f"    {ids[source]} -> {ids[target]}{told};")
    return ids


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def to_svg(workflow: Workflow) -> str:
    """Return a workflow as SVG, drawn from the graph that it compiles to."""
    from milepost.draw import svg
    from milepost.dsl.compiling import compile_workflow  # it knows the operators, and the drawing is rarely asked for

    return svg(compile_workflow(workflow))


def generate_dot(workflow_definition: dict[str, object], execution_steps: object = None) -> str:
    """Return the DOT text of a workflow given as plain data.

    Raises:
        WorkflowInvalid: It is no valid workflow.
    """
    from milepost.dsl.workflow import Workflow as Loaded

    return to_graphviz(Loaded.from_dict(workflow_definition))
