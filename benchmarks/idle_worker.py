"""A worker in a process of its own, whose one step says when it started: run with a ledger as its argument."""

from __future__ import annotations

import sys
import time

from benchmarks.tasks import one_step
from milepost import Worker, step


@step
async def started_at(n: int) -> int:
    return time.time_ns()


dag = one_step(started_at)

if __name__ == "__main__":
    Worker([dag], ledger=sys.argv[1]).run()
