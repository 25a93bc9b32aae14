"""A process falls silent or dies, and another takes its run over: only one of them can write to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from milepost import Ledger, RunStatus
from milepost.errors import RunBusy
from milepost.runtime import find_interrupted

DEADLINE = 30.0  # seconds

# The first life of a run stops in the middle of a step and does the rest when its stdin says so.
_PROCESS = """
import asyncio, os, sys
from milepost import Dag, Ledger, StepContext, step

path, lease, life, how = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]

def trace(text):
    print(life, text, flush=True)

def before() -> int:
    trace("before")
    return 1

def slow(ctx: StepContext, value: int) -> int:
    trace("slow")
    if life == "second":
        ctx.save("by", "second")
        return value + 1
    ctx.save("by", "first")
    ctx.progress(1, 2, "in the middle")
    sys.stdin.readline()
    if how == "saves":
        ctx.save("by", "a zombie")
    if how == "fails":
        raise ValueError("too late")
    if how == "is interrupted":
        raise KeyboardInterrupt
    if how == "listens":
        while True:
            ctx.heartbeat()
    return -1

async def aslow(ctx: StepContext, value: int) -> int:
    return await asyncio.to_thread(slow, ctx, value)

def after(value: int) -> int:
    trace("after")
    return value + 1

is_async = how.startswith("async")
how = how.removeprefix("async ")
dag = Dag("takeover")
first = dag.node(before)
middle = dag.node(aslow if is_async else slow, label="slow", value=first)
dag.node(after, value=middle)
ledger = Ledger.open(path, lease=lease)
try:
    if is_async:
        start = dag.run_async if life == "first" else dag.resume_async
        run = asyncio.run(start(run_id="run", ledger=ledger))
    else:
        start = dag.run if life == "first" else dag.resume
        run = start(run_id="run", ledger=ledger)
    trace(f"ended {run.status.value}")
except BaseException as error:
    trace(f"raised {type(error).__name__}")
"""


class Process:
    """One life of the run."""

    def __init__(self, path: Path, lease: float, life: str, how: str) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", _PROCESS, str(path), str(lease), life, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, text: str) -> None:
        assert self.child.stdout is not None
        assert self.child.stdout.readline() == f"{text}\n"

    def go_on(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write("go on\n")
        self.child.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.child.pid, number)

    def rest(self) -> list[str]:
        assert self.child.stdout is not None
        return self.child.stdout.read().splitlines()

    def end(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.communicate()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    begun: list[Process] = []

    def make(life: str, how: str = "returns", lease: float = 30.0) -> Process:
        begun.append(Process(tmp_path / "runs.db", lease, life, how))
        return begun[-1]

    yield make
    for process in begun:
        process.end()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "runs.db") as opened:
        yield opened


def _wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        os.sched_yield()


def _everything(ledger: Ledger) -> tuple[Any, ...]:
    steps = [attempt for step in ledger.list_steps("run") for attempt in ledger.get_step("run", step.label)]
    return (
        ledger.get_run("run"),
        ledger.get_payload("run"),
        ledger.list_attempts("run"),
        steps,
        ledger.list_edges("run"),
        ledger.list_checkpoints("run"),
    )


@pytest.mark.parametrize(
    "how", ["returns", "saves", "fails", "is interrupted", "listens", "async returns", "async fails"]
)
def test_a_process_that_wakes_up_after_its_lease_ran_out_writes_nothing_more(
    begin: Callable[..., Process], reader: Ledger, how: str
) -> None:
    zombie = begin("first", how, lease=0.5)
    zombie.wait_for("first before")
    zombie.wait_for("first slow")
    _wait_until(lambda: reader.list_checkpoints("run"))
    zombie.send(signal.SIGSTOP)
    _wait_until(lambda: find_interrupted(reader))  # nobody can see that it is stopped: its lease must run out

    second = begin("second", how.replace(how.removeprefix("async "), "returns"), lease=30.0)
    assert second.rest() == ["second slow", "second after", "second ended completed"]
    state = _everything(reader)
    assert reader.get_output("run", "after") == 3
    assert [c.value for c in reader.list_checkpoints("run")] == ['"second"']

    zombie.send(signal.SIGCONT)
    zombie.go_on()
    error = "KeyboardInterrupt" if how == "is interrupted" else "LeaseLost"
    assert zombie.rest() == [f"first raised {error}"]  # and what comes after the step never ran
    assert _everything(reader) == state
    assert list(reader.check()) == []
    assert [(a.status, a.error_type) for a in reader.list_attempts("run")] == [
        ("cancelled", "ProcessDied"),
        ("completed", None),
    ]


def test_a_process_that_was_killed_is_recognised_at_once_and_its_run_goes_on(
    begin: Callable[..., Process], reader: Ledger
) -> None:
    process = begin("first")
    process.wait_for("first before")
    process.wait_for("first slow")
    assert find_interrupted(reader) == []
    process.send(signal.SIGKILL)
    # Nobody has collected its exit status yet: a process that is a zombie to the system is dead to us.
    _wait_until(lambda: Path(f"/proc/{process.child.pid}/stat").read_text().split()[2] == "Z")
    (run,) = find_interrupted(reader)
    assert (run.run_id, run.status) == ("run", RunStatus.RUNNING)
    assert run.lease_until is not None
    assert run.lease_until > reader.clock.now()  # its lease still runs
    second = begin("second")
    assert second.rest() == ["second slow", "second after", "second ended completed"]
    assert find_interrupted(reader) == []


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_run_whose_process_lives_cannot_be_taken_while_its_lease_runs(
    begin: Callable[..., Process], reader: Ledger, is_stopped: bool
) -> None:
    process = begin("first")
    process.wait_for("first before")
    process.wait_for("first slow")
    if is_stopped:
        process.send(signal.SIGSTOP)
    before = _everything(reader)[0]
    second = begin("second")
    assert second.rest() == [f"second raised {RunBusy.__name__}"]
    assert reader.get_run("run") == before
    process.send(signal.SIGCONT)
    process.go_on()
    assert process.rest() == ["first after", "first ended completed"]


def test_a_lease_is_extended_as_long_as_its_process_works(begin: Callable[..., Process], reader: Ledger) -> None:
    process = begin("first", lease=0.3)
    process.wait_for("first before")
    process.wait_for("first slow")
    first = reader.require_run("run").lease_until
    assert first is not None
    # Over several leases' time nobody ever finds it interrupted.
    _wait_until(lambda: find_interrupted(reader) or (reader.require_run("run").lease_until or 0) > first + 1_000_000)
    assert find_interrupted(reader) == []
    process.go_on()
    assert process.rest() == ["first after", "first ended completed"]
