"""Tasks of one no-op step: submitted in bulk, and executed by one worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from milepost import Dag, Ledger, Worker

TASKS = 4000
BULK = 20_000
SLOTS = 64


def one_step(body: Callable[..., object]) -> Dag:
    """Return a Dag of one step that takes the run's input ``n``."""
    dag = Dag("one")
    dag.node(body, label="s0")
    dag.build()
    return dag


def through_worker(dag: Dag, ledger: Ledger) -> float:
    """Return tasks per second that one worker executes, from its first claim to the end of the last run."""
    handles = dag.submit_many([{"n": number} for number in range(TASKS)], ledger=ledger)
    worker = Worker([dag], ledger=ledger, concurrency=SLOTS)
    executed = asyncio.run(worker.run_async(until_idle=True))
    assert executed == TASKS
    first, last = ledger.require_run(handles[0].run_id), ledger.require_run(handles[-1].run_id)
    assert first.started_at is not None
    assert last.finished_at is not None
    return TASKS / (last.finished_at - first.started_at) * 1e6


def submit_many(dag: Dag, ledger: Ledger) -> float:
    """Return tasks per second that are put into a queue by one call."""
    inputs = [{"n": number} for number in range(BULK)]
    started = time.perf_counter()
    dag.submit_many(inputs, ledger=ledger, queue="bulk")
    return BULK / (time.perf_counter() - started)
