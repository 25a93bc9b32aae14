"""The other engine's rates, run by a Python that has ``absurd-sdk`` and ``absurdctl``: prints them as JSON."""

from __future__ import annotations

import json
import sys
import time

import absurdctl
import psycopg
from absurd_sdk import Absurd
from psycopg.conninfo import make_conninfo

TASKS = 1000
STEP_TASKS = 200
BATCH = 50
DATABASE = "absurd_benchmark"


def work(app: Absurd, name: str, count: int) -> float:
    """Return tasks per second of one worker that claims in batches."""
    for n in range(count):
        app.spawn(name, {"n": n})
    started = time.perf_counter()
    for _ in range(count // BATCH):
        app.work_batch(batch_size=BATCH)
    return count / (time.perf_counter() - started)


def main() -> None:
    """Measure in a database of its own on the server that is named."""
    server = sys.argv[1]
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        conn.execute(f"CREATE DATABASE {DATABASE}")
    own = make_conninfo(server, dbname=DATABASE)
    with psycopg.connect(own, autocommit=True) as conn:
        conn.execute(absurdctl.BUNDLED_SCHEMA_SQL)
    app = Absurd(own, queue_name="bench")
    app.create_queue("bench")

    @app.register_task("noop")
    def noop(params: object, ctx: object) -> object:
        return params

    @app.register_task("steps")
    def steps(params: object, ctx: object) -> object:
        for n in range(10):
            ctx.step(f"step{n}", lambda n=n: n)
        return params

    rates = {
        "tasks": max(work(app, "noop", TASKS) for _ in range(3)),
        "steps": 10 * max(work(app, "steps", STEP_TASKS) for _ in range(3)),
    }
    app.close()
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {DATABASE}")
    sys.stdout.write(json.dumps(rates) + "\n")


if __name__ == "__main__":
    main()
