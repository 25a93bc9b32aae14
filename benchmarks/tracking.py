"""The tracking client on PostgreSQL: what its verbs cost against the floor, and beside the engine whose face it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psycopg

from benchmarks.filling import add_runs
from benchmarks.floors import PostgresFloor
from benchmarks.queues import start_delays
from benchmarks.report import Row, against_floor, at_least, flat, within
from benchmarks.server import new_schema, running_server
from benchmarks.steps import async_noop
from benchmarks.tasks import one_step, through_worker
from milepost import Dag, Ledger
from milepost.stores.postgres_address import Address
from milepost.tracking import Client

TASKS = 1000
BATCH = 50
CLAIMS = 60
PEER = "MILEPOST_BENCH_PEER"  # a Python that has absurd-sdk and absurdctl, which carries its schema
WAITING = {"0": 0, "100 k": 100_000, "1 M": 1_000_000}


def spawn_alone(client: Client) -> float:
    """Return tasks per second, each spawned and committed by itself."""
    started = time.perf_counter()
    for n in range(TASKS):
        client.spawn_task(task_name="noop", params={"n": n})
    return TASKS / (time.perf_counter() - started)


def spawn_in_one_transaction(client: Client, conn: psycopg.Connection) -> float:
    """Return tasks per second that are spawned one by one in one transaction of the caller's."""
    started = time.perf_counter()
    for n in range(TASKS):
        client.spawn_task(conn, "noop", {"n": n})
    conn.commit()
    return TASKS / (time.perf_counter() - started)


def spawn_many(client: Client, conn: psycopg.Connection) -> float:
    """Return tasks per second that are spawned by one verb in one transaction of the caller's."""
    started = time.perf_counter()
    client.spawn_tasks(conn, [{"task_name": "noop", "params": {"n": n}} for n in range(TASKS)])
    conn.commit()
    return TASKS / (time.perf_counter() - started)


def work_by_hand(client: Client, conn: psycopg.Connection, steps: int = 0) -> float:
    """Return no-op tasks per second, claimed in batches and completed one by one, each batch in two commits."""
    client.spawn_tasks(tasks=[{"task_name": "noop", "params": {"n": n}} for n in range(TASKS)])
    done = 0
    started = time.perf_counter()
    while done < TASKS:
        claims = client.claim_task(conn, qty=BATCH)
        conn.commit()
        for claim in claims:
            for step in range(steps):
                client.save_checkpoint_for_run(conn, claim.run_id, f"step{step}", step)
            client.complete_task(conn, claim.run_id)
        conn.commit()
        done += len(claims)
    return TASKS * max(1, steps) / (time.perf_counter() - started)


def claim_costs(url: str) -> dict[str, float]:
    """Return milliseconds of a claim of sixteen by hand with so many more tasks waiting."""
    costs = {}
    for name, waiting in WAITING.items():
        with Ledger.open(f"{new_schema(url)}&options=-csynchronous_commit%3Doff") as ledger:
            add_runs(ledger, 0, waiting + 16 * CLAIMS)
            client = Client("default", ledger=ledger)
            found = []
            for _ in range(CLAIMS):
                started = time.perf_counter()
                assert len(client.claim_task(qty=16)) == 16
                found.append((time.perf_counter() - started) * 1e3)
            costs[name] = sorted(found)[CLAIMS // 2]
    return costs


def measure_peer(url: str) -> dict[str, float] | None:
    """Return the rates of the other engine on the same server, None where its Python is not named."""
    python = os.environ.get(PEER)
    if python is None:
        return None
    program = str(Path(__file__).with_name("tracking_peer.py"))
    done = subprocess.run([python, program, Address(url).conninfo], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def ten_steps() -> Dag:
    """Return a chain of ten no-op steps that begins with an input."""
    dag = Dag("ten")
    last = dag.node(async_noop, label="s0")
    for number in range(1, 10):
        last = dag.node(async_noop, label=f"s{number}", n=last)
    return dag


def _beside(work: str, ours: float, theirs: float) -> Row:
    ratio = ours / theirs
    return Row(work, f"{ours:,.0f} /s", f"{theirs:,.0f} /s", f"{ratio:.2f} x", "3 x", ratio >= 3)


def measure(folder: Path) -> list[Row]:
    """Return the rows about the tracking client."""
    with running_server(folder) as url, Client("bench", ledger=new_schema(url)) as client:
        floor = PostgresFloor(url)
        conn = psycopg.connect(Address(url).conninfo)
        rows = [
            against_floor("spawn, one commit each, PostgreSQL", 0.7, partial(spawn_alone, client), floor, "tasks/s"),
            at_least(
                "spawns in one transaction, one verb, PostgreSQL", 10_000, partial(spawn_many, client, conn), "tasks/s"
            ),
            against_floor(
                "spawns in one transaction, one by one, PostgreSQL",
                None,
                partial(spawn_in_one_transaction, client, conn),
                floor,
                "tasks/s",
            ),
        ]
        hand = Client("hand", ledger=client.ledger)
        rows += [
            against_floor(
                f"claim + complete by hand, batch {BATCH}, PostgreSQL",
                1,
                partial(work_by_hand, hand, conn),
                floor,
                "tasks/s",
            ),
            within("spawn to start, idle worker, PostgreSQL", {50: 10}, start_delays(new_schema(url)), "ms"),
            flat("claim by hand of 16, more tasks waiting, PostgreSQL", 1.5, claim_costs(url), "ms"),
        ]
        peer = measure_peer(url)
        if peer is not None:
            rows += [
                _beside("no-op tasks by hand, batch 50, beside absurd-sdk", work_by_hand(hand, conn), peer["tasks"]),
                _beside(
                    "no-op tasks through one worker, beside absurd-sdk",
                    through_worker(one_step(async_noop), client.ledger),
                    peer["tasks"],
                ),
                _beside(
                    "steps of 10-step tasks by hand, beside absurd-sdk", work_by_hand(hand, conn, 10), peer["steps"]
                ),
                _beside(
                    "steps of 10-step tasks through one worker, beside absurd-sdk",
                    10 * through_worker(ten_steps(), client.ledger),
                    peer["steps"],
                ),
            ]
        else:
            sys.stderr.write(f"absurd-sdk is not measured: name a Python that has it in {PEER}\n")
        conn.close()
        floor.close()
    return rows
