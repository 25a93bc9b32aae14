"""The verbs about runs and steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from milepost.model import Attempt, Checkpoint, Edge, Problem, Run, RunPayload, StepAttempt
from milepost.store.writes import NewRun, NewTask, RunFilter, StepInput, StepRow, Submitted, Write

__all__ = ["Runs"]


class Runs(Protocol):
    """Runs and their steps: written by drivers, read by whoever looks."""

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

    def heartbeat(self, owner: str, leases: Sequence[tuple[str, int]], *, now: int, lease: int) -> set[tuple[str, int]]:
        """Extend leases given as (run_id, lease_epoch); return those that were lost."""
        ...

    def list_stop_requests(self, owner: str) -> list[tuple[str, int, bool]]:
        """Return (run_id, lease_epoch, whether to cancel) of this owner's runs that are asked to cancel or to pause."""
        ...

    def request_cancel(self, run_id: str, now: int) -> bool:
        """Note that a run should stop; return whether it was still open."""
        ...

    def request_pause(self, run_id: str, now: int) -> bool:
        """Note that a run should pause; return whether it was running."""
        ...

    def create_replay(
        self, new: NewRun | NewTask, source: str, labels: Sequence[str], *, conn: Any = None
    ) -> Submitted:
        """Create a run, or put it into its queue, with steps of another run as skipped ones; all in one transaction.

        Args:
            new: The run.
            source: The run that is replayed.
            labels: Its steps whose outputs are copied; those that have not completed are passed over.
            conn: For a task, the caller's connection, whose transaction is joined.

        Raises:
            RunExists: The run id is taken; nothing was written.
        """
        ...

    def list_inputs(self, run_id: str) -> list[StepInput]:
        """Return of each step but elements, which completed, where its arguments came from and who executed it."""
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

    def list_unsettled_steps(self, run_id: str) -> list[StepAttempt]:
        """Return the last attempts that run, or that failed and were not followed by another."""
        ...

    def count_elements(self, run_id: str, map_label: str) -> int:
        """Return how many elements of a map have completed."""
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
