"""A graph or a run as one self-contained SVG: no script, no style sheet, no font, no id that could clash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Final

from milepost.draw.layout import lay_out
from milepost.draw.looks import LOOKS, NO_STATUS, SYMBOLS, Look, brief, clip, display_width, duration_text, plain
from milepost.draw.picture import Picture, PictureNode, as_picture
from milepost.graph import Graph
from milepost.states import StepStatus

__all__ = ["svg"]

_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_COLUMN: Final = 7.4  # pixels that a column of text takes at 13 px, on the generous side
_TITLE_COLUMN: Final = 9.2  # the same of the title: bold, 14 px
_LABEL_COLUMNS: Final = 34
_PADDING: Final = 14
_MARGIN: Final = 20
_TITLE_HEIGHT: Final = 30
_BESIDE: Final = 22  # free room between boxes of a layer
_BETWEEN: Final = 44  # free room between layers
_ARROW: Final = 7
_COMFORTABLE: Final = 1000  # pixels; a drawing that is wider turns from downwards to rightwards if that helps


def svg(source: Picture | Graph | str, statuses: Mapping[str, StepStatus | str] | None = None) -> str:
    """Draw a picture, a graph or a stored definition as SVG text.

    Layers run downwards, or to the right where the drawing would get too wide. Maps look like a stack
    and carry their counts; colours and symbols tell the status of a run's steps.

    Args:
        source: What to draw.
        statuses: The status of nodes by label.

    Raises:
        ConfigurationError: The text is no definition, or a status or label is unknown.

    Example:
        >>> svg('{"name":"g","nodes":[{"label":"a<b","kind":"step","upstream":[]}]}').count("a&lt;b")
        2
    """
    picture = as_picture(source, statuses)
    return _Drawing(picture).text()


class _Drawing:
    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.nodes = picture.nodes
        self.notes = [_note(node) for node in self.nodes]
        self.labels = [clip(plain(node.label), _LABEL_COLUMNS) for node in self.nodes]
        self.widths = [
            _COLUMN * max(display_width(label), display_width(note) * 0.88, 6) + 2 * _PADDING
            for label, note in zip(self.labels, self.notes, strict=True)
        ]
        self.height = 46 if any(self.notes) else 34
        index = {node.label: place for place, node in enumerate(self.nodes)}
        self.drawn = [e for e in picture.edges if e.upstream in index and e.downstream in index]
        self.edges = [(index[edge.upstream], index[edge.downstream]) for edge in self.drawn]

    def text(self) -> str:
        """Return the whole document."""
        body, width, height = self._downwards()
        if width > _COMFORTABLE:
            other = self._rightwards()
            if other[1] < width:
                body, width, height = other
        title = f"{plain(self.picture.name)}{self._subtitle()}"
        width = max(width, _TITLE_COLUMN * display_width(title) + 2 * _MARGIN)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{_FONT}" font-size="13">'
        )
        parts = [
            head,
            f"<title>{_safe(title)}</title>",
            f"<desc>{_safe(self._description())}</desc>",
            '<rect width="100%" height="100%" rx="8" fill="#ffffff"/>',
            (
                f'<text x="{_MARGIN}" y="{_MARGIN + 8}" font-size="14" font-weight="600" '
                f'fill="#24292f">{_safe(title)}</text>'
            ),
            *body,
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    # --- the two directions ------------------------------------------------------------------

    def _downwards(self) -> tuple[list[str], float, float]:
        plan = lay_out(self.widths, self.edges, _BESIDE)
        top = _MARGIN + _TITLE_HEIGHT
        half = self.height / 2

        def at(layer: int, cross: float) -> tuple[float, float]:
            return cross - plan.low + _MARGIN, top + layer * (self.height + _BETWEEN) + half

        body = []
        for i, way in enumerate(plan.ways):
            points = [at(*point) for point in way]
            path = [(points[0][0], points[0][1] + half)]
            for x, y in points[1:-1]:
                path += [(x, y - half), (x, y + half)]
            path.append((points[-1][0], points[-1][1] - half - _ARROW))
            body.append(self._edge(i, path, is_down=True))
        body += [self._box(i, *at(*place)) for i, place in enumerate(plan.places)]
        width = plan.high - plan.low + 2 * _MARGIN
        height = top + plan.layers * (self.height + _BETWEEN) - _BETWEEN + _MARGIN
        return body, width, max(height, top + _MARGIN)

    def _rightwards(self) -> tuple[list[str], float, float]:
        plan = lay_out([self.height] * len(self.nodes), self.edges, _BESIDE - 6)
        widest = [0.0] * plan.layers
        for i, (layer, _) in enumerate(plan.places):
            widest[layer] = max(widest[layer], self.widths[i])
        lefts = [float(_MARGIN)]
        for width in widest:
            lefts.append(lefts[-1] + width + _BETWEEN + 12)
        top = _MARGIN + _TITLE_HEIGHT

        def at(layer: int, cross: float) -> tuple[float, float]:
            return lefts[layer] + widest[layer] / 2, top + cross - plan.low

        body = []
        for i, way in enumerate(plan.ways):
            up, down = self.edges[i]
            points = [at(*point) for point in way]
            path = [(points[0][0] + self.widths[up] / 2, points[0][1])]
            for (layer, _), (x, y) in zip(way[1:-1], points[1:-1], strict=True):
                path += [(x - widest[layer] / 2, y), (x + widest[layer] / 2, y)]
            path.append((points[-1][0] - self.widths[down] / 2 - _ARROW, points[-1][1]))
            body.append(self._edge(i, path, is_down=False))
        body += [self._box(i, *at(*place)) for i, place in enumerate(plan.places)]
        width = lefts[-1] - _BETWEEN - 12 + _MARGIN
        return body, width, top + plan.high - plan.low + _MARGIN

    # --- parts -------------------------------------------------------------------------------

    def _edge(self, index: int, path: list[tuple[float, float]], *, is_down: bool) -> str:
        """Draw an edge: curves between layers, straight lines past the boxes of a layer, a tip at the end."""
        edge = self.drawn[index]
        x, y = path[0]
        steps = [f"M{x:.1f},{y:.1f}"]
        for place, (to_x, to_y) in enumerate(path[1:]):
            middle_x, middle_y = (x + to_x) / 2, (y + to_y) / 2
            if place % 2:
                steps.append(f"L{to_x:.1f},{to_y:.1f}")
            elif is_down:
                steps.append(f"C{x:.1f},{middle_y:.1f} {to_x:.1f},{middle_y:.1f} {to_x:.1f},{to_y:.1f}")
            else:
                steps.append(f"C{middle_x:.1f},{y:.1f} {middle_x:.1f},{to_y:.1f} {to_x:.1f},{to_y:.1f}")
            x, y = to_x, to_y
        corners = [(x - 4, y), (x + 4, y), (x, y + _ARROW)] if is_down else [(x, y - 4), (x, y + 4), (x + _ARROW, y)]
        tip = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
        colour, dash = ("#57606a", "") if edge.is_traversed else ("#afb8c1", ' stroke-dasharray="4 3"')
        label = _safe(f"{plain(edge.upstream)} → {plain(edge.downstream)}")
        return (
            f'<g><title>{label}</title><path d="{" ".join(steps)}" fill="none" stroke="{colour}" '
            f'stroke-width="1.3"{dash}/><polygon points="{tip}" fill="{colour}"/></g>'
        )

    def _box(self, index: int, x: float, y: float) -> str:
        node = self.nodes[index]
        look = NO_STATUS if node.status is None else LOOKS[node.status]
        width, height = self.widths[index], self.height
        left, top = x - width / 2, y - height / 2
        parts = [f"<g><title>{_safe(_told(node))}</title>"]
        if node.is_map:
            parts += [_rect(left + shift, top + shift, width, height, look) for shift in (6, 3)]
        parts.append(_rect(left, top, width, height, look))
        if node.is_map and node.total and node.status not in (None, StepStatus.PENDING, StepStatus.COMPLETED):
            done = (width - 2) * min(1.0, node.done / node.total)
            parts.append(
                f'<rect x="{left + 1:.1f}" y="{top + height - 5:.1f}" width="{done:.1f}" height="4" '
                f'rx="2" fill="{look.edge}" fill-opacity="0.55"/>'
            )
        note = self.notes[index]
        baseline = y - 3 if note else y + 4.5
        parts.append(
            f'<text x="{x:.1f}" y="{baseline:.1f}" text-anchor="middle" font-weight="500" '
            f'fill="{look.ink}">{_safe(self.labels[index])}</text>'
        )
        if note:
            parts.append(
                f'<text x="{x:.1f}" y="{y + 13:.1f}" text-anchor="middle" font-size="11" '
                f'fill="{look.ink}">{_safe(note)}</text>'
            )
        parts.append("</g>")
        return "".join(parts)

    # --- words -------------------------------------------------------------------------------

    def _subtitle(self) -> str:
        if self.picture.status is None:
            return ""
        return f": run {plain(self.picture.run_id or '')} {self.picture.status.value}"

    def _description(self) -> str:
        steps = f"{len(self.nodes)} step{'' if len(self.nodes) == 1 else 's'}"
        statuses = Counter(node.status.value for node in self.nodes if node.status is not None)
        told = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
        return f"{steps}: {told}." if told else f"{steps}."


def _note(node: PictureNode) -> str:
    parts = []
    if node.status is not None:
        parts.append(SYMBOLS[node.status])
    if node.is_map:
        parts.append(node.counts)
    if node.inside is not None:
        parts.append(plain(node.inside))
    if node.failed:
        parts.append(f"{node.failed} failed")
    if node.duration is not None:
        parts.append(f"· {duration_text(node.duration)}")
    return " ".join(parts)


def _told(node: PictureNode) -> str:
    parts = [plain(node.label), "map" if node.is_map else "step"]
    if node.inside is not None:
        parts.append(plain(node.inside))
    if node.status is not None:
        parts.append(node.status.value)
    if node.is_map and node.total is not None:
        parts.append(f"{node.done} of {node.total} done" if node.status is not None else f"{node.total} elements")
    if node.failed:
        parts.append(f"{node.failed} failed")
    if node.attempts > 1 and not node.is_map:
        parts.append(f"{node.attempts} attempts")
    if node.duration is not None:
        parts.append(duration_text(node.duration))
    if node.error:
        parts.append(brief(node.error, 300))
    return ", ".join(parts)


def _rect(left: float, top: float, width: float, height: float, look: Look) -> str:
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6" '
        f'fill="{look.fill}" stroke="{look.edge}"/>'
    )


def _safe(text: str) -> str:
    # XML has no place for these two, escaped or not.
    return escape(text.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd"))
