"""The verbs of queues and workers, for every dialect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from milepost.errors import RunExists
from milepost.model import QueueInfo, Run, RunPayload, WorkerInfo
from milepost.store import ClaimedTask, NewTask, Rescued, Submitted
from milepost.stores.reading import to_run
from milepost.stores.rows import AttemptRow, payload_row, task_row
from milepost.stores.transaction import TASKS, Transacting, Transaction, repeatable

__all__ = ["PROMOTE", "QueueVerbs", "in_claim_order"]


class QueueVerbs(Transacting):
    """Submit, claim, give back, rescue; workers and queues."""

    # --- submitting --------------------------------------------------------------------------

    @repeatable
    def submit_tasks(self, tasks: Sequence[NewTask], *, conn: Any = None) -> list[Submitted]:
        """Put runs into queues; a used idempotency key gives back the run that has it."""
        with self.transaction(conn) as tx:
            outcomes = self._insert_tasks(tx, tasks)
            if any(outcome.is_new for outcome in outcomes):
                tx.notify(TASKS)
        return outcomes

    def _insert_tasks(self, tx: Transaction, tasks: Sequence[NewTask]) -> list[Submitted]:
        # A task may name a definition that is stored already. In one order, so that two who submit wait in no circle.
        given = {task.definition_hash: task for task in tasks if task.definition_hash and task.definition is not None}
        for hash_, task in sorted(given.items()):
            tx.execute("insert_definition", hash=hash_, workflow=task.workflow, document=task.definition, now=task.now)
        outcomes: list[Submitted] = []
        for begin in range(0, len(tasks), _SUBMIT):
            outcomes += self._insert_some(tx, tasks[begin : begin + _SUBMIT])
        return outcomes

    def _insert_some(self, tx: Transaction, tasks: Sequence[NewTask]) -> list[Submitted]:
        # In the order of their keys: two who submit the same ones wait for each other in one direction only.
        rows = sorted(map(task_row, tasks), key=lambda row: row.idempotency_key or "")
        new = tx.insert_rows("submit_run", rows)
        tx.write_rows("insert_payload", [payload_row(task) for task in tasks if task.run_id in new])
        outcomes = []
        places = {task.run_id: place for place, task in enumerate(tasks)}
        for place, task in enumerate(tasks):
            if task.run_id in new:
                new.remove(task.run_id)  # the same id once more is not new
                outcomes.append(Submitted(task.run_id, is_new=True))
                continue
            found = self._find_submitted(tx, task)
            if places.get(found.run_id, place) > place:
                raise RunExists(task.run_id)  # a later task took the key, since this one's id was taken
            outcomes.append(found)
        return outcomes

    def _find_submitted(self, tx: Transaction, task: NewTask) -> Submitted:
        own = tx.rows("get_run", run_id=task.run_id)
        if own and self._is_repeated(tx, task, to_run(own[0])):
            return Submitted(task.run_id, is_new=True)  # this very submission, whose answer was lost
        found = None
        if task.idempotency_key is not None:
            found = tx.rows("get_run_by_key", queue=task.queue, idempotency_key=task.idempotency_key)
        if not found:
            raise RunExists(task.run_id)
        run = to_run(found[0])
        is_same = run.workflow == task.workflow and self._payloads(tx, [run])[run.run_id].inputs == task.inputs
        return Submitted(run.run_id, is_new=False, is_same=is_same)

    def _is_repeated(self, tx: Transaction, task: NewTask, run: Run) -> bool:
        sent = (task.now, task.workflow, task.queue, task.idempotency_key, task.inputs)
        found = (
            run.created_at,
            run.workflow,
            run.queue,
            run.idempotency_key,
            self._payloads(tx, [run])[run.run_id].inputs,
        )
        return found == sent

    # --- claiming ----------------------------------------------------------------------------

    @repeatable
    def claim_tasks(self, queues: Sequence[str], *, owner: str, now: int, lease: int, limit: int) -> list[ClaimedTask]:
        """Lease up to ``limit`` runs that are due, from the queues in their order."""
        with self.transaction() as tx:
            tx.rows("promote_due", now=now, limit=PROMOTE)
            runs: list[Run] = []
            for queue in queues:
                left = limit - len(runs)
                if left <= 0:
                    break
                rows = tx.rows(
                    "claim_tasks", queue=queue, owner=owner, now=now, lease=lease, lease_until=now + lease, limit=left
                )
                runs += sorted(map(to_run, rows), key=in_claim_order)
            if runs:
                tx.write_rows(
                    "insert_attempt",
                    [AttemptRow(run.run_id, run.lease_epoch, run.attempt, owner, now) for run in runs],
                )
            payloads = self._payloads(tx, runs)
            return [ClaimedTask(run, payloads[run.run_id]) for run in runs]

    def _payloads(self, tx: Transaction, runs: Sequence[Run]) -> dict[str, RunPayload]:
        if not runs:
            return {}
        rows = tx.rows("list_payloads", texts=json.dumps([run.run_id for run in runs]))
        return {row[0]: RunPayload(*row) for row in rows}

    def next_due(self) -> int | None:
        """Return when the earliest waiting run becomes due, or None."""
        due = self._rows("next_due")[0][0]
        return None if due is None else int(due)

    @repeatable
    def release_task(
        self, run_id: str, lease_epoch: int, *, now: int, available_at: int | None, reason: tuple[str, str]
    ) -> bool:
        """Give a run back to its queue unfinished; return whether the lease was still held."""
        with self.transaction() as tx:
            released = tx.execute("release_run", run_id=run_id, lease_epoch=lease_epoch, available_at=available_at)
            if released:
                # Put back by one worker after another, it keeps the last of these claims, not thousands.
                tx.execute("forget_put_backs", run_id=run_id, error_type=reason[0])
                self._close(tx, run_id, now, reason)
                if available_at is None:
                    tx.notify(TASKS)
        return bool(released)

    def _close(self, tx: Transaction, run_id: str, now: int, reason: tuple[str, str]) -> None:
        told = {"run_id": run_id, "now": now, "error_type": reason[0], "error_message": reason[1]}
        tx.execute("close_attempts", **told)
        tx.execute("cancel_open_steps", **told)

    @repeatable
    def adopt_definition(
        self, run_id: str, lease_epoch: int, *, hash_: str, workflow: str, document: str, now: int
    ) -> None:
        """Note the definition that a run which never started is going to run with."""
        with self.transaction() as tx:
            tx.execute("insert_definition", hash=hash_, workflow=workflow, document=document, now=now)
            tx.execute("adopt_definition", run_id=run_id, lease_epoch=lease_epoch, hash=hash_)

    @repeatable
    def note_definition(
        self, run_id: str, lease_epoch: int, *, hash_: str, workflow: str, document: str, now: int
    ) -> None:
        """Note the definition that a claim executes a run with, where it is not the one that the run began with."""
        with self.transaction() as tx:
            tx.execute("insert_definition", hash=hash_, workflow=workflow, document=document, now=now)
            tx.execute("note_definition", run_id=run_id, lease_epoch=lease_epoch, hash=hash_)

    @repeatable
    def adopt_inputs(self, run_id: str, lease_epoch: int, inputs: str) -> bool:
        """Store checked inputs in the place of unchecked ones; return whether the lease was still held."""
        with self.transaction() as tx:
            return bool(tx.execute("adopt_inputs", run_id=run_id, lease_epoch=lease_epoch, inputs=inputs))

    # --- rescuing ----------------------------------------------------------------------------

    @repeatable
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

        A run that was rescued ``max_rescues`` times without a newly completed step in between fails.
        """
        with self.transaction() as tx:
            if owner_gone is None:
                rows = tx.rows("list_expired_leases", now=now, sparing=sparing, limit=limit)
            else:
                rows = tx.rows("list_leases_of", owner=owner_gone, limit=limit)
            return self._rescue(tx, list(map(to_run, rows)), now=now, max_rescues=max_rescues, reason=reason)

    def _rescue(
        self, tx: Transaction, runs: Sequence[Run], *, now: int, max_rescues: int, reason: tuple[str, str]
    ) -> list[Rescued]:
        rescued = []
        for run in runs:
            is_on = tx.rows("has_completed_step", run_id=run.run_id, lease_epoch=run.lease_epoch)
            rescues = 1 if is_on else run.rescues + 1
            is_over = rescues > max_rescues
            given = {
                "run_id": run.run_id,
                "expected_epoch": run.lease_epoch,
                "expected_until": run.lease_until,
                "rescues": rescues,
            }
            if is_over:
                message = (
                    f"its workers died {rescues} times in a row without completing a step; "
                    f"mend the step, then `milepost resume {run.run_id}`"
                )
                done = tx.execute("give_up_run", **given, now=now, error_type="RescuesExhausted", error_message=message)
            else:
                done = tx.execute("rescue_run", **given)
            if done:
                self._close(tx, run.run_id, now, reason)
                rescued.append(Rescued(run.run_id, run.lease_owner or "", is_over=is_over))
        if any(not one.is_over for one in rescued):
            tx.notify(TASKS)
        return rescued

    @repeatable
    def heartbeat_owner(self, owner: str, *, now: int, lease: int) -> set[tuple[str, int]]:
        """Extend every lease that an owner took from queues; return (run_id, lease_epoch) of those it still has."""
        with self.transaction() as tx:
            return {
                (run_id, epoch)
                for run_id, epoch in tx.rows(
                    "heartbeat_owner", owner=owner, now=now, lease=lease, lease_until=now + lease
                )
            }

    def list_owners(self) -> list[str]:
        """Return who holds leases of queued runs."""
        return [owner for (owner,) in self._rows("list_owners")]

    # --- workers -----------------------------------------------------------------------------

    @repeatable
    def register_worker(self, worker: WorkerInfo, *, owner_gone: str | None) -> WorkerInfo | None:
        """Enter a worker; return the live worker that has this id already, or None when it was entered.

        ``owner_gone`` names a former holder of the id that is known to be dead.
        """
        with self.transaction() as tx:
            entered = tx.execute(
                "insert_worker",
                worker_id=worker.worker_id,
                owner=worker.owner,
                queues=json.dumps(worker.queues),
                workflows=json.dumps(worker.workflows),
                concurrency=worker.concurrency,
                lease=worker.lease,
                now=worker.started_at,
                owner_gone=owner_gone or "",
            )
            return None if entered else _worker(tx.rows("get_worker", worker_id=worker.worker_id)[0])

    def get_worker(self, worker_id: str) -> WorkerInfo | None:
        """Return a worker, or None."""
        rows = self._rows("get_worker", worker_id=worker_id)
        return _worker(rows[0]) if rows else None

    @repeatable
    def heartbeat_worker(self, worker_id: str, owner: str, now: int) -> bool:
        """Say that a worker lives; return whether it is still entered."""
        with self.transaction() as tx:
            return bool(tx.execute("heartbeat_worker", worker_id=worker_id, owner=owner, now=now))

    @repeatable
    def stop_worker(self, worker_id: str, owner: str, now: int) -> None:
        """Note that a worker has ended."""
        with self.transaction() as tx:
            tx.execute("stop_worker", worker_id=worker_id, owner=owner, now=now)

    def list_workers(self) -> list[WorkerInfo]:
        """Return every worker that is remembered, oldest first."""
        return [_worker(row) for row in self._rows("list_workers")]

    def list_owned(self, owner: str) -> list[Run]:
        """Return the runs that an owner executes."""
        return [to_run(row) for row in self._rows("list_owned", owner=owner)]

    @repeatable
    def delete_workers(self, before: int) -> int:
        """Forget workers that were last heard of before a time; return how many."""
        with self.transaction() as tx:
            return tx.execute("delete_workers", before=before)

    # --- queues ------------------------------------------------------------------------------

    @repeatable
    def pause_queue(self, name: str, now: int) -> None:
        """Let nothing be claimed from a queue."""
        with self.transaction() as tx:
            tx.execute("pause_queue", name=name, now=now)

    @repeatable
    def resume_queue(self, name: str) -> bool:
        """Let a queue's tasks be claimed again; return whether it was paused."""
        with self.transaction() as tx:
            resumed = tx.execute("resume_queue", name=name)
            if resumed:
                tx.notify(TASKS)
        return bool(resumed)

    def get_queue_pause(self, name: str) -> int | None:
        """Return since when a queue is paused, or None where it is not."""
        rows = self._rows("get_queue_pause", name=name)
        return int(rows[0][0]) if rows else None

    def count_ahead(self, run: Run, now: int) -> int:
        """Return how many due tasks of a run's queue are claimed before it."""
        given = {
            "queue": run.queue,
            "priority": run.priority,
            "created_at": run.created_at,
            "run_id": run.run_id,
            "now": now,
        }
        return int(self._rows("count_ahead", **given)[0][0])

    def list_queues(self) -> list[QueueInfo]:
        """Return every queue that holds unfinished tasks or is paused, by name."""
        counts: dict[str, dict[str, tuple[int, int]]] = {}
        for queue, status, count, oldest in self._rows("count_tasks"):
            counts.setdefault(queue, {})[status] = (count, oldest)
        paused = dict(self._rows("list_paused"))
        nothing = (0, None)
        return [
            QueueInfo(
                name=name,
                pending=counts.get(name, {}).get("pending", nothing)[0],
                running=counts.get(name, {}).get("running", nothing)[0],
                suspended=counts.get(name, {}).get("suspended", nothing)[0],
                oldest_at=counts.get(name, {}).get("pending", nothing)[1],
                paused_at=paused.get(name),
            )
            for name in sorted({*counts, *paused})
        ]


PROMOTE: Final = 500  # runs that one claim makes ready
_SUBMIT: Final = 5000  # tasks that go out in one statement


def in_claim_order(run: Run) -> tuple[int, int, str]:
    """Return by what tasks of a queue are ordered: best priority first, oldest first within it."""
    return run.priority, run.created_at, run.run_id


def _worker(row: tuple[Any, ...]) -> WorkerInfo:
    worker_id, owner, queues, workflows, *rest = row
    return WorkerInfo(worker_id, owner, tuple(json.loads(queues)), tuple(json.loads(workflows)), *rest)
