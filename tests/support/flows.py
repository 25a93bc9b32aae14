"""Dags whose steps leave traces that no kill takes back, and wait until a test lets them go on.

A step's trace is a line in the file ``trace`` of a folder: what it did, for which run, in which process. A step
that waits does so for a file of its own in the same folder.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from milepost import Dag, Ledger, RunHandle, StepContext

PATIENCE = 60.0  # seconds


def trace(folder: str, text: str) -> None:
    """Leave a line, in one write, so that lines of several processes never mix."""
    descriptor = os.open(Path(folder) / "trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{text} {os.getpid()}\n".encode())
    finally:
        os.close(descriptor)


def traces(folder: str | Path) -> list[tuple[str, ...]]:
    """Return the lines so far, each as its words; the last one is the process."""
    path = Path(folder) / "trace"
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []


def counts(folder: str | Path) -> Counter[str]:
    """Return how often each thing was done, whatever the run and the process."""
    return Counter(words[0] for words in traces(folder))


def wait_for_file(folder: str, name: str) -> None:
    """Return when the file is there."""
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE
    while not (Path(folder) / name).exists():
        assert time.monotonic() < deadline, f"nobody made {name}"
        pause.wait(0.005)


# --- a run in whose middle something happens -----------------------------------------------------


def first(ctx: StepContext, folder: str) -> int:
    trace(folder, f"first {ctx.run_id}")
    return 1


def middle(ctx: StepContext, folder: str, one: int) -> int:
    """Wait for the file ``go-N``, where this is the N-th time that the step runs."""
    trace(folder, f"middle {ctx.run_id}")
    turn = counts(folder)["middle"]
    ctx.save("turn", turn)
    wait_for_file(folder, f"go-{turn}")
    ctx.save("turn", turn)
    return one + 10 * turn


def last(ctx: StepContext, folder: str, two: int) -> int:
    trace(folder, f"last {ctx.run_id}")
    return two + 1


held = Dag("held")
_one = held.node(first)
_two = held.node(middle, one=_one)
held.node(last, two=_two)


# --- a step that holds the interpreter lock ------------------------------------------------------


def hog(ctx: StepContext, folder: str, seconds: float) -> float:
    """Spend these seconds in one call of C code that keeps the interpreter lock from every other thread."""
    trace(folder, f"hog {ctx.run_id}")
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return seconds


def after(ctx: StepContext, folder: str, spent: float) -> float:
    trace(folder, f"after {ctx.run_id}")
    return spent


hogging = Dag("hogging")
hogging.node(after, spent=hogging.node(hog))


# --- a run that kills whoever executes it --------------------------------------------------------


def kill_yourself(ctx: StepContext, folder: str) -> None:
    trace(folder, f"died {ctx.run_id}")
    os.kill(os.getpid(), signal.SIGKILL)


deadly = Dag("deadly")
deadly.node(kill_yourself)


# --- many short runs, whose results tell every value that went into them -------------------------


def begin(ctx: StepContext, folder: str, n: int) -> str:
    made = f"{n}.{uuid.uuid4().hex[:12]}"
    trace(folder, f"begin {ctx.run_id} {made}")
    return made


def go_on(ctx: StepContext, folder: str, text: str) -> str:
    made = f"{text}.{uuid.uuid4().hex[:12]}"
    trace(folder, f"go_on {ctx.run_id} {made}")
    return made


def end(ctx: StepContext, folder: str, text: str) -> str:
    made = f"{text}.{uuid.uuid4().hex[:12]}"
    trace(folder, f"end {ctx.run_id} {made}")
    return made


two_steps = Dag("two_steps")
two_steps.node(end, text=two_steps.node(begin))

three_steps = Dag("three_steps")
three_steps.node(end, text=three_steps.node(go_on, text=three_steps.node(begin)))

ORDER = ["begin", "go_on", "end"]


def judge_short_runs(ledger: Ledger, handles: Sequence[RunHandle], folder: str | Path) -> dict[str, int]:
    """Compare the results of many short runs, the n-th with input n, with the ledger and with the traces.

    Returns how many there are of each finding:

    - ``right``: runs whose result was made of the outputs that the ledger has of their steps.
    - ``completed twice``: steps with more than one completed attempt.
    - ``again``: bodies that ran although their step had completed, because a later one had begun.
    - ``extra``: bodies that ran again because nobody had recorded that they had run; a crash may do that.
    - ``problems``: what ``milepost doctor`` finds.
    """
    found = Counter(right=0, again=0, extra=0, problems=len(list(ledger.check())))
    found["completed twice"] = 0
    for n, handle in enumerate(handles):
        outputs = {
            step.label: ledger.get_output(handle.run_id, step.label)
            for step in ledger.list_steps(handle.run_id)
            if step.status == "completed"
        }
        made = [outputs[label] for label in ORDER if label in outputs]
        result = handle.result(0)
        grows = all(later.startswith(f"{sooner}.") for sooner, later in pairwise(made))
        found["right"] += bool(made) and made[0].startswith(f"{n}.") and grows and result == made[-1]
        completed = Counter(s.label for s in ledger.list_steps(handle.run_id) if s.status == "completed")
        found["completed twice"] += sum(count > 1 for count in completed.values())
    began: dict[str, int] = {}
    ran: Counter[tuple[str, str]] = Counter()
    for label, run_id, *_ in traces(folder):
        place = ORDER.index(label)
        found["again"] += place < began.get(run_id, 0)
        began[run_id] = max(place, began.get(run_id, 0))
        ran[run_id, label] += 1
    found["extra"] = sum(count - 1 for count in ran.values())
    return dict(found)


FLOWS = [held, hogging, deadly, two_steps, three_steps]
