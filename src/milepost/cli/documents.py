"""The JSON documents of the reading commands. Their keys are promised: they may grow, never change.

Times are ISO 8601 in UTC, durations seconds; what is not there is null. The messages of errors are cut at
2,000 characters; a step attempt alone has the whole.

``runs``    {"ledger", "runs": [run]}
``show``    {"ledger", "run": run with "inputs", "tags", "target" and "traceback", "attempts": [attempt],
            "steps": [step], "edges": [{"upstream", "downstream", "is_traversed"}]}
``show RUN STEP``  {"ledger", "run_id", "label", "kind", "attempts": [step attempt]}
``graph``   {"name", "run_id", "status", "nodes": [step], "edges": [as above]}
``doctor``  {"ledger", "is_healthy", "runs": {status: count}, "problems": [{"code", "subject", "message", "remedy"}]}

run           run_id, workflow, version, kind, status, is_interrupted (marked running, but its process is gone),
              attempt, created_at, started_at, finished_at, duration, owner, lease_until, cancel_requested_at,
              parent_run_id, replay_of, error ({"step", "type", "message"})
attempt       attempt, lease_epoch, owner, status, started_at, finished_at, error ({"type", "message"})
step          label, kind, status, attempts, started_at, finished_at, duration, message (of its progress), error (text),
              counts (of a map: {"done", "total", "running", "failed", "retries"}), elements (of a map: [step];
              null unless --all)
step attempt  attempt, status, started_at, finished_at, duration, input, output, progress
              ({"done", "total", "message"}), error ({"type", "message", "traceback"})
"""

from __future__ import annotations

from typing import Any, Final

from milepost.cli.times import iso
from milepost.draw import Picture, PictureNode
from milepost.errors import ValueNotRestorable
from milepost.ledger import Ledger
from milepost.model import Attempt, Problem, Run, StepAttempt
from milepost.runtime import is_interrupted
from milepost.runtime.landing import cut
from milepost.values import decode_plain

__all__ = [
    "attempt_document",
    "edge_documents",
    "node_document",
    "plain_value",
    "problem_document",
    "run_document",
    "step_attempt_document",
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
        "parent_run_id": run.parent_run_id,
        "replay_of": run.replay_of,
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
