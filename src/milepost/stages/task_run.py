"""The run that a task is in the ledger: creating and claiming it, its sessions, the ends of a rollback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from milepost.clock import to_datetime
from milepost.engine import History, RollbackPlan, Undoable, plan_rollback
from milepost.errors import (
    ConfigurationError,
    GraphChanged,
    InvalidTransition,
    MilepostError,
    RunBusy,
    StoreConflict,
    TaskBusy,
)
from milepost.graph import Graph, compare_definitions
from milepost.model import Retry, Run
from milepost.owner import current_owner, describe_owner
from milepost.runtime import is_interrupted
from milepost.runtime.companion import Companion
from milepost.runtime.keeper import executing
from milepost.runtime.landing import describe_error
from milepost.runtime.lifecycle import new_run
from milepost.runtime.session import RunSession
from milepost.runtime.undoing import ROLLED_BACK
from milepost.stages.backward import Backward, Marker, undo_graph
from milepost.stages.book import TaskBook
from milepost.stages.forward import Forward, stage_graph
from milepost.stages.models import RetryPolicy, StageStatus
from milepost.stages.recovery import missing_rows, note_crashes
from milepost.stages.stage import BaseStage
from milepost.stages.state_io import STATE
from milepost.states import RunStatus, StepStatus
from milepost.store import CheckpointWrite, RunEnd, RunWrite, StepWrite

__all__ = ["KIND", "TaskRun"]

KIND: Final = "task"  # of the runs that tasks are
_DIED: Final = ("ProcessDied", "the process that executed this attempt is gone")
_OF_TASK: Final = ""  # the label of what belongs to the task and to none of its stages
_ROLLBACK: Final = "rollback"
_INITIAL: Final = "initial"


class TaskRun:
    """What an engine does to its run between two sessions; every verb waits for the disk.

    Args:
        book: The task's stages.
        workflow: The name of tasks of this kind.
        target: Where a function is found that makes the engine.
        tags: Plain data kept with the run.
        policy: What retries are counted against.
        max_attempts: The budget.
        retry: When a stage is tried again.
        rolls_back: Undo the completed stages when the task fails for good.
    """

    def __init__(
        self,
        book: TaskBook,
        *,
        workflow: str,
        target: str | None,
        tags: dict[str, Any] | None,
        policy: RetryPolicy,
        max_attempts: int,
        retry: Retry,
        rolls_back: bool,
    ) -> None:
        """Look at nothing yet."""
        self.book = book
        self.ledger = book.ledger
        self.task_id = book.task_id
        self._workflow = workflow
        self._target = target
        self._tags = tags
        self._policy = policy
        self._max_attempts = max_attempts
        self._retry = retry
        self._rolls_back = rolls_back

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Keep other engines of this process, and of this StateIO, out."""
        try:
            with executing(self.ledger, self.task_id), self.book.io.lock(self.task_id):
                yield
        except TaskBusy:
            raise
        except RunBusy as busy:
            raise TaskBusy(busy.run_id, busy.owner, busy.until) from None

    def create(self, end: RunEnd | None = None) -> None:
        """Create the run, claimed by this process, with the states of all stages in the same commit.

        Args:
            end: How it ends at once: it was cancelled before it began.
        """
        book = self.book
        new = new_run(
            self.ledger, self._graph(), {}, kind=KIND, run_id=self.task_id, target=self._target, tags=self._tags
        )
        book.lease_epoch = 1
        initial = book.save_value(_OF_TASK, _INITIAL, book.initial_text())
        texts = {stage.stage_name: book.text(stage) for stage in self.book.stages}
        if end is not None:
            first = self.book.stages[0]
            was = book.change(first, "cancel")
            book.note(first, (was, end.now), (first.status, end.now), f"canceled: {end.error_message}")
            texts[first.stage_name] = book.text(first)
        saves = [initial, *book.saves(texts)]
        for error in self.ledger.commit_many([new, RunWrite(self.task_id, 1, checkpoints=saves, end=end)]):
            if error is not None:
                raise error

    def check(self, run: Run) -> None:
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
        offered = self._graph().definition
        if stored is not None and stored != offered:
            changes = compare_definitions(stored, offered)
            if changes:
                raise GraphChanged(self.task_id, [change.replace("step ", "stage ", 1) for change in changes])
        self.book.load()

    def _graph(self, forward: Forward | None = None) -> Graph:
        forward = forward or Forward(self.book, self._policy, self._max_attempts)
        return stage_graph(self._workflow, forward, self.book.stages, self._policy, self._retry)

    def _busy(self, run: Run) -> TaskBusy:
        until = to_datetime(run.lease_until or 0).isoformat(timespec="seconds")
        return TaskBusy(self.task_id, describe_owner(run.lease_owner or "nobody"), until)

    def claim(self, run: Run) -> Run:
        """Take the run over from the state that was read, and write down what its last engine could not.

        Raises:
            TaskBusy: Another engine was faster.
        """
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
        book = self.book
        book.lease_epoch = claimed.lease_epoch
        try:
            # The former owner may have ended a stage between our reading and our claim; it cannot any more.
            book.load()
            initial = self.ledger.store.get_checkpoint(self.task_id, _OF_TASK, _INITIAL)
            if initial is not None:
                book.set_initial(initial)
            rows = self.ledger.list_steps(self.task_id)
            self._commit(book.saves_of(note_crashes(book, rows, now)), missing_rows(book, rows))
        except MilepostError as error:
            end = RunEnd(RunStatus.FAILED, self.ledger.clock.now(), None, type(error).__qualname__, str(error))
            self.ledger.commit(RunWrite(self.task_id, claimed.lease_epoch, end=end))
            raise
        return claimed

    def take_up(self, run: Run) -> None:
        """Make stages that had failed or were canceled ready to run again, by hand."""
        book, now = self.book, self.ledger.clock.now()
        again = [stage for stage in self.book.stages if stage.status in (StageStatus.ERROR, StageStatus.CANCELED)]
        for stage in again:
            was = book.change(stage, "rerun")
            book.note(stage, (was, now), (stage.status, now), "run again by hand")
        self._commit(book.saves_of(again))

    def _commit(self, saves: Sequence[CheckpointWrite], ends: Sequence[StepWrite] = ()) -> None:
        if saves or ends:
            self.ledger.commit(RunWrite(self.task_id, self.book.lease_epoch, ends=ends, checkpoints=saves))

    def forward_session(self, run: Run) -> RunSession:
        """Return the session that executes the stages which are not complete."""
        rows = self.ledger.store.list_step_rows(self.task_id)
        counted = (StepStatus.COMPLETED, StepStatus.FAILED)
        used = sum(
            row.label in self.book.by_name and row.status in counted and row.run_attempt >= run.attempt for row in rows
        )
        sessions: list[RunSession] = []

        def marker(label: str, error: BaseException) -> CheckpointWrite | None:
            if not self._rolls_back or sessions[0].stop_reason is not None:
                return None
            undo = self.plan(None, None).undo
            told = (label, *describe_error(error))
            return self.book.save_value(_OF_TASK, _ROLLBACK, Marker(undo, None, told).to_text()) if undo else None

        forward = Forward(self.book, self._policy, self._max_attempts, used=used, rollback_marker=marker)
        graph = self._graph(forward)
        done = {i: None for i, stage in enumerate(self.book.stages) if stage.status == StageStatus.COMPLETE}
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
            self.book.lease_epoch,
            graph,
            {},
            history=history,
            seq=self.ledger.store.max_seq(self.task_id),
            companion=companion,
        )

    # --- of a rollback -----------------------------------------------------------------------

    def marker(self) -> Marker | None:
        """Return the rollback that has begun and not ended, or None."""
        return Marker.from_text(self.ledger.store.get_checkpoint(self.task_id, _OF_TASK, _ROLLBACK))

    def plan(self, to_stage: str | None, marker: Marker | None) -> RollbackPlan:
        """Return what a rollback does; one that has begun goes on to where it was going.

        Raises:
            InvalidTransition: The stage that is to stay is not complete.
        """
        if marker is not None:
            to_stage = marker.to_stage
        elif to_stage is not None and self.book[to_stage].status != StageStatus.COMPLETE:
            status = self.book[to_stage].status.value
            raise InvalidTransition(f"Stage {to_stage!r} of task {self.task_id}", status, "be rolled back to")
        steps = [
            Undoable(stage.stage_name, stage.status == StageStatus.COMPLETE, _is_begun(stage), has_undo=stage.has_undo)
            for stage in self.book.stages
        ]
        return plan_rollback(steps, to_stage)

    def begin_rollback(self, marker: Marker) -> None:
        """Write down that a rollback begins: from here on it is finished before anything else happens."""
        self._commit([self.book.save_value(_OF_TASK, _ROLLBACK, marker.to_text())])

    def backward_session(self, marker: Marker) -> tuple[Backward, RunSession | None]:
        """Return the session that undoes what is left, None where nothing is, and who keeps its states."""
        saved: dict[str, list[str]] = {}
        for checkpoint in self.ledger.list_checkpoints(self.task_id):
            if checkpoint.name != STATE and checkpoint.label != _OF_TASK:
                saved.setdefault(checkpoint.label, []).append(checkpoint.name)
        companion = Backward(self.book, marker.to_stage, saved)
        left = [self.book[name] for name in marker.stages if self.book[name].status == StageStatus.COMPLETE]
        if not left:
            return companion, None
        graph = undo_graph(self._workflow, companion, left)
        return companion, self._session(graph, companion, History(tries=self._tries()))

    def end_rollback(self, marker: Marker, companion: Backward) -> RunEnd:
        """End the run of a task that is rolled back; what had begun and not completed is reset by the same commit."""
        book, now = self.book, self.ledger.clock.now()
        saves: list[CheckpointWrite] = [book.save_value(_OF_TASK, _ROLLBACK, "null")]
        for name in self.plan(None, marker).reset:
            stage = book[name]
            was, attempt = stage.status, stage.attempts
            if was != StageStatus.CREATED:
                book.change(stage, "reset")
            book.forget(stage, marker.to_stage)
            book.note(stage, (was, now), (stage.status, now), "reset: the task was rolled back", attempt)
            saves += [*book.saves_of([stage]), *companion.forgotten(name)]
        if marker.error is None:
            until = f"to stage {marker.to_stage!r}" if marker.to_stage else "all its stages"
            end = RunEnd(RunStatus.CANCELLED, now, None, ROLLED_BACK, f"rolled back {until}")
        else:
            end = RunEnd(RunStatus.FAILED, now, *marker.error)
        self.ledger.commit(RunWrite(self.task_id, book.lease_epoch, checkpoints=saves, end=end))
        return end


def _is_begun(stage: BaseStage[Any]) -> bool:
    return stage.status != StageStatus.CREATED or stage.attempts > 0
