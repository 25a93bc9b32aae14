"""Executing the stages of a task: what is kept with each end, and when a failure is final."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from milepost.errors import AttemptsExhausted, StepCancelled
from milepost.graph import Graph, Node
from milepost.model import Retry
from milepost.runtime import StepContext
from milepost.runtime.flight import Flight
from milepost.runtime.landing import describe_error
from milepost.runtime.steps import Step
from milepost.stages.book import TaskBook
from milepost.stages.models import RetryPolicy, StageStateHistoryEntry, StageStatus
from milepost.stages.stage import BaseStage
from milepost.states import CANCELABLE_STATES, StepStatus
from milepost.store import CheckpointWrite, RunEnd

__all__ = ["Forward", "stage_body", "stage_graph"]

_LOGGER: Final = logging.getLogger("milepost.stages")
_UNBOUNDED: Final = 2**31  # retries: what ends them is the budget of the whole task


class Forward:
    """Keeps the states of a task whose stages are executed, in the commits of their steps.

    Args:
        book: The task's stages.
        policy: What retries are counted against.
        max_attempts: The budget: executions of each stage, or of all together.
        used: How many of a GLOBAL budget were used before.
        rollback_marker: Returns the text that makes a rollback begin in the commit of a final failure, or
            None where nothing is to be undone.
    """

    def __init__(
        self,
        book: TaskBook,
        policy: RetryPolicy,
        max_attempts: int,
        *,
        used: int = 0,
        rollback_marker: Callable[[str, BaseException], CheckpointWrite | None] = lambda label, error: None,
    ) -> None:
        """Begin to execute."""
        self._book = book
        self._policy = policy
        self._limit = max_attempts
        self._used = used
        self._rollback_marker = rollback_marker
        self._has_marker = False
        self._begun: dict[str, tuple[StageStatus, int]] = {}  # by name: the state before the execution, and its start
        self._completed: dict[str, tuple[str, StageStateHistoryEntry, Any]] = {}

    # --- in the body's thread ----------------------------------------------------------------

    def begin(self, stage: BaseStage[Any], context: StepContext) -> None:
        """Begin an execution.

        Raises:
            AttemptsExhausted: The budget of the whole task is used up.
        """
        book, name = self._book, stage.stage_name
        if self._policy is RetryPolicy.GLOBAL and self._used >= self._limit:
            raise AttemptsExhausted(name, self._used, self._limit)
        if stage.state.attempts == 0:
            book.carry_forward(stage)
        before = book.change(stage, "start")
        stage.state.attempts += 1
        self._used += 1
        self._begun[name] = before, book.ledger.clock.now()
        if not book.rides:
            book.saves_of([stage])

    def complete(self, stage: BaseStage[Any], context: StepContext, value: Any) -> Any:
        """Take what an execution returned; prove that the state can be stored before the step counts as done."""
        book, name = self._book, stage.stage_name
        result = stage.state.result if value is None else value
        entry = book.entry(stage, self._begun[name], (StageStatus.COMPLETE, book.ledger.clock.now()), "completed")
        history = [*stage.state.history, entry]
        text = book.text(stage, status=StageStatus.COMPLETE, history=history, result=result)
        self._completed[name] = text, entry, result
        return None if result is None else json.loads(result.model_dump_json())

    # --- in the driver's thread --------------------------------------------------------------

    def gives_up(self, flight: Flight) -> bool:
        """Return whether a failure is final, by the policy and by the stage's own word."""
        error = flight.error
        if self._policy is RetryPolicy.NONE or isinstance(error, (AttemptsExhausted, StepCancelled)):
            return True
        if self._policy is RetryPolicy.GLOBAL and self._used >= self._limit:
            return True
        stage = self._book.by_name[flight.call.label]
        try:
            return error is not None and not stage.should_retry(error)
        except Exception:
            _LOGGER.exception("should_retry() of stage %r failed: the stage is not tried again.", stage.stage_name)
            return True

    def ended(self, flight: Flight, status: StepStatus, delay: float | None) -> Sequence[CheckpointWrite]:
        """Return the state of a stage whose execution ended."""
        book, name = self._book, flight.call.label
        stage = book.by_name[name]
        if status == StepStatus.COMPLETED:
            text, entry, result = self._completed.pop(name)
            book.change(stage, "complete")
            stage.state.history.append(entry)
            stage.state.result = result
            return book.saves({name: text})
        before = self._begun.pop(name, None)
        error = flight.error
        assert error is not None
        kind, message, _ = describe_error(error)
        if status == StepStatus.CANCELLED:
            verb, told = "cancel", f"canceled: {message}"
        else:
            verb = "refuse" if before is None else "fail" if delay is None else "retry"
            told = f"{kind}: {message}"
        was = book.change(stage, verb)
        begin = was if before is None else before[0]
        book.note(stage, (begin, flight.started_at), (stage.state.status, flight.finished_at), told)
        saves = list(book.saves_of([stage]))
        if verb in ("fail", "refuse"):
            marker = self._rollback_marker(name, error)
            if marker is not None:
                self._has_marker = True
                saves.append(marker)
        return saves

    def stopped(self, flights: Sequence[Flight], message: str) -> Sequence[CheckpointWrite]:
        """Cancel what is in the air; where nothing is, the stage that would have been next."""
        book = self._book
        now = book.ledger.clock.now()
        canceled = []
        for flight in flights:
            stage = book.by_name[flight.call.label]
            if stage.state.status in CANCELABLE_STATES:
                before = self._begun.pop(stage.stage_name, None)
                was = book.change(stage, "cancel")
                begin = was if before is None else before[0]
                book.note(stage, (begin, flight.started_at), (stage.state.status, now), f"canceled: {message}")
                canceled.append(stage)
        ended = (StageStatus.CANCELED, StageStatus.ERROR)
        if not canceled and not any(stage.state.status in ended for stage in book.stages):
            for stage in book.stages:
                if stage.state.status in CANCELABLE_STATES:
                    was = book.change(stage, "cancel")
                    book.note(stage, (was, now), (stage.state.status, now), f"canceled: {message}")
                    canceled.append(stage)
                    break
        return book.saves_of(canceled)

    def holds_on(self) -> bool:
        """Return whether a rollback follows."""
        return self._has_marker

    def ending(self, now: int) -> RunEnd | None:
        """Return None: a task whose stages are complete is completed."""


def stage_graph(
    workflow: str, companion: Forward, stages: Sequence[BaseStage[Any]], policy: RetryPolicy, retry: Retry
) -> Graph:
    """Return the chain of a task's stages."""
    if policy is RetryPolicy.GLOBAL:
        retry = Retry(_UNBOUNDED, retry.delay, retry.backoff_factor, retry.max_delay, retry.jitter)
    nodes = [
        Node(
            stage.stage_name,
            stage_body(stage, stage.execute_stage, companion.begin, companion.complete),
            after=(index - 1,) if index else (),
            retry=None if policy is RetryPolicy.NONE else retry,
        )
        for index, stage in enumerate(stages)
    ]
    return Graph(workflow, nodes)


Begin = Callable[[BaseStage[Any], StepContext], None]
Complete = Callable[[BaseStage[Any], StepContext, Any], Any]


def stage_body(stage: BaseStage[Any], method: Callable[[], Any], begin: Begin, complete: Complete) -> Step[..., Any]:
    """Return the step that calls a stage's method, ``def`` or ``async def``, between these two."""
    if inspect.iscoroutinefunction(method):

        async def execute_async(ctx: StepContext) -> Any:
            begin(stage, ctx)
            stage._context = ctx  # noqa: SLF001 - of one package
            try:
                value = await method()
            finally:
                stage._context = None  # noqa: SLF001
            return complete(stage, ctx, value)

        return Step(execute_async, name="stage")

    def execute(ctx: StepContext) -> Any:
        begin(stage, ctx)
        stage._context = ctx  # noqa: SLF001
        try:
            value = method()
        finally:
            stage._context = None  # noqa: SLF001
        return complete(stage, ctx, value)

    return Step(execute, name="stage")
