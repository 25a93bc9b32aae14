"""A graph or a run as plain text: one line for each step, with what it waits for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from milepost.draw.looks import ASCII_SYMBOLS, SYMBOLS, display_width, duration_text, plain
from milepost.draw.picture import Picture, PictureNode, as_picture
from milepost.graph import Graph
from milepost.states import StepStatus

__all__ = ["text"]


def text(
    source: Picture | Graph | str,
    statuses: Mapping[str, StepStatus | str] | None = None,
    *,
    is_ascii: bool = False,
) -> str:
    """Draw a picture, a graph or a stored definition as text.

    Args:
        source: What to draw.
        statuses: The status of nodes by label.
        is_ascii: Use no character beyond ASCII but those in labels.

    Raises:
        ConfigurationError: The text is no definition, or a status or label is unknown.

    Example:
        >>> print(text(
        ...     '{"name":"g","nodes":[{"label":"load","kind":"step","upstream":[]},'
        ...     '{"label":"parse","kind":"map","upstream":["load"]}]}'
        ... ))
        g
          load
          parse  map  ← load
        <BLANKLINE>
    """
    picture = as_picture(source, statuses)
    symbols = ASCII_SYMBOLS if is_ascii else SYMBOLS
    upstream: dict[str, list[str]] = defaultdict(list)
    for edge in picture.edges:
        upstream[edge.downstream].append(plain(edge.upstream))
    rows = []
    for node in picture.nodes:
        mark = "" if node.status is None else symbols[node.status]
        waits = ", ".join(upstream[node.label])
        arrow = ("<- " if is_ascii else "← ") + waits if waits else ""
        note = _note(node)
        rows.append((mark, plain(node.label), note, arrow))
    heading = plain(picture.name)
    if picture.status is not None:
        heading += f": run {plain(picture.run_id or '')} {picture.status.value}"
    return "\n".join([heading, *_aligned(rows)]) + "\n"


def _note(node: PictureNode) -> str:
    parts = [node.counts] if node.is_map else []
    if node.inside is not None:
        parts.append(plain(node.inside))
    if node.failed:
        parts.append(f"{node.failed} failed")
    if node.duration is not None:
        parts.append(duration_text(node.duration))
    return " ".join(parts)


def _aligned(rows: list[tuple[str, str, str, str]]) -> list[str]:
    used = [column for column in range(4) if any(row[column] for row in rows)]
    widths = {column: max(display_width(row[column]) for row in rows) for column in used}
    lines = []
    for row in rows:
        cells = [row[column] + " " * (widths[column] - display_width(row[column])) for column in used]
        if 0 in used:  # the mark stands close to its label
            cells[:2] = [f"{cells[0]} {cells[1]}"]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines
