"""A process killed while it fires a tick: the tick is fired, or it is as if nobody had tried."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest

from milepost import Dag

VICTIM = """
import os, signal, sys
from milepost import Ledger
from milepost.runtime.firing import Firing

url, place, now = sys.argv[1], sys.argv[2], int(sys.argv[3])

class Clock:
    now = staticmethod(lambda: now)
    monotonic = staticmethod(lambda: 0.0)

def die(point):
    if point == place:
        print("fired", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

ledger = Ledger.open(url, clock=Clock(), fault=die)
if place == "between":  # the schedule has been moved on, its run has not been submitted
    ledger.store._insert_tasks = lambda *_: die("between")
Firing(ledger).fire_due()
"""


def kill(place: Any, point: str) -> None:
    line = [sys.executable, "-c", VICTIM, place.ledger.full_url, point, str(place.clock.now())]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "fired\n"), done.stderr


@pytest.mark.parametrize("point", ["between", "before_commit"])
def test_killed_before_the_commit_the_tick_is_as_due_as_it_was(place: Any, dag: Dag, point: str):
    made = dag.schedule("s", cron="0 * * * *", ledger=place.ledger)
    place.clock.set("2026-05-01T01:00:00+00:00")
    kill(place, point)
    assert place.ledger.get_schedule("s") == made
    assert place.runs() == []
    assert place.fire() == 1
    assert place.ticks() == ["2026-05-01T01:00:00"]


def test_killed_after_the_commit_the_tick_has_been_fired(place: Any, dag: Dag):
    dag.schedule("s", cron="0 * * * *", ledger=place.ledger)
    place.clock.set("2026-05-01T01:00:00+00:00")
    kill(place, "after_commit")
    assert place.next() == "2026-05-01T02:00:00"
    assert place.ticks() == ["2026-05-01T01:00:00"]
    assert place.fire() == 0
