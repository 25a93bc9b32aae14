"""``BaseStage``: what one stage of a staged task does, and how it is undone."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from milepost.errors import BindError, MissingStateError
from milepost.runtime import StepContext
from milepost.stages.models import STAGE_NAME_MAX_LENGTH, BaseStageState, SimpleRecordsResult, StageStatus
from milepost.stages.records import RecordBatch, count_processed

if TYPE_CHECKING:
    from milepost.stages.engine import TaskEngine

__all__ = ["BaseStage"]

STATE = TypeVar("STATE", bound=BaseStageState[Any])
T = TypeVar("T")


class BaseStage(BaseModel, ABC, Generic[STATE]):
    """One stage of a task: subclass it and write :meth:`execute_stage`.

    Attributes:
        stage_name: 1 to 150 characters, unique in the task.
        description: What the stage does, for people.
        state: Where it keeps what it knows. Left out, it is made from the class that stands in
            ``BaseStage[MyState]``; stages after the first begin with what those before them set.
        timezone: The time zone of the timestamps in its history.

    Example:
        >>> class Count(BaseStageState[SimpleRecordsResult]):
        ...     lines: int = 0
        >>> class CountLines(BaseStage[Count]):
        ...     def execute_stage(self) -> None:
        ...         self.state.lines += 3
        >>> stage = CountLines(stage_name="count")
        >>> stage.status
        <StageStatus.UNBOUND: 'UNBOUND'>
    """

    model_config = ConfigDict(extra="forbid")

    stage_name: str = Field(min_length=1, max_length=STAGE_NAME_MAX_LENGTH, title="Stage Name")
    description: str = Field(default="", title="Description")
    state: STATE = Field(default=None, title="State")  # type: ignore[assignment]
    timezone: str = Field(default="UTC", title="Time Zone")

    _engine: TaskEngine[Any] | None = PrivateAttr(default=None)
    _context: StepContext | None = PrivateAttr(default=None)
    _lock: Any = PrivateAttr(default_factory=threading.RLock)

    @field_validator("stage_name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not name.isprintable() or not name.strip():
            message = "a stage's name must be printable text"
            raise ValueError(message)
        return name

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            message = f"{name!r} is not a time zone. Write one such as 'UTC' or 'Europe/Berlin'"
            raise ValueError(message) from None
        return name

    def model_post_init(self, context: Any, /) -> None:
        """Make the state of a stage that was given none, where its class says how."""
        super().model_post_init(context)
        given: STATE | None = self.state
        if given is None:
            self.state = self._make_state()

    @classmethod
    def state_class(cls) -> type[BaseStageState[Any]] | None:
        """Return the class of its state as ``BaseStage[MyState]`` names it, or None."""
        annotation: Any = cls.model_fields["state"].annotation
        is_named = isinstance(annotation, type) and issubclass(annotation, BaseStageState)
        return annotation if is_named else None

    def _make_state(self) -> Any:
        kind: Any = self.state_class()
        if kind is None or any(field.is_required() for field in kind.model_fields.values()):
            return None
        return kind()

    # --- what a subclass writes --------------------------------------------------------------

    @abstractmethod
    def execute_stage(self) -> Any:
        """Do the stage's work; ``def`` or ``async def``.

        What it returns, unless None, becomes ``state.result``. It may be executed again after a crash
        or a failure: then ``state`` is as it was last saved.
        """

    def rollback_stage(self) -> Any:
        """Undo what a completed execution did; ``def`` or ``async def``.

        ``state`` is the stage's own, as its execution left it. A rollback that is killed calls it again
        unless its end was recorded: it must take what is undone already.
        """
        raise NotImplementedError

    def should_retry(self, exc: BaseException) -> bool:
        """Return whether this failure is worth another attempt, where the policy has one left."""
        return True

    # --- what it can ask ---------------------------------------------------------------------

    @property
    def status(self) -> StageStatus:
        """Where the stage stands.

        Raises:
            MissingStateError: It has no state.
        """
        return self._bookkeeping().status

    @property
    def attempts(self) -> int:
        """How often the stage has been run since it was created, or last undone.

        Raises:
            MissingStateError: It has no state.
        """
        return self._bookkeeping().attempts

    def _bookkeeping(self) -> BaseStageState[Any]:
        state: BaseStageState[Any] | None = self.state
        if state is None:
            raise MissingStateError(self.stage_name)
        return state

    @property
    def engine(self) -> TaskEngine[Any]:
        """The engine that the stage is bound to.

        Raises:
            BindError: It is bound to none.
        """
        if self._engine is None:
            raise BindError(f"Stage {self.stage_name!r} is bound to no engine. Hand it to a TaskEngine.")
        return self._engine

    @property
    def context(self) -> StepContext:
        """The context of the running execution: its logger, heartbeat and progress.

        Raises:
            BindError: The stage is not being executed.
        """
        if self._context is None:
            raise BindError(f"Stage {self.stage_name!r} is not being executed. Ask inside execute_stage().")
        return self._context

    @property
    def has_undo(self) -> bool:
        """Whether its class says how to undo it."""
        return type(self).rollback_stage is not BaseStage.rollback_stage

    def update(self, **fields: Any) -> None:
        """Set fields of the state at once, seen whole by :meth:`checkpoint` whatever thread calls it.

        Raises:
            ValueError: The state has no such field.

        Example:
            >>> class Count(BaseStageState[SimpleRecordsResult]):
            ...     lines: int = 0
            >>> class CountLines(BaseStage[Count]):
            ...     def execute_stage(self) -> None:
            ...         self.update(lines=3)
            >>> stage = CountLines(stage_name="count")
            >>> stage.execute_stage()
            >>> stage.state.lines
            3
        """
        with self._lock:
            state = self._bookkeeping()
            for name in fields:
                if name not in type(state).model_fields:
                    message = f"{type(state).__name__} has no field {name!r}. Its class must define it."
                    raise ValueError(message)
            for name, value in fields.items():
                setattr(state, name, value)

    def checkpoint(self) -> None:
        """Save the state in mid-stage: a later attempt begins with it. A safe point: here a cancel takes effect.

        Raises:
            ValueNotStorable: A field cannot be stored.
            StepCancelled: The task was cancelled; the state is saved.
            LeaseLost: Another engine took the task over.
        """
        self.engine.save_checkpoint(self)

    def process_records(
        self,
        items: Iterable[T],
        fn: Callable[[T], object],
        key: Callable[[T], Hashable] | None = None,
        *,
        name: str = "records",
        batch: int = 5000,
        max_errors: int | None = None,
        on_save: Callable[[], object] | None = None,
    ) -> SimpleRecordsResult:
        """Call a function for each record, and remember how far it came: see :class:`RecordBatch`.

        Args:
            items: The records, in the same order at each attempt.
            fn: Called with each record; a record for which it raises is an ERROR, and the batch goes on.
            key: Identifies a record, in what is kept of failed ones; its position if left out.
            name: Names the batch, where a stage has several.
            batch: Save after so many records at the latest; it happens twice a second in any case.
            max_errors: Stop when there are more failed records than this, and fail the stage.
            on_save: Called before it saves how far it came: flush here what the function wrote.

        Raises:
            TooManyErrors: More records failed than ``max_errors``.
            StepCancelled: The task was cancelled; how far it came is saved.
        """
        records = RecordBatch(self.context, name, batch=batch, max_errors=max_errors, on_save=on_save)
        return records.process(items, fn, key)

    def processed(self, name: str = "records") -> int:
        """Return how many records of a batch an earlier attempt has processed, as far as was saved."""
        return count_processed(self.context, name)
