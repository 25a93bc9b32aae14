"""``Step``, ``Process`` and ``Pipeline``: declared as classes, read by the compiler."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from milepost.model import Retry
from milepost.runtime.steps import MISSING

__all__ = ["Process", "Step", "fitted", "params_type_of"]

P = TypeVar("P", bound=BaseModel)


class Step(Generic[P]):
    """One step of a process: what ``execute`` does is recorded once.

    ``execute(self, params, *, words, counts)`` takes the params of the run, and by name the results of earlier
    steps that declare them with ``result``. It may be a ``def`` or an ``async def``, and may ask for a
    ``StepContext``. Every execution gets an instance of its own.

    Attributes:
        result: The name under which later steps take what this one returns; None for no name.
        over: The name of an earlier result: ``execute`` is called once for each of its elements, side by side, each
            recorded on its own. The element goes to the first parameter after ``params``.
        concurrency: Of a step with ``over``, how many elements run at once.
        retry: When it is tried again; None for never.
        timeout: Seconds that one attempt may take.
        at_most_once: A start is recorded before it, and it never starts again.
        pure: No side effects: a crash may compute it again.
        transient: What it returns is not stored.
        executor: Where it runs; threads if left out.

    Example:
        >>> from pydantic import BaseModel
        >>> class Params(BaseModel, frozen=True):
        ...     n: int
        >>> class Count(Step[Params]):
        ...     result = "numbers"
        ...     def execute(self, params: Params) -> list[int]:
        ...         return list(range(params.n))
        >>> Count().execute(Params(n=3))
        [0, 1, 2]
    """

    result: ClassVar[str | None] = None
    over: ClassVar[str | None] = None
    concurrency: ClassVar[int | None] = None
    retry: ClassVar[Retry | None] = None
    timeout: ClassVar[float | None] = None
    at_most_once: ClassVar[bool] = False
    pure: ClassVar[bool] = False
    transient: ClassVar[bool] = False
    executor: ClassVar[Executor | None] = None

    execute: ClassVar[Any] = None

    @classmethod
    def perform(cls, params: Any, **given: Any) -> Any:
        """Execute a new instance; what the engine calls, here or in another process."""
        return cls().execute(fitted(params, params_type_of(cls)), **given)


class Process(Generic[P]):
    """A part of a pipeline: steps in order; a list among them is a group that runs side by side.

    Example:
        >>> from pydantic import BaseModel
        >>> class Params(BaseModel):
        ...     pass
        >>> class Load(Step[Params]):
        ...     def execute(self, params: Params) -> None: ...
        >>> class Check(Step[Params]):
        ...     def execute(self, params: Params) -> None: ...
        >>> class Prepare(Process[Params]):
        ...     steps = [Load, [Check]]
    """

    steps: ClassVar[Sequence[Any]] = ()


def params_type_of(cls: type) -> Any:
    """Return the params that a step, process or pipeline declares, by itself or by a base; MISSING for none.

    Example:
        >>> class Params(BaseModel):
        ...     pass
        >>> params_type_of(Step[Params].__origin__) is MISSING
        True
    """
    for base in cls.__mro__:
        for generic in base.__dict__.get("__orig_bases__", ()):
            origin = typing.get_origin(generic)
            arguments = typing.get_args(generic)
            if isinstance(origin, type) and arguments and not isinstance(arguments[0], TypeVar):
                return arguments[0]
    return MISSING


def fitted(params: Any, wanted: Any) -> Any:
    """Return the params as a step takes them: as they are, or the part of their fields that it declares."""
    if not isinstance(wanted, type) or isinstance(params, wanted) or not issubclass(wanted, BaseModel):
        return params
    fields = {name: getattr(params, name) for name in wanted.model_fields if hasattr(params, name)}
    return wanted.model_validate({wanted.model_fields[name].alias or name: value for name, value in fields.items()})
