"""The seam between the ledger and a database: one verb is one transaction.

A store is synchronous and safe to call from any thread. Writes of a driver arrive as a batch in
:meth:`Store.apply`; the order inside a batch is kept, and each write has an outcome of its own, so
that one stale writer never spoils the commit it happens to share with others.

Every write is guarded by ``(run_id, lease_epoch)`` and idempotent: applying it again after an
interrupted or ambiguous commit changes nothing and reports success.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from milepost.model import Attempt, Checkpoint, Edge, Problem, Run, RunPayload, StepAttempt
from milepost.states import RunStatus

__all__ = [
    "CheckpointWrite",
    "EdgeWrite",
    "FaultHook",
    "NewRun",
    "ProgressWrite",
    "RunEnd",
    "RunFilter",
    "RunWrite",
    "StepRow",
    "StepWrite",
    "Store",
    "Write",
]

FaultHook = Callable[[str], None]
"""Called with the name of a point in a commit; tests use it to kill the process there."""


class StepWrite(NamedTuple):
    """A step's start or end, in the order of the columns that the statement binds."""

    run_id: str
    label: str
    attempt: int
    seq: int
    lease_epoch: int
    kind: str
    parent: str | None
    status: str
    input: str | None
    output: str | None
    storage: str
    output_hash: str | None
    error_type: str | None
    error_message: str | None
    error_traceback: str | None
    progress_total: int | None
    started_at: int
    finished_at: int | None


class EdgeWrite(NamedTuple):
    """A downstream step took an upstream's output."""

    run_id: str
    upstream: str
    downstream: str
    traversed_at: int


class ProgressWrite(NamedTuple):
    """How far a running step says it is."""

    run_id: str
    label: str
    attempt: int
    lease_epoch: int
    progress_done: int | None
    progress_total: int | None
    progress_message: str | None


class CheckpointWrite(NamedTuple):
    """A value that user code saves by name."""

    run_id: str
    label: str
    name: str
    value: str
    lease_epoch: int
    saved_at: int


@dataclass(slots=True)
class RunEnd:
    """How a run ends."""

    status: RunStatus
    now: int
    error_step: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    error_traceback: str | None = None


@dataclass(slots=True)
class RunWrite:
    """Everything one driver commits at once for one run."""

    run_id: str
    lease_epoch: int
    starts: Sequence[StepWrite] = ()
    ends: Sequence[StepWrite] = ()
    edges: Sequence[EdgeWrite] = ()
    progress: Sequence[ProgressWrite] = ()
    checkpoints: Sequence[CheckpointWrite] = ()
    end: RunEnd | None = None

    @property
    def is_plain(self) -> bool:
        """Whether this holds ends of steps and nothing else."""
        return not (self.edges or self.starts or self.progress or self.checkpoints or self.end)


@dataclass(slots=True)
class NewRun:
    """A run that starts in this process, with everything it begins with."""

    run_id: str
    workflow: str
    kind: str
    definition_hash: str
    definition: str
    inputs: str
    owner: str
    now: int
    lease_until: int
    version: str | None = None
    target: str | None = None
    tags: str = "{}"
    correlation_id: str | None = None
    parent_run_id: str | None = None
    root_run_id: str | None = None
    replay_of: str | None = None
    created_by: str | None = None


Write = NewRun | RunWrite


class StepRow(NamedTuple):
    """One attempt of a step, as a restart needs it."""

    label: str
    parent: str | None
    attempt: int
    status: str
    storage: str
    run_attempt: int
    started_at: int


@dataclass(slots=True)
class RunFilter:
    """Which runs to list, newest first.

    ``before`` is the (created_at, run_id) of the last run of the page before.
    """

    status: RunStatus | None = None
    workflow: str | None = None
    since: int | None = None
    parent_run_id: str | None = None
    before: tuple[int, str] | None = None
    limit: int = field(default=50)


class Store(Protocol):
    """What a database must do to be a ledger."""

    url: str
    is_read_only: bool

    # --- writing

    def apply(self, batch: Sequence[Write]) -> list[Exception | None]:
        """Commit a batch in one transaction; return each write's error, or None where it stands."""
        ...

    def claim_run(
        self,
        run: Run,
        *,
        owner: str,
        now: int,
        lease_until: int,
        attempt: int,
        target: str | None,
        reason: tuple[str, str],
    ) -> Run:
        """Take a run over from the state that was read; ``reason`` goes to what its last owner left open.

        Raises:
            StoreConflict: Somebody else changed the run in between.
        """
        ...

    def heartbeat(self, owner: str, leases: Sequence[tuple[str, int]], lease_until: int) -> set[tuple[str, int]]:
        """Extend leases given as (run_id, lease_epoch); return those that were lost."""
        ...

    def list_cancel_requests(self, owner: str) -> list[tuple[str, int]]:
        """Return (run_id, lease_epoch) of this owner's runs that somebody asked to cancel."""
        ...

    def request_cancel(self, run_id: str, now: int) -> bool:
        """Note that a run should stop; return whether it was still open."""
        ...

    def cancel_unowned(self, run: Run, now: int, reason: tuple[str, str]) -> bool:
        """End a run that nobody executes; return whether it was still as it was read."""
        ...

    def delete_runs(self, before: int, limit: int) -> int:
        """Delete up to ``limit`` runs that finished before a time, each with all that belongs to it."""
        ...

    # --- reading

    def get_run(self, run_id: str) -> Run | None:
        """Return the run, or None."""
        ...

    def get_run_payload(self, run_id: str) -> RunPayload | None:
        """Return inputs, target and tags of a run, or None."""
        ...

    def get_definition(self, definition_hash: str) -> str | None:
        """Return a stored definition, or None."""
        ...

    def list_runs(self, filter_: RunFilter) -> list[Run]:
        """Return a page of runs, newest first."""
        ...

    def list_running(self) -> list[Run]:
        """Return every run that is marked running."""
        ...

    def find_run_ids(self, prefix: str, limit: int) -> list[str]:
        """Return run ids that begin with a text."""
        ...

    def list_workflows(self) -> list[str]:
        """Return the names of all workflows that have runs."""
        ...

    def list_attempts(self, run_id: str) -> list[Attempt]:
        """Return the claims of a run, oldest first."""
        ...

    def list_steps(self, run_id: str) -> list[StepAttempt]:
        """Return every attempt of every step in order of start, without payloads."""
        ...

    def get_step(self, run_id: str, label: str) -> list[StepAttempt]:
        """Return every attempt of one step with its payloads, oldest first."""
        ...

    def list_step_rows(self, run_id: str) -> list[StepRow]:
        """Return what a restart needs to know of every attempt."""
        ...

    def get_output(self, run_id: str, label: str) -> tuple[str | None, str] | None:
        """Return (output text, storage) of a completed step, or None where it has not completed."""
        ...

    def list_element_outputs(self, run_id: str, map_label: str) -> Iterable[tuple[str, str | None, str]]:
        """Yield (label, output text, storage) of a map's completed elements."""
        ...

    def max_seq(self, run_id: str) -> int:
        """Return the highest sequence number among a run's steps, or 0."""
        ...

    def list_edges(self, run_id: str) -> list[Edge]:
        """Return the traversed edges of a run."""
        ...

    def get_checkpoint(self, run_id: str, label: str, name: str) -> str | None:
        """Return a saved value's text, or None."""
        ...

    def list_checkpoints(self, run_id: str) -> list[Checkpoint]:
        """Return everything that user code saved in a run."""
        ...

    def count_steps(self, run_id: str) -> dict[str, int]:
        """Return how many attempts of a run's steps are in each state, maps themselves left out."""
        ...

    # --- health

    def check(self) -> list[Problem]:
        """Check the database's own integrity and the ledger's invariants."""
        ...

    def list_outputs(self) -> Iterable[tuple[str, str, int, str, str | None]]:
        """Yield (run_id, label, attempt, output, output_hash) of every stored output."""
        ...

    def close(self) -> None:
        """Give the connections back."""
        ...
