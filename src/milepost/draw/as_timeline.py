"""When each step of a run ran: bars over one axis of time, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from milepost.draw.looks import clip, display_width, duration_text, plain
from milepost.draw.picture import Picture, PictureNode, Span
from milepost.states import StepStatus

__all__ = ["Bar", "TimelineRow", "timeline", "timeline_rows"]

_LABEL_COLUMNS: Final = 28
_MIN_BAR_COLUMNS: Final = 10
_BLOCKS: Final = {
    StepStatus.COMPLETED: "█",
    StepStatus.SKIPPED: "█",
    StepStatus.FAILED: "▓",
    StepStatus.CANCELLED: "▒",
    StepStatus.RUNNING: "░",
    StepStatus.PENDING: "░",
}
_ASCII_BLOCKS: Final = {
    StepStatus.COMPLETED: "#",
    StepStatus.SKIPPED: "#",
    StepStatus.FAILED: "x",
    StepStatus.CANCELLED: "%",
    StepStatus.RUNNING: "-",
    StepStatus.PENDING: "-",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt's part of a row: from column ``start``, ``length`` columns of ``text``."""

    start: int
    text: str
    status: StepStatus

    @property
    def length(self) -> int:
        """How many columns it takes."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One step: its label, padded; its bars by column; how long it took. The axis is a row without bars."""

    label: str
    bars: tuple[Bar, ...]
    axis: str
    duration: str

    def __str__(self) -> str:
        """Return the row as text."""
        line, column = self.label, 0
        for bar in self.bars:
            line += " " * (bar.start - column) + bar.text
            column = bar.start + bar.length
        line += self.axis[column:] if self.axis else ""
        return f"{line}  {self.duration}".rstrip()


def timeline(picture: Picture, *, now: int, width: int = 80, limit: int | None = None, is_ascii: bool = False) -> str:
    """Draw when each step of a run ran.

    Time in which nobody executed the run (between a crash and its resumption) is left out.

    Args:
        picture: A run's picture.
        now: Where running steps end for now, in microseconds since 1970.
        width: Columns in all.
        limit: At most this many steps, those that took longest.
        is_ascii: Use no character beyond ASCII but those in labels.

    Example:
        >>> done = StepStatus.COMPLETED
        >>> nodes = (PictureNode("a", status=done, spans=(Span(0, 2_000_000, done),)),
        ...          PictureNode("b", status=done, spans=(Span(2_000_000, 4_000_000, done),)))
        >>> print(timeline(Picture("g", nodes), now=0, width=30))
           0 s            4.0 s
        a  ██████████            2.0 s
        b            ██████████  2.0 s
        <BLANKLINE>
    """
    rows = timeline_rows(picture, now=now, width=width, limit=limit, is_ascii=is_ascii)
    return "".join(f"{row}\n" for row in rows)


def timeline_rows(
    picture: Picture, *, now: int, width: int = 80, limit: int | None = None, is_ascii: bool = False
) -> list[TimelineRow]:
    """Return the rows of :func:`timeline`, its axis first, for somebody who colours them. Empty: nothing ran."""
    begun = [node for node in picture.nodes if node.spans]
    if not begun:
        return []
    scale = _Scale(begun, picture.gaps, now)
    left_out = 0
    if limit is not None and len(begun) > limit:
        longest = sorted(begun, key=lambda node: -scale.length(node))[:limit]
        kept = {node.label for node in longest}
        left_out = len(begun) - len(kept)
        begun = [node for node in begun if node.label in kept]
    mark = "..." if is_ascii else "…"
    labels = [clip(plain(node.label), _LABEL_COLUMNS, mark) for node in begun]
    durations = [duration_text(scale.length(node) / 1e6) for node in begun]
    label_columns = max(map(display_width, labels)) + 2
    columns = max(_MIN_BAR_COLUMNS, width - label_columns - max(map(len, durations)) - 2)
    blocks = _ASCII_BLOCKS if is_ascii else _BLOCKS
    total = duration_text(scale.total / 1e6)
    rows = [TimelineRow(" " * label_columns, (), "0 s".ljust(max(4, columns - len(total))) + total, "")]
    for node, label, duration in zip(begun, labels, durations, strict=True):
        bars = _bars(node.spans, scale, columns, blocks)
        rows.append(TimelineRow(_padded(label, label_columns), bars, " " * columns, duration))
    if left_out:
        rows.append(TimelineRow(f"{mark} and {left_out} shorter step{'' if left_out == 1 else 's'}", (), "", ""))
    return rows


class _Scale:
    """From moments to columns, with the gaps cut out."""

    def __init__(self, nodes: Sequence[PictureNode], gaps: Sequence[tuple[int, int]], now: int) -> None:
        self.now = now
        self._gaps = gaps
        self.start = min(node.spans[0].start for node in nodes)
        self.total = max(1, *(self.offset(self.end(span)) for node in nodes for span in node.spans))

    def end(self, span: Span) -> int:
        return max(span.start, self.now if span.end is None else span.end)

    def offset(self, moment: int) -> int:
        """Return the microseconds of executed time from the start to a moment."""
        cut = sum(max(0, min(moment, end) - begin) for begin, end in self._gaps if begin >= self.start)
        return moment - self.start - cut

    def length(self, node: PictureNode) -> int:
        return sum(self.offset(self.end(span)) - self.offset(span.start) for span in node.spans)


def _bars(spans: Sequence[Span], scale: _Scale, columns: int, blocks: dict[StepStatus, str]) -> tuple[Bar, ...]:
    bars: list[Bar] = []
    free = 0  # the first column that no bar has taken
    for span in spans:
        first = min(columns - 1, scale.offset(span.start) * columns // scale.total)
        last = min(columns, -(-scale.offset(scale.end(span)) * columns // scale.total))
        first = max(first, free)
        if first >= columns:
            # Later attempts than columns: the last one is the one that tells.
            bars[-1] = Bar(bars[-1].start, bars[-1].text[:-1] + blocks[span.status], span.status)
            continue
        length = max(1, last - first)
        bars.append(Bar(first, blocks[span.status] * length, span.status))
        free = first + length
    return tuple(bars)


def _padded(text: str, columns: int) -> str:
    return text + " " * (columns - display_width(text))
