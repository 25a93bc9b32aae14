"""``TaskEngine``: run a task's stages durably, cancel them, undo them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Generic

from milepost.engine import RollbackPlan
from milepost.errors import BindError, ConfigurationError, InvalidTransition, RollbackRefused
from milepost.ledger import Ledger
from milepost.model import Retry, check_run_id
from milepost.runtime import FinishedRun, Progress, cancel_run
from milepost.runtime.lifecycle import open_ledger, tags_text
from milepost.runtime.outcome import Outputs
from milepost.runtime.undoing import UNDO
from milepost.stages.backward import Marker
from milepost.stages.book import TaskBook
from milepost.stages.flow import Call, Drive, Flow, perform, perform_async
from milepost.stages.models import CANCELABLE_STATES, STAGE_RESULT, RetryPolicy, StageStatus
from milepost.stages.stage import BaseStage
from milepost.stages.state_io import LedgerStateIO, StateIO
from milepost.stages.task_run import KIND, TaskRun
from milepost.states import RunStatus
from milepost.store import RunEnd, RunWrite

__all__ = ["TaskEngine"]


class TaskEngine(Generic[STAGE_RESULT]):
    """Runs the stages of one task in order and keeps their states.

    A task is a run of kind ``task`` whose id is the task's: each stage is a step of it. Another process
    may go on with it, given the same stages.

    Args:
        task_id: Names the task in the ledger; letters, digits, ``.``, ``_``, ``:`` and ``-``.
        stages: What it does, in order. All stages share one state class.
        ledger: Where it is recorded: an open ledger, a path or a URL.
        retry_policy: What retries are counted against.
        max_attempts: Executions of each stage (STAGE), or of all of them together (GLOBAL).
        delay: Seconds before the first retry of a stage.
        backoff_factor: Each further delay is this many times the one before.
        max_delay: Upper limit of a delay in seconds.
        rollback_on_failure: Undo the completed stages when the task fails for good.
        state_io: Where states are kept; None means the ledger, committed with the steps themselves.
        workflow: The name that tasks of this kind have in lists.
        target: Where ``milepost resume`` finds a function that makes this engine: ``file.py:build``.
        tags: Plain data by name, kept with the run.

    Raises:
        BindError: There is no stage, two bear one name, one belongs to another engine, or their state classes differ.
        MissingStateError: A stage has no state, and none can be made for it.
        ConfigurationError: An argument has a value that cannot work.

    Example:
        >>> from milepost.stages import BaseStage, BaseStageState, SimpleRecordsResult, TaskEngine
        >>> class Cities(BaseStageState[SimpleRecordsResult]):
        ...     names: list[str] = []
        >>> class Load(BaseStage[Cities]):
        ...     def execute_stage(self) -> None:
        ...         self.state.names = ["Oslo", "Rome"]
        >>> class Count(BaseStage[Cities]):
        ...     def execute_stage(self) -> SimpleRecordsResult:
        ...         n = len(self.state.names)
        ...         return SimpleRecordsResult(total_count=n, success_count=n)
        >>> engine = TaskEngine("cities", [Load(stage_name="load"), Count(stage_name="count")], ledger=":memory:")
        >>> engine.run().success_count
        2
    """

    def __init__(
        self,
        task_id: str,
        stages: Sequence[BaseStage[Any]],
        *,
        ledger: Ledger | str | os.PathLike[str] | None = None,
        retry_policy: RetryPolicy = RetryPolicy.NONE,
        max_attempts: int = 3,
        delay: float = 0.0,
        backoff_factor: float = 2.0,
        max_delay: float = 300.0,
        rollback_on_failure: bool = False,
        state_io: StateIO | None = None,
        workflow: str = KIND,
        target: str | None = None,
        tags: dict[str, Any] | None = None,
    ) -> None:
        """Bind the stages; nothing is written yet."""
        self.task_id = check_run_id(task_id)
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
            raise ConfigurationError(f"max_attempts must be a whole number of 1 or more, not {max_attempts!r}.")
        if not isinstance(retry_policy, RetryPolicy):
            raise ConfigurationError(f"retry_policy must be a RetryPolicy, not {retry_policy!r}.")
        tags_text(tags)
        self.retry_policy = retry_policy
        self.max_attempts = max_attempts
        self.rollback_on_failure = rollback_on_failure
        self.ledger = open_ledger(ledger)
        io = state_io or LedgerStateIO(self.ledger)
        self._book = TaskBook(self.task_id, stages, self.ledger, io)
        self._task = TaskRun(
            self._book,
            workflow=workflow,
            target=target,
            tags=tags,
            policy=retry_policy,
            max_attempts=max_attempts,
            retry=Retry(max_attempts - 1, delay, backoff_factor, max_delay),
            rolls_back=rollback_on_failure,
        )
        self._check_names()
        self._bind()

    def _check_names(self) -> None:
        names = self._book.by_name
        for name in names:
            if name.removeprefix(UNDO) != name and name.removeprefix(UNDO) in names:
                raise BindError(f"{name!r} would be the name of the undo of another stage. Give it another name.")
        without = [stage.stage_name for stage in self.stages[:-1] if not stage.has_undo]
        if self.rollback_on_failure and without:
            raise BindError(
                f"rollback_on_failure needs a rollback_stage() in every stage but the last; {', '.join(without)} "
                f"{'has' if len(without) == 1 else 'have'} none. Write it, even where there is nothing to undo."
            )

    def _bind(self) -> None:
        for stage in self.stages:
            if stage._engine is not None:  # noqa: SLF001 - of one package
                raise BindError(
                    f"Stage {stage.stage_name!r} is bound to task {stage.engine.task_id} already. "
                    "Make a new stage for each engine."
                )
        for stage in self.stages:
            stage._engine = self  # noqa: SLF001
            state = stage.state
            state.stage_name, state.task_id = stage.stage_name, self.task_id
            if state.status == StageStatus.UNBOUND:
                self._book.change(stage, "bind")

    # --- looking -----------------------------------------------------------------------------

    @property
    def stages(self) -> tuple[BaseStage[Any], ...]:
        """The stages in order, each with its own state."""
        return self._book.stages

    def stage(self, name: str) -> BaseStage[Any]:
        """Return the stage of this name.

        Raises:
            BindError: There is none.
        """
        return self._book[name]

    @property
    def result(self) -> STAGE_RESULT | None:
        """The result of the final stage, None before it has completed."""
        found: STAGE_RESULT | None = self.stages[-1].state.result
        return found

    def load(self) -> None:
        """Take over the states that are stored, to look at them; :meth:`run` does it by itself.

        Raises:
            RunNotFound: The task has not begun.
            StateNotFoundError: The state of a stage is not there.
            StateMismatch: A stored state no longer fits the state class.
            TaskBusy: This process executes the task: its stages have the states.
        """
        self.ledger.require_run(self.task_id)
        with self._task.occupied():
            self._book.load()

    # --- running -----------------------------------------------------------------------------

    def run(self) -> STAGE_RESULT | None:
        """Run the task from its first stage that is not complete, and return the final stage's result.

        A task that completed before is not run again. One that failed or was cancelled is run again by
        hand, with a new retry budget. A rollback that was cut short is finished instead, and nothing is run.

        Raises:
            RunFailed: A stage failed for good; ``__cause__`` is its exception.
            RunCancelled: The task was cancelled, or has been rolled back.
            TaskBusy: Another engine works on it.
            GraphChanged: Stages were removed, added or reordered since it began.
            StateMismatch: A stored state no longer fits the state class.
            KeyboardInterrupt: Recorded as a cancel, then raised again.
        """
        return self._result(perform(self._run()))

    async def run_async(self) -> STAGE_RESULT | None:
        """Do what :meth:`run` does, on the running event loop."""
        return self._result(await perform_async(self._run()))

    def finish(self, on_start: Callable[[Progress], None] | None = None) -> FinishedRun:
        """Do what :meth:`run` does, and return how the run ended instead of raising it.

        Args:
            on_start: Called with what shows the progress, when the stages begin and when a rollback does.
        """
        return perform(self._run(on_start))

    def resume(self) -> STAGE_RESULT | None:
        """Go on with a task that began before: :meth:`run`, but never a new task.

        Raises:
            RunNotFound: The task has not begun.
        """
        self.ledger.require_run(self.task_id)
        return self.run()

    def cancel(self) -> str:
        """Ask for an early end, from any thread or process; return ``"requested"`` or ``"cancelled"``.

        A stage hears of it at its next safe point (:meth:`BaseStage.checkpoint`, a batch of records,
        ``context.heartbeat()``); one that has none runs to its end first.

        Raises:
            InvalidTransition: The task has ended.
        """
        run = self.ledger.get_run(self.task_id)
        if run is not None:
            return cancel_run(self.ledger, self.task_id)
        first = self.stages[0]
        if first.status not in CANCELABLE_STATES:
            raise InvalidTransition(f"Task {self.task_id}", first.status.value, "be cancelled")
        with self._task.occupied():
            now = self.ledger.clock.now()
            self._task.create(RunEnd(RunStatus.CANCELLED, now, None, "RunCancelled", "cancelled before it began"))
        return "cancelled"

    def save_checkpoint(self, stage: BaseStage[Any]) -> None:
        """Save a stage's state in mid-stage; stages call their own :meth:`BaseStage.checkpoint`."""
        book = self._book
        saves = book.saves({stage.stage_name: book.text(stage)})
        if saves:
            self.ledger.commit(RunWrite(self.task_id, book.lease_epoch, checkpoints=saves))
        stage.context.heartbeat()

    # --- rolling back ------------------------------------------------------------------------

    def rollback(
        self, to_stage: str | None = None, *, dry_run: bool = False, skip_missing: bool = False
    ) -> RollbackPlan:
        """Undo completed stages in reverse order, and return what was, or with ``dry_run`` would be, done.

        Each stage that is undone is recorded; a rollback that was cut short goes on with what is left,
        whatever ``to_stage`` says then. After it every stage behind ``to_stage`` is CREATED.

        Args:
            to_stage: This stage and those before it stay complete. None: undo all.
            dry_run: Only say what would be undone.
            skip_missing: Pass over stages without ``rollback_stage()``; they count as undone.

        Raises:
            RunNotFound: The task has not begun.
            RollbackRefused: A stage to be undone has no ``rollback_stage()``. Nothing was undone.
            InvalidTransition: ``to_stage`` is not complete.
            RunFailed: An undo failed: the rollback stopped there. Call it again to go on.
            RunCancelled: The rollback was cancelled. Call it again to go on.
            TaskBusy: Another engine works on the task.
        """
        return perform(self._roll_back(to_stage, dry_run=dry_run, skip_missing=skip_missing))

    async def rollback_async(
        self, to_stage: str | None = None, *, dry_run: bool = False, skip_missing: bool = False
    ) -> RollbackPlan:
        """Do what :meth:`rollback` does, on the running event loop."""
        return await perform_async(self._roll_back(to_stage, dry_run=dry_run, skip_missing=skip_missing))

    # --- the flows ---------------------------------------------------------------------------

    def _run(self, on_start: Callable[[Progress], None] | None = None) -> Flow[FinishedRun]:
        with self._task.occupied():
            run = yield Call(lambda: self.ledger.get_run(self.task_id))
            if run is None:
                yield Call(self._task.create)
                run = yield Call(lambda: self.ledger.require_run(self.task_id))
            else:
                yield Call(lambda: self._task.check(run))
                if run.status == RunStatus.COMPLETED:
                    return self._finished(RunEnd(run.status, run.finished_at))
                run = yield Call(lambda: self._task.claim(run))
                marker = yield Call(self._task.marker)
                if marker is not None:
                    end, cause, _ = yield from self._undo(marker, on_start)
                    return self._finished(end, cause)
                yield Call(lambda: self._task.take_up(run))
            session = yield Call(lambda: self._task.forward_session(run))
            if on_start is not None:
                on_start(session.progress)
            yield Drive(session)
            end, cause = session.end, session.error
            if session.is_handed_on:
                marker = yield Call(self._task.marker)
                end, undo_cause, is_undone = yield from self._undo(marker, on_start)
                cause = cause if is_undone else undo_cause
            return self._finished(end, cause)

    def _roll_back(self, to_stage: str | None, *, dry_run: bool, skip_missing: bool) -> Flow[RollbackPlan]:
        if to_stage is not None:
            self._book[to_stage]  # unknown names are refused first
        with self._task.occupied():
            run = yield Call(lambda: self.ledger.require_run(self.task_id))
            yield Call(lambda: self._task.check(run))
            marker = yield Call(self._task.marker)
            plan = self._task.plan(to_stage, marker)
            if dry_run or (plan.is_empty and marker is None):
                return plan
            if plan.without_undo and marker is None and not skip_missing:
                raise RollbackRefused(self.task_id, plan.without_undo)
            run = yield Call(lambda: self._task.claim(run))
            if marker is None:
                marker = Marker(plan.undo, to_stage)
                yield Call(lambda: self._task.begin_rollback(marker))
            end, cause, is_undone = yield from self._undo(marker)
            if not is_undone:
                self._finished(end, cause).result()
            return plan

    def _undo(
        self, marker: Marker, on_start: Callable[[Progress], None] | None = None
    ) -> Flow[tuple[RunEnd, BaseException | None, bool]]:
        """Undo what is left of a rollback.

        Returns:
            How the run ended, the exception of an undo that failed, and whether everything is undone.
        """
        companion, session = yield Call(lambda: self._task.backward_session(marker))
        if session is not None:
            if on_start is not None:
                on_start(session.progress)
            yield Drive(session)
            if not session.is_handed_on:
                return session.end, session.error, False
        end = yield Call(lambda: self._task.end_rollback(marker, companion))
        return end, None, True

    def _finished(self, end: RunEnd, cause: BaseException | None = None) -> FinishedRun:
        outputs = Outputs(self.ledger, self.task_id, (), {}, lambda: ())
        return _FinishedTask(self.ledger, self.task_id, end, outputs, cause)

    def _result(self, finished: FinishedRun) -> STAGE_RESULT | None:
        finished.result()  # raises what the run ended with
        return self.result


class _FinishedTask(FinishedRun):
    """A task's run that has ended; knows what goes on with a task."""

    def _again(self) -> str:
        if self.ledger.url == ":memory:" or self.ledger.get_payload(self.run_id).target is None:
            return f"TaskEngine({self.run_id!r}, ...).run()"
        return super()._again()
