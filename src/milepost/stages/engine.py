"""``TaskEngine``: run a task's stages durably, cancel them, undo them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic

from milepost.clock import to_datetime
from milepost.engine import History, RollbackPlan, Undoable, plan_rollback
from milepost.errors import (
    BindError,
    ConfigurationError,
    GraphChanged,
    InvalidTransition,
    MilepostError,
    RollbackRefused,
    RunBusy,
    StoreConflict,
    TaskBusy,
)
from milepost.graph import Graph, compare_definitions
from milepost.ledger import Ledger
from milepost.model import Retry, Run, check_run_id
from milepost.owner import current_owner, describe_owner
from milepost.runtime import FinishedRun, cancel_run, is_interrupted
from milepost.runtime.companion import Companion
from milepost.runtime.keeper import executing
from milepost.runtime.landing import describe_error
from milepost.runtime.lifecycle import new_run, open_ledger, tags_text
from milepost.runtime.outcome import Outputs
from milepost.runtime.session import RunSession
from milepost.stages.backward import UNDO, Backward, Marker, undo_graph
from milepost.stages.book import TaskBook
from milepost.stages.flow import Call, Drive, Flow, perform, perform_async
from milepost.stages.forward import Forward, stage_graph
from milepost.stages.models import CANCELABLE_STATES, STAGE_RESULT, RetryPolicy, StageStatus
from milepost.stages.stage import BaseStage
from milepost.stages.state_io import STATE, LedgerStateIO, StateIO
from milepost.states import RunStatus, StepStatus
from milepost.store import CheckpointWrite, NewRun, RunEnd, RunWrite

__all__ = ["TaskEngine"]

KIND: Final = "task"  # of the runs that tasks are
_DIED: Final = ("ProcessDied", "the process that executed this attempt is gone")
_OF_TASK: Final = ""  # the label of what belongs to the task and to none of its stages
_ROLLBACK: Final = "rollback"
_INITIAL: Final = "initial"
_ROLLED_BACK: Final = "RolledBack"


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
        self._retry = Retry(max_attempts - 1, delay, backoff_factor, max_delay)
        self._workflow = workflow
        self._target = target
        self._tags = tags
        io = state_io or LedgerStateIO(self.ledger)
        self._book = TaskBook(self.task_id, stages, self.ledger, io)
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
        """
        self.ledger.require_run(self.task_id)
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
        return perform(self._run())

    async def run_async(self) -> STAGE_RESULT | None:
        """Do what :meth:`run` does, on the running event loop."""
        return await perform_async(self._run())

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
        with self._occupied():
            now = self.ledger.clock.now()
            self._create(RunEnd(RunStatus.CANCELLED, now, None, "RunCancelled", "cancelled before it began"))
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

    def _run(self) -> Flow[STAGE_RESULT | None]:
        with self._occupied():
            run = yield Call(lambda: self.ledger.get_run(self.task_id))
            if run is None:
                yield Call(self._create)
                run = yield Call(lambda: self.ledger.require_run(self.task_id))
            else:
                yield Call(lambda: self._check(run))
                if run.status == RunStatus.COMPLETED:
                    return self.result
                run = yield Call(lambda: self._claim(run))
                marker = yield Call(self._marker)
                if marker is not None:
                    end, cause, _ = yield from self._undo(marker)
                    return self._outcome(end, cause)
                yield Call(lambda: self._take_up(run))
            session = yield Call(lambda: self._forward_session(run))
            yield Drive(session)
            end, cause = session.end, session.error
            if session.is_handed_on:
                marker = yield Call(self._marker)
                end, undo_cause, is_undone = yield from self._undo(marker)
                cause = cause if is_undone else undo_cause
            return self._outcome(end, cause)

    def _roll_back(self, to_stage: str | None, *, dry_run: bool, skip_missing: bool) -> Flow[RollbackPlan]:
        if to_stage is not None:
            self._book[to_stage]  # unknown names are refused first
        if dry_run:
            run = yield Call(lambda: self.ledger.require_run(self.task_id))
            yield Call(lambda: self._check(run))
            return self._plan(to_stage, (yield Call(self._marker)))
        with self._occupied():
            run = yield Call(lambda: self.ledger.require_run(self.task_id))
            yield Call(lambda: self._check(run))
            marker = yield Call(self._marker)
            plan = self._plan(to_stage, marker)
            if plan.is_empty and marker is None:
                return plan
            if plan.without_undo and marker is None and not skip_missing:
                raise RollbackRefused(self.task_id, plan.without_undo)
            run = yield Call(lambda: self._claim(run))
            if marker is None:
                marker = Marker(plan.undo, to_stage)
                yield Call(lambda: self._begin_rollback(marker))
            end, cause, is_undone = yield from self._undo(marker)
            if not is_undone:
                self._outcome(end, cause)
            return plan

    def _undo(self, marker: Marker) -> Flow[tuple[RunEnd, BaseException | None, bool]]:
        """Undo what is left of a rollback.

        Returns:
            How the run ended, the exception of an undo that failed, and whether everything is undone.
        """
        companion, session = yield Call(lambda: self._backward_session(marker))
        if session is not None:
            yield Drive(session)
            if not session.is_handed_on:
                return session.end, session.error, False
        end = yield Call(lambda: self._end_rollback(marker, companion))
        return end, None, True

    # --- what they call ----------------------------------------------------------------------

    @contextmanager
    def _occupied(self) -> Iterator[None]:
        """Keep other engines of this process, and of this StateIO, out."""
        try:
            with executing(self.ledger, self.task_id), self._book.io.lock(self.task_id):
                yield
        except TaskBusy:
            raise
        except RunBusy as busy:
            raise TaskBusy(busy.run_id, busy.owner, busy.until) from None

    def _create(self, end: RunEnd | None = None) -> None:
        graph = stage_graph(
            self._workflow, Forward(self._book, self.retry_policy, 1), self.stages, self.retry_policy, self._retry
        )
        book = self._book
        new: NewRun = new_run(
            self.ledger, graph, {}, kind=KIND, run_id=self.task_id, target=self._target, tags=self._tags
        )
        book.lease_epoch = 1
        initial = book.save_value(_OF_TASK, _INITIAL, book.initial_text())
        texts = {stage.stage_name: book.text(stage) for stage in self.stages}
        if end is not None:
            first = self.stages[0]
            was = book.change(first, "cancel")
            book.note(first, (was, end.now), (first.status, end.now), f"canceled: {end.error_message}")
            texts[first.stage_name] = book.text(first)
        saves = [initial, *book.saves(texts)]
        for error in self.ledger.commit_many([new, RunWrite(self.task_id, 1, checkpoints=saves, end=end)]):
            if error is not None:
                raise error

    def _check(self, run: Run) -> None:
        """Refuse what can be refused before the task is claimed, so that a refusal changes nothing; load the states."""
        if run.kind != KIND:
            raise ConfigurationError(
                f"Run {run.run_id} is a run of kind {run.kind!r}, not a task. Give the task another id."
            )
        if (
            run.status == RunStatus.RUNNING
            and run.lease_owner != current_owner()
            and not is_interrupted(self.ledger, run)
        ):
            raise self._busy(run)
        stored = None if run.hash is None else self.ledger.store.get_definition(run.hash)
        offered = self._definition()
        if stored is not None and stored != offered:
            changes = compare_definitions(stored, offered)
            if changes:
                raise GraphChanged(self.task_id, [change.replace("step ", "stage ", 1) for change in changes])
        self._book.load()

    def _definition(self) -> str:
        companion = Forward(self._book, self.retry_policy, 1)
        return stage_graph(self._workflow, companion, self.stages, self.retry_policy, self._retry).definition

    def _busy(self, run: Run) -> TaskBusy:
        until = to_datetime(run.lease_until or 0).isoformat(timespec="seconds")
        return TaskBusy(self.task_id, describe_owner(run.lease_owner or "nobody"), until)

    def _claim(self, run: Run) -> Run:
        now = self.ledger.clock.now()
        try:
            claimed = self.ledger.store.claim_run(
                run,
                owner=current_owner(),
                now=now,
                lease_until=now + int(self.ledger.lease * 1e6),
                attempt=run.attempt + (run.finished_at is not None),
                target=self._target,
                reason=_DIED,
            )
        except StoreConflict:
            taken = self.ledger.require_run(self.task_id)
            if taken.status == RunStatus.RUNNING:
                raise self._busy(taken) from None
            raise
        book = self._book
        book.lease_epoch = claimed.lease_epoch
        try:
            # The former owner may have ended a stage between our reading and our claim; it cannot any more.
            book.load()
            initial = self.ledger.store.get_checkpoint(self.task_id, _OF_TASK, _INITIAL)
            if initial is not None:
                book.set_initial(initial)
            touched = book.note_crashes(self.ledger.list_steps(self.task_id), now)
            self._commit(book.saves_of(touched))
        except MilepostError as error:
            end = RunEnd(RunStatus.FAILED, self.ledger.clock.now(), None, type(error).__qualname__, str(error))
            self.ledger.commit(RunWrite(self.task_id, claimed.lease_epoch, end=end))
            raise
        return claimed

    def _take_up(self, run: Run) -> None:
        """Make stages that had failed or were canceled ready to run again, by hand."""
        book, now = self._book, self.ledger.clock.now()
        again = [stage for stage in self.stages if stage.status in (StageStatus.ERROR, StageStatus.CANCELED)]
        for stage in again:
            was = book.change(stage, "rerun")
            book.note(stage, (was, now), (stage.status, now), "run again by hand")
        self._commit(book.saves_of(again))

    def _commit(self, saves: Sequence[CheckpointWrite]) -> None:
        if saves:
            self.ledger.commit(RunWrite(self.task_id, self._book.lease_epoch, checkpoints=saves))

    def _forward_session(self, run: Run) -> RunSession:
        rows = self.ledger.store.list_step_rows(self.task_id)
        counted = (StepStatus.COMPLETED, StepStatus.FAILED)
        used = sum(
            row.label in self._book.by_name and row.status in counted and row.run_attempt >= run.attempt for row in rows
        )
        sessions: list[RunSession] = []

        def marker(label: str, error: BaseException) -> CheckpointWrite | None:
            if not self.rollback_on_failure or sessions[0].stop_reason is not None:
                return None
            undo = self._plan(None, None).undo
            told = (label, *describe_error(error))
            return self._book.save_value(_OF_TASK, _ROLLBACK, Marker(undo, None, told).to_text()) if undo else None

        forward = Forward(self._book, self.retry_policy, self.max_attempts, used=used, rollback_marker=marker)
        graph = stage_graph(self._workflow, forward, self.stages, self.retry_policy, self._retry)
        done = {i: None for i, stage in enumerate(self.stages) if stage.status == StageStatus.COMPLETE}
        session = self._session(graph, forward, History(done=done, tries=self._tries(run)))
        sessions.append(session)
        return session

    def _tries(self, run: Run | None = None) -> dict[str, tuple[int, int]]:
        """Return for each label its last attempt, and its failures since the task was last begun by hand."""
        tries: dict[str, tuple[int, int]] = {}
        for row in self.ledger.store.list_step_rows(self.task_id):
            last, failures = tries.get(row.label, (0, 0))
            counts = run is not None and row.status == StepStatus.FAILED and row.run_attempt >= run.attempt
            tries[row.label] = max(last, row.attempt), failures + counts
        return tries

    def _session(self, graph: Graph, companion: Companion, history: History) -> RunSession:
        return RunSession(
            self.ledger,
            self.task_id,
            self._book.lease_epoch,
            graph,
            {},
            history=history,
            seq=self.ledger.store.max_seq(self.task_id),
            companion=companion,
        )

    def _outcome(self, end: RunEnd, cause: BaseException | None) -> STAGE_RESULT | None:
        if end.status == RunStatus.COMPLETED:
            return self.result
        FinishedRun(
            self.ledger, self.task_id, end, Outputs(self.ledger, self.task_id, (), {}, lambda: ()), cause
        ).result()
        return None

    # --- of a rollback -----------------------------------------------------------------------

    def _marker(self) -> Marker | None:
        return Marker.from_text(self.ledger.store.get_checkpoint(self.task_id, _OF_TASK, _ROLLBACK))

    def _plan(self, to_stage: str | None, marker: Marker | None) -> RollbackPlan:
        if marker is not None:
            to_stage = marker.to_stage
        elif to_stage is not None and self.stage(to_stage).status != StageStatus.COMPLETE:
            status = self.stage(to_stage).status.value
            raise InvalidTransition(f"Stage {to_stage!r} of task {self.task_id}", status, "be rolled back to")
        steps = [
            Undoable(stage.stage_name, stage.status == StageStatus.COMPLETE, _is_begun(stage), has_undo=stage.has_undo)
            for stage in self.stages
        ]
        return plan_rollback(steps, to_stage)

    def _begin_rollback(self, marker: Marker) -> None:
        self._commit([self._book.save_value(_OF_TASK, _ROLLBACK, marker.to_text())])

    def _backward_session(self, marker: Marker) -> tuple[Backward, RunSession | None]:
        saved: dict[str, list[str]] = {}
        for checkpoint in self.ledger.list_checkpoints(self.task_id):
            if checkpoint.name != STATE and checkpoint.label != _OF_TASK:
                saved.setdefault(checkpoint.label, []).append(checkpoint.name)
        companion = Backward(self._book, marker.to_stage, saved)
        left = [self._book[name] for name in marker.stages if self._book[name].status == StageStatus.COMPLETE]
        if not left:
            return companion, None
        graph = undo_graph(self._workflow, companion, left)
        return companion, self._session(graph, companion, History(tries=self._tries()))

    def _end_rollback(self, marker: Marker, companion: Backward) -> RunEnd:
        """End the run of a task that is rolled back; what had begun and not completed is reset by the same commit."""
        book, now = self._book, self.ledger.clock.now()
        saves: list[CheckpointWrite] = [book.save_value(_OF_TASK, _ROLLBACK, "null")]
        for name in self._plan(None, marker).reset:
            stage = book[name]
            was, attempt = stage.status, stage.attempts
            if was != StageStatus.CREATED:
                book.change(stage, "reset")
            book.forget(stage, marker.to_stage)
            book.note(stage, (was, now), (stage.status, now), "reset: the task was rolled back", attempt)
            saves += [*book.saves_of([stage]), *companion.forgotten(name)]
        if marker.error is None:
            until = f"to stage {marker.to_stage!r}" if marker.to_stage else "all its stages"
            end = RunEnd(RunStatus.CANCELLED, now, None, _ROLLED_BACK, f"rolled back {until}")
        else:
            end = RunEnd(RunStatus.FAILED, now, *marker.error)
        self.ledger.commit(RunWrite(self.task_id, book.lease_epoch, checkpoints=saves, end=end))
        return end


def _is_begun(stage: BaseStage[Any]) -> bool:
    return stage.status != StageStatus.CREATED or stage.attempts > 0
