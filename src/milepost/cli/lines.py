"""A run's progress as plain lines, for logs: one when a step starts or ends, one every few seconds for a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from milepost.cli.pace import Pace
from milepost.draw.looks import brief, duration_text, plain
from milepost.runtime import NodeProgress
from milepost.states import TERMINAL_STEP, StepStatus

__all__ = ["ProgressLines"]

_EVERY: Final = 5.0  # seconds between two lines of one map


class ProgressLines:
    """Turns what is seen of a run into lines: each look returns what is new since the one before."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._seen: dict[str, StepStatus] = {}
        self._paces: dict[str, Pace] = {}
        self._told_at: dict[str, float] = {}
        self._messages: dict[str, str | None] = {}
        self._done_before: dict[str, int] = {}  # elements that an earlier attempt completed

    def look(self, nodes: Sequence[NodeProgress], now: float) -> list[str]:
        """Return the lines for what changed; the first look comes before the first step.

        Args:
            nodes: What :meth:`Progress.snapshot` returned.
            now: Seconds of a clock that only goes forward.
        """
        is_first = not self._seen
        if is_first:
            self._done_before = {node.label: node.done for node in nodes if node.kind == "map"}
        lines: list[str] = []
        restored = 0
        for node in nodes:
            before = self._seen.get(node.label, StepStatus.PENDING)
            self._seen[node.label] = node.status
            if node.status == StepStatus.COMPLETED and node.started_at is None:
                restored += is_first
            elif node.status != before:
                lines += self._changed(node, now)
            elif node.status == StepStatus.RUNNING:
                lines += self._running(node, now)
        if restored:
            lines.insert(0, f"{restored} step{'' if restored == 1 else 's'} completed before")
        return lines

    def _changed(self, node: NodeProgress, now: float) -> list[str]:
        label = plain(node.label)
        if node.status == StepStatus.RUNNING:
            self._told_at[node.label] = now
            if node.kind != "map":
                return [f"{label} started"]
            pace = self._paces[node.label] = Pace()
            pace.look(now, node.done)
            return [f"{label} started: {node.total} elements{self._known(node)}"]
        if node.status not in TERMINAL_STEP:
            return []
        took = ""
        if node.started_at is not None and node.finished_at is not None:
            took = f" in {duration_text((node.finished_at - node.started_at) / 1e6)}"
        parts = [f"{label} {node.status.value}{took}"]
        if node.kind == "map":
            parts.append(f"{node.done}/{node.total} elements{self._known(node)}")
        return [_joined(parts, node)]

    def _known(self, node: NodeProgress) -> str:
        before = self._done_before.get(node.label)
        return f", {before} of them completed before" if before else ""

    def _running(self, node: NodeProgress, now: float) -> list[str]:
        pace = self._paces.get(node.label)
        if pace is not None:
            pace.look(now, node.done)
        if now - self._told_at.get(node.label, now) < _EVERY:
            return []
        label = plain(node.label)
        if pace is None:
            if node.message == self._messages.get(node.label):
                return []
            self._told_at[node.label] = now
            self._messages[node.label] = node.message
            return [f"{label}: {brief(node.message or '', 200)}"]
        self._told_at[node.label] = now
        parts = [f"{label} {node.done}/{node.total}"]
        if pace.rate is not None:
            parts.append(f"{pace.rate:.1f}/s")
        left = pace.seconds_left(node.total)
        if left is not None:
            parts.append(f"{duration_text(left)} left")
        return [_joined(parts, node)]


def _joined(parts: list[str], node: NodeProgress) -> str:
    if node.failed and node.kind == "map":
        parts.append(f"{node.failed} failed")
    if node.retries:
        parts.append(f"{node.retries} retried")
    return ", ".join(parts)
