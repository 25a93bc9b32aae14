"""Why a run does not move: the exact gate it waits at, from the ledger alone.

Gates are looked at in the order in which a run meets them: the time or event it waits for, its queue, the
workers that live, its turn. The first is the answer; those that it would meet next, as things stand, go
with it. Nothing is written, so that the answer may be asked for as often as one likes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from milepost.errors import DagPause
from milepost.ledger.gate import Gate, Look, clipped, error_text, listed, moment_text, sentence, upper
from milepost.model import Run, StepAttempt, StepKind, Wait, WorkerInfo
from milepost.names import DEFAULT_QUEUE
from milepost.owner import describe_owner, is_owner_gone
from milepost.states import TERMINAL_RUN, RunStatus, StepStatus
from milepost.store import Store

__all__ = ["explain"]

_NOT_FOR_ME: Final = ("UnknownWorkflow", "GraphChanged", "RunBusy")  # why a worker puts a run back at once


def explain(store: Store, run: Run, *, now: int, lease: int) -> Gate:
    """Return the gate that a run waits at.

    Args:
        store: Where the run is.
        run: The run as it was just read.
        now: The time.
        lease: How long a lease is where its holder's own is not known, in microseconds.
    """
    if run.finished_at is not None:
        return _ended(run, run.finished_at, now)
    if run.kind == "workflow" and run.hash is None and run.queue is None:
        return _tracked(store, run, now)
    look = Look(store, run, now, lease)
    if run.status == RunStatus.RUNNING:
        return _held(look)
    first, *others = _waiting(look)
    return replace(first, also=tuple(others))


# --- runs that have ended ------------------------------------------------------------------------


def _ended(run: Run, finished_at: int, now: int) -> Gate:
    when = moment_text(finished_at, now)
    facts: dict[str, Any] = {"finished_at": finished_at}
    if run.status == RunStatus.COMPLETED:
        return Gate("completed", f"It completed at {when}.", "", facts)
    facts |= {"step": run.error_step, "error": error_text(run.error_type, run.error_message)}
    resume = f"`milepost resume {run.run_id}`"
    if run.status == RunStatus.CANCELLED:
        reason = run.error_message or "on request"
        return Gate("cancelled", f"It was cancelled at {when}: {reason}.", f"Go on with it: {resume}.", facts)
    where = f" in step {run.error_step!r}" if run.error_step else ""
    remedy = f"Mend the cause, then go on from the completed steps: {resume}."
    return Gate("failed", f"It failed at {when}{where}: {sentence(facts['error'])}", remedy, facts)


# --- runs that nobody executes: somebody outside says how they stand ---------------------------------


def _tracked(store: Store, run: Run, now: int) -> Gate:
    counted = store.look("count_linked", texts=json.dumps([run.run_id]))
    tasks = {status: count for _, status, count, _, _ in counted}
    over = sum(count for status, count in tasks.items() if status in TERMINAL_RUN)
    told = f"{over} of its {sum(tasks.values())} tasks are over" if tasks else "no task is linked to it"
    since = moment_text(run.started_at or run.created_at, now)
    return Gate(
        "tracked",
        f"It is tracked from outside: {run.status.value} since {since}, {told}.",
        "Whoever tracks it says when it is over: `update_workflow_run_status(...)`.",
        {"tasks": tasks, "started_at": run.started_at},
    )


# --- runs that somebody holds --------------------------------------------------------------------


def _held(look: Look) -> Gate:
    run = look.run
    owner, until = run.lease_owner or "", run.lease_until or 0
    worker = _holder(look, owner)
    who = describe_owner(owner) if worker is None else f"worker {worker.worker_id} ({describe_owner(owner)})"
    heartbeat_at = until - (look.lease if worker is None else worker.lease)
    facts: dict[str, Any] = {
        "owner": owner,
        "worker_id": None if worker is None else worker.worker_id,
        "lease_until": until,
        "heartbeat_at": heartbeat_at,
        "cancel_requested_at": run.cancel_requested_at,
    }
    is_gone, is_expired = is_owner_gone(owner), until < look.now
    if is_gone or is_expired:
        lost = f"{upper(who)}, which executed it, is gone; its last heartbeat was at {look.when(heartbeat_at)}."
        if not is_gone:
            lost = (
                f"{upper(who)}, which executed it, fell silent: its lease ran out at {look.when(until)}, "
                f"its last heartbeat was at {look.when(heartbeat_at)}."
            )
        return _left_behind(look, lost, facts, is_gone=is_gone)
    if run.cancel_requested_at is not None:
        return Gate(
            "cancel_requested",
            f"It was asked to stop at {look.when(run.cancel_requested_at)}; {who}, which executes it, has not "
            "heard that yet.",
            "It hears that within about half a second. A step that never calls ctx.heartbeat() is waited for.",
            facts,
        )
    told, steps = _running_steps(look)
    facts["steps"] = steps
    return Gate(
        "running",
        f"{upper(who)} executes it: lease until {look.when(until)}, last heartbeat {look.when(heartbeat_at)}. {told}",
        "",
        facts,
    )


def _left_behind(look: Look, lost: str, facts: dict[str, Any], *, is_gone: bool) -> Gate:
    run = look.run
    if run.cancel_requested_at is not None:
        lost += (
            f" It was asked to stop at {look.when(run.cancel_requested_at)}: `milepost cancel {run.run_id}` ends it."
        )
    if run.queue is None:
        return Gate("interrupted", lost, f"Go on with it: `milepost resume {run.run_id}`.", facts)
    code = "worker_gone" if is_gone else "lease_expired"
    if look.live:
        return Gate(code, f"{lost} Any live worker rescues it within a second or two.", "", facts)
    remedy = "Any live worker rescues it, and none lives. Start one: `milepost worker TARGET`."
    return Gate(code, lost, remedy, facts)


def _holder(look: Look, owner: str) -> WorkerInfo | None:
    """Return the worker that holds the lease: of those in the same process, the one that takes from the queue."""
    if look.run.queue is None:
        return None
    own = [worker for worker in look.workers if worker.owner == owner]
    return next((worker for worker in own if look.queue in worker.queues), None)


def _running_steps(look: Look) -> tuple[str, list[dict[str, Any]]]:
    """Return which steps run, in words and as data; where none does, what the run's driver waits for."""
    run = look.run
    rows = [row for row in look.store.list_unsettled_steps(run.run_id) if row.lease_epoch == run.lease_epoch]
    running = [row for row in rows if row.status == StepStatus.RUNNING and row.parent is None]
    if running:
        told, steps = zip(*(_step(look, row) for row in running), strict=True)
        return f"{listed(told, '; ')}.", list(steps)
    if look.open_waits:
        return f"{listed([_wait_text(look, wait) for wait in look.open_waits], '; ')}.", []
    failed = [row for row in rows if row.status == StepStatus.FAILED and row.kind != StepKind.MAP]
    if failed:
        row = failed[-1]
        error = error_text(row.error_type, row.error_message)
        return f"Step {row.label!r} failed at attempt {row.attempt} ({error}) and is tried again.", []
    return "No step has been running for longer than a moment.", []


def _step(look: Look, row: StepAttempt) -> tuple[str, dict[str, Any]]:
    done, total, unit = row.progress_done, row.progress_total, ""
    if row.kind == StepKind.MAP:
        done, unit = look.store.count_elements(row.run_id, row.label), "elements "
    text = f"Step {row.label!r} runs since {look.when(row.started_at)}"
    if done is not None and total is not None:
        text += f", {done} of {total} {unit}done"
    if row.attempt > 1:
        text += f", attempt {row.attempt}"
    return text, {
        "label": row.label,
        "kind": row.kind,
        "attempt": row.attempt,
        "started_at": row.started_at,
        "done": done,
        "total": total,
        "message": row.progress_message,
    }


# --- runs that wait ------------------------------------------------------------------------------


def _waiting(look: Look) -> Iterator[Gate]:
    """Yield the gates that stand before a run which nobody holds, in the order in which it meets them."""
    run = look.run
    gate: Gate | None = None
    if run.status == RunStatus.SUSPENDED:
        gate = None if run.available_at is not None and run.available_at <= look.now else _suspended(look)
    elif not _is_due(look):
        gate = _not_due(look)
    if gate is not None:
        yield gate
    paused_at = look.store.get_queue_pause(look.queue)
    if paused_at is not None:
        yield Gate(
            "queue_paused",
            f"Its queue {look.queue!r} is paused since {look.when(paused_at)}.",
            f"Let its tasks be taken again: `milepost queues resume {look.queue}`.",
            {"queue": look.queue, "paused_at": paused_at},
        )
    other = _without_worker(look)
    if other is not None:
        yield other
    elif gate is None and paused_at is None:
        yield _in_queue(look) if _is_due(look) else _put_back(look)


def _is_due(look: Look) -> bool:
    return look.run.available_at is None or look.run.available_at <= look.now


def _suspended(look: Look) -> Gate:
    waits = look.open_waits
    facts = {
        "waits": [
            {
                "step": wait.label,
                "kind": wait.kind,
                "event": wait.event,
                "scope": wait.scope,
                "wake_at": wait.wake_at,
                "created_at": wait.created_at,
            }
            for wait in waits
        ]
    }
    if look.run.error_type == DagPause.__name__:
        where = f" by step {look.run.error_step!r}" if look.run.error_step else ""
        return Gate(
            "paused",
            f"It was paused{where}: {look.run.error_message}.",
            f"Go on with it: `milepost resume {look.run.run_id}`.",
            {**facts, "step": look.run.error_step},
        )
    if not waits:
        return Gate(
            "not_woken",
            "It is suspended, and everything that it waited for has come.",
            "This must not happen: please report it together with the ledger.",
            facts,
        )
    told = f"{listed([_wait_text(look, wait) for wait in waits], '; ')}."
    events = [wait for wait in waits if wait.event is not None]
    if not events:
        return Gate("sleeping", told, "", facts)
    commands = [_emit_command(wait) for wait in events]
    return Gate("waiting_for_event", told, f"Emit what it waits for: {listed(commands)}.", facts)


def _wait_text(look: Look, wait: Wait) -> str:
    if wait.event is None:
        return f"Step {wait.label!r} sleeps until {look.when(wait.wake_at or 0)}"
    scope = "" if wait.scope == DEFAULT_QUEUE else f" of scope {wait.scope!r}"
    limit = "" if wait.wake_at is None else f"; it times out at {look.when(wait.wake_at)}"
    return f"Step {wait.label!r} waits for event {wait.event!r}{scope} since {look.when(wait.created_at)}{limit}"


def _emit_command(wait: Wait) -> str:
    words = ["milepost", "emit", wait.event or ""]
    if wait.scope not in (None, DEFAULT_QUEUE):
        words += ["--scope", wait.scope or ""]
    return f"`{shlex.join(words)}`"


def _not_due(look: Look) -> Gate | None:
    """Return the gate of a pending run whose time has not come; None where it is only offered again then."""
    run, due = look.run, look.run.available_at
    assert due is not None
    last = look.attempts[-1] if look.attempts else None
    if last is None:
        return Gate("scheduled", f"It is due at {look.when(due)}.", "", {"available_at": due})
    if last.error_type in _NOT_FOR_ME:
        return None  # which workers live says more
    error = error_text(run.error_type or last.error_type, run.error_message or last.error_message)
    step = run.error_step if last.status == RunStatus.FAILED else None
    where = f" in step {step!r}" if step else ""
    return Gate(
        "next_attempt",
        f"Attempt {run.attempt} of {run.max_attempts} is due at {look.when(due)}, after this error{where}: "
        f"{sentence(error)}",
        "",
        {"available_at": due, "attempt": run.attempt, "max_attempts": run.max_attempts, "step": step, "error": error},
    )


def _put_back(look: Look) -> Gate:
    run = look.run
    last = look.attempts[-1]
    return Gate(
        "put_back",
        f"A worker that could not execute it gave it back: {sentence(clipped(last.error_message or ''))}"
        f"{_next_offer(look)}",
        "",
        {"available_at": run.available_at, "reason": last.error_message},
    )


def _without_worker(look: Look) -> Gate | None:
    """Return the gate where no live worker can take the run, or None where one can."""
    run, queue = look.run, look.queue
    start = f"milepost worker TARGET{'' if queue == DEFAULT_QUEUE else f' --queue {queue}'}"
    facts: dict[str, Any] = {"queue": queue, "workflow": run.workflow}
    if not look.takers:
        told = "no worker lives at all"
        if look.live:
            known = sorted({name for worker in look.live for name in worker.queues})
            told = f"live ones take from {listed([repr(name) for name in known])}"
            facts["live_queues"] = known
        return Gate("no_worker", f"No live worker takes from queue {queue!r}: {told}.", f"Start one: `{start}`.", facts)
    able = [worker for worker in look.takers if run.workflow in worker.workflows]
    facts["workers"] = [worker.worker_id for worker in able or look.takers]
    if not able:
        known = sorted({name for worker in look.takers for name in worker.workflows})
        facts["live_workflows"] = known
        return Gate(
            "unknown_workflow",
            f"No live worker of queue {queue!r} knows workflow {run.workflow!r}: live ones know "
            f"{listed([repr(name) for name in known]) or 'nothing'}.",
            f"Start one that does: `{start}`.",
            facts,
        )
    last = look.attempts[-1] if look.attempts else None
    if last is not None and last.error_type == "GraphChanged" and any(worker.owner == last.owner for worker in able):
        which = "the only live worker that knows it" if len(able) == 1 else "the worker that took it last"
        facts |= {"reason": last.error_message, "available_at": run.available_at}
        return Gate(
            "definition_changed",
            f"It began with another definition of {run.workflow!r} than {which} has, which gave it back: "
            f"{sentence(clipped(last.error_message or ''))}{_next_offer(look)}",
            f"Start a worker with the definition that it began with, or end it: `milepost cancel {run.run_id}`.",
            facts,
        )
    return None


def _next_offer(look: Look) -> str:
    due = look.run.available_at
    return "" if due is None else f" It is offered again at {look.when(due)}."


def _in_queue(look: Look) -> Gate:
    ahead = look.store.count_ahead(look.run, look.now)
    slots = sum(worker.concurrency for worker in look.takers)
    count = len(look.takers)
    workers = f"{count} live worker{'' if count == 1 else 's'} with {slots} slot{'' if slots == 1 else 's'} in all"
    turn = f"{ahead} task{'' if ahead == 1 else 's'} ahead of it" if ahead else "it is next"
    return Gate(
        "in_queue",
        f"It waits for its turn in queue {look.queue!r}: {turn}, {workers}.",
        "",
        {
            "queue": look.queue,
            "ahead": ahead,
            "slots": slots,
            "priority": look.run.priority,
            "workers": [worker.worker_id for worker in look.takers],
        },
    )
