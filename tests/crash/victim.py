"""A process that executes runs and is killed: once asked, it forks a child for each life.

Started as a script, it reads one JSON request a line from stdin and answers one line on stdout. The
child it forks opens the ledger, begins or resumes the run of a scenario, and brings it to its end,
unless it kills itself at the numbered call of the ledger's fault hook. Forking a process that has
imported everything costs a few milliseconds where a fresh interpreter costs half a second; what dies
is a real process all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import staged

import milepost.stores.sqlite  # noqa: F401 - before the fork, not after each
from milepost import Dag, Ledger, Retry, RunStatus, StepContext, step
from milepost.errors import MilepostError
from milepost.runtime import keeper, session
from milepost.stores.sql import load_migrations, load_statements

RUN_ID = "victim"


class Life:
    """Where the steps of this process leave their traces; set before a run begins."""

    folder = Path()
    effects = -1

    @classmethod
    def trace(cls, ctx: StepContext) -> None:
        """Perform the side effect of an attempt: one line in a file, which no kill takes back."""
        os.write(cls.effects, f"{ctx.label} {ctx.attempt}\n".encode())

    @classmethod
    def is_mended(cls) -> bool:
        """Return whether somebody mended what makes a step fail."""
        return (cls.folder / "mended").exists()


# --- the scenarios -------------------------------------------------------------------------------


def numbers(ctx: StepContext) -> list[int]:
    Life.trace(ctx)
    return list(range(5))


def parse(ctx: StepContext, n: int) -> int:
    Life.trace(ctx)
    if ctx.attempt <= n % 3:
        message = f"element {n} fails at attempt {ctx.attempt}"
        raise ValueError(message)
    return n * 10


def flaky(ctx: StepContext) -> str:
    Life.trace(ctx)
    if ctx.attempt == 1:
        raise ConnectionError("the first attempt fails")
    return "up"


def total(ctx: StepContext, parsed: list[int]) -> int:
    Life.trace(ctx)
    return sum(parsed)


def risky(ctx: StepContext, amount: int) -> int:
    Life.trace(ctx)
    if not Life.is_mended():
        raise RuntimeError("nobody has mended it yet")
    return amount + 1


def report(ctx: StepContext, amount: int, state: str) -> dict[str, Any]:
    Life.trace(ctx)
    return {"amount": amount, "state": state}


def _in_async(fn: Callable[..., Any]) -> Callable[..., Any]:
    async def body(**kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return fn(**kwargs)

    body.__name__ = fn.__name__
    body.__signature__ = __import__("inspect").signature(fn)  # type: ignore[attr-defined]
    body.__annotations__ = {**__import__("typing").get_type_hints(fn)}
    return body


def _main(name: str, wrap: Callable[[Any], Any] = lambda fn: fn, **marks: Any) -> Dag:
    dag = Dag(name)

    def make(fn: Any, **options: Any) -> Any:
        return step(**{**marks, **options})(wrap(fn))

    found = dag.node(make(numbers))
    parsed = dag.map(make(parse, retries=2), found, concurrency=2)
    state = dag.node(make(flaky, retry=Retry(max_retries=1, retry_on=(ConnectionError,))))
    amount = dag.node(make(total), parsed=parsed)
    more = dag.node(make(risky), amount=amount)
    dag.node(make(report), amount=more, state=state)
    return dag


def connect(ctx: StepContext) -> dict[str, object]:
    Life.trace(ctx)
    return {"a connection": object()}


def charge(ctx: StepContext, connection: dict[str, object]) -> str:
    assert connection
    Life.trace(ctx)
    return "charged"


def receipt(ctx: StepContext, charged: str, connection: dict[str, object]) -> str:
    assert connection
    Life.trace(ctx)
    return f"receipt: {charged}"


def keep(ctx: StepContext, text: str) -> int:
    for n in range(ctx.load("n", 0), 3):
        Life.trace(ctx)
        ctx.save("n", n + 1)
    return len(text)


def _marks() -> Dag:
    dag = Dag("marks")
    connection = dag.node(step(transient=True)(connect))
    charged = dag.node(step(at_most_once=True)(charge), connection=connection)
    text = dag.node(receipt, charged=charged, connection=connection)
    dag.node(keep, text=text)
    return dag


def undo(ctx: StepContext, output: int) -> None:
    assert isinstance(output, int)
    Life.trace(ctx)


def first(ctx: StepContext) -> int:
    Life.trace(ctx)
    return 3


def one_of(ctx: StepContext, n: int) -> int:
    Life.trace(ctx)
    return n


def added(ctx: StepContext, parts: list[int]) -> int:
    Life.trace(ctx)
    return sum(parts)


def _undoable(wrap: Callable[[Any], Any] = lambda fn: fn) -> Dag:
    dag = Dag("undoable")
    parts = dag.map(step(undo=wrap(undo))(wrap(one_of)), range(3), concurrency=2)
    dag.node(step(undo=undo, at_most_once=True)(added), parts=parts, after=dag.node(step(undo=undo)(first)))
    return dag


DAGS = {
    "one at a time": _main("main"),
    "threads": _main("main"),
    "threads and keeper": _main("main"),
    "async": _main("main", _in_async),
    "pure": _main("main", pure=True),
    "pure async": _main("main", _in_async, pure=True),
    "marks": _marks(),
    "undo": _undoable(),
    "undo async": _undoable(_in_async),
}
CONCURRENCY = {"one at a time": 1, "pure": 1, "marks": 1, "undo": 1}
# How often the keeper looks, in seconds. Where it never comes, every run makes the same commits; where it
# comes all the time, it writes the starts of steps, and completions that could have waited, in between.
TICKS = {"threads and keeper": 0.001, "task keeper": 0.001}
NEVER = 3600.0


def _advance(scenario: str, ledger: Ledger) -> None:
    """Bring the run from wherever it stands to its end, as an operator would."""
    dag = DAGS[scenario]
    options: dict[str, Any] = {"ledger": ledger, "max_concurrency": CONCURRENCY.get(scenario, 3)}
    is_async = "async" in scenario
    while True:
        run = ledger.get_run(RUN_ID)
        if run is None:
            if is_async:
                asyncio.run(dag.run_async(run_id=RUN_ID, **options))
            else:
                dag.run(run_id=RUN_ID, **options)
            continue
        if run.error_type in ("AtMostOnceInterrupted", "RolledBack"):
            return
        if run.status == RunStatus.COMPLETED and "undo" not in scenario:
            return
        if run.status == RunStatus.COMPLETED:
            if is_async:
                asyncio.run(dag.rollback_async(RUN_ID, ledger=ledger))
            else:
                dag.rollback(RUN_ID, ledger=ledger)
            continue
        if run.status == RunStatus.FAILED:
            (Life.folder / "mended").touch()
        if is_async:
            asyncio.run(dag.resume_async(RUN_ID, **options))
        else:
            dag.resume(RUN_ID, **options)


# --- one life ------------------------------------------------------------------------------------


def _state(ledger: Ledger) -> dict[str, Any]:
    """Return what a new life finds: what is durable, and how many side effects there were."""
    run = ledger.get_run(RUN_ID)
    steps = ledger.list_steps(RUN_ID)
    return {
        "status": None if run is None else run.status.value,
        "completed": [s.label for s in steps if s.status == "completed" and s.storage != "none"],
        "open": [s.label for s in steps if s.status == "running"],
        "effects": (Life.folder / "effects").read_text().count("\n"),
    }


def _live(folder: Path, scenario: str, kill_at: int | None) -> None:
    Life.folder = folder
    Life.effects = os.open(folder / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    fired = os.open(folder / "fired", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    calls = 0
    lock = threading.Lock()

    def fault(point: str) -> None:
        nonlocal calls
        with lock:
            calls += 1
            if calls == kill_at:
                os.write(fired, f"{calls} {point}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    keeper.TICK = TICKS.get(scenario, NEVER)  # type: ignore[misc]
    session._QUICK = 0  # type: ignore[misc]  # no step is too short for the keeper
    with Ledger.open(folder / "runs.db", durability="process", fault=fault) as ledger:
        with (folder / "lives").open("a", encoding="utf-8") as lives:
            lives.write(json.dumps(_state(ledger)) + "\n")
        if scenario in staged.SCENARIOS:
            staged.Life.trace = lambda label: os.write(Life.effects, f"{label} 0\n".encode())
            staged.advance(scenario, ledger, folder, RUN_ID)
        else:
            _advance(scenario, ledger)
    (folder / "calls").write_text(str(calls))


def main() -> None:
    """Answer requests until stdin ends."""
    for dag in DAGS.values():
        for node in dag.build().nodes:
            with contextlib.suppress(MilepostError):
                node.body.check(object())  # the first check of each step makes its validator
    load_statements("reads.sql")
    load_migrations("sqlite")
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.alarm(60)  # a life that hangs is over, and fails its test
                _live(Path(request["folder"]), request["scenario"], request["kill_at"])
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
