"""What a store offers to those who record runs by hand."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from milepost.clock import FOR_EVER
from milepost.model import MANUAL
from milepost.states import RunStatus

__all__ = ["ByHand", "Execution", "HandRun"]


class HandRun(NamedTuple):
    """A run as it is seen by hand; ``told`` is what was said of it beside the ledger's own columns."""

    run_id: str
    workflow: str
    kind: str
    status: str
    lease_owner: str | None
    lease_until: int | None
    lease_epoch: int
    attempt: int
    started_at: int
    finished_at: int | None
    parent_run_id: str | None
    created_by: str | None
    replay_of: str | None
    inputs: str | None
    told: str | None
    told_epoch: int | None
    parent_step: str | None

    @property
    def is_executed(self) -> bool:
        """Whether it is its driver's alone: it runs, and was neither begun nor taken by hand."""
        return self.status == RunStatus.RUNNING and self.kind != MANUAL and self.lease_until != FOR_EVER


class Execution(NamedTuple):
    """The last attempt of a node."""

    label: str
    status: str
    kind: str
    parent: str | None
    attempt: int
    input: str | None
    output: str | None
    storage: str
    output_hash: str | None
    started_at: int
    finished_at: int | None
    error_type: str | None
    error_message: str | None


class ByHand(Protocol):
    """Verbs of one transaction each, durable when they return. Those that return False changed nothing."""

    def hand_begin_step(
        self,
        run_id: str,
        label: str,
        *,
        seq: int,
        kind: str,
        status: str,
        input_text: str | None,
        output: str | None,
        output_hash: str | None,
        now: int,
    ) -> bool:
        """Record that a node has started, or was skipped: a new attempt."""
        ...

    def hand_complete_step(
        self,
        run_id: str,
        label: str,
        output: str,
        output_hash: str,
        now: int,
        *,
        edges: tuple[tuple[str, str], ...] = (),
    ) -> bool:
        """Record that the last attempt of a node has completed, with edges in the same transaction."""
        ...

    def hand_fail_step(
        self, run_id: str, label: str, error: str, now: int, *, run: tuple[RunStatus, str] | None = None
    ) -> bool:
        """Record that the last attempt of a node has failed; with ``run`` (status, owner), end its run as well."""
        ...

    def hand_insert_edge(self, run_id: str, upstream: str, downstream: str, now: int) -> bool:
        """Record an edge, once."""
        ...

    def hand_set_status(
        self, run_id: str, status: RunStatus, *, is_end: bool, owner: str, now: int, result: str | None = None
    ) -> bool:
        """Set the status of a run; with ``is_end`` also when it finished."""
        ...

    def hand_save(self, run_id: str, label: str, name: str, value: str, now: int) -> bool:
        """Save a value beside a run, whoever holds it."""
        ...

    def hand_get_run(self, run_id: str) -> HandRun | None:
        """Return a run, or None."""
        ...

    def list_saved(self, run_id: str, name: str) -> list[tuple[str, str]]:
        """Return (label, value) of what is saved under a name beside the steps of a run."""
        ...

    def list_replays(self, run_id: str) -> list[str]:
        """Return the runs that replay a run, oldest first."""
        ...

    def list_executions(self, run_id: str, *, payloads: bool = False) -> list[Execution]:
        """Return the last attempt of each node in the order of their starts; elements of maps among them.

        Without ``payloads`` their inputs and outputs, which may be large, are None.
        """
        ...

    def get_execution(self, run_id: str, label: str) -> Execution | None:
        """Return the last attempt of one node with its payloads, or None."""
        ...
