"""The verbs about queues, workers, events, waits and schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from milepost.model import Event, QueueInfo, Run, Schedule, Wait, WorkerInfo
from milepost.store.writes import ClaimedTask, NewTask, NewWait, Rescued, Submitted

__all__ = ["Queues", "Schedules", "Waits"]


class Queues(Protocol):
    """Tasks, the workers that take them, and the queues they wait in."""

    def submit_tasks(self, tasks: Sequence[NewTask], *, conn: Any = None) -> list[Submitted]:
        """Put runs into queues; a used idempotency key gives back the run that has it."""
        ...

    def claim_tasks(self, queues: Sequence[str], *, owner: str, now: int, lease: int, limit: int) -> list[ClaimedTask]:
        """Lease up to ``limit`` runs that are due, from the queues in their order."""
        ...

    def next_due(self) -> int | None:
        """Return when the earliest waiting run becomes due, or None."""
        ...

    def release_task(
        self, run_id: str, lease_epoch: int, *, now: int, available_at: int | None, reason: tuple[str, str]
    ) -> bool:
        """Give a run back to its queue unfinished; return whether the lease was still held."""
        ...

    def adopt_definition(
        self, run_id: str, lease_epoch: int, *, hash_: str, workflow: str, document: str, now: int
    ) -> None:
        """Note the definition that a run which never started is going to run with."""
        ...

    def note_definition(
        self, run_id: str, lease_epoch: int, *, hash_: str, workflow: str, document: str, now: int
    ) -> None:
        """Note the definition that a claim executes a run with, where it is not the one that the run began with."""
        ...

    def adopt_inputs(self, run_id: str, lease_epoch: int, inputs: str) -> bool:
        """Store checked inputs in the place of unchecked ones; return whether the lease was still held."""
        ...

    def rescue_tasks(
        self,
        *,
        now: int,
        limit: int,
        max_rescues: int,
        owner_gone: str | None,
        reason: tuple[str, str],
        sparing: str = "",
    ) -> list[Rescued]:
        """Return runs to their queues whose lease ran out, or whose owner is known to be gone.

        ``sparing`` is an owner whose leases are left alone: the caller, which knows that it lives.

        A run that was rescued ``max_rescues`` times without a newly completed step in between fails.
        """
        ...

    def heartbeat_owner(self, owner: str, *, now: int, lease: int) -> set[tuple[str, int]]:
        """Extend every lease that an owner took from queues; return (run_id, lease_epoch) of those it still has."""
        ...

    def list_owners(self) -> list[str]:
        """Return who holds leases of queued runs."""
        ...

    def register_worker(self, worker: WorkerInfo, *, owner_gone: str | None) -> WorkerInfo | None:
        """Enter a worker; return the live worker that has this id already, or None when it was entered.

        ``owner_gone`` names a former holder of the id that is known to be dead.
        """
        ...

    def get_worker(self, worker_id: str) -> WorkerInfo | None:
        """Return a worker, or None."""
        ...

    def heartbeat_worker(self, worker_id: str, owner: str, now: int) -> bool:
        """Say that a worker lives; return whether it is still entered."""
        ...

    def stop_worker(self, worker_id: str, owner: str, now: int) -> None:
        """Note that a worker has ended."""
        ...

    def list_workers(self) -> list[WorkerInfo]:
        """Return every worker that is remembered, oldest first."""
        ...

    def list_owned(self, owner: str) -> list[Run]:
        """Return the runs that an owner executes."""
        ...

    def delete_workers(self, before: int) -> int:
        """Forget workers that were last heard of before a time; return how many."""
        ...

    def pause_queue(self, name: str, now: int) -> None:
        """Let nothing be claimed from a queue."""
        ...

    def resume_queue(self, name: str) -> bool:
        """Let a queue's tasks be claimed again; return whether it was paused."""
        ...

    def get_queue_pause(self, name: str) -> int | None:
        """Return since when a queue is paused, or None where it is not."""
        ...

    def count_ahead(self, run: Run, now: int) -> int:
        """Return how many due tasks of a run's queue are claimed before it."""
        ...

    def list_queues(self) -> list[QueueInfo]:
        """Return every queue that holds unfinished tasks or is paused, by name."""
        ...


class Waits(Protocol):
    """Events, and runs that wait."""

    def emit_event(self, scope: str, name: str, payload: str, now: int, *, conn: Any = None) -> bool:
        """Record an event and wake who waits for it; return False where it was emitted before.

        The first emit stands, for those who wait and for those who come later.
        """
        ...

    def get_event(self, scope: str, name: str) -> Event | None:
        """Return an event, or None where it was not emitted."""
        ...

    def list_events(self, scope: str, *, prefix: str | None = None, limit: int = 100) -> list[Event]:
        """Return events of a scope, newest first."""
        ...

    def register_waits(self, waits: Sequence[NewWait], now: int) -> list[Wait]:
        """Note what a run begins to wait for; what has happened already is resolved at once.

        Raises:
            LeaseLost: The run's lease is stale; nothing was noted.
        """
        ...

    def resolve_due_waits(self, run_id: str, now: int) -> list[Wait]:
        """Resolve the waits of a run whose time has come; return all of its waits."""
        ...

    def list_waits(self, run_id: str) -> list[Wait]:
        """Return what a run waits or waited for, oldest first."""
        ...

    def suspend_run(self, run_id: str, lease_epoch: int, *, seen: int, now: int) -> None:
        """Give a run's lease up until one of its waits is resolved.

        Args:
            run_id: The run.
            lease_epoch: The epoch it was claimed under.
            seen: How many of its resolved waits the caller knows of: one more wakes the run at once.
            now: The time.

        Raises:
            LeaseLost: The lease is stale; nothing changed.
        """
        ...

    def delete_events(self, before: int) -> int:
        """Delete events emitted before a time and before the oldest unfinished run began; return how many."""
        ...


class Schedules(Protocol):
    """Rules that start runs at times."""

    def insert_schedule(self, schedule: Schedule, definition: str | None) -> bool:
        """Add a schedule; return False where one of its name exists."""
        ...

    def get_schedule(self, name: str) -> Schedule | None:
        """Return a schedule, or None."""
        ...

    def list_schedules(self) -> list[Schedule]:
        """Return every schedule, by name."""
        ...

    def list_due_schedules(self, now: int, limit: int = 100, *, after: Schedule | None = None) -> list[Schedule]:
        """Return schedules whose next tick has come, the earliest first; ``after``: the last one of the page before."""
        ...

    def read_clock(self, now: int) -> int:
        """Return the time of the database's clock, or ``now`` where the database is this machine's own file."""
        ...

    def next_schedule_at(self) -> int | None:
        """Return when the earliest tick of all schedules is, or None."""
        ...

    def fire_schedule(self, schedule: Schedule, next_at: int | None, tasks: Sequence[NewTask]) -> list[Submitted]:
        """Move a schedule on from the tick that was read and submit its runs, in one transaction.

        Returns nothing where somebody else moved it on first. Each task's idempotency key names its
        tick, so that even a repeat fires it once.
        """
        ...

    def pause_schedule(self, name: str, now: int) -> bool:
        """Let a schedule fire no more; return whether it was active."""
        ...

    def resume_schedule(self, name: str, next_at: int | None) -> bool:
        """Let a paused schedule fire again from a tick on; return whether it was paused."""
        ...

    def delete_schedule(self, name: str) -> bool:
        """Remove a schedule; its runs stay. Return whether it existed."""
        ...

    def count_active_runs(self, creator: str) -> int:
        """Return how many runs of a creator have not finished."""
        ...

    def last_run_of(self, creator: str) -> Run | None:
        """Return the newest run of a creator, or None."""
        ...
