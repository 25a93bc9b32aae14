"""Ctrl-C as a terminal sends it: a real SIGINT to a real process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from milepost import Ledger, RunStatus, StepStatus

PROGRAM = """
import asyncio, signal, sys, threading
from milepost import Dag, StepContext
from milepost.runtime import async_driver, sync_driver

# A test runner that was started in the background ignores SIGINT, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
mode, path = sys.argv[1:]
never = threading.Event()

def say(word):
    sys.stdout.write(word + "\\n")  # in one piece, as several threads speak
    sys.stdout.flush()

def first() -> int:
    return 1

def waiting(x: int) -> None:
    say("ready")
    never.wait()

def listening(x: int, ctx: StepContext) -> None:
    say("ready")
    while True:
        ctx.heartbeat()
        never.wait(0.002)

async def awaiting(x: int) -> None:
    say("ready")
    await asyncio.Event().wait()

def deaf(x: int, ctx: StepContext) -> None:
    say("ready")
    while True:
        try:
            ctx.heartbeat()
        except Exception:
            say("stopping")
            never.wait()
        never.wait(0.002)

dag = Dag("signals")
one = dag.node(first)
if mode == "alone":
    dag.node(waiting, label="last", x=one)
elif mode in ("threads", "loop"):
    dag.node(listening, label="last", x=one)
    dag.node(awaiting, x=one)
elif mode == "twice":
    sync_driver.GRACE = async_driver.GRACE = 3600.0
    dag.node(deaf, label="last", x=one)
    dag.node(deaf, label="other", x=one)
if mode == "loop":
    asyncio.run(dag.run_async(ledger=path, run_id="r"))
else:
    dag.run(ledger=path, run_id="r")
"""


@contextmanager
def program(tmp_path: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(file), mode, str(tmp_path / "runs.db")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


@pytest.mark.parametrize(("mode", "bodies"), [("alone", 1), ("threads", 2), ("loop", 2)])
def test_ctrl_c_records_the_run_as_cancelled_and_ends_the_process_by_the_interrupt(
    mode: str, bodies: int, tmp_path: Path
):
    with program(tmp_path, mode) as process:
        assert read_lines(process, bodies) == ["ready"] * bodies
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "never awaited" not in errors
    with Ledger.open(tmp_path / "runs.db") as ledger:
        assert ledger.require_run("r").status is RunStatus.CANCELLED
        recorded = {s.label: s.status for s in ledger.list_steps("r")}
        assert recorded.pop("first") is StepStatus.COMPLETED
        assert set(recorded.values()) == {StepStatus.CANCELLED}
        assert len(recorded) == bodies
        assert list(ledger.check()) == []


def test_a_second_ctrl_c_waits_for_nobody(tmp_path: Path):
    with program(tmp_path, "twice") as process:
        assert read_lines(process, 2) == ["ready"] * 2
        process.send_signal(signal.SIGINT)
        assert read_lines(process, 2) == ["stopping"] * 2  # the bodies know, and stay
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    with Ledger.open(tmp_path / "runs.db") as ledger:
        assert ledger.require_run("r").status is RunStatus.CANCELLED
