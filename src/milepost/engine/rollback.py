"""Which completed steps a rollback undoes, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["RollbackPlan", "Undoable", "plan_rollback"]


@dataclass(frozen=True, slots=True)
class Undoable:
    """What a rollback needs to know of one step, in the order the steps ran.

    ``is_begun``: it was executed, or its execution was refused or cancelled, and it has not completed.
    """

    label: str
    is_completed: bool
    is_begun: bool
    has_undo: bool


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """What a rollback does: what it undoes, in order; what it only forgets; what nobody says how to undo.

    ``without_undo`` names those of ``undo`` that have no undo of their own.
    """

    undo: tuple[str, ...]
    reset: tuple[str, ...]
    without_undo: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.undo or self.reset)


def plan_rollback(steps: Sequence[Undoable], to: str | None = None) -> RollbackPlan:
    """Decide what a rollback undoes: completed steps after ``to`` (all of them for None), the last one first.

    Steps after ``to`` that were begun and have not completed have nothing to undo: they are reset.

    Raises:
        KeyError: No step bears the label ``to``.

    Example:
        >>> steps = [Undoable(n, True, False, True) for n in "abc"]
        >>> plan_rollback(steps, to="a").undo
        ('c', 'b')
    """
    labels = [step.label for step in steps]
    if to is not None and to not in labels:
        raise KeyError(to)
    after = steps if to is None else steps[labels.index(to) + 1 :]
    undo = [step for step in reversed(after) if step.is_completed]
    return RollbackPlan(
        tuple(step.label for step in undo),
        tuple(step.label for step in after if step.is_begun and not step.is_completed),
        tuple(step.label for step in undo if not step.has_undo),
    )
