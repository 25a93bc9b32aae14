"""What Dags, pipelines and workflows have in common: a name, a graph, a check of inputs, a place."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol, TypeAlias, TypeVar

from milepost.graph import Graph
from milepost.ledger import Ledger
from milepost.runtime.run import RunOptions
from milepost.runtime.scheduling import ScheduleOptions
from milepost.runtime.submission import SubmitOptions

__all__ = ["Buildable", "Face", "LedgerLike", "options_of"]

LedgerLike: TypeAlias = Ledger | str | os.PathLike[str] | None

Options = TypeVar("Options", RunOptions, SubmitOptions, ScheduleOptions)


class Buildable(Protocol):
    """A graph, and the check of the inputs of its runs."""

    @property
    def graph(self) -> Graph:
        """The graph, for those who record it; its functions need not be known here."""
        ...

    def validate(
        self, given: Mapping[str, Any] | None, name: str, more: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the inputs, checked and converted."""
        ...


class Face(ABC):
    """What the verbs that several faces share ask of each."""

    name: str
    kind: str

    @abstractmethod
    def build(self) -> Graph:
        """Return the validated graph, ready to run."""

    @abstractmethod
    def _build(self) -> Buildable:
        """Return the graph with the check of its inputs."""

    @abstractmethod
    def _locate(self, target: str | None = None) -> str | None:
        """Return where another process finds this again: the place that the caller named, else one that leads here."""


def options_of(kind: type[Options], arguments: Mapping[str, Any], **others: Any) -> Options:
    """Return the options that a verb was given: of its arguments, as ``locals()`` has them, those of these names.

    Args:
        kind: Which options.
        arguments: The arguments of the verb by name; others are passed over.
        others: What goes before them.
    """
    names = {option.name for option in fields(kind)}
    return kind(**{**{name: value for name, value in arguments.items() if name in names}, **others})
