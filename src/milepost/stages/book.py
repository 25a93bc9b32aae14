"""The states of a task's stages in this process, and how they become text and back."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from milepost.clock import to_datetime
from milepost.errors import (
    BindError,
    InvalidTransition,
    MissingStateError,
    StateMismatch,
    StateNotFoundError,
    ValueNotStorable,
)
from milepost.ledger import Ledger
from milepost.stages.models import BaseStageState, StageStateHistoryEntry, StageStatus
from milepost.stages.stage import BaseStage
from milepost.stages.state_io import LedgerStateIO, StateIO
from milepost.states import next_stage_status
from milepost.store import CheckpointWrite

__all__ = ["BOOKKEEPING", "TaskBook"]

BOOKKEEPING: Final = frozenset(BaseStageState.model_fields)
"""The fields that are each stage's own; all others go on into the next stage."""

State = BaseStageState[Any]


class TaskBook:
    """Holds a task's stages in order, changes their states by the table, and writes them down.

    Nothing here commits: what a change must have durable is returned as writes for whoever commits the
    step. A stage's own lock is held while its state is read as a whole.
    """

    def __init__(self, task_id: str, stages: Sequence[BaseStage[Any]], ledger: Ledger, io: StateIO) -> None:
        """Check that the stages can make one task, and give each its state.

        Raises:
            BindError: There is no stage, two bear one name, or their state classes differ.
            MissingStateError: A stage has no state, and none can be made for it.
        """
        self.task_id = task_id
        self.stages = tuple(stages)
        self.io = io
        self.ledger = ledger
        self.lease_epoch = 0
        self._texts: dict[str, str] = {}  # as last stored
        self._zones: dict[str, Any] = {"UTC": UTC}
        self.by_name = _index(task_id, self.stages)
        _give_states(task_id, self.stages)
        self._initial = {name: copy.deepcopy(value) for name, value in self._user_fields(self.stages[0]).items()}

    def __getitem__(self, name: str) -> BaseStage[Any]:
        """Return the stage of this name.

        Raises:
            BindError: There is none.
        """
        try:
            return self.by_name[name]
        except KeyError:
            known = ", ".join(map(repr, self.by_name))
            raise BindError(f"Task {self.task_id} has no stage {name!r}. Its stages: {known}.") from None

    @property
    def rides(self) -> bool:
        """Whether states are committed with the steps, so that an execution's start need not be stored by itself."""
        return isinstance(self.io, LedgerStateIO)

    # --- changing ----------------------------------------------------------------------------

    def change(self, stage: BaseStage[Any], verb: str) -> StageStatus:
        """Bring a stage into the state that a verb leads to; return the state it was in.

        Raises:
            InvalidTransition: The table does not allow it.
        """
        before: StageStatus = stage.state.status
        after = next_stage_status(before, verb)
        if after is None:
            raise InvalidTransition(f"Stage {stage.stage_name!r} of task {self.task_id}", before.value, verb)
        stage.state.status = after
        return before

    def note(
        self,
        stage: BaseStage[Any],
        begin: tuple[StageStatus, int],
        end: tuple[StageStatus, int],
        message: str,
        attempt: int | None = None,
    ) -> None:
        """Append an entry to a stage's history; begin and end are states with ledger times."""
        stage.state.history.append(self.entry(stage, begin, end, message, attempt))

    def entry(
        self,
        stage: BaseStage[Any],
        begin: tuple[StageStatus, int],
        end: tuple[StageStatus, int],
        message: str,
        attempt: int | None = None,
    ) -> StageStateHistoryEntry:
        """Return an entry for a stage's history."""
        return StageStateHistoryEntry(
            attempt=stage.state.attempts if attempt is None else attempt,
            begin_status=begin[0],
            begin_ts=self._timestamp(stage, begin[1]),
            end_status=end[0],
            end_ts=self._timestamp(stage, end[1]),
            message=message,
            run_time_seconds=max(0, end[1] - begin[1]) / 1e6,
        )

    def carry_forward(self, stage: BaseStage[Any]) -> None:
        """Begin a stage's fields with what the stage before it left, or with what the task began with."""
        position = next(place for place, other in enumerate(self.stages) if other is stage)
        self._begin_with(stage, self.stages[position - 1] if position else None)

    def forget(self, stage: BaseStage[Any], to_stage: str | None) -> None:
        """Make a stage as it was before it began, but for its history: the task stands at ``to_stage``, or at none."""
        stage.state.attempts = 0
        stage.state.result = None
        self._begin_with(stage, None if to_stage is None else self[to_stage])

    def _begin_with(self, stage: BaseStage[Any], before: BaseStage[Any] | None) -> None:
        fields = self._initial if before is None else self._user_fields(before)
        with stage._lock:  # noqa: SLF001 - of one package
            for name, value in fields.items():
                setattr(stage.state, name, copy.deepcopy(value))

    @staticmethod
    def _user_fields(stage: BaseStage[Any]) -> dict[str, Any]:
        state = stage.state
        return {name: getattr(state, name) for name in type(state).model_fields if name not in BOOKKEEPING}

    def _timestamp(self, stage: BaseStage[Any], micros: int) -> str:
        zone = self._zones.get(stage.timezone)
        if zone is None:
            zone = self._zones[stage.timezone] = ZoneInfo(stage.timezone)
        return to_datetime(micros).astimezone(zone).isoformat()

    # --- writing -----------------------------------------------------------------------------

    def text(self, stage: BaseStage[Any], **changes: Any) -> str:
        """Return a stage's state as JSON text that is known to restore.

        Args:
            stage: The stage.
            **changes: Fields that differ from what the state has now.

        Raises:
            ValueNotStorable: A field cannot be stored; the error names it.
        """
        with stage._lock:  # noqa: SLF001
            state = stage.state.model_copy(update=changes) if changes else stage.state
            return state_text(state, stage.stage_name)

    def safe_text(self, stage: BaseStage[Any]) -> str:
        """Return the text of a state whose fields may be what made its stage fail.

        Where they cannot be stored, those that were stored last stand.
        """
        try:
            return self.text(stage)
        except (ValueNotStorable, RuntimeError):  # RuntimeError: a thread that was left behind changes it meanwhile
            state = stage.state
            kept: State = type(state).model_validate_json(self._texts[stage.stage_name])
            return kept.model_copy(
                update={name: getattr(state, name) for name in BOOKKEEPING - {"result"}}
            ).model_dump_json()

    def saves(self, texts: Mapping[str, str]) -> Sequence[CheckpointWrite]:
        """Have states stored; return what is left to be committed with the step."""
        self._texts.update(texts)
        return self.io.save(self.task_id, texts, lease_epoch=self.lease_epoch, now=self.ledger.clock.now())

    def saves_of(self, stages: Iterable[BaseStage[Any]]) -> Sequence[CheckpointWrite]:
        """Have the states of these stages stored as they are."""
        return self.saves({stage.stage_name: self.safe_text(stage) for stage in stages})

    def save_value(self, label: str, name: str, text: str) -> CheckpointWrite:
        """Return the write of a value that the task keeps in the ledger beside its states."""
        return CheckpointWrite(self.task_id, label, name, text, self.lease_epoch, self.ledger.clock.now())

    # --- reading -----------------------------------------------------------------------------

    def load(self) -> None:
        """Take over the stored states.

        Raises:
            StateNotFoundError: The state of a stage is not there.
            StateMismatch: One no longer fits its class. Nothing was taken over.
        """
        texts = self.io.load(self.task_id)
        restored = []
        for stage in self.stages:
            text = texts.get(stage.stage_name)
            if text is None:
                raise StateNotFoundError(self.task_id, stage.stage_name, self.io.describe())
            restored.append(_restore(self.task_id, stage, text))
        for stage, state in zip(self.stages, restored, strict=True):
            with stage._lock:  # noqa: SLF001
                for name in type(state).model_fields:
                    setattr(stage.state, name, getattr(state, name))
        self._texts = {stage.stage_name: texts[stage.stage_name] for stage in self.stages}

    def set_initial(self, text: str) -> None:
        """Take over what the task's fields began with, as :meth:`initial_text` gave it."""
        stage = self.stages[0]
        state = _restore(self.task_id, stage, text)
        self._initial = {name: getattr(state, name) for name in type(state).model_fields if name not in BOOKKEEPING}

    def initial_text(self) -> str:
        """Return what the task's fields begin with, for :meth:`set_initial`."""
        return self.text(self.stages[0], status=StageStatus.UNBOUND)


def state_text(state: State, stage_name: str) -> str:
    """Return a state as JSON text that restores to the same class.

    Raises:
        ValueNotStorable: A field cannot be stored; the error names it.
    """
    try:
        text = state.model_dump_json(warnings=False)
    except Exception as error:
        raise _not_storable(state, stage_name, error) from error
    try:
        restored = type(state).model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(map(str, first["loc"]))
        raise _named(stage_name, getattr(state, str(first["loc"][0]), None), path, first["msg"]) from error
    if restored.result != state.result:
        reason = "its class is not named: write class MyState(BaseStageState[MyResult])"
        raise _named(stage_name, state.result, "result", reason)
    return text


def _not_storable(state: State, stage_name: str, error: Exception) -> ValueNotStorable:
    for name in type(state).model_fields:
        try:
            state.model_dump_json(include={name}, warnings=False)
        except Exception as told:
            return _named(stage_name, getattr(state, name), name, str(told))
    return _named(stage_name, state, "state", str(error))


def _named(stage_name: str, value: Any, path: str, reason: str) -> ValueNotStorable:
    remedy = f"Correct the field {path!r} of the state of stage {stage_name!r}: it must be plain JSON data of its type."
    return ValueNotStorable(type(value).__qualname__, f"state.{path}", reason, remedy=remedy)


def _restore(task_id: str, stage: BaseStage[Any], text: str) -> State:
    kind: type[State] = type(stage.state)
    try:
        return kind.model_validate_json(text)
    except ValidationError as first:
        try:
            return kind.model_validate(kind.upgrade_state(json.loads(text)))
        except ValidationError as error:
            raise StateMismatch(task_id, stage.stage_name, kind.__name__, _complaints(error)) from first
        except (LookupError, TypeError, ValueError) as error:
            told = f"upgrade_state() raised {type(error).__name__}: {error}"
            raise StateMismatch(task_id, stage.stage_name, kind.__name__, [told, *_complaints(first)]) from error


def _complaints(error: ValidationError) -> list[str]:
    return [f"{'.'.join(map(str, e['loc'])) or 'state'}: {e['msg']}" for e in error.errors(include_url=False)]


def _index(task_id: str, stages: Sequence[BaseStage[Any]]) -> dict[str, BaseStage[Any]]:
    if not stages:
        raise BindError(f"Task {task_id} has no stages. Give it at least one.")
    by_name: dict[str, BaseStage[Any]] = {}
    for stage in stages:
        if not isinstance(stage, BaseStage):
            raise BindError(f"A stage of task {task_id} must be a BaseStage, not {stage!r}.")
        if stage.stage_name in by_name:
            raise BindError(
                f"Two stages of task {task_id} are named {stage.stage_name!r}. Give one of them another name."
            )
        by_name[stage.stage_name] = stage
    return by_name


def _give_states(task_id: str, stages: Sequence[BaseStage[Any]]) -> None:
    kind = next((type(stage.state) for stage in stages if stage.state is not None), None)
    seen: set[int] = set()
    for stage in stages:
        if stage.state is None:
            if kind is None or any(field.is_required() for field in kind.model_fields.values()):
                raise MissingStateError(stage.stage_name)
            stage.state = kind()
        elif type(stage.state) is not kind:
            raise BindError(
                f"Stage {stage.stage_name!r} of task {task_id} has a state of class {type(stage.state).__name__}, the "
                f"stages before it of {kind.__name__ if kind else None}. All stages of a task share one state class."
            )
        elif id(stage.state) in seen:
            stage.state = copy.deepcopy(stage.state)
        seen.add(id(stage.state))
