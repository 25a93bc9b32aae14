"""Undoing the stages of a task: what a rollback keeps, and what it goes on from when it was cut short."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from milepost.graph import Graph, Node
from milepost.runtime import StepContext
from milepost.runtime.flight import Flight
from milepost.runtime.landing import describe_error
from milepost.runtime.undoing import UNDO
from milepost.stages.book import TaskBook
from milepost.stages.forward import stage_body
from milepost.stages.models import StageStatus
from milepost.stages.stage import BaseStage
from milepost.states import StepStatus
from milepost.store import CheckpointWrite, RunEnd

__all__ = ["Backward", "Marker", "undo_graph"]

_NOTHING: Final = "nothing undone: it has no rollback_stage()"


@dataclass(frozen=True, slots=True)
class Marker:
    """A rollback that has begun, as the ledger keeps it until its end.

    Attributes:
        stages: What it undoes, in order.
        to_stage: The stage that stays, None for none.
        error: Label, type, message and traceback of the failure that began it; None: somebody asked for it.
    """

    stages: tuple[str, ...]
    to_stage: str | None = None
    error: tuple[str, str, str, str] | None = None

    def to_text(self) -> str:
        """Return it as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str | None) -> Marker | None:
        """Return it from JSON text, or None where no rollback has begun."""
        found = None if text is None else json.loads(text)
        if found is None:
            return None
        error = found["error"]
        return cls(tuple(found["stages"]), found["to_stage"], None if error is None else tuple(error))


class Backward:
    """Keeps the states of a task whose stages are undone, in the commits of the steps that undo them.

    Args:
        book: The task's stages.
        to_stage: The stage that stays, None for none.
        saved: The names under which stages saved values, by stage: an undone stage begins without them.
    """

    def __init__(self, book: TaskBook, to_stage: str | None, saved: dict[str, list[str]]) -> None:
        """Begin to undo."""
        self._book = book
        self._to_stage = to_stage
        self._saved = saved
        self._has_failed = False

    def begin(self, stage: BaseStage[Any], context: StepContext) -> None:
        """Begin to undo a stage."""

    def complete(self, stage: BaseStage[Any], context: StepContext, value: Any) -> None:
        """Take that a stage is undone."""

    def gives_up(self, flight: Flight) -> bool:
        """Return True: an undo that fails stops the rollback, until somebody resumes it."""
        return True

    def ended(self, flight: Flight, status: StepStatus, delay: float | None) -> Sequence[CheckpointWrite]:
        """Return the state of a stage that was undone, or the note that this failed."""
        book = self._book
        stage = book.by_name[flight.call.label.removeprefix(UNDO)]
        if status == StepStatus.COMPLETED:
            before, attempt = book.change(stage, "undo"), stage.state.attempts
            message = "undone" if stage.has_undo else _NOTHING
            book.forget(stage, self._to_stage)
        else:
            self._has_failed = True
            before, attempt = stage.state.status, stage.state.attempts
            assert flight.error is not None
            kind, told, _ = describe_error(flight.error)
            word = "failed" if status == StepStatus.FAILED else "was stopped"
            message = f"its undo {word}: {kind}: {told}"
        after = stage.state.status
        book.note(stage, (before, flight.started_at), (after, flight.finished_at), message, attempt)
        saves = list(book.saves_of([stage]))
        if after is StageStatus.CREATED:
            saves += self.forgotten(stage.stage_name)
        return saves

    def forgotten(self, name: str) -> list[CheckpointWrite]:
        """Return the writes that forget what a stage saved by name."""
        return [self._book.save_value(name, saved, "null") for saved in self._saved.get(name, ())]

    def stopped(self, flights: Sequence[Flight], message: str) -> Sequence[CheckpointWrite]:
        """Return nothing: what was not undone stays complete until the rollback goes on."""
        return ()

    def holds_on(self) -> bool:
        """Return whether everything was undone, so that the rollback's own end follows."""
        return not self._has_failed

    def ending(self, now: int) -> RunEnd | None:
        """Return None: whoever began the rollback ends it."""


def undo_graph(workflow: str, companion: Backward, stages: Sequence[BaseStage[Any]]) -> Graph:
    """Return the chain that undoes these stages in this order."""
    nodes = [
        Node(
            UNDO + stage.stage_name,
            stage_body(
                stage, stage.rollback_stage if stage.has_undo else _nothing, companion.begin, companion.complete
            ),
            after=(index - 1,) if index else (),
            undoes=stage.stage_name,
        )
        for index, stage in enumerate(stages)
    ]
    return Graph(workflow, nodes)


def _nothing() -> None:
    pass
