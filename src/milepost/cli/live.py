"""A run's progress as a live display: one row for each step, with a bar for each map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from milepost.cli.console import STYLES, styled, symbol
from milepost.cli.pace import Pace
from milepost.draw.looks import brief, clip, duration_text
from milepost.runtime import NodeProgress
from milepost.states import StepStatus

__all__ = ["LiveView"]

_LABEL_COLUMNS: Final = 32
_BAR_COLUMNS: Final = 24
_URGENCY: Final = {
    StepStatus.RUNNING: 0,
    StepStatus.FAILED: 1,
    StepStatus.CANCELLED: 1,
    StepStatus.PENDING: 2,
    StepStatus.COMPLETED: 3,
    StepStatus.SKIPPED: 3,
}


class LiveView:
    """Draws what is seen of a run; it keeps only what must outlive a frame: spinners and paces."""

    def __init__(self, workflow: str) -> None:
        """Begin with nothing seen."""
        self._workflow = workflow
        self._paces: dict[str, Pace] = {}
        self._spinner = Spinner("dots", style="blue")
        self._started_at: int | None = None

    def draw(
        self, nodes: Sequence[NodeProgress], *, now: int, clock: float, rows: int, is_over: bool = False
    ) -> RenderableType:
        """Return one frame.

        Args:
            nodes: What :meth:`Progress.snapshot` returned.
            now: Microseconds since 1970, the clock of the nodes' times.
            clock: Seconds of a clock that only goes forward.
            rows: How many nodes there is room for.
            is_over: The run has ended: nothing moves any more.
        """
        if self._started_at is None:
            self._started_at = now
        table = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(5):
            table.add_column(no_wrap=True, overflow="ellipsis")
        shown = _most_urgent(nodes, rows)
        for node in shown:
            table.add_row(*self._row(node, now, clock, is_over=is_over))
        parts: list[RenderableType] = [table]
        if len(shown) < len(nodes):
            kept = {node.label for node in shown}
            hidden = Counter(node.status.value for node in nodes if node.label not in kept)
            told = ", ".join(f"{count} {status}" for status, count in hidden.most_common())
            parts.append(Text(f"  and {len(nodes) - len(shown)} more steps: {told}", "dim"))
        done = sum(node.status in (StepStatus.COMPLETED, StepStatus.SKIPPED) for node in nodes)
        seconds = (now - self._started_at) / 1e6
        elapsed = duration_text(seconds) if is_over else _whole(seconds)
        parts.append(
            styled(
                f"{self._workflow}: {done}/{len(nodes)} steps, {elapsed}",
                "bold",
            )
        )
        return Group(*parts)

    def _row(self, node: NodeProgress, now: int, clock: float, *, is_over: bool) -> list[RenderableType]:
        status = node.status
        if is_over and status == StepStatus.RUNNING:
            status = StepStatus.CANCELLED  # whatever was in the air when the run ended
        style = STYLES[status.value]
        is_running = status == StepStatus.RUNNING
        mark: RenderableType = self._spinner if is_running else Text(symbol(status), style)
        label = styled(clip(node.label, _LABEL_COLUMNS), style if status != StepStatus.COMPLETED else "")
        words = _times(node, now)
        if node.kind != "map":
            return [
                mark,
                label,
                "",
                styled(brief(node.message or "", 200), "dim") if is_running else "",
                Text(words, "dim"),
            ]
        if not node.total:
            return [mark, label, "", "", Text(words, "dim")]
        bar = ProgressBar(
            total=node.total, completed=node.done, width=_BAR_COLUMNS, complete_style=style, finished_style=style
        )
        counts = Text(f"{node.done}/{node.total}")
        if node.failed:
            counts.append(f"  {node.failed} failed", "red")
        if node.retries:
            counts.append(f"  {node.retries} retried", "yellow")
        if is_running:
            pace = self._paces.setdefault(node.label, Pace())
            pace.look(clock, node.done)
            left = pace.seconds_left(node.total)
            if pace.rate is not None and left is not None:
                words = f"{pace.rate:.1f}/s, {_whole(left + 0.99)} left"
        return [mark, label, bar, counts, Text(words, "dim")]


def _times(node: NodeProgress, now: int) -> str:
    if node.started_at is None:
        return "completed before" if node.status == StepStatus.COMPLETED else ""
    if node.finished_at is not None:
        return duration_text((node.finished_at - node.started_at) / 1e6)
    seconds = (now - node.started_at) / 1e6
    return _whole(seconds) if seconds >= 1 else ""


def _whole(seconds: float) -> str:
    """Return a time that is still running, in whole seconds: tenths would only flicker."""
    return duration_text(int(seconds)) if seconds >= 60 else f"{int(seconds)} s"


def _most_urgent(nodes: Sequence[NodeProgress], rows: int) -> list[NodeProgress]:
    """Return as many nodes as there is room for, in their order: what runs first, then what comes next."""
    if len(nodes) <= rows:
        return list(nodes)
    places = sorted(range(len(nodes)), key=lambda place: _urgency(nodes[place], place))
    return [nodes[place] for place in sorted(places[:rows])]


def _urgency(node: NodeProgress, place: int) -> tuple[int, int]:
    rank = _URGENCY[node.status]
    # Of those that are done, the latest are of interest; of those that wait, the next.
    return rank, -(node.finished_at or 0) if rank == 3 else place
