"""How tasks and claims stand, and keeping queues in order."""

from __future__ import annotations

import json
from typing import Any

from milepost.clock import to_datetime
from milepost.errors import MilepostError
from milepost.ledger import Ledger
from milepost.model import Run, RunPayload, Wait
from milepost.owner import HAND
from milepost.states import RunStatus
from milepost.tracking.desk import Desk
from milepost.tracking.ids import REQUIRED, as_id, claim_id, read_claim_id
from milepost.tracking.plain import load, seconds, whole
from milepost.tracking.shapes import RunRow, TaskRow
from milepost.tracking.tasks import last_wait, when

__all__ = ["Looking", "state_of"]

_STATES = {RunStatus.SUSPENDED: "sleeping"}


def state_of(run: Run) -> str:
    """Return a run's status in this face's word."""
    return _STATES.get(run.status, run.status.value)


class Looking(Desk):
    """Mixed into :class:`milepost.tracking.Client`."""

    # --- status ------------------------------------------------------------------------------

    def get_task_status(self, conn: Any = None, task_id: Any = REQUIRED) -> TaskRow | None:
        """Return how a task stands, or None where there is none. Nothing is locked."""
        ledger = self._ledger(conn)
        run = self._find_task(ledger, conn, task_id)
        return None if run is None or run.queue is None else self._task_row(ledger, conn, run)

    def _task_row(self, ledger: Ledger, conn: Any, run: Run) -> TaskRow:
        payload = RunPayload(*ledger.store.look("get_run_payload", conn=conn, run_id=run.run_id)[0])
        tracked = ledger.store.look("get_tracked_payload", conn=conn, run_id=run.run_id)[0]
        policies = json.loads(payload.policies)
        state = state_of(run)
        if self._is_overdue(ledger, run, tracked[3], tracked[4]):
            state = "cancelled"  # as maintenance, or the next claim, is about to write
        return {
            "task_id": as_id(run.run_id),
            "task_name": run.workflow,
            "params": load(payload.inputs),
            "headers": load(payload.headers),
            "retry_strategy": policies.get("retry_strategy"),
            "max_attempts": run.max_attempts,
            "cancellation": policies.get("cancellation"),
            "enqueue_at": to_datetime(run.created_at),
            "first_started_at": when(run.started_at),
            "state": state,
            "attempts": run.attempt,
            "last_attempt_run": claim_id(run.run_id, run.generation),
            "completed_payload": self._result(ledger, conn, run, tracked[0]),
            "cancelled_at": when(run.finished_at) if run.status == RunStatus.CANCELLED else None,
            "idempotency_key": run.idempotency_key,
            "workflow_run_id": None if run.parent_run_id is None else as_id(run.parent_run_id),
            "tenant_id": None,
        }

    @staticmethod
    def _is_overdue(ledger: Ledger, run: Run, start_by: int | None, max_duration: int | None) -> bool:
        if run.status not in (RunStatus.PENDING, RunStatus.SUSPENDED):
            return False
        now = ledger.shared_now()
        if run.started_at is None:
            return start_by is not None and start_by <= now
        return max_duration is not None and run.started_at + max_duration <= now

    def _result(self, ledger: Ledger, conn: Any, run: Run, text: str | None) -> Any:
        """Return what a task made: what was said of it, or the output of the engine's final step."""
        if run.status != RunStatus.COMPLETED or text is not None or run.hash is None:
            return load(text)
        definitions = ledger.store.look("get_definition", conn=conn, hash=run.hash)
        nodes = json.loads(definitions[0][0])["nodes"] if definitions else []
        read = {upstream for node in nodes for upstream in node["upstream"]}
        finals = [node["label"] for node in nodes if node["label"] not in read]
        outputs = {}
        for label in finals:
            rows = ledger.store.look("get_output", conn=conn, run_id=run.run_id, label=label)
            outputs[label] = load(rows[0][0]) if rows else None
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def get_run_status(self, conn: Any = None, run_id: Any = REQUIRED) -> RunRow | None:
        """Return how a claim stands, or the one that comes next; None where there is none. Nothing is locked."""
        ledger = self._ledger(conn)
        named = read_claim_id(run_id, "run_id")
        run = self._find(ledger, conn, named)
        if run is None or run.queue is None or not 1 <= named.generation <= run.generation:
            return None
        claims = [
            row for row in ledger.store.look("list_claims", conn=conn, run_id=run.run_id) if row[10] == named.generation
        ]
        is_current = named.generation == run.generation
        last = claims[-1] if claims else None
        state = state_of(run) if is_current else "failed"
        waits = [Wait(*row) for row in ledger.store.look("list_waits", conn=conn, run_id=run.run_id)]
        wait = last_wait(waits) if is_current else None
        tracked = ledger.store.look("get_tracked_payload", conn=conn, run_id=run.run_id)[0]
        ended = None if last is None or last[4] in ("running", "suspended") else last[6]
        return {
            "run_id": claim_id(run.run_id, named.generation),
            "task_id": as_id(run.run_id),
            "attempt": run.attempt if last is None else last[2],
            "state": state,
            "claimed_by": None if last is None else last[3].removeprefix(HAND) or None,
            "claim_expires_at": when(run.lease_until) if is_current else None,
            "available_at": when(run.available_at or run.created_at) if is_current else None,
            "wake_event": None if wait is None else wait.event,
            "event_payload": None if wait is None else load(wait.payload),
            "started_at": when(claims[0][5]) if claims else None,
            "completed_at": when(run.finished_at) if state == "completed" else None,
            "failed_at": when(ended or run.finished_at) if state == "failed" else None,
            "result": self._result(ledger, conn, run, tracked[0]) if state == "completed" else None,
            "failure_reason": _failure(last, run) if state == "failed" else None,
            "created_at": to_datetime(run.created_at),
            "last_heartbeat": when(last[5]) if last is not None else None,
            "tenant_id": None,
        }

    # --- queues ------------------------------------------------------------------------------

    def create_queue(self, conn: Any = None) -> None:
        """Make the queue known; a second call does nothing. Queues work without it."""
        ledger = self._ledger(conn)
        ledger.store.create_queue(self.queue_name, now=ledger.shared_now(), conn=conn)

    def list_queues(self, conn: Any = None) -> list[str]:
        """Return the names of the queues that were created, are paused, or hold unfinished tasks."""
        look = self._ledger(conn).store.look
        made = [name for (name,) in look("list_created_queues", conn=conn)]
        return sorted({*made, *(row[0] for row in look("count_tasks", conn=conn))})

    def drop_queue(self, conn: Any = None) -> None:
        """Delete the queue with its events and its finished tasks.

        Raises:
            ConfigurationError: It has unfinished tasks; nothing was deleted.
        """
        ledger = self._ledger(conn)
        ledger.store.drop_queue(self.queue_name, now=ledger.shared_now(), conn=conn)

    def cleanup_tasks(self, conn: Any = None, ttl_seconds: float = REQUIRED, limit: int = 1000) -> int:
        """Delete tasks of the queue that ended so long ago, oldest first, with all they own; return how many."""
        ledger = self._ledger(conn)
        before = ledger.shared_now() - seconds(ttl_seconds, "ttl_seconds")
        return ledger.store.delete_tasks(self.queue_name, before=before, limit=whole(limit, "limit"), conn=conn)

    def cleanup_events(
        self, conn: Any = None, ttl_seconds: float = REQUIRED, limit: int = 1000, force: bool = False
    ) -> int:
        """Delete events of the queue that were emitted so long ago, oldest first; return how many.

        Those that an unfinished task of the queue may still ask for stay, unless ``force`` says otherwise.
        """
        ledger = self._ledger(conn)
        before = ledger.shared_now() - seconds(ttl_seconds, "ttl_seconds")
        return ledger.store.delete_queue_events(
            self.queue_name, before=before, limit=whole(limit, "limit"), force=force, conn=conn
        )


def _failure(claim: tuple[Any, ...] | None, run: Run) -> dict[str, Any]:
    if claim is not None and claim[9] is not None:
        reason: dict[str, Any] = load(claim[9])
        return reason
    kind, message = (run.error_type, run.error_message) if claim is None else (claim[7], claim[8])
    return {"name": kind or MilepostError.__name__, "message": message or ""}
