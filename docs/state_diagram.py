"""Draw a state machine as SVG, from its transition table alone.

The first state, where the machine begins, stands in the first column, those that end in the last, what
comes next after the first in the middle, and everything else below it. An arrow bends to its own left, so that
the way there and the way back never cover each other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final
from xml.sax.saxutils import escape

__all__ = ["draw_states"]

Point = tuple[float, float]

_WIDTH: Final = 104  # of a state's box
_HEIGHT: Final = 34
_COLUMN: Final = 270  # from box to box
_ROW: Final = 124
_MARGIN: Final = 46
_STYLE: Final = (
    "text{font:13px ui-sans-serif,system-ui,sans-serif;text-anchor:middle;fill:#1f2933}"
    ".verb{font-size:12px;fill:#3e4c59}"
    "rect.state{fill:#f0f4f8;stroke:#486581;stroke-width:1.3}"
    "rect.end{stroke-width:3}"
    "path{fill:none;stroke:#829ab1;stroke-width:1.5}"
    "path.head{fill:#829ab1;stroke:none}"
)


def draw_states(
    transitions: Mapping[tuple[str, str], str], order: list[str], terminal: Collection[str], title: str
) -> str:
    """Return the SVG of a state machine.

    Args:
        transitions: (state, verb) to the state that the verb leads to.
        order: All states, in the order in which they stand in a column.
        terminal: The states in which the machine may rest for ever; drawn with a thick frame.
        title: What the picture shows, for those who cannot see it.
    """
    verbs: dict[tuple[str, str], list[str]] = {}
    for (state, verb), target in transitions.items():
        verbs.setdefault((state, target), []).append(verb)
    places = _place(list(verbs), order, terminal)
    width = max(x for x, _ in places.values()) + _WIDTH / 2 + _MARGIN
    height = max(y for _, y in places.values()) + _HEIGHT / 2 + _MARGIN
    arrows = [_arrow(places, pair, ", ".join(names)) for pair, names in verbs.items()]
    boxes = [_box(name, place, is_end=name in terminal) for name, place in places.items()]
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        *(path for path, _ in arrows),
        *boxes,
        *(label for _, label in arrows),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _place(pairs: list[tuple[str, str]], order: list[str], terminal: Collection[str]) -> dict[str, Point]:
    begin = order[:1]
    hub = [state for state in order if state not in terminal and any((b, state) in pairs for b in begin)]
    ends = [state for state in order if state in terminal]
    aside = [state for state in order if state not in (*begin, *hub, *ends)]
    middle = (len(ends) - 1) / 2
    rows = {
        **{state: (0, middle + row - (len(begin) - 1) / 2) for row, state in enumerate(begin)},
        **{state: (1, middle + row - (len(hub) - 1) / 2) for row, state in enumerate(hub)},
        **{state: (1, len(ends) + row) for row, state in enumerate(aside)},
        **{state: (2, row) for row, state in enumerate(ends)},
    }
    return {
        state: (_MARGIN + _WIDTH / 2 + column * _COLUMN, _MARGIN + _HEIGHT / 2 + row * _ROW)
        for state, (column, row) in rows.items()
    }


def _box(name: str, place: Point, *, is_end: bool) -> str:
    x, y = place
    kind = "state end" if is_end else "state"
    return (
        f'<rect class="{kind}" x="{x - _WIDTH / 2:.1f}" y="{y - _HEIGHT / 2:.1f}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" rx="8"/><text x="{x:.1f}" y="{y + 4.5:.1f}">{escape(name)}</text>'
    )


def _arrow(places: Mapping[str, Point], pair: tuple[str, str], verb: str) -> tuple[str, str]:
    (x1, y1), (x2, y2) = places[pair[0]], places[pair[1]]
    if pair[0] == pair[1]:
        top = y1 - _HEIGHT / 2
        bend = f"M{x1 - 22:.1f},{top:.1f} C{x1 - 34:.1f},{top - 40:.1f} {x1 + 34:.1f},{top - 40:.1f}"
        path = f'<path d="{bend} {x1 + 20:.1f},{top - 7:.1f}"/>{_head((x1 + 18, top), (-0.35, 1.0))}'
        return path, _verb((x1, top - 31), verb)
    length = math.hypot(x2 - x1, y2 - y1)
    along = ((x2 - x1) / length, (y2 - y1) / length)
    is_long = abs(x2 - x1) > _COLUMN  # past the middle column: below it
    bow = -0.16 * length if is_long else max(0.13 * length, 48)
    middle = ((x1 + x2) / 2 + along[1] * bow, (y1 + y2) / 2 - along[0] * bow)
    start, end = _edge((x1, y1), middle), _edge((x2, y2), middle)
    toward = _unit(middle, end)
    tip = (end[0] - toward[0] * 6, end[1] - toward[1] * 6)
    path = f'<path d="M{start[0]:.1f},{start[1]:.1f} Q{middle[0]:.1f},{middle[1]:.1f} {tip[0]:.1f},{tip[1]:.1f}"/>'
    # The verb stands nearer to the end that is further right or down, where arrows are further apart.
    t = 0.35 if is_long else 0.62 if (x1, y1) < (x2, y2) else 0.38
    parts = (((1 - t) ** 2, start), (2 * t * (1 - t), middle), (t * t, end))
    at = (sum(share * point[0] for share, point in parts), sum(share * point[1] for share, point in parts))
    return path + _head(end, toward), _verb(at, verb)


def _verb(at: Point, verb: str) -> str:
    x, y = at
    width = 7 * len(verb) + 6  # about what the letters take: the arrow must not run through them
    return (
        f'<rect x="{x - width / 2:.1f}" y="{y - 9:.1f}" width="{width}" height="18" fill="#fff"/>'
        f'<text class="verb" x="{x:.1f}" y="{y + 4:.1f}">{escape(verb)}</text>'
    )


def _edge(center: Point, toward: Point) -> Point:
    """Return where the line from a box's centre leaves the box."""
    dx, dy = toward[0] - center[0], toward[1] - center[1]
    scale = min(_WIDTH / 2 / abs(dx) if dx else math.inf, _HEIGHT / 2 / abs(dy) if dy else math.inf)
    return center[0] + dx * scale, center[1] + dy * scale


def _unit(start: Point, end: Point) -> Point:
    length = math.hypot(end[0] - start[0], end[1] - start[1])
    return (end[0] - start[0]) / length, (end[1] - start[1]) / length


def _head(tip: Point, direction: Point) -> str:
    length = math.hypot(*direction)
    dx, dy = direction[0] / length * 10, direction[1] / length * 10
    left = (tip[0] - dx + dy * 0.45, tip[1] - dy - dx * 0.45)
    right = (tip[0] - dx - dy * 0.45, tip[1] - dy + dx * 0.45)
    points = " L".join(f"{x:.1f},{y:.1f}" for x, y in (tip, left, right))
    return f'<path class="head" d="M{points} Z"/>'
