"""Start, resume and cancel runs; find those whose process died."""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
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
from milepost.graph import Graph, changed_code, compare_definitions
from milepost.ledger import Ledger
from milepost.model import MANUAL, Run, check_run_id, new_run_id
from milepost.owner import current_owner, describe_owner, is_owner_gone
from milepost.runtime.conform import show
from milepost.runtime.invalid import find_invalid, mark_writes, void_attempts, void_steps
from milepost.runtime.keeper import is_executing_here
from milepost.runtime.outcome import FinishedRun, Outputs
from milepost.runtime.session import RunSession
from milepost.runtime.steps import classes_of
from milepost.runtime.undoing import find_mark, undo_session, undone_after
from milepost.states import RunStatus, StepStatus
from milepost.store import EdgeWrite, NewRun, RunEnd, RunWrite, StepRow
from milepost.values import decode, encode

__all__ = [
    "as_begun",
    "busy",
    "cancel_run",
    "changes_of",
    "claim",
    "continue_session",
    "find_interrupted",
    "finish",
    "is_interrupted",
    "new_run",
    "note_code",
    "open_ledger",
    "pause_run",
    "require_unowned",
    "resume_session",
    "summarize",
    "tags_text",
]

_LOG: Final = logging.getLogger("milepost.run")
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
    created_by: str | None = None,
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
        version=graph.version,
        kind=kind,
        definition_hash=graph.fingerprint,
        definition=graph.definition,
        inputs=encode(dict(inputs), classes_of(graph)),
        owner=current_owner(),
        now=now,
        lease_until=now + int(ledger.lease * 1e6),
        target=target,
        tags=tags_text(tags),
        created_by=created_by,
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


def resume_session(
    ledger: Ledger,
    run_id: str,
    graph: Graph,
    *,
    target: str | None = None,
    allow_changes: bool = False,
    is_inherited: bool = False,
) -> RunSession:
    """Claim a run that died, failed or was cancelled, and return its session.

    Everything that can be refused is refused before the claim, so that a refusal changes nothing.

    Args:
        ledger: Where it is recorded.
        run_id: The run.
        graph: What it goes on with.
        target: Replaces the stored target.
        allow_changes: Take over a graph that is not the one the run started with: completed steps that it still
            has count as done.
        is_inherited: The run is part of one that this process executes, so that whoever held it has lost it.

    Raises:
        RunNotFound: There is no such run.
        InvalidTransition: It is completed, so there is nothing to resume.
        RunBusy: Its process lives and its lease runs.
        GraphChanged: The graph is not the one it started with.
        InputError: What a schedule filled in does not fit the graph's inputs.
        ValueNotRestorable: A stored output that is needed cannot be restored.
    """
    run = ledger.require_run(run_id)
    _check_resumable(ledger, run, is_inherited=is_inherited)
    graph = as_begun(ledger, run, graph)
    changes, recoded = changes_of(ledger, run, graph)
    if changes and not allow_changes:
        raise GraphChanged(run_id, changes)
    payload = ledger.get_payload(run_id)
    inputs = dict(decode(payload.inputs, classes_of(graph)))
    check = graph.check_inputs if payload.has_unchecked_inputs else None
    if check is not None:
        inputs = check(inputs)
    rows = ledger.store.list_step_rows(run_id)
    attempt = run.attempt + (run.status in (RunStatus.FAILED, RunStatus.CANCELLED))
    mark = find_mark(ledger, run_id)
    history = History() if mark is not None else _load_history(ledger, run_id, graph, rows, attempt)
    claimed = claim(ledger, run, attempt, target)
    try:
        _note_changes(ledger, claimed, graph, changes, recoded)
        if check is not None:
            ledger.store.adopt_inputs(run_id, claimed.lease_epoch, encode(inputs))
        later = rows
        if run.status == RunStatus.RUNNING:
            # The former owner may have completed a step, or begun a rollback, between our reading and our claim; from
            # here on it cannot. Of a run that nobody held the claim itself tells that nothing has changed.
            later = ledger.store.list_step_rows(run_id)
            mark = mark or find_mark(ledger, run_id)
        if mark is not None:  # a rollback was cut short
            return undo_session(ledger, claimed, graph, inputs, later, mark["to"])
        if _completed(later) != _completed(rows):
            history = _load_history(ledger, run_id, graph, later, attempt)
        elif later is not rows:
            history.tries = _load_tries(later, attempt)
        session = _session(ledger, claimed, graph, inputs, history, later)
        session.changes = (*changes, *(f"the code of step {label!r} changed" for label in recoded))
    except MilepostError as error:
        end = RunEnd(RunStatus.FAILED, ledger.clock.now(), None, type(error).__qualname__, str(error))
        ledger.commit(RunWrite(run_id, claimed.lease_epoch, end=end))
        raise
    return session


def claim(ledger: Ledger, run: Run, attempt: int, target: str | None = None) -> Run:
    """Take a run over from the state that was read.

    Raises:
        StoreConflict: Somebody else was faster.
    """
    now = ledger.clock.now()
    return ledger.store.claim_run(
        run,
        owner=current_owner(),
        now=now,
        lease_until=now + int(ledger.lease * 1e6),
        attempt=attempt,
        target=target,
        reason=_DIED,
    )


def as_begun(ledger: Ledger, run: Run, graph: Graph) -> Graph:
    """Return the graph that a run began with, where its stored definition is enough to make it again."""
    if run.hash is None or run.hash == graph.fingerprint:
        return graph
    stored = ledger.store.get_definition(run.hash)
    own = None if stored is None else graph.of_definition(stored)
    return graph if own is None else own


def changes_of(ledger: Ledger, run: Run, graph: Graph) -> tuple[list[str], list[str]]:
    """Return how a graph differs from the one that a run started with, and the steps whose code does."""
    if run.hash is None or run.hash == graph.fingerprint:
        return [], []
    stored = ledger.store.get_definition(run.hash)
    if stored is None:
        return [], []
    return compare_definitions(stored, graph.definition), changed_code(stored, graph.definition)


def _note_changes(ledger: Ledger, run: Run, graph: Graph, changes: list[str], recoded: list[str]) -> None:
    """Record what a claimed run goes on with, where that is not what it started with."""
    note = ledger.store.adopt_definition if changes else ledger.store.note_definition if recoded else None
    if note is None:
        return
    note(
        run.run_id,
        run.lease_epoch,
        hash_=graph.fingerprint,
        workflow=graph.name,
        document=graph.definition,
        now=ledger.clock.now(),
    )
    _LOG.warning(
        "run %s goes on with changes: %s",
        run.run_id,
        "; ".join([*changes, *(f"code of {label!r}" for label in recoded)]),
    )


def note_code(ledger: Ledger, run: Run, graph: Graph) -> None:
    """Record the code that a claimed run goes on with, where it is not what it started with.

    Raises:
        GraphChanged: It is not only the code.
    """
    changes, recoded = changes_of(ledger, run, graph)
    if changes:
        raise GraphChanged(run.run_id, changes)
    _note_changes(ledger, run, graph, [], recoded)


def continue_session(
    ledger: Ledger,
    run: Run,
    graph: Graph,
    inputs: Mapping[str, Any],
    **options: Any,
) -> RunSession:
    """Return the session of a run that is claimed already and goes on from its completed steps."""
    rows = ledger.store.list_step_rows(run.run_id)
    mark = find_mark(ledger, run.run_id)
    if mark is not None:
        return undo_session(ledger, run, graph, inputs, rows, mark["to"])
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
    marks = mark_writes(run, graph, rows, history.invalid, ledger.clock.now())
    if marks:
        ledger.commit(RunWrite(run.run_id, run.lease_epoch, checkpoints=marks))
    seq = ledger.store.max_seq(run.run_id)
    session = RunSession(ledger, run.run_id, run.lease_epoch, graph, inputs, history=history, seq=seq, **options)
    session.family = run.root_run_id, run.created_by
    session.belongs_to(run)
    session.workflow = run.workflow
    session.restore_edges(_missing_edges(ledger, run.run_id, graph, rows))
    return session


def _check_resumable(ledger: Ledger, run: Run, *, is_inherited: bool) -> None:
    if run.status == RunStatus.COMPLETED:
        raise InvalidTransition(
            f"Run {run.run_id}",
            "completed",
            "be resumed",
            f"Look at it with `milepost show {run.run_id}`, or start a new run.",
        )
    if not is_inherited:
        require_unowned(ledger, run)


def require_unowned(ledger: Ledger, run: Run) -> None:
    """Refuse to take a run over that another live process executes.

    Raises:
        RunBusy: Its process lives and its lease runs.
    """
    # The caller has marked the run as executing here, so that an own lease is a leftover of ours.
    is_leftover = run.lease_owner == current_owner()
    if run.status == RunStatus.RUNNING and not is_leftover and not is_interrupted(ledger, run):
        raise busy(run)


def busy(run: Run) -> RunBusy:
    """Return the error that says who executes a run."""
    until = to_datetime(run.lease_until or 0).isoformat(timespec="seconds")
    return RunBusy(run.run_id, describe_owner(run.lease_owner or "nobody"), until)


def _load_history(ledger: Ledger, run_id: str, graph: Graph, rows: list[StepRow], attempt: int) -> History:
    summaries = summarize(rows, attempt)
    invalid = find_invalid(ledger, run_id)
    void = void_steps(graph, rows, invalid) if invalid else set()
    if void:
        summaries = [replace(step, status=StepStatus.PENDING) if step.label in void else step for step in summaries]
    if graph.replays:
        return _load_recorded(ledger, run_id, summaries, invalid)
    plan = plan_restart(graph, summaries)
    history = History(tries=plan.tries, undone=_undone(rows), invalid=invalid)
    done = {step.label for step in summaries if step.status in (StepStatus.COMPLETED, StepStatus.SKIPPED)}
    history.void = void_attempts(graph, rows, done, void, undone_after(rows))
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


def _load_recorded(ledger: Ledger, run_id: str, summaries: Iterable[StepSummary], invalid: dict[str, str]) -> History:
    history = History(invalid=invalid)
    for step in summaries:
        history.tries[step.label] = (step.last_attempt, step.failures)
        if step.status == StepStatus.COMPLETED:
            history.recorded[step.label] = ledger.get_output(run_id, step.label)
        elif step.status == StepStatus.FAILED:
            history.lost[step.label] = f"step {step.label!r} failed in an earlier process"
    return history


def summarize(rows: Iterable[StepRow], attempt: int) -> list[StepSummary]:
    """Return what is known of each label over all its attempts; failures count from a run attempt on."""
    rows = list(rows)
    void = undone_after(rows)
    by_label: dict[str, list[StepRow]] = defaultdict(list)
    for row in rows:
        by_label[row.label].append(row)
    done = (StepStatus.COMPLETED.value, StepStatus.SKIPPED.value)
    summaries = []
    for label, attempts in by_label.items():
        last = attempts[-1]
        since = void.get(label, 0)
        telling = next((row for row in reversed(attempts) if row.status in done and row.seq > since), last)
        status = StepStatus(telling.status) if telling.seq > since else StepStatus.PENDING
        failures = sum(row.status == StepStatus.FAILED.value and row.run_attempt >= attempt for row in attempts)
        summaries.append(StepSummary(label, last.parent, status, telling.storage, last.attempt, failures))
    return summaries


def _undone(rows: Sequence[StepRow]) -> dict[str, int]:
    """Return the last attempt of each label whose last one completed and was undone since."""
    void = undone_after(rows)
    last = {row.label: row for row in rows if row.label in void}
    return {
        label: row.attempt
        for label, row in last.items()
        if row.seq < void[label] and row.status == StepStatus.COMPLETED.value
    }


def _load_tries(rows: Iterable[StepRow], attempt: int) -> dict[str, tuple[int, int]]:
    return {s.label: (s.last_attempt, s.failures) for s in summarize(rows, attempt)}


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
        for index in (results if graph.replays else graph.sinks)
        if index in results or session.progress.node(index).status == StepStatus.COMPLETED
    )
    outputs = Outputs(ledger, session.run_id, labels, at_hand, lambda: classes_of(graph))
    return FinishedRun(ledger, session.run_id, session.end, outputs, session.error, session.changes)


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
    """Return the runs whose process died or fell silent: those that ``resume --all`` takes up.

    A run inside another one is not among them: whoever takes up the other goes on with it. Nor is one that is
    recorded by hand: nobody here knows how to go on with it.
    """
    running = [run for run in ledger.store.list_running() if run.parent_run_id is None and run.kind != MANUAL]
    return [run for run in running if is_interrupted(ledger, run)]


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


def pause_run(ledger: Ledger, run_id: str) -> None:
    """Ask a run to pause: what runs already ends, nothing new starts, and nobody goes on with it by himself.

    The process that executes it notices within about half a second.

    Raises:
        RunNotFound: There is no such run.
        InvalidTransition: Nobody executes it.
    """
    ledger.require_writable()
    run = ledger.require_run(run_id)
    if not is_interrupted(ledger, run) and ledger.store.request_pause(run_id, ledger.clock.now()):
        return
    status = ledger.require_run(run_id).status.value
    remedy = "Only what is executed can be paused; `milepost queues pause QUEUE` lets nothing of a queue begin."
    raise InvalidTransition(f"Run {run_id}", status, "be paused", remedy)
