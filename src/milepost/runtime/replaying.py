"""Replays: what would run again and why, and the run that does it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from milepost.engine import Recorded, ReplayPlan, find_changes, plan_replay
from milepost.errors import ConfigurationError, GraphChanged, MilepostError
from milepost.graph import Graph, compare_definitions
from milepost.ledger import Ledger
from milepost.model import Run
from milepost.runtime.invalid import find_invalid
from milepost.runtime.lifecycle import continue_session, new_run, summarize
from milepost.runtime.session import RunSession
from milepost.runtime.steps import classes_of
from milepost.states import RunStatus
from milepost.store import NewRun, NewTask, RunEnd, RunWrite, StepInput
from milepost.values import decode

__all__ = ["Replay", "begin_replay", "headers_of", "new_replay", "plan"]


@dataclass(frozen=True, slots=True)
class Replay:
    """A plan, and how it was asked for."""

    source: Run
    plan: ReplayPlan
    is_by_change: bool


def plan(
    ledger: Ledger,
    run_id: str,
    graph: Graph,
    nodes: Collection[str] = (),
    *,
    changed: bool = False,
    downstream: bool = True,
    allow_changes: bool = False,
) -> Replay:
    """Decide what a replay of a run would run again; nothing is written.

    Args:
        ledger: Where the run is recorded.
        run_id: The run.
        graph: The graph as it is now.
        nodes: Labels that run again.
        changed: Those run again whose code, wiring or inputs are not what the run recorded.
        downstream: Whether what depends on them runs again as well.
        allow_changes: Take a graph that differs from the recorded one; ``changed`` takes it in any case.

    Raises:
        RunNotFound: There is no such run.
        ConfigurationError: A label is unknown.
        GraphChanged: The graph differs from the recorded one.
    """
    if isinstance(nodes, str) or not all(isinstance(label, str) for label in nodes):
        raise ConfigurationError(f"The nodes that run again must be a collection of labels, not {nodes!r}.")
    run = ledger.require_run(run_id)
    stored = None if run.hash is None else ledger.store.get_definition(run.hash)
    changes = [] if stored is None else compare_definitions(stored, graph.definition)
    if changes and not (changed or allow_changes):
        raise GraphChanged(run_id, changes)
    bad = _invalid(ledger, run)
    chosen = {
        label: f"its output is bad: {reason}" for label, reason in bad.items() if label.partition("[")[0] in graph
    }
    chosen |= dict.fromkeys(nodes, "it was chosen")
    if changed:
        chosen = {**find_changes(graph, _recorded(ledger, run)), **chosen}
    summaries = summarize(ledger.store.list_step_rows(run_id), 0)
    return Replay(
        run, plan_replay(run_id, graph, summaries, chosen, downstream=downstream, changes=changes), is_by_change=changed
    )


def _invalid(ledger: Ledger, run: Run) -> dict[str, str]:
    """Return the labels whose output is marked as bad, here or in the run that it was copied from."""
    found = find_invalid(ledger, run.run_id)
    origins = {step.label: step.origin_run_id for step in ledger.store.list_inputs(run.run_id) if step.origin_run_id}
    for origin in dict.fromkeys(origins.values()):
        bad = find_invalid(ledger, origin)
        found |= {label: reason for label, reason in bad.items() if origins.get(label.partition("[")[0]) == origin}
    return found


def _recorded(ledger: Ledger, run: Run) -> dict[str, Recorded]:
    """Return what is known of the execution of each completed step: a skipped one was executed by another run."""
    found: dict[str, Recorded] = {}
    of_run: dict[str, tuple[dict[str, StepInput], dict[int, dict[str, Any]]]] = {}

    def look_at(run: Run) -> tuple[dict[str, StepInput], dict[int, dict[str, Any]]]:
        if run.run_id not in of_run:
            nodes_of = {hash_: _nodes(ledger, hash_) for hash_ in (run.hash,)}
            of_epoch = {}
            for claim in ledger.list_attempts(run.run_id):
                hash_ = claim.hash or run.hash
                if hash_ not in nodes_of:
                    nodes_of[hash_] = _nodes(ledger, hash_)
                of_epoch[claim.lease_epoch] = nodes_of[hash_]
            steps = {step.label: step for step in ledger.store.list_inputs(run.run_id)}
            of_run[run.run_id] = steps, of_epoch
        return of_run[run.run_id]

    steps, of_epoch = look_at(run)
    for label, step in steps.items():
        made, nodes = step, of_epoch.get(step.lease_epoch, {})
        origin = None if step.origin_run_id is None else ledger.get_run(step.origin_run_id)
        if origin is not None:
            origin_steps, origin_epochs = look_at(origin)
            made = origin_steps.get(label, step)
            nodes = origin_epochs.get(made.lease_epoch, {})
        if label in nodes:
            found[label] = Recorded(nodes[label], made.input)
    return found


def _nodes(ledger: Ledger, hash_: str | None) -> dict[str, Any]:
    document = None if hash_ is None else ledger.store.get_definition(hash_)
    return {} if document is None else {node["label"]: node for node in json.loads(document)["nodes"]}


def headers_of(replay: Replay) -> str:
    """Return what is kept with the new run: what was chosen, how, and whether what depends on it was left alone."""
    plan = replay.plan
    return json.dumps(
        {
            "replay": {
                "nodes": list(plan.chosen),
                "downstream": plan.downstream,
                "changed": replay.is_by_change,
                "ran": list(plan.to_run),
                "graph_changes": list(plan.changes),
            }
        }
    )


def new_replay(
    ledger: Ledger,
    graph: Graph,
    replay: Replay,
    run_id: str | None,
    target: str | None,
    tags: Mapping[str, Any] | None,
    created_by: str | None,
) -> NewRun:
    """Return the write that creates the run, claimed by this process.

    Raises:
        ConfigurationError: The run id breaks the rule, or the tags are not plain data.
    """
    payload = ledger.get_payload(replay.source.run_id)
    new = new_run(
        ledger,
        graph,
        {},
        kind=replay.source.kind,
        run_id=run_id,
        target=target or payload.target,
        tags=tags,
        created_by=created_by,
    )
    new.inputs = payload.inputs
    new.headers = headers_of(replay)
    new.replay_of = replay.source.run_id
    new.correlation_id = replay.source.correlation_id
    if tags is None:
        new.tags = payload.tags
    return new


def begin_replay(ledger: Ledger, graph: Graph, new: NewRun | NewTask, replay: Replay) -> RunSession:
    """Create the run with what it takes over, in one transaction, and return its session.

    Raises:
        RunExists: The run id is taken.
        ValueNotRestorable: An output that is needed cannot be restored; the run has failed with it.
    """
    ledger.store.create_replay(new, replay.source.run_id, replay.plan.labels)
    run = ledger.require_run(new.run_id)
    try:
        inputs = dict(decode(new.inputs, classes_of(graph)))
        return continue_session(ledger, run, graph, inputs)
    except MilepostError as error:
        end = RunEnd(RunStatus.FAILED, ledger.clock.now(), None, type(error).__qualname__, str(error))
        ledger.commit(RunWrite(run.run_id, run.lease_epoch, end=end))
        raise
