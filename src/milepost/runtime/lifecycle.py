"""Start, resume and cancel runs; find those whose process died."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from milepost.clock import to_datetime
from milepost.engine import History, StepSummary, plan_restart
from milepost.engine.restart import NOT_LOADED
from milepost.errors import (
    ConfigurationError,
    GraphChanged,
    InvalidTransition,
    MilepostError,
    RunBusy,
    StoreConflict,
)
from milepost.graph import Graph, compare_definitions
from milepost.ledger import Ledger
from milepost.model import Run, check_run_id, new_run_id
from milepost.owner import current_owner, describe_owner, is_owner_gone
from milepost.runtime.conform import show
from milepost.runtime.keeper import is_executing_here
from milepost.runtime.outcome import FinishedRun, Outputs
from milepost.runtime.session import RunSession
from milepost.runtime.steps import classes_of
from milepost.states import RunStatus, StepStatus
from milepost.store import EdgeWrite, NewRun, RunEnd, RunWrite, StepRow
from milepost.values import decode, encode

__all__ = [
    "cancel_run",
    "continue_session",
    "find_interrupted",
    "finish",
    "is_interrupted",
    "new_run",
    "open_ledger",
    "resume_session",
    "tags_text",
]

_DIED: Final = ("ProcessDied", "the process that executed this attempt is gone")


def open_ledger(ledger: Ledger | str | os.PathLike[str] | None, durability: str | None = None) -> Ledger:
    """Return an open ledger as it is, and open any other by path or URL."""
    if isinstance(ledger, Ledger):
        if durability is not None:
            raise ConfigurationError("durability= belongs to Ledger.open; this ledger is open already.")
        ledger.require_writable()
        return ledger
    return Ledger.open(ledger, durability=durability or "power")


def new_run(
    ledger: Ledger,
    graph: Graph,
    inputs: Mapping[str, Any],
    *,
    kind: str,
    run_id: str | None = None,
    target: str | None = None,
    tags: Mapping[str, Any] | None = None,
) -> NewRun:
    """Return the write that creates a run, claimed by this process.

    Raises:
        ConfigurationError: The run id breaks the rule, or the tags are not plain data.
        ValueNotStorable: An input cannot be stored.
    """
    now = ledger.clock.now()
    return NewRun(
        run_id=new_run_id(now) if run_id is None else check_run_id(run_id),
        workflow=graph.name,
        kind=kind,
        definition_hash=graph.fingerprint,
        definition=graph.definition,
        inputs=encode(dict(inputs)),
        owner=current_owner(),
        now=now,
        lease_until=now + int(ledger.lease * 1e6),
        target=target,
        tags=tags_text(tags),
    )


def tags_text(tags: Mapping[str, Any] | None) -> str:
    """Return tags as the JSON text that is stored.

    Raises:
        ConfigurationError: They are not plain data by name.
    """
    if tags is not None and not (isinstance(tags, Mapping) and all(isinstance(name, str) for name in tags)):
        raise ConfigurationError(f"tags must be plain JSON data by name, such as {{'team': 'data'}}, not {show(tags)}.")
    try:
        return json.dumps(dict(tags or {}), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"tags must be plain JSON data: {error}. Use texts and numbers.") from error


# --- resuming ------------------------------------------------------------------------------------


def resume_session(ledger: Ledger, run_id: str, graph: Graph, *, target: str | None = None) -> RunSession:
    """Claim a run that died, failed or was cancelled, and return its session.

    Everything that can be refused is refused before the claim, so that a refusal changes nothing.

    Raises:
        RunNotFound: There is no such run.
        InvalidTransition: It is completed, so there is nothing to resume.
        RunBusy: Its process lives and its lease runs.
        GraphChanged: The graph is not the one it started with.
        InputError: What a schedule filled in does not fit the graph's inputs.
        ValueNotRestorable: A stored output that is needed cannot be restored.
    """
    run = ledger.require_run(run_id)
    _check_resumable(ledger, run)
    stored = None if run.hash is None else ledger.store.get_definition(run.hash)
    offered = graph.definition
    if stored is not None and stored != offered:
        changes = compare_definitions(stored, offered)
        if changes:
            raise GraphChanged(run_id, changes)
    payload = ledger.get_payload(run_id)
    inputs = dict(decode(payload.inputs, classes_of(graph)))
    check = graph.check_inputs if payload.has_unchecked_inputs else None
    if check is not None:
        inputs = check(inputs)
    rows = ledger.store.list_step_rows(run_id)
    attempt = run.attempt + (run.status in (RunStatus.FAILED, RunStatus.CANCELLED))
    history = _load_history(ledger, run_id, graph, rows, attempt)
    now = ledger.clock.now()
    claimed = ledger.store.claim_run(
        run,
        owner=current_owner(),
        now=now,
        lease_until=now + int(ledger.lease * 1e6),
        attempt=attempt,
        target=target,
        reason=_DIED,
    )
    try:
        if check is not None:
            ledger.store.adopt_inputs(run_id, claimed.lease_epoch, encode(inputs))
        # The former owner may have completed a step between our reading and our claim; from here
        # on it cannot.
        later = ledger.store.list_step_rows(run_id)
        if _completed(later) != _completed(rows):
            history = _load_history(ledger, run_id, graph, later, attempt)
        else:
            history.tries = _load_tries(later, attempt)
        session = _session(ledger, claimed, graph, inputs, history, later)
    except MilepostError as error:
        end = RunEnd(RunStatus.FAILED, ledger.clock.now(), None, type(error).__qualname__, str(error))
        ledger.commit(RunWrite(run_id, claimed.lease_epoch, end=end))
        raise
    return session


def continue_session(
    ledger: Ledger,
    run: Run,
    graph: Graph,
    inputs: Mapping[str, Any],
    **options: Any,
) -> RunSession:
    """Return the session of a run that is claimed already and goes on from its completed steps."""
    rows = ledger.store.list_step_rows(run.run_id)
    history = _load_history(ledger, run.run_id, graph, rows, run.attempt)
    return _session(ledger, run, graph, inputs, history, rows, **options)


def _session(
    ledger: Ledger,
    run: Run,
    graph: Graph,
    inputs: Mapping[str, Any],
    history: History,
    rows: list[StepRow],
    **options: Any,
) -> RunSession:
    seq = ledger.store.max_seq(run.run_id)
    session = RunSession(ledger, run.run_id, run.lease_epoch, graph, inputs, history=history, seq=seq, **options)
    session.restore_edges(_missing_edges(ledger, run.run_id, graph, rows))
    return session


def _check_resumable(ledger: Ledger, run: Run) -> None:
    if run.status == RunStatus.COMPLETED:
        raise InvalidTransition(
            f"Run {run.run_id}",
            "completed",
            "be resumed",
            f"Look at it with `milepost show {run.run_id}`, or start a new run.",
        )
    # The caller has marked the run as executing here, so that an own lease is a leftover of ours.
    is_leftover = run.lease_owner == current_owner()
    if run.status == RunStatus.RUNNING and not is_leftover and not is_interrupted(ledger, run):
        until = to_datetime(run.lease_until or 0).isoformat(timespec="seconds")
        raise RunBusy(run.run_id, describe_owner(run.lease_owner or "nobody"), until)


def _load_history(ledger: Ledger, run_id: str, graph: Graph, rows: list[StepRow], attempt: int) -> History:
    summaries = _summarize(rows, attempt)
    plan = plan_restart(graph, summaries)
    history = History(tries=plan.tries)
    known = classes_of(graph)  # the stored names of classes may lead nowhere: the file was renamed meanwhile
    history.done = dict.fromkeys(plan.done, NOT_LOADED)
    for label in (*plan.load, *plan.load_maps):
        history.done[graph[label].index] = ledger.get_output(run_id, label, known=known)
    for label in plan.load_elements:
        index = graph[label].index
        history.elements[index] = dict.fromkeys(plan.elements[index], NOT_LOADED)
        for element, text, _ in ledger.store.list_element_outputs(run_id, label):
            if element in history.elements[index] and text is not None:
                history.elements[index][element] = decode(text, known)
    for index, kept in plan.elements.items():
        if index not in history.elements:
            history.elements[index] = dict.fromkeys(kept, NOT_LOADED)
    return history


def _summarize(rows: Iterable[StepRow], attempt: int) -> list[StepSummary]:
    by_label: dict[str, list[StepRow]] = defaultdict(list)
    for row in rows:
        by_label[row.label].append(row)
    done = (StepStatus.COMPLETED.value, StepStatus.SKIPPED.value)
    summaries = []
    for label, attempts in by_label.items():
        last = attempts[-1]
        telling = next((row for row in reversed(attempts) if row.status in done), last)
        failures = sum(row.status == StepStatus.FAILED.value and row.run_attempt >= attempt for row in attempts)
        summaries.append(
            StepSummary(label, last.parent, StepStatus(telling.status), telling.storage, last.attempt, failures)
        )
    return summaries


def _load_tries(rows: Iterable[StepRow], attempt: int) -> dict[str, tuple[int, int]]:
    return {s.label: (s.last_attempt, s.failures) for s in _summarize(rows, attempt)}


def _missing_edges(ledger: Ledger, run_id: str, graph: Graph, rows: Iterable[StepRow]) -> list[EdgeWrite]:
    # Edges ride with a later commit than the step they led to. What a death took with it follows from
    # the graph: a step that was started took what its upstreams made.
    known = {(edge.upstream, edge.downstream) for edge in ledger.store.list_edges(run_id)}
    missing = []
    for row in rows:
        if row.parent is not None or row.label not in graph:
            continue
        for ref in graph[row.label].upstream:
            pair = (graph.nodes[ref].label, row.label)
            if pair not in known:
                known.add(pair)
                missing.append(EdgeWrite(run_id, *pair, row.started_at))
    return missing


def _completed(rows: Iterable[StepRow]) -> set[tuple[str, int]]:
    return {(row.label, row.attempt) for row in rows if row.status == StepStatus.COMPLETED.value}


# --- ending --------------------------------------------------------------------------------------


def finish(session: RunSession) -> FinishedRun:
    """Return the finished run of a session that has come to its end."""
    ledger, graph = session.ledger, session.graph
    assert session.end is not None
    results = session.execution.results
    at_hand = {graph.nodes[index].label: value for index, value in results.items()}
    labels = tuple(
        graph.nodes[index].label
        for index in graph.sinks
        if index in results or session.progress.node(index).status == StepStatus.COMPLETED
    )
    outputs = Outputs(ledger, session.run_id, labels, at_hand, lambda: classes_of(graph))
    return FinishedRun(ledger, session.run_id, session.end, outputs, session.error)


# --- looking after -------------------------------------------------------------------------------


def is_interrupted(ledger: Ledger, run: Run) -> bool:
    """Return whether a run that is marked running has nobody who executes it any more.

    Its process is gone (seen at once on this machine), or its lease has run out.
    """
    if run.status != RunStatus.RUNNING:
        return False
    # Leases go by the database's clock alone, also where another one was handed in.
    if run.lease_until is not None and run.lease_until < ledger.store.read_clock(ledger.clock.now()):
        return True
    owner = run.lease_owner or ""
    if owner == current_owner():
        return not is_executing_here(ledger, run.run_id)
    return is_owner_gone(owner)


def find_interrupted(ledger: Ledger) -> list[Run]:
    """Return the runs whose process died or fell silent: those that ``resume --all`` takes up."""
    return [run for run in ledger.store.list_running() if is_interrupted(ledger, run)]


def cancel_run(ledger: Ledger, run_id: str) -> str:
    """Ask a run to stop; return ``"requested"``, or ``"cancelled"`` where nobody executed it.

    A process that executes the run notices within about half a second.

    Raises:
        RunNotFound: There is no such run.
        InvalidTransition: It has ended already.
    """
    ledger.require_writable()
    for _ in range(3):
        run = ledger.require_run(run_id)
        if run.finished_at is not None:
            raise InvalidTransition(f"Run {run_id}", run.status.value, "be cancelled")
        now = ledger.clock.now()
        is_idle = run.status in (RunStatus.PENDING, RunStatus.SUSPENDED) or is_interrupted(ledger, run)
        if not is_idle and ledger.store.request_cancel(run_id, now):
            return "requested"
        if is_idle and ledger.store.cancel_unowned(run, now, ("RunCancelled", "cancelled on request")):
            return "cancelled"
    raise StoreConflict(f"Run {run_id} keeps changing hands. Try again: `milepost cancel {run_id}`.")
