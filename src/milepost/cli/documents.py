"""The JSON documents of the reading commands. Their keys are promised: they may grow, never change.

Times are ISO 8601 in UTC, durations seconds; what is not there is null. The messages of errors are cut at
2,000 characters; a step attempt alone has the whole.

``runs``    {"ledger", "runs": [run]}
``show``    {"ledger", "run": run with "inputs", "tags", "target" and "traceback", "attempts": [attempt],
            "waits": [wait], "steps": [step], "edges": [{"upstream", "downstream", "is_traversed"}]}
``show RUN STEP``  {"ledger", "run_id", "label", "kind", "attempts": [step attempt]}
``graph``   {"name", "run_id", "status", "nodes": [step], "edges": [as above]}
``doctor``  {"ledger", "is_healthy", "runs": {status: count}, "problems": [{"code", "subject", "message", "remedy"}]}
``why``     {"ledger", "run_id", "workflow", "status", and what a gate has}
``workers`` {"ledger", "workers": [worker]}
``queues``  {"ledger", "queues": [queue]}
``migrate --dry-run``  {"ledger", "migrations": [name]}

run           run_id, workflow, version, kind, status, is_interrupted (marked running, but its process is gone),
              attempt, created_at, started_at, finished_at, duration, owner, lease_until, cancel_requested_at,
              pause_requested_at, parent_run_id, parent_step (of a run inside another), replay_of, queue, priority,
              available_at, max_attempts, rescues, idempotency_key, correlation_id, created_by,
              error ({"step", "type", "message"})
attempt       attempt, lease_epoch, owner, status, started_at, finished_at, error ({"type", "message"})
step          label, kind, status, attempts, started_at, finished_at, duration, message (of its progress), error (text),
              counts (of a map: {"done", "total", "running", "failed", "retries"}), elements (of a map: [step];
              null unless --all)
wait          step, kind (sleep or event), event, scope, wake_at, created_at, outcome (woken, emitted, timed_out),
              resolved_at
gate          code, message, remedy, facts (they differ from code to code), also ([gate]: what the run meets next)
worker        worker_id, state (alive, silent, gone, stopped), owner, queues, workflows, concurrency, runs ([run_id]),
              started_at, heartbeat_at, stopped_at
queue         name, pending, running, suspended, oldest_at, paused_at, workers ([worker_id] that live and take from it)
step attempt  attempt, status, started_at, finished_at, duration, input, output, progress
              ({"done", "total", "message"}), error ({"type", "message", "traceback"})
"""

from __future__ import annotations

from typing import Any, Final

from milepost.cli.times import iso
from milepost.draw import Picture, PictureNode
from milepost.errors import ValueNotRestorable
from milepost.ledger import Gate, Ledger
from milepost.model import Attempt, Problem, QueueInfo, Run, StepAttempt, Wait, WorkerInfo
from milepost.runtime import is_interrupted
from milepost.runtime.landing import cut
from milepost.values import decode_plain

__all__ = [
    "attempt_document",
    "edge_documents",
    "gate_document",
    "node_document",
    "plain_value",
    "problem_document",
    "queue_document",
    "run_document",
    "step_attempt_document",
    "wait_document",
    "worker_document",
]

_LONGEST: Final = 2000  # characters of an error's message in a list


def run_document(ledger: Ledger, run: Run) -> dict[str, Any]:
    """Return what is promised of a run."""
    took = None
    if run.started_at is not None and run.finished_at is not None:
        took = (run.finished_at - run.started_at) / 1e6
    error = None
    if run.error_type is not None:
        error = {"step": run.error_step, "type": run.error_type, "message": _short(run.error_message)}
    return {
        "run_id": run.run_id,
        "workflow": run.workflow,
        "version": run.version,
        "kind": run.kind,
        "status": run.status.value,
        "is_interrupted": is_interrupted(ledger, run),
        "attempt": run.attempt,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at),
        "duration": took,
        "owner": run.lease_owner,
        "lease_until": iso(run.lease_until),
        "cancel_requested_at": iso(run.cancel_requested_at),
        "pause_requested_at": iso(run.pause_requested_at),
        "parent_run_id": run.parent_run_id,
        "parent_step": run.parent_step,
        "replay_of": run.replay_of,
        "queue": run.queue,
        "priority": run.priority,
        "available_at": iso(run.available_at),
        "max_attempts": run.max_attempts,
        "rescues": run.rescues,
        "idempotency_key": run.idempotency_key,
        "correlation_id": run.correlation_id,
        "created_by": run.created_by,
        "error": error,
    }


def attempt_document(attempt: Attempt) -> dict[str, Any]:
    """Return what is promised of one claim of a run."""
    error = None
    if attempt.error_type is not None:
        error = {"type": attempt.error_type, "message": _short(attempt.error_message)}
    return {
        "attempt": attempt.attempt,
        "lease_epoch": attempt.lease_epoch,
        "owner": attempt.owner,
        "status": attempt.status,
        "started_at": iso(attempt.started_at),
        "finished_at": iso(attempt.finished_at),
        "error": error,
    }


def wait_document(wait: Wait) -> dict[str, Any]:
    """Return what is promised of a wait."""
    return {
        "step": wait.label,
        "kind": wait.kind,
        "event": wait.event,
        "scope": wait.scope,
        "wake_at": iso(wait.wake_at),
        "created_at": iso(wait.created_at),
        "outcome": wait.outcome,
        "resolved_at": iso(wait.resolved_at),
    }


def gate_document(gate: Gate) -> dict[str, Any]:
    """Return what is promised of a gate."""
    return {
        "code": gate.code,
        "message": gate.message,
        "remedy": gate.remedy,
        "facts": _readable(gate.facts),
        "also": [gate_document(other) for other in gate.also],
    }


def _readable(facts: Any) -> Any:
    """Return facts with their ledger times as ISO 8601."""
    if isinstance(facts, list):
        return [_readable(part) for part in facts]
    if not isinstance(facts, dict):
        return facts
    return {name: iso(value) if name.endswith(("_at", "_until")) else _readable(value) for name, value in facts.items()}


def worker_document(worker: WorkerInfo, state: str, run_ids: list[str]) -> dict[str, Any]:
    """Return what is promised of a worker."""
    return {
        "worker_id": worker.worker_id,
        "state": state,
        "owner": worker.owner,
        "queues": list(worker.queues),
        "workflows": list(worker.workflows),
        "concurrency": worker.concurrency,
        "runs": run_ids,
        "started_at": iso(worker.started_at),
        "heartbeat_at": iso(worker.heartbeat_at),
        "stopped_at": iso(worker.stopped_at),
    }


def queue_document(queue: QueueInfo, worker_ids: list[str]) -> dict[str, Any]:
    """Return what is promised of a queue."""
    return {
        "name": queue.name,
        "pending": queue.pending,
        "running": queue.running,
        "suspended": queue.suspended,
        "oldest_at": iso(queue.oldest_at),
        "paused_at": iso(queue.paused_at),
        "workers": worker_ids,
    }


def node_document(node: PictureNode, *, with_elements: bool = False) -> dict[str, Any]:
    """Return what is promised of a step, a map or an element."""
    counts = elements = None
    if node.is_map:
        counts = {
            "done": node.done,
            "total": node.total,
            "running": node.running,
            "failed": node.failed,
            "retries": node.retries,
        }
        if with_elements:
            elements = [node_document(element) for element in node.elements]
    return {
        "label": node.label,
        "kind": node.kind,
        "status": None if node.status is None else node.status.value,
        "attempts": node.attempts,
        "started_at": iso(node.started_at),
        "finished_at": iso(node.finished_at),
        "duration": node.duration,
        "message": node.message,
        "error": _short(node.error),
        "counts": counts,
        "elements": elements,
    }


def edge_documents(picture: Picture) -> list[dict[str, Any]]:
    """Return what is promised of the edges of a picture."""
    return [
        {"upstream": edge.upstream, "downstream": edge.downstream, "is_traversed": edge.is_traversed}
        for edge in picture.edges
    ]


def step_attempt_document(row: StepAttempt) -> dict[str, Any]:
    """Return what is promised of one attempt of a step."""
    error = progress = None
    if row.error_type is not None:
        error = {"type": row.error_type, "message": row.error_message, "traceback": row.error_traceback}
    if (row.progress_done, row.progress_total, row.progress_message) != (None, None, None):
        progress = {"done": row.progress_done, "total": row.progress_total, "message": row.progress_message}
    return {
        "attempt": row.attempt,
        "status": row.status.value,
        "started_at": iso(row.started_at),
        "finished_at": iso(row.finished_at),
        "duration": row.duration,
        "input": plain_value(row.input),
        "output": plain_value(row.output),
        "progress": progress,
        "error": error,
    }


def problem_document(problem: Problem) -> dict[str, Any]:
    """Return what is promised of something that doctor found."""
    return {
        "code": problem.code,
        "subject": problem.subject,
        "message": problem.message,
        "remedy": problem.remedy,
    }


def _short(message: str | None) -> str | None:
    """Return a message as lists have it; a step attempt alone has the whole."""
    return message if message is None else cut(message, _LONGEST)


def plain_value(text: str | None) -> Any:
    """Return a stored value as plain JSON; damaged text is shown as it is."""
    if text is None:
        return None
    try:
        return decode_plain(text)
    except ValueNotRestorable:
        return text
