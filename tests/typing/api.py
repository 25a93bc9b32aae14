"""What a type checker sees of the public API. Checked by mypy, never run.

A line that must be an error carries ``type: ignore`` with its code: strict mode complains where it is none.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, assert_type

from milepost import (
    AsyncLedger,
    Dag,
    FinishedRun,
    Ledger,
    NonRetryable,
    Retry,
    RunStatus,
    Step,
    StepContext,
    StepStatus,
    step,
)
from milepost.dag import NodeRef
from milepost.ledger import Gate
from milepost.model import Event, QueueInfo, Run, Schedule, StepAttempt, TickRun, Wait, WorkerInfo

# --- @step keeps the signature -------------------------------------------------------------------


@step
def plain(a: int, b: str = "") -> float:
    return float(a)


@step(retries=3, timeout=30, pure=True)
def with_options(a: int, *, flag: bool) -> list[str]:
    return [str(a)]


@step(retry=Retry(max_retries=2, delay=0.5, retry_on=(OSError,), give_up_on=(FileNotFoundError,)))
async def later(path: Path) -> bytes:
    return b""


@step()
def asks(ctx: StepContext, n: int) -> int:
    ctx.heartbeat()
    ctx.progress(1, n, "one")
    ctx.save("n", n)
    assert_type(ctx.load("n"), Any)
    assert_type(ctx.attempt, int)
    assert_type(ctx.logger, logging.LoggerAdapter[logging.Logger])
    return n


assert_type(plain(1), float)
assert_type(plain(1, b="x"), float)
plain("1")  # type: ignore[arg-type]
plain(1, c=2)  # type: ignore[call-arg]

assert_type(with_options(1, flag=True), list[str])
with_options(1)  # type: ignore[call-arg]

assert_type(plain.with_options(timeout=5)(1), float)
assert_type(plain.timeout, float | None)
assert_type(plain.retry, Retry | None)

step(retries="3")  # type: ignore[call-overload]
step(5)  # type: ignore[call-overload]


def undecorated(x: int) -> str:
    return str(x)


assert_type(step(undecorated)(1), str)
assert_type(step(retries=1)(undecorated)(1), str)


def takes_step(one: Step[[int], str]) -> str:
    return one(1)


takes_step(step(undecorated))
takes_step(plain)  # type: ignore[arg-type]

# --- a Dag ---------------------------------------------------------------------------------------

dag = Dag("typed")
first = dag.node(undecorated, x=1)
assert_type(first, NodeRef)
assert_type(dag.map(plain, first, concurrency=8, b="x"), NodeRef)
assert_type(dag.node(later, label="later", after=[first]), NodeRef)
second, third = dag.node(plain), dag.node(with_options)
assert_type(first >> second, NodeRef)
assert_type(first >> [second, third], list[NodeRef])
assert_type([first, second] >> third, NodeRef)
assert_type(dag.inputs, dict[str, Any])
first >> 5  # type: ignore[operator]
dag.node(5)  # type: ignore[arg-type]

run = dag.run(root="x", ledger="runs.db", max_concurrency=4)
assert_type(run, FinishedRun)
assert_type(run.run_id, str)
assert_type(run.status, RunStatus)
assert_type(run.outputs["plain"], Any)
assert_type(run.result(), Any)
assert_type(run.error, str | None)
assert_type(run.exception, BaseException | None)
assert_type(run.finished_at, datetime)
assert_type(run.record, Run)
assert_type(dag.resume("run", ledger=Path("runs.db")), FinishedRun)
dag.run(max_concurrency="4")  # type: ignore[arg-type]


async def run_later() -> None:
    assert_type(await later(Path()), bytes)
    assert_type(await dag.run_async(root="x", ledger=Ledger.open(":memory:")), FinishedRun)
    assert_type(await dag.resume_async("run"), FinishedRun)
    assert_type(await AsyncLedger(Ledger.open()).list_runs(limit=5), list[Run])
    assert_type(await AsyncLedger(Ledger.open()).why("run"), Gate)
    assert_type(await AsyncLedger(Ledger.open()).emit_event("paid", {"amount": 10}), bool)


# --- a ledger ------------------------------------------------------------------------------------

with Ledger.open("runs.db", durability="process") as ledger:
    assert_type(ledger, Ledger)
    assert_type(ledger.list_runs(status="failed", since=timedelta(days=1)), list[Run])
    assert_type(ledger.get_run("run"), Run | None)
    assert_type(ledger.list_steps("run"), list[StepAttempt])
    assert_type(ledger.list_steps("run")[0].status, StepStatus)
    assert_type(ledger.get_output("run", "plain"), Any)
    assert_type(ledger.why("run"), Gate)
    assert_type(ledger.why("run").also, tuple[Gate, ...])
    assert_type(ledger.emit_event("paid"), bool)
    assert_type(ledger.get_event("paid", scope="depot"), Event | None)
    assert_type(ledger.list_queues(), list[QueueInfo])
    assert_type(ledger.list_workers(), list[WorkerInfo])
    assert_type(ledger.list_waits("run"), list[Wait])
    assert_type(dag.submit({"root": "x"}, ledger=ledger).why(), Gate)
    assert_type(Ledger.migrate("postgresql://db/work", dry_run=True), list[str])
    ledger.pause_queue(7)  # type: ignore[arg-type]

# --- schedules -----------------------------------------------------------------------------------


async def schedules(dag: Dag, ledger: Ledger, moment: datetime) -> None:
    assert_type(dag.schedule("s", cron="0 2 * * *", timezone="UTC", inputs={"n": 1}, ledger=ledger), Schedule)
    dag.schedule("s", every=timedelta(hours=1), start_at=moment, catch_up=True, max_active=1)
    dag.schedule("s", every="1h")  # type: ignore[arg-type]
    assert_type(ledger.next_ticks("s", 3), list[datetime])
    assert_type(ledger.get_schedule("s"), Schedule | None)
    assert_type(ledger.trigger_schedule("s"), Run)
    assert_type(await AsyncLedger(ledger).backfill_schedule("s", moment, moment), list[TickRun])


raise NonRetryable("checked, not run")
