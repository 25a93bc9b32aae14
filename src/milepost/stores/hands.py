"""The verbs of tasks that are spawned and claimed by hand, for every dialect.

Invariants: whoever writes holds the row of the run, which a claim by hand of this generation must own, until the
transaction ends; a request to cancel is seen by the first write that follows it, and ends the task then; a check,
a registered wait and a suspension are one transaction, so that no event falls between them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from milepost.errors import ConfigurationError, WorkflowRunNotFound
from milepost.model import Run, RunPayload, Wait
from milepost.states import RunStatus
from milepost.store import CheckpointWrite, HandClaim, HandEnd, NewTask, NewWait, Refused, Submitted
from milepost.stores.queueing import PROMOTE, QueueVerbs, in_claim_order
from milepost.stores.reading import to_run
from milepost.stores.rows import AttemptRow, EndRow
from milepost.stores.transaction import TASKS, Transaction, repeatable
from milepost.stores.waiting import WaitingVerbs

__all__ = ["HandVerbs"]

_CANCELLED: Final = ("TaskCancelled", "somebody asked to cancel the task")
_LATE_START: Final = ("TaskCancelled", "it was not started within its max_delay")
_LATE_END: Final = ("TaskCancelled", "it did not finish within its max_duration")


class HandVerbs(QueueVerbs, WaitingVerbs):
    """Spawn, claim, complete, fail, cancel, wait: what programs outside the engine do with tasks."""

    # --- finding -----------------------------------------------------------------------------

    def look(self, statement: str, /, *, conn: Any = None, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a reading statement, on the caller's connection where one is given; nothing is locked."""
        raise NotImplementedError(statement)

    def find_task(self, first: str, last: str, *, conn: Any = None) -> Run | None:
        """Return the run whose id lies between the two, or None."""
        rows = self.look("find_task", conn=conn, first=first, last=last)
        return to_run(rows[0]) if rows else None

    def _at_once(self, statement: str, /, *, conn: Any = None, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement that is a whole verb, where the dialect has one; nothing comes back where it did not do."""
        return []

    # --- spawning ----------------------------------------------------------------------------

    @repeatable
    def spawn_task(
        self, task: NewTask, *, start_by: int | None = None, max_duration: int | None = None, conn: Any = None
    ) -> Submitted:
        """Put a task into a queue, linked to its parent, which must be a workflow run."""
        if start_by is None and max_duration is None and self._spawn_at_once(task, conn):
            return Submitted(task.run_id, is_new=True)
        return self.spawn_tasks([task], [(start_by, max_duration)], conn=conn)[0]

    def _spawn_at_once(self, task: NewTask, conn: Any) -> bool:
        found = self._at_once(
            "spawn_at_once",
            conn=conn,
            run_id=task.run_id,
            workflow=task.workflow,
            kind=task.kind,
            queue=task.queue,
            priority=task.priority,
            available_at=task.available_at,
            max_attempts=task.max_attempts,
            idempotency_key=task.idempotency_key,
            parent_run_id=task.parent_run_id,
            created_by=task.created_by,
            now=task.now,
            inputs=task.inputs,
            headers=task.headers,
            policies=task.policies,
        )
        return bool(found)

    @repeatable
    def spawn_tasks(
        self, tasks: Sequence[NewTask], limits: Sequence[tuple[int | None, int | None]], *, conn: Any = None
    ) -> list[Submitted]:
        """Put tasks into queues in one transaction."""
        with self.transaction(conn) as tx:
            roots: dict[str, str] = {}
            for parent in dict.fromkeys(task.parent_run_id for task in tasks if task.parent_run_id is not None):
                rows = tx.rows("get_run", run_id=parent)
                if not rows or to_run(rows[0]).kind != "workflow":
                    raise WorkflowRunNotFound(parent)
                roots[parent] = to_run(rows[0]).root_run_id
            for task in tasks:
                if task.parent_run_id is not None:
                    task.root_run_id = roots[task.parent_run_id]
            outcomes = self._insert_tasks(tx, tasks)
            for outcome, (start_by, max_duration) in zip(outcomes, limits, strict=True):
                if outcome.is_new and (start_by is not None or max_duration is not None):
                    tx.execute("set_limits", run_id=outcome.run_id, start_by=start_by, max_duration=max_duration)
            if any(outcome.is_new for outcome in outcomes):
                tx.notify(TASKS)
        return outcomes

    # --- claiming ----------------------------------------------------------------------------

    @repeatable
    def claim_by_hand(
        self,
        queue: str,
        *,
        owner: str,
        now: int,
        lease: int,
        limit: int,
        max_rescues: int,
        reason: tuple[str, str],
        conn: Any = None,
    ) -> list[HandClaim]:
        """Enforce limits, rescue what was left behind, and lease up to ``limit`` due tasks of a queue."""
        with self.transaction(conn) as tx:
            self._enforce_limits(tx, now, limit)
            expired = [to_run(row) for row in tx.rows("list_expired_leases", now=now, sparing="", limit=limit)]
            self._rescue(tx, expired, now=now, max_rescues=max_rescues, reason=reason)
            tx.rows("promote_due", now=now, limit=PROMOTE)
            claimed = self._claim(tx, queue, owner=owner, now=now, lease=lease, limit=limit)
            waits = self._last_waits(tx, [run for run, _ in claimed if run.lease_epoch > 1], now)
        return [HandClaim(run, payload, waits.get(run.run_id)) for run, payload in claimed]

    def _claim(
        self, tx: Transaction, queue: str, *, owner: str, now: int, lease: int, limit: int
    ) -> list[tuple[Run, RunPayload]]:
        rows = tx.rows(
            "claim_tasks", queue=queue, owner=owner, now=now, lease=lease, lease_until=now + lease, limit=limit
        )
        runs = sorted(map(to_run, rows), key=in_claim_order)
        if runs:
            begun = [AttemptRow(run.run_id, run.lease_epoch, run.attempt, owner, now) for run in runs]
            tx.write_rows("insert_attempt", begun)
        payloads = self._payloads(tx, runs)
        return [(run, payloads[run.run_id]) for run in runs]

    def _last_waits(self, tx: Transaction, runs: Sequence[Run], now: int) -> dict[str, Wait]:
        """Return for each run that was suspended before what it waited for last, now that its time has come."""
        if not runs:
            return {}
        for run in runs:
            tx.execute("resolve_due_waits", run_id=run.run_id, now=now)
        rows = tx.rows("list_waits_of", texts=json.dumps([run.run_id for run in runs]))
        return {wait.run_id: wait for wait in (Wait(*row) for row in rows) if wait.outcome is not None}

    # --- ends --------------------------------------------------------------------------------

    def _hold(self, tx: Transaction, run_id: str, generation: int, now: int) -> Run | Refused:
        """Return the run that a claim by hand of this generation holds, locked; or why there is none."""
        rows = tx.rows("hold_by_hand", run_id=run_id, generation=generation)
        if not rows:
            found = tx.rows("get_run", run_id=run_id)
            return Refused(to_run(found[0]) if found else None)
        run = to_run(rows[0])
        if run.cancel_requested_at is None:
            return run
        self._end(tx, run, "cancelled", now, *_CANCELLED)
        return Refused(run, is_cancelled=True)

    def _end(
        self, tx: Transaction, run: Run, status: str, now: int, error_type: str | None, message: str | None
    ) -> None:
        row = EndRow(run.run_id, run.lease_epoch, status, now, None, error_type, message)
        tx.write_rows("end_run", [row])
        tx.write_rows("end_attempt", [row])

    @repeatable
    def complete_by_hand(
        self, run_id: str, generation: int, *, result: str, now: int, conn: Any = None
    ) -> Refused | None:
        """End a task as completed; return None, or why not."""
        given = {"run_id": run_id, "generation": generation, "result": result, "now": now}
        if self._at_once("complete_at_once", conn=conn, **given):
            return None
        with self.transaction(conn) as tx:
            run = self._hold(tx, run_id, generation, now)
            if isinstance(run, Refused):
                return None if _is_own_end(run, RunStatus.COMPLETED, generation, now) else run
            self._end(tx, run, "completed", now, None, None)
            tx.execute("save_result", run_id=run_id, result=result)
        return None

    @repeatable
    def fail_by_hand(self, run_id: str, generation: int, end: HandEnd, *, now: int, conn: Any = None) -> Refused | None:
        """End an attempt as failed, running or suspended; return None, or why not."""
        with self.transaction(conn) as tx:
            run = self._hold(tx, run_id, generation, now)
            if _is_suspended(run, generation):
                tx.rows("lock_run", run_id=run_id)  # so that nobody claims it from here on
                run = self._hold(tx, run_id, generation, now)  # and whoever did has it now
            if isinstance(run, Refused):
                found = run.run
                if found is None or not _is_suspended(run, generation):
                    return None if self._is_own_failure(tx, run_id, found, end, now) else run
                run = self._take_suspended(tx, found, now)
            told = {"error_step": None, "error_type": end.error_type, "error_message": end.error_message}
            row = EndRow(run_id, run.lease_epoch, "failed", now, **told)
            if end.is_retried:
                tx.execute(
                    "retry_run", run_id=run_id, lease_epoch=run.lease_epoch, available_at=end.available_at, **told
                )
                tx.notify(TASKS)
            else:
                tx.write_rows("end_run", [row])
            tx.write_rows("end_attempt", [row])
            tx.execute("save_reason", run_id=run_id, lease_epoch=run.lease_epoch, reason=end.reason)
            tx.execute("save_error", run_id=run_id, error=end.reason)
        return None

    def _is_own_failure(self, tx: Transaction, run_id: str, found: Run | None, end: HandEnd, now: int) -> bool:
        # This very call once more, whose answer was lost.
        if found is None:
            return False
        claims = tx.rows("get_attempt", run_id=run_id, lease_epoch=found.lease_epoch)
        return bool(claims) and claims[0] == ("failed", now, end.error_type, end.error_message)

    def _take_suspended(self, tx: Transaction, run: Run, now: int) -> Run:
        """Claim a suspended run, which is locked, for the length of a transaction, to end it as one that runs."""
        given: dict[str, Any] = {"owner": "hand:", "now": now, "lease": 1, "lease_until": now + 1}
        tx.execute(
            "claim_run",
            run_id=run.run_id,
            attempt=run.attempt,
            expected_status="suspended",
            expected_epoch=run.lease_epoch,
            **given,
        )
        epoch = run.lease_epoch + 1
        tx.write_rows("insert_attempt", [AttemptRow(run.run_id, epoch, run.attempt, "hand:", now)])
        return to_run(tx.rows("get_run", run_id=run.run_id)[0])

    @repeatable
    def cancel_by_hand(self, run_id: str, *, now: int, reason: tuple[str, str], conn: Any = None) -> bool | None:
        """Cancel a task, or ask its holder to stop; False where it is over, None where there is none."""
        with self.transaction(conn) as tx:
            rows = tx.rows("lock_run", run_id=run_id)
            if not rows:
                return None
            run = to_run(rows[0])
            if run.finished_at is not None:
                return run.status == RunStatus.CANCELLED and run.finished_at == now
            self._cancel(tx, run, now, reason)
        return True

    def _cancel(self, tx: Transaction, run: Run, now: int, reason: tuple[str, str]) -> None:
        if run.status == RunStatus.RUNNING:
            tx.execute("request_cancel", run_id=run.run_id, now=now)
            return
        told = {"now": now, "error_type": reason[0], "error_message": reason[1]}
        tx.execute("cancel_unowned", run_id=run.run_id, expected_epoch=run.lease_epoch, **told)
        self._close(tx, run.run_id, now, reason)

    @repeatable
    def enforce_limits(self, now: int, limit: int) -> int:
        """Cancel what did not start or finish in time; return how many."""
        with self.transaction() as tx:
            return self._enforce_limits(tx, now, limit)

    def _enforce_limits(self, tx: Transaction, now: int, limit: int) -> int:
        found = 0
        for statement, reason in (("list_past_start", _LATE_START), ("list_past_end", _LATE_END)):
            for row in tx.rows(statement, now=now, limit=limit):
                self._cancel(tx, to_run(row), now, reason)
                found += 1
        return found

    # --- while a claim is held ---------------------------------------------------------------

    @repeatable
    def extend_by_hand(self, run_id: str, generation: int, *, now: int, lease: int, conn: Any = None) -> Refused | None:
        """Move the end of a lease to so long from now; return None, or why not."""
        with self.transaction(conn) as tx:
            run = self._hold(tx, run_id, generation, now)
            if isinstance(run, Refused):
                return run
            self._extend(tx, run, now, lease)
        return None

    def _extend(self, tx: Transaction, run: Run, now: int, lease: int) -> None:
        until = {"now": now, "lease": lease, "lease_until": now + lease}
        tx.execute("move_lease", run_id=run.run_id, lease_epoch=run.lease_epoch, **until)

    @repeatable
    def save_by_hand(
        self,
        run_id: str,
        generation: int,
        name: str,
        value: str,
        *,
        now: int,
        lease: int | None,
        conn: Any = None,
    ) -> Refused | None:
        """Save a checkpoint under a name, and extend the lease where one is given; return None, or why not."""
        asked = {"run_id": run_id, "generation": generation, "name": name, "value": value, "now": now, "lease": lease}
        if self._at_once("save_at_once", conn=conn, **asked):
            return None
        with self.transaction(conn) as tx:
            run = self._hold(tx, run_id, generation, now)
            if isinstance(run, Refused):
                return run
            tx.write_rows("save_checkpoint", [CheckpointWrite(run_id, "", name, value, run.lease_epoch, now)])
            if lease is not None:
                self._extend(tx, run, now, lease)
        return None

    @repeatable
    def wait_by_hand(
        self, run_id: str, generation: int, wait: NewWait, *, now: int, is_look: bool, conn: Any = None
    ) -> Refused | Wait:
        """Register a wait and suspend the run, in one step; a wait that is resolved is returned as it is."""
        with self.transaction(conn) as tx:
            if wait.event is not None:  # before the run's row, as whoever emits takes the two
                tx.lock(f"event:{wait.scope}:{wait.event}")
            run = self._hold(tx, run_id, generation, now)
            if isinstance(run, Refused):
                return run
            found = self._register(tx, wait._replace(lease_epoch=run.lease_epoch), now)
            if (found.kind, found.scope, found.event) != (wait.kind, wait.scope, wait.event):
                raise ConfigurationError(
                    f"Step {wait.label!r} of task {run_id} waits for {found.event or 'a time'!r} already, not for "
                    f"{wait.event or 'a time'!r}. Give each wait a step name of its own."
                )
            if found.outcome is None and is_look:
                given = {"run_id": run_id, "label": wait.label, "outcome": "timed_out", "payload": None, "now": now}
                tx.execute("resolve_wait", **given)
            tx.execute("resolve_due_waits", run_id=run_id, now=now)
            found = Wait(*tx.rows("get_wait", run_id=run_id, label=wait.label)[0])
            if found.outcome is None:
                self._suspend(tx, run, now)
        return found

    def _suspend(self, tx: Transaction, run: Run, now: int) -> None:
        # Everything that is resolved is known: the event's lock, or the caller's own row, keeps others out.
        seen = sum(Wait(*row).outcome is not None for row in tx.rows("list_waits", run_id=run.run_id))
        tx.execute("suspend_run", run_id=run.run_id, lease_epoch=run.lease_epoch, seen=seen, now=now)
        tx.write_rows("end_attempt", [EndRow(run.run_id, run.lease_epoch, "suspended", now, None, None, None)])
        tx.notify(TASKS)

    @repeatable
    def move_by_hand(
        self, run_id: str, generation: int | None, *, wake_at: int, now: int, conn: Any = None
    ) -> Refused | None:
        """Let a task be due at a time: one that waits is moved, one that runs is suspended until then."""
        with self.transaction(conn) as tx:
            rows = tx.rows("lock_run", run_id=run_id)
            found = to_run(rows[0]) if rows else None
            if found is None or found.finished_at is not None or generation not in (None, found.generation):
                return Refused(found)
            if found.status != RunStatus.RUNNING:
                tx.execute("move_due", run_id=run_id, available_at=wake_at if wake_at > now else None)
                if found.status == RunStatus.SUSPENDED and wake_at <= now:
                    tx.execute("wake_run", run_id=run_id, now=now)
                tx.notify(TASKS)
                return None
            run = self._hold(tx, run_id, found.generation, now)
            if isinstance(run, Refused):
                return run
            label = f"schedule:{run.lease_epoch}"  # a claim is suspended once
            self._register(tx, NewWait(run_id, run.lease_epoch, label, "sleep", None, None, wake_at), now)
            self._suspend(tx, run, now)
        return None

    @repeatable
    def requeue_by_hand(self, run_id: str, *, now: int, conn: Any = None) -> Run | None:
        """Give a failed or cancelled task one more attempt; return it as it was found, or None."""
        with self.transaction(conn) as tx:
            rows = tx.rows("lock_run", run_id=run_id)
            if rows and tx.execute("requeue_run", run_id=run_id):
                tx.notify(TASKS)
        return to_run(rows[0]) if rows else None


def _is_suspended(found: Run | Refused, generation: int) -> bool:
    run = found.run if isinstance(found, Refused) else found
    return run is not None and (run.status, run.generation) == (RunStatus.SUSPENDED, generation)


def _is_own_end(refused: Refused, status: RunStatus, generation: int, now: int) -> bool:
    # This very call once more, whose answer was lost: it ended the run at this very moment.
    run = refused.run
    return run is not None and (run.status, run.generation, run.finished_at) == (status, generation, now)
