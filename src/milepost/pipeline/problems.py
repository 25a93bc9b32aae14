"""What is wrong with a pipeline: all of it at once, each mistake with its code, component, field and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from milepost.errors import ConfigurationError, GraphError

__all__ = ["CompilationError", "IncludeInvalid", "Mistake", "MistakeCode"]


class MistakeCode(StrEnum):
    """What kind of mistake it is. The value is the name, so that it can be searched for."""

    MISSING_GENERIC_PARAM = "MISSING_GENERIC_PARAM"
    """The class does not say which params it takes."""
    INVALID_PARAMS_TYPE = "INVALID_PARAMS_TYPE"
    """The params are no pydantic model, or not those of the pipeline."""
    INVALID_PARAMS_NAME = "INVALID_PARAMS_NAME"
    """The first parameter of execute() is not called params."""
    MISSING_PARAMS_FIELDS = "MISSING_PARAMS_FIELDS"
    """The pipeline's params lack fields that a component's own params need."""
    MISSING_EXECUTE = "MISSING_EXECUTE"
    """A step has nothing to execute."""
    INVALID_SIGNATURE = "INVALID_SIGNATURE"
    """execute() has parameters that nothing can be handed to."""
    INVALID_STEP_OPTION = "INVALID_STEP_OPTION"
    """An option of a step has a value that cannot work."""
    INVALID_STEP_ITEM = "INVALID_STEP_ITEM"
    """What a process lists is no step, or no flat group of steps."""
    INVALID_PROCESS_ITEM = "INVALID_PROCESS_ITEM"
    """What a pipeline lists is no process, or no flat group of processes."""
    NOTHING_TO_RUN = "NOTHING_TO_RUN"
    """A process, a pipeline or a group is empty."""
    DUPLICATE_STEP = "DUPLICATE_STEP"
    """A process lists two steps of one name."""
    DUPLICATE_PROCESS = "DUPLICATE_PROCESS"
    """A pipeline lists two processes of one name."""
    INVALID_RESULT_NAME = "INVALID_RESULT_NAME"
    """The name that a step declares for its result is none that a parameter can have."""
    DUPLICATE_RESULT = "DUPLICATE_RESULT"
    """Two steps declare one name for their results."""
    RESULT_NOT_PRODUCED = "RESULT_NOT_PRODUCED"
    """A step takes a result that no earlier step declares."""
    RESULT_TYPE_MISMATCH = "RESULT_TYPE_MISMATCH"
    """A step takes a result that certainly is of another type."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake of a pipeline.

    Attributes:
        code: What kind it is.
        component: The class that has it: ``Load.Read`` is the step Read of the process Load.
        message: What is wrong, with the value.
        remedy: What to do.
        field: The attribute or parameter, None where it is the class itself.
    """

    code: MistakeCode
    component: str
    message: str
    remedy: str
    field: str | None = None

    def __str__(self) -> str:
        """Return it in one line."""
        where = self.component if self.field is None else f"{self.component}, {self.field}"
        return f"{self.code} in {where}: {self.message} {self.remedy}"


class CompilationError(GraphError):
    """A pipeline cannot be: every mistake that was found.

    Attributes:
        name: The class that was compiled.
        mistakes: All of them, in the order of the declarations.
    """

    def __init__(self, name: str, mistakes: Sequence[Mistake]) -> None:
        """Build the sentence from what was found."""
        self.name = name
        self.mistakes = tuple(mistakes)
        count = "one mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"{name} has {count}: {' · '.join(map(str, mistakes))}")


class IncludeInvalid(ConfigurationError, ValueError):
    """What ``include=`` names does not exist, or drops what an included step needs; no run was created.

    Attributes:
        name: The pipeline.
        complaints: All that is wrong with it.
    """

    def __init__(self, name: str, complaints: Sequence[str]) -> None:
        """Build the sentence from what was found."""
        self.name = name
        self.complaints = tuple(complaints)
        super().__init__(f"{name} cannot run with this include: {'; '.join(complaints)}.")
