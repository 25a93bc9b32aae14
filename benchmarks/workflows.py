"""The workflow DSL: loading a large file, executing a chain, and going over many items."""

from __future__ import annotations

import time
import tracemalloc
from functools import partial
from pathlib import Path

from benchmarks.report import Row, against_floor, at_most
from milepost import Dag, Ledger
from milepost.dsl import RunnableWorkflow, Workflow, WorkflowBuilder, task_function

CHAIN = 300
ITEMS = 10_000


@task_function("bench.nothing")
def nothing(value: object = None) -> object:
    """Return what it was given."""
    return value


def large_file() -> str:
    """Return a workflow of 1,000 tasks as YAML, each naming the result of the one before."""
    flow = WorkflowBuilder("large")
    for i in range(1000):
        flow.task(f"t{i}", "bench.nothing", args=[f"{{{{t{i - 1}}}}}"] if i else [])
    return flow.build().to_yaml()


def loading(text: str) -> float:
    """Return the milliseconds that loading and checking take."""
    started = time.perf_counter()
    Workflow.from_yaml(text)
    return (time.perf_counter() - started) * 1000


def chain_of_tasks(runnable: RunnableWorkflow, ledger: Ledger) -> float:
    """Return steps per second of a workflow that is a chain."""
    started = time.perf_counter()
    runnable.run(ledger=ledger)
    return CHAIN / (time.perf_counter() - started)


def chain_of_nodes(dag: Dag, ledger: Ledger) -> float:
    """Return steps per second of the same chain as a Dag."""
    started = time.perf_counter()
    dag.run(ledger=ledger)
    return CHAIN / (time.perf_counter() - started)


def memory_of_items(ledger: Ledger) -> float:
    """Return the most bytes per item that a loop over many items takes at any moment."""
    body = WorkflowBuilder("items").foreach(
        "loop", f"{{{{range({ITEMS})}}}}", lambda w: w.task("x", "bench.nothing", args=["{{item}}"])
    )
    workflow = body.build()
    tracemalloc.start()
    workflow.run(ledger=ledger)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / ITEMS


def measure(folder: Path) -> list[Row]:
    """Return the rows about workflows on SQLite."""
    text = large_file()
    flow = WorkflowBuilder("chain")
    dag = Dag("chain")
    last = None
    for i in range(CHAIN):
        flow.task(f"t{i}", "bench.nothing", args=[f"{{{{t{i - 1}}}}}"] if i else [])
        last = dag.node(nothing, label=f"t{i}", value=last if last is not None else None)
    workflow = flow.build().for_worker()  # compiled once, as a Dag is
    with Ledger.open(folder / "workflows.db") as ledger, Ledger.open(folder / "dags.db") as plain:
        return [
            at_most("load and check 1,000 tasks of YAML", 1000, partial(loading, text), "ms"),
            against_floor(
                f"chain of {CHAIN} no-op tasks, against the same Dag",
                0.7,
                partial(chain_of_tasks, workflow, ledger),
                partial(chain_of_nodes, dag, plain),
            ),
            at_most(
                f"foreach over {ITEMS:,} items: most memory",
                2000,
                partial(memory_of_items, ledger),
                "bytes/item",
                repeats=1,
            ),
        ]
