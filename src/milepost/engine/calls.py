"""What the engine hands out and keeps count of: calls, maps in progress, and what became of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from milepost.graph import Node

__all__ = ["Call", "Failure", "MapMark", "MapProgress"]


class Call:
    """One attempt of one step that is to be performed now."""

    __slots__ = ("attempt", "element", "failures", "label", "map", "node", "position")

    def __init__(
        self, node: Node, label: str, tries: tuple[int, int], map_: MapProgress | None, position: int, element: Any
    ) -> None:
        """Make the next attempt after ``tries`` (attempts made, failures that count)."""
        self.node = node
        self.label = label
        self.attempt = tries[0] + 1
        self.failures = tries[1]
        self.map = map_
        self.position = position
        self.element = element

    def __repr__(self) -> str:
        """Return the label and attempt."""
        return f"<Call {self.label!r} attempt {self.attempt}>"


@dataclass(frozen=True, slots=True)
class Failure:
    """The first failure of a run: the step, and what it raised."""

    label: str
    error: BaseException
    is_cancel: bool = False  # the run ends as cancelled


@dataclass(frozen=True, slots=True)
class MapMark:
    """A map node itself started, completed or could not start (``error``)."""

    node: Node
    attempt: int
    verb: str  # "start", "complete" or "fail"
    total: int
    error: BaseException | None = None
    keys: list[Any] | None = None  # of a map over a dict


class MapProgress:
    """A map in progress. It is *open* while it can hand out an element."""

    __slots__ = (
        "attempt",
        "elements",
        "is_failed",
        "is_open",
        "keys",
        "left",
        "limit",
        "node",
        "outputs",
        "retries",
        "running",
        "spare",
        "total",
    )

    def __init__(
        self, node: Node, attempt: int, total: int, elements: Iterator[tuple[int, str, Any]], *, keep: bool
    ) -> None:
        self.node = node
        self.attempt = attempt
        self.total = total
        self.elements: Iterator[tuple[int, str, Any]] | None = elements
        self.keys: list[Any] | None = None
        self.retries: deque[Call] = deque()
        self.limit = node.concurrency
        self.running = 0
        self.left = total
        self.outputs: list[Any] | None = [None] * total if keep else None
        self.is_open = True
        self.is_failed = False
        share = node.tolerate
        self.spare = int(share * total) if share < 1 else int(share)  # elements that may still fail
