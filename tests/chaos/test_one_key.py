"""Fifty threads in each of four processes do one thing at once: it is done once, and all of them hear the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from milepost import Ledger
from milepost.runtime import RunHandle

PROCESSES, THREADS = 4, 50

PROGRAM = """
import json, sys, threading
sys.path.insert(0, sys.argv[2])
from flows import two_steps
from milepost import Ledger

ledger = Ledger.open(sys.argv[1], lease=60)
barrier = threading.Barrier(int(sys.argv[3]) + 1)
found = []

def work(n):
    barrier.wait(60)
    handle = two_steps.submit({"folder": sys.argv[4], "n": 1}, ledger=ledger, idempotency_key="one")
    is_first = ledger.emit_event("one", f"{sys.argv[5]}-{n}")
    found.append((handle.run_id, handle.is_new, is_first))

threads = [threading.Thread(target=work, args=(n,)) for n in range(int(sys.argv[3]))]
for thread in threads:
    thread.start()
print("ready", flush=True)
sys.stdin.readline()
barrier.wait(60)
for thread in threads:
    thread.join()
print(json.dumps(found), flush=True)
ledger.close()
"""


def test_one_key_is_one_run_and_one_event_has_one_first_emit(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    support = str(Path(__file__).resolve().parents[1] / "support")
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, ledger_url, support, str(THREADS), str(tmp_path), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(PROCESSES)
    ]
    try:
        for process in begun:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in begun:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found = [entry for process in begun for entry in json.loads(process.communicate(timeout=120)[0])]
    finally:
        for process in begun:
            process.kill()
            process.communicate()
    assert len(found) == PROCESSES * THREADS
    assert Counter(is_new for _, is_new, _ in found) == {True: 1, False: PROCESSES * THREADS - 1}
    assert Counter(is_first for _, _, is_first in found) == {True: 1, False: PROCESSES * THREADS - 1}
    (run,) = ledger.list_runs()
    assert {run_id for run_id, _, _ in found} == {run.run_id}
    assert RunHandle(ledger, run.run_id).record.idempotency_key == "one"
    assert len(ledger.list_events()) == 1
