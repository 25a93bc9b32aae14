"""Every exception Milepost raises on purpose.

Each error takes facts, keeps them as attributes and builds one sentence from them that ends in
the remedy. ``str(error)`` is always a single line, ready for a terminal.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "AtMostOnceInterrupted",
    "AttemptsExhausted",
    "BindError",
    "ConfigurationError",
    "DagPause",
    "EventTimedOut",
    "GraphChanged",
    "GraphError",
    "InputError",
    "InvalidTransition",
    "KeyConflict",
    "LeaseLost",
    "LedgerBusy",
    "LedgerFull",
    "LedgerReadOnly",
    "LedgerUnreadable",
    "MilepostError",
    "MissingStateError",
    "NodeNotFound",
    "NonRetryable",
    "NotALedger",
    "OutputMismatch",
    "RollbackRefused",
    "RunBusy",
    "RunCancelled",
    "RunExists",
    "RunFailed",
    "RunNotFound",
    "RunPaused",
    "ScheduleExists",
    "ScheduleNotFound",
    "SchemaNewer",
    "SchemaOutdated",
    "StateMismatch",
    "StateNotFoundError",
    "StepCancelled",
    "StepNotFound",
    "StepTimedOut",
    "StoreConflict",
    "StoreError",
    "StoreUnavailable",
    "TargetNotFound",
    "TaskBusy",
    "TaskCancelled",
    "TaskEngineError",
    "TaskNotFound",
    "TaskSuspended",
    "TrackingError",
    "ValueNotRestorable",
    "ValueNotStorable",
    "WaitTimedOut",
    "WorkerExists",
    "WorkflowRunNotFound",
    "did_you_mean",
]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for a near miss, else an empty text.

    Example:
        >>> did_you_mean("colour", ["color", "size"])
        " Did you mean 'color'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6) if isinstance(name, str) else ()
    return f" Did you mean {close[0]!r}?" if close else ""


def _one_line(text: str, longest: int = 1000) -> str:
    """Return what user code said as part of a sentence: one line, and not a book."""
    line = " ".join(text[: 2 * longest].split())
    return line if len(text) <= 2 * longest and len(line) <= longest else f"{line[:longest]}..."


class MilepostError(Exception):
    """The one base of everything that Milepost raises on purpose."""


# --- what the user wrote -------------------------------------------------------------------------


class ConfigurationError(MilepostError, ValueError):
    """An option, a decorator or a setting has a value that cannot work."""


class GraphError(ConfigurationError):
    """A graph cannot be built: ambiguity, cycle, duplicate label, unknown parameter, wrong type."""


class InputError(MilepostError, ValueError):
    """The inputs of a run are missing, unknown or of the wrong type."""


class TargetNotFound(ConfigurationError, LookupError):
    """A target such as ``pkg.mod:dag`` or ``file.py:dag`` does not lead to a workflow."""


class GraphChanged(MilepostError, ValueError):
    """The graph offered to resume a run is not the graph that the run started with."""

    def __init__(self, run_id: str, changes: Sequence[str]) -> None:
        """Build the sentence from the run and the list of differences."""
        self.run_id = run_id
        self.changes = tuple(changes)
        shown = "; ".join(self.changes[:8])
        more = f"; and {len(self.changes) - 8} more" if len(self.changes) > 8 else ""
        super().__init__(
            f"Run {run_id} cannot go on with this graph, which has changed since the run started: "
            f"{shown}{more}. Restore the graph, allow the changes (allow_changes=True), or start a new run."
        )


class DagPause(BaseException):
    """Raise this inside a step to pause its run; the step runs again when the run is restarted.

    Siblings that run already finish and are recorded, nothing new starts, and the run is left suspended. It is no
    ``Exception``, so that an ``except Exception`` on the way cannot swallow it.

    Example:
        >>> def publish(approved: bool) -> str:
        ...     if not approved:
        ...         raise DagPause("somebody has to look at it first")
        ...     return "published"
    """


class NonRetryable(Exception):
    """Raise this inside a step to fail at once, whatever the retry policy says.

    Example:
        >>> raise NonRetryable("the file is not a CSV file")
        Traceback (most recent call last):
        ...
        milepost.errors.NonRetryable: the file is not a CSV file
    """


# --- values --------------------------------------------------------------------------------------


class ValueNotStorable(MilepostError, TypeError):
    """A value has a type that the ledger cannot keep without losing it."""

    def __init__(
        self,
        type_name: str,
        path: str = "$",
        reason: str | None = None,
        *,
        step: str | None = None,
        remedy: str | None = None,
    ) -> None:
        """Build the sentence from the exact type, the place inside the value, the step that made it and what to do."""
        self.type_name = type_name
        self.path = path
        self.reason = reason
        self.step = step
        self.remedy = remedy or ("Return plain data, a dataclass or a pydantic model, or mark the step transient=True.")
        where = "" if path == "$" else f" at {path}"
        whose = f", returned by step {step!r}," if step else ""
        why = f": {reason}" if reason else ""
        super().__init__(f"A value of type {type_name}{where}{whose} cannot be stored{why}. {self.remedy}")


class ValueNotRestorable(MilepostError, ValueError):
    """A stored value cannot be turned back into the object that it was."""

    def __init__(self, type_name: str, path: str = "$", reason: str = "", remedy: str | None = None) -> None:
        """Build the sentence from the stored type, the place inside the value, the reason and what to do."""
        self.type_name = type_name
        self.path = path
        self.reason = reason
        self.remedy = remedy or "look at it with `milepost doctor`, or start a new run"
        where = "" if path == "$" else f" at {path}"
        super().__init__(
            f"A stored value of type {type_name}{where} cannot be restored: {reason}. Remedy: {self.remedy}."
        )


class OutputMismatch(MilepostError, TypeError):
    """A step returned something that its own return annotation denies."""

    def __init__(self, step: str, annotation: str, detail: str) -> None:
        """Build the sentence from the step, its annotation and what came instead."""
        self.step = step
        self.annotation = annotation
        self.detail = detail
        super().__init__(
            f"Step {step!r} is annotated to return {annotation} but returned {detail}. "
            "Correct the annotation or the value."
        )


# --- runs and steps ------------------------------------------------------------------------------


class RunNotFound(MilepostError, LookupError, ValueError):
    """No run has this id in this ledger."""

    def __init__(self, run_id: str, known: Iterable[str] = ()) -> None:
        """Build the sentence from the id that was asked for."""
        self.run_id = run_id
        super().__init__(
            f"No run {run_id!r} in this ledger.{did_you_mean(run_id, known)} `milepost runs` lists what is there."
        )

    def __str__(self) -> str:
        """Return the sentence (a bare LookupError would quote it)."""
        return str(self.args[0])


class NodeNotFound(RunNotFound):
    """No attempt of this node was recorded for the run."""

    def __init__(self, run_id: str, label: str, known: Iterable[str] = ()) -> None:
        """Build the sentence from the run, the label and the labels that it has."""
        self.run_id = run_id
        self.label = label
        near = did_you_mean(label, known)
        told = f"Run {run_id!r} has no node {label!r}.{near} Record its start first: record_node_start."
        MilepostError.__init__(self, told)


class StepNotFound(MilepostError, LookupError):
    """The run has no step of this label, or none that has completed."""

    def __init__(self, run_id: str, label: str, known: Iterable[str] = ()) -> None:
        """Build the sentence from the run, the label and the labels that it has."""
        self.run_id = run_id
        self.label = label
        labels = set(known)
        if label in labels:
            super().__init__(
                f"Step {label!r} of run {run_id} has not completed, so it has no output. "
                f"See how it stands: `milepost show {run_id}`."
            )
        else:
            near = did_you_mean(label, labels) or f" Its steps: `milepost show {run_id}`."
            super().__init__(f"Run {run_id} has no step {label!r}.{near}")

    def __str__(self) -> str:
        """Return the sentence."""
        return str(self.args[0])


class RunExists(MilepostError, ValueError):
    """A run with this id exists already."""

    def __init__(self, run_id: str) -> None:
        """Build the sentence from the id."""
        self.run_id = run_id
        super().__init__(
            f"A run {run_id!r} exists already in this ledger. "
            f"Choose another run id, or go on with it: `milepost resume {run_id}`."
        )


class InvalidTransition(MilepostError, ValueError):
    """The state machine does not allow this change from the state the row is in."""

    def __init__(self, what: str, state: str, verb: str, remedy: str = "") -> None:
        """Build the sentence from the subject, its state and the verb."""
        self.what = what
        self.state = state
        self.verb = verb
        super().__init__(f"{what} is {state}: it cannot {verb}.{' ' + remedy if remedy else ''}")


class RunBusy(MilepostError):
    """Another live process holds the lease of the run."""

    def __init__(self, run_id: str, owner: str, until: str) -> None:
        """Build the sentence from the lease."""
        self.run_id = run_id
        self.owner = owner
        self.until = until
        super().__init__(
            f"Run {run_id} is being executed by {owner} (lease until {until}). "
            f"Wait for it, or stop it: `milepost cancel {run_id}`."
        )


class LeaseLost(MilepostError):
    """Somebody else took the run over; nothing this process writes to it counts any more."""

    def __init__(self, run_id: str, lease_epoch: int) -> None:
        """Build the sentence from the run and the epoch that went stale."""
        self.run_id = run_id
        self.lease_epoch = lease_epoch
        super().__init__(
            f"The lease of run {run_id} (epoch {lease_epoch}) was lost: another process took the run over or "
            f"ended it, so this one wrote nothing. See who holds it: `milepost show {run_id}`."
        )


class RunFailed(MilepostError):
    """A run ended as failed; ``__cause__`` is the step's own exception where this process saw it.

    The sentence has the step's message in one line; ``error_message`` has all that is recorded of it.
    """

    def __init__(
        self,
        run_id: str,
        label: str | None,
        error_type: str | None,
        message: str | None,
        traceback: str = "",
        *,
        again: str | None = None,
    ) -> None:
        """Build the sentence from the first failure of the run and what goes on with it."""
        self.run_id = run_id
        self.label = label
        self.error_type = error_type
        self.error_message = message
        self.error_traceback = traceback
        where = f" in step {label!r}" if label else ""
        told = f"{error_type}: {_one_line(message)}" if message else str(error_type)
        remedy = f" Mend the cause, then go on from the completed steps: `{again or f'milepost resume {run_id}'}`."
        if error_type == AtMostOnceInterrupted.__name__:
            remedy = ""  # a resume would meet it again; its own message says what to do
        super().__init__(f"Run {run_id} failed{where}: {told}{'' if told.endswith(('.', '!', '?')) else '.'}{remedy}")


class RunCancelled(MilepostError):
    """A run ended as cancelled, by request or because its process was interrupted."""

    def __init__(self, run_id: str, reason: str | None, *, again: str | None = None) -> None:
        """Build the sentence from the run, what stopped it and what goes on with it."""
        self.run_id = run_id
        self.reason = reason
        super().__init__(
            f"Run {run_id} was cancelled ({_one_line(reason or 'on request')}). "
            f"Go on with it: `{again or f'milepost resume {run_id}'}`."
        )


class RunPaused(MilepostError):
    """A run has no result yet: it was paused, by request or by one of its steps."""

    def __init__(self, run_id: str, reason: str | None, *, again: str | None = None) -> None:
        """Build the sentence from the run, what paused it and what goes on with it."""
        self.run_id = run_id
        self.reason = reason
        super().__init__(
            f"Run {run_id} is paused ({_one_line(reason or 'on request')}). "
            f"Go on with it: `{again or f'milepost resume {run_id}'}`."
        )


class StepTimedOut(MilepostError, TimeoutError):
    """One attempt of a step took longer than its timeout."""

    def __init__(self, label: str, timeout: float) -> None:
        """Build the sentence from the step and its limit in seconds."""
        self.label = label
        self.timeout = timeout
        super().__init__(
            f"Step {label!r} did not finish within its timeout of {timeout:g} s. "
            "Raise `timeout=`, or let the body call `ctx.heartbeat()` to stop early."
        )


class StepCancelled(MilepostError):
    """Raised by ``ctx.heartbeat()`` inside a step whose attempt nobody waits for any more."""

    def __init__(self, label: str, reason: str) -> None:
        """Build the sentence from the step and the reason."""
        self.label = label
        self.reason = reason
        super().__init__(f"Step {label!r} should stop: {reason}. Let this exception leave the step.")


class AtMostOnceInterrupted(MilepostError):
    """An ``at_most_once`` step was started before, so it may have acted already."""

    def __init__(self, label: str, run_id: str) -> None:
        """Build the sentence from the step."""
        self.label = label
        self.run_id = run_id
        super().__init__(
            f"Step {label!r} is marked at_most_once and was started before, so it will not be started again. "
            f"See how that ended (`milepost show {run_id}`), check its effect by hand, then start a new run."
        )


class EventTimedOut(MilepostError, TimeoutError):
    """A step waited for an event that was not emitted in time."""

    def __init__(self, label: str, event: str) -> None:
        """Build the sentence from the step and the event."""
        self.label = label
        self.event = event
        super().__init__(
            f"Step {label!r} waited for the event {event!r}, which did not come in time. "
            f"Emit it (`milepost emit {event}`) before a new run gets there, or raise `timeout=`."
        )


class WaitTimedOut(MilepostError, TimeoutError):
    """A run had not ended when the time to wait for it was up; it goes on."""

    def __init__(self, run_id: str, status: str) -> None:
        """Build the sentence from the run and the state it is in."""
        self.run_id = run_id
        self.status = status
        super().__init__(
            f"Run {run_id} has not ended in time: it is {status}, and goes on. "
            f"`milepost why {run_id}` says what it waits for."
        )


class KeyConflict(MilepostError, ValueError):
    """An idempotency key was used before, for another workflow or other inputs."""

    def __init__(self, key: str, queue: str, run_id: str) -> None:
        """Build the sentence from the key and the run that has it."""
        self.key = key
        self.queue = queue
        self.run_id = run_id
        super().__init__(
            f"The idempotency key {key!r} belongs to run {run_id} of queue {queue!r}, which has another workflow or "
            "other inputs. Use another key, or submit what that run was submitted with."
        )


class WorkerExists(MilepostError):
    """A live worker has this id already."""

    def __init__(self, worker_id: str, owner: str) -> None:
        """Build the sentence from the id and who has it."""
        self.worker_id = worker_id
        self.owner = owner
        super().__init__(
            f"A worker {worker_id!r} lives already ({owner}). Leave the id out, or give this worker another one."
        )


class ScheduleExists(MilepostError, ValueError):
    """Another schedule of this name exists already."""

    def __init__(self, name: str, changes: Sequence[str] = ()) -> None:
        """Build the sentence from the name and from what differs."""
        self.name = name
        self.changes = tuple(changes)
        told = f" with something else: {', '.join(self.changes)}" if self.changes else ""
        super().__init__(
            f"A schedule {name!r} exists already{told}. Choose another name, "
            f"or remove it first: `milepost schedule remove {name}`."
        )


class ScheduleNotFound(MilepostError, LookupError):
    """No schedule has this name."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        """Build the sentence from the name."""
        self.name = name
        super().__init__(
            f"No schedule {name!r}.{did_you_mean(name, known)} `milepost schedule list` lists what is there."
        )

    def __str__(self) -> str:
        """Return the sentence (a bare LookupError would quote it)."""
        return str(self.args[0])


# --- staged tasks --------------------------------------------------------------------------------


class TaskEngineError(MilepostError):
    """The one base of what only staged tasks raise."""


class BindError(TaskEngineError, ValueError):
    """Stages cannot be bound to an engine, or a stage is asked for one that it does not have."""


class MissingStateError(TaskEngineError, ValueError):
    """A stage has no state object, and none can be made for it."""

    def __init__(self, stage: str) -> None:
        """Build the sentence from the stage."""
        self.stage = stage
        super().__init__(
            f"Stage {stage!r} has no state. Give it one, such as {stage}(state=MyState()), or write its class as "
            "BaseStage[MyState] where every field of MyState has a default."
        )


class StateNotFoundError(TaskEngineError, LookupError):
    """A task that began before has no stored state for one of its stages."""

    def __init__(self, task_id: str, stage: str, place: str) -> None:
        """Build the sentence from the task, the stage and where its state should be."""
        self.task_id = task_id
        self.stage = stage
        super().__init__(
            f"Task {task_id} has no stored state of stage {stage!r} in {place}. "
            "Give the engine the ledger and the StateIO that the task began with."
        )

    def __str__(self) -> str:
        """Return the sentence (a bare LookupError would quote it)."""
        return str(self.args[0])


class StateMismatch(TaskEngineError, ValueError):
    """A stored state no longer fits its class."""

    def __init__(self, task_id: str, stage: str, state_class: str, problems: Sequence[str]) -> None:
        """Build the sentence from the task, the stage, the class and what is wrong field by field."""
        self.task_id = task_id
        self.stage = stage
        self.problems = tuple(problems)
        super().__init__(
            f"The stored state of stage {stage!r} of task {task_id} does not fit {state_class}: "
            f"{'; '.join(self.problems)}. It was left as it is: define {state_class}.upgrade_state(old) to "
            "return it in the new form."
        )


class TaskBusy(TaskEngineError, RunBusy):
    """Another engine works on this task."""


class AttemptsExhausted(TaskEngineError):
    """The task's shared retry budget was used up before this stage could begin."""

    def __init__(self, stage: str, used: int, limit: int) -> None:
        """Build the sentence from the stage and the budget."""
        self.stage = stage
        self.used = used
        self.limit = limit
        super().__init__(
            f"Stage {stage!r} was not begun: the task has used {used} of its {limit} attempts (policy GLOBAL). "
            "Raise max_attempts, or run the task again by hand, which begins a new budget."
        )


class RollbackRefused(TaskEngineError):
    """A rollback would pass stages of a task, or steps of a run, that say nothing of how to undo them."""

    def __init__(self, task_id: str, stages: Sequence[str], *, is_run: bool = False) -> None:
        """Build the sentence from the task and the stages without an undo, or from the run and its steps."""
        self.task_id = task_id
        self.stages = tuple(stages)
        names = [repr(label) for label in self.stages]
        many = len(names) > 1
        if is_run:
            told = ", ".join(names if len(names) <= 5 else [*names[:5], f"and {len(names) - 5} more"])
            message = (
                f"Run {task_id} was not rolled back: of {told} nobody says how to undo it. Give the step undo=, mark "
                "it pure=True if it does nothing outside, or pass over what cannot be undone with skip_missing=True."
            )
        else:
            message = (
                f"Task {task_id} was not rolled back: {'stages' if many else 'stage'} {', '.join(names)} "
                f"{'have' if many else 'has'} no rollback_stage(). Write {'them' if many else 'it'}, or pass over what "
                "cannot be undone with skip_missing=True."
            )
        super().__init__(message)


# --- workflow tracking ---------------------------------------------------------------------------


class TrackingError(MilepostError):
    """The one base of what only the tracking client raises."""


class TaskSuspended(TrackingError):
    """The task now waits, and its lease is given up: whoever drives it must stop. This is no failure."""

    def __init__(
        self, message: str, run_id: object = None, event_name: str | None = None, wake_at: object = None
    ) -> None:
        """Keep the claim's id, the event it waits for (None for a sleep) and when it wakes at the latest."""
        self.run_id = run_id
        self.event_name = event_name
        self.wake_at = wake_at
        super().__init__(message)


class TaskCancelled(TrackingError):
    """Somebody cancelled the task: nothing more is written to it, and whoever drives it must stop."""

    def __init__(self, task_id: object) -> None:
        """Build the sentence from the task."""
        self.task_id = task_id
        super().__init__(f"Task {task_id} was cancelled on request. Stop working on it.")


class TaskNotFound(TrackingError, LookupError):
    """No task, and no claim of one, has this id in this ledger."""

    def __init__(self, task_id: object) -> None:
        """Build the sentence from the id that was asked for."""
        self.task_id = task_id
        super().__init__(f"No task and no claim {task_id} in this ledger. Check the id, and which ledger is used.")

    def __str__(self) -> str:
        """Return the sentence (a bare LookupError would quote it)."""
        return str(self.args[0])


class WorkflowRunNotFound(TrackingError, LookupError):
    """No workflow run has this id in this ledger."""

    def __init__(self, workflow_run_id: object) -> None:
        """Build the sentence from the id that was asked for."""
        self.workflow_run_id = workflow_run_id
        super().__init__(
            f"No workflow run {workflow_run_id} in this ledger. Create it first: create_workflow_run(...)."
        )

    def __str__(self) -> str:
        """Return the sentence (a bare LookupError would quote it)."""
        return str(self.args[0])


# --- the ledger ----------------------------------------------------------------------------------


class StoreError(MilepostError):
    """The ledger could not do what was asked; the driver's own error is the ``__cause__``."""


class StoreUnavailable(StoreError):
    """The ledger is out of reach for now; trying again may help."""


class LedgerBusy(StoreUnavailable):
    """Other processes held the write lock for longer than anybody should wait."""

    def __init__(self, url: str, waited: float) -> None:
        """Build the sentence from the ledger and the seconds waited."""
        self.url = url
        super().__init__(
            f"The ledger {url} stayed locked by another process for {waited:.0f} s. "
            "Find a process that holds a transaction open on it and end it."
        )


class LedgerFull(StoreError):
    """The disk or the database has no room left."""

    def __init__(self, url: str) -> None:
        """Build the sentence from the ledger."""
        self.url = url
        super().__init__(
            f"The ledger {url} cannot grow: the disk is full. Free some space (`milepost gc` helps), then resume; "
            "what was recorded is safe."
        )


class LedgerReadOnly(StoreError):
    """The ledger may be read but not written."""

    def __init__(self, url: str, *, is_by_choice: bool = False) -> None:
        """Build the sentence from the ledger and whether it was opened so."""
        self.url = url
        remedy = (
            "Open it again without read_only=True."
            if is_by_choice
            else "Give this user write permission on the file and its folder, or choose another with --ledger."
        )
        super().__init__(f"The ledger {url} {'was opened' if is_by_choice else 'is'} read-only. {remedy}")


class LedgerUnreadable(StoreError):
    """The ledger cannot be opened or read."""

    def __init__(self, url: str, reason: str, remedy: str = "Check the path and its permissions.") -> None:
        """Build the sentence from the ledger, what the system said, and what to do."""
        self.url = url
        self.reason = reason
        super().__init__(f"The ledger {url} cannot be read: {reason}. {remedy}")


class NotALedger(StoreError):
    """The file exists and is something else."""

    def __init__(self, url: str, reason: str) -> None:
        """Build the sentence from the path and what was found there."""
        self.url = url
        super().__init__(f"{url} is not a Milepost ledger: {reason}. Choose another path with --ledger.")


class SchemaNewer(StoreError):
    """The ledger was written by a newer Milepost."""

    def __init__(self, url: str, found: int, known: int) -> None:
        """Build the sentence from the two schema numbers."""
        self.url = url
        self.found = found
        self.known = known
        super().__init__(
            f"The ledger {url} has schema {found}, newer than the {known} this version knows. "
            "Upgrade Milepost: `pip install --upgrade milepost`."
        )


class SchemaOutdated(StoreError):
    """The ledger's schema is older than this version needs and may not be changed in passing."""

    def __init__(self, url: str, found: int, known: int) -> None:
        """Build the sentence from the two schema numbers."""
        self.url = url
        self.found = found
        self.known = known
        if "://" in url:  # shared with others, who may have to be asked first
            told = f"has schema {found}, and this version needs {known}" if found else "has no tables yet"
            super().__init__(f"The ledger {url} {told}. Bring it up to date: `milepost migrate`.")
            return
        super().__init__(
            f"The ledger {url} has schema {found}, this version needs {known}. "
            "Open it once with write permission to bring it up to date."
        )


class StoreConflict(StoreError):
    """A guarded write met a row that somebody else had changed."""
