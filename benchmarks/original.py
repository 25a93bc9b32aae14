"""The same two graphs in the DAG library whose documents ours follows; printed as JSON, for ``benchmarks/dags.py``.

    python original.py FOLDER

It runs in whatever interpreter has ``lythonic==0.0.12``. Figures are nodes per second.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from pathlib import Path

from lythonic.compose.dag_provenance import DagProvenance
from lythonic.compose.dag_runner import DagRunner
from lythonic.compose.namespace import Dag


async def begin() -> int:
    return 1


async def go_on(n: int) -> int:
    return n


async def gather(numbers: list[int]) -> int:
    return len(numbers)


def line(size: int) -> Dag:
    dag = Dag()
    node = dag.node(begin, label="n0")
    for place in range(1, size):
        node = node >> dag.node(go_on, label=f"n{place}")
    return dag


def fan(size: int) -> Dag:
    dag = Dag()
    first, last = dag.node(begin, label="first"), dag.node(gather, label="last")
    for place in range(size):
        first >> dag.node(go_on, label=f"n{place}") >> last
    return dag


def nodes_per_second(dag: Dag, size: int, folder: Path | None) -> float:
    provenance = None if folder is None else DagProvenance(folder / f"{uuid.uuid4()}.db")
    started = time.perf_counter()
    result = asyncio.run(DagRunner(dag, provenance).run())
    took = time.perf_counter() - started
    assert result.status == "completed", result
    return size / took


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(
        json.dumps(
            {
                "line": nodes_per_second(line(1000), 1000, folder),
                "fan": nodes_per_second(fan(500), 502, folder),
                "line, no record": nodes_per_second(line(1000), 1000, None),
            }
        )
    )
