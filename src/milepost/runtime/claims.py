"""From a claimed task to a session that a driver can perform."""

from __future__ import annotations

import json
import random

from milepost.engine.policies import next_run_delay
from milepost.errors import MilepostError
from milepost.graph import Graph
from milepost.ledger import Ledger
from milepost.model import Run
from milepost.runtime.lifecycle import as_begun, continue_session, note_code
from milepost.runtime.session import RunSession
from milepost.runtime.steps import classes_of
from milepost.states import RunStatus
from milepost.store import ClaimedTask, RunEnd, RunWrite
from milepost.values import decode, encode

__all__ = ["claimed_session"]


def claimed_session(ledger: Ledger, claimed: ClaimedTask, graph: Graph) -> RunSession:
    """Return the session of a run that was just claimed from its queue.

    A run that never started takes the worker's definition; one that did must meet the graph it began
    with.

    Raises:
        GraphChanged: The graph is not the one the run started with: another worker may know it.
        InputError: What a schedule filled in does not fit the graph's inputs; the run has failed with it.
        ValueNotRestorable: A stored output that is needed cannot be restored; the run has failed with it.
    """
    run = claimed.run
    if run.hash != graph.fingerprint:
        graph = _meet(ledger, claimed, graph)
    policies = json.loads(claimed.payload.policies)

    def retry(error: BaseException) -> float | None:
        return next_run_delay(policies, run.attempt, run.max_attempts, error, random.random())

    try:
        inputs = dict(decode(claimed.payload.inputs, classes_of(graph)))
        if claimed.payload.has_unchecked_inputs and graph.check_inputs is not None:
            inputs = graph.check_inputs(inputs)
            ledger.store.adopt_inputs(run.run_id, run.lease_epoch, encode(inputs))
        if _is_fresh(run):
            session = RunSession(ledger, run.run_id, run.lease_epoch, graph, inputs, retry=retry, may_suspend=True)
            session.family = run.root_run_id, run.created_by
            session.belongs_to(run)
            return session
        return continue_session(ledger, run, graph, inputs, retry=retry, may_suspend=True)
    except MilepostError as error:
        end = RunEnd(RunStatus.FAILED, ledger.clock.now(), None, type(error).__qualname__, str(error))
        ledger.commit(RunWrite(run.run_id, run.lease_epoch, end=end))
        raise


def _is_fresh(run: Run) -> bool:
    """Return whether a claimed run has no steps yet, without a look: nobody had it before, and it copied none."""
    return run.lease_epoch == 1 and run.replay_of is None


def _meet(ledger: Ledger, claimed: ClaimedTask, graph: Graph) -> Graph:
    run = claimed.run
    if run.lease_epoch == 1 and run.hash is not None:
        graph = graph.as_submitted(ledger.store.get_definition(run.hash) or graph.definition)
    if run.lease_epoch > 1:  # it may have begun with a wait, which leaves no row until it ends
        graph = as_begun(ledger, run, graph)
    if run.hash == graph.fingerprint:
        return graph
    if _is_fresh(run) or ledger.store.max_seq(run.run_id) == 0:
        ledger.store.adopt_definition(
            run.run_id,
            run.lease_epoch,
            hash_=graph.fingerprint,
            workflow=graph.name,
            document=graph.definition,
            now=ledger.clock.now(),
        )
        return graph
    note_code(ledger, run, graph)
    return graph
