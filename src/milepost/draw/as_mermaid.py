"""A graph or a run as a Mermaid flowchart, for Markdown pages that draw those."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from milepost.draw.looks import LOOKS, SYMBOLS, plain
from milepost.draw.picture import Picture, PictureNode, as_picture
from milepost.graph import Graph
from milepost.model import StepKind
from milepost.states import StepStatus

__all__ = ["mermaid"]

_SHAPES: Final = {StepKind.MAP: ("[[", "]]"), StepKind.SUBRUN: ("([", "])"), StepKind.SWITCH: ("{{", "}}")}
# Inside a quoted label, Mermaid still reads Markdown, HTML and its own entities: what is not plainly
# harmless is written as an entity.
_HARMLESS: Final = frozenset(" _-.,:/+()[]=·✓✗▶■»")


def mermaid(source: Picture | Graph | str, statuses: Mapping[str, StepStatus | str] | None = None) -> str:
    """Draw a picture, a graph or a stored definition as Mermaid text.

    Args:
        source: What to draw.
        statuses: The status of nodes by label; a run is coloured by them.

    Raises:
        ConfigurationError: The text is no definition, or a status or label is unknown.

    Example:
        >>> print(mermaid('{"name":"g","nodes":[{"label":"a","kind":"step","upstream":[]}]}'))
        ---
        title: "g"
        ---
        flowchart TD
            n0["a"]
        <BLANKLINE>
    """
    picture = as_picture(source, statuses)
    title = plain(picture.name)
    if picture.status is not None:
        title += f": run {plain(picture.run_id or '')} {picture.status.value}"
    lines = ["---", f"title: {json.dumps(title)}", "---", "flowchart TD"]
    ids = {node.label: f"n{place}" for place, node in enumerate(picture.nodes)}
    for node in picture.nodes:
        opening, closing = _SHAPES.get(node.kind, ("[", "]"))
        lines.append(f'    {ids[node.label]}{opening}"{_quoted(_caption(node))}"{closing}')
    for edge in picture.edges:
        if edge.upstream in ids and edge.downstream in ids:
            arrow = "-->" if edge.is_traversed else "-.->"
            lines.append(f"    {ids[edge.upstream]} {arrow} {ids[edge.downstream]}")
    of_status: dict[StepStatus, list[str]] = defaultdict(list)
    for node in picture.nodes:
        if node.status is not None:
            of_status[node.status].append(ids[node.label])
    for status in sorted(of_status):
        look = LOOKS[status]
        lines.append(f"    classDef {status.value} fill:{look.fill},stroke:{look.edge},color:{look.ink}")
        lines.append(f"    class {','.join(of_status[status])} {status.value}")
    return "\n".join(lines) + "\n"


def _caption(node: PictureNode) -> str:
    symbol = "" if node.status is None else f"{SYMBOLS[node.status]} "
    inside = "" if node.inside is None else f" ({plain(node.inside)})"
    return f"{symbol}{plain(node.label)}{': ' + node.counts if node.is_map else ''}{inside}"


def _quoted(text: str) -> str:
    return "".join(c if c.isalnum() or c in _HARMLESS else f"#{ord(c)};" for c in text)
