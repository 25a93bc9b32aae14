"""A disk that runs full stops a run with one clear error, loses nothing, and lets it go on later."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from milepost import Dag, Ledger, RunStatus
from milepost.errors import LedgerFull
from milepost.runtime import find_interrupted
from milepost.stores.sqlite import SQLiteStore

ELEMENTS = 60


def _page_limit(ledger: Ledger, pages: int) -> None:
    """Let the database grow to this many pages: the same error as a full disk, at a page of our choice."""
    store = ledger.store
    assert isinstance(store, SQLiteStore)
    store._writer.execute(f"PRAGMA max_page_count = {pages}")


@pytest.mark.parametrize("pages", [40, 70, 120, 200])
def test_a_run_on_a_full_disk_keeps_what_it_recorded_and_goes_on_when_there_is_room(ledger: Ledger, pages: int) -> None:
    made: list[int] = []

    def big(n: int) -> str:
        made.append(n)
        return "x" * 20_000

    dag = Dag("big")
    texts = dag.map(big, range(ELEMENTS), concurrency=4)
    dag.node(lambda texts: sum(map(len, texts)), label="total", texts=texts)
    _page_limit(ledger, pages)
    with pytest.raises(LedgerFull, match=r"cannot grow: the disk is full\. Free some space"):
        dag.run(ledger=ledger, run_id="full")

    run = ledger.require_run("full")
    assert run.status == RunStatus.RUNNING
    assert find_interrupted(ledger) == [run]
    assert list(ledger.check()) == []
    kept = {step.label for step in ledger.list_steps("full") if step.status == "completed"}
    assert len(kept) < ELEMENTS

    with pytest.raises(LedgerFull):  # still full: still a clear answer, still nothing lost
        dag.resume("full", ledger=ledger)
    later = {step.label for step in ledger.list_steps("full") if step.status == "completed"}
    assert kept <= later

    _page_limit(ledger, 1_000_000)
    made.clear()
    assert dag.resume("full", ledger=ledger).result() == ELEMENTS * 20_000
    assert {f"big[{n}]" for n in made}.isdisjoint(later)
    assert list(ledger.check()) == []


def test_a_run_that_cannot_even_be_created_leaves_nothing_behind(ledger: Ledger) -> None:
    dag = Dag("wide")
    dag.node(len, label="size")
    _page_limit(ledger, 60)
    with pytest.raises(LedgerFull):
        dag.run(obj=["x" * 2_000_000], ledger=ledger, run_id="full")
    assert ledger.get_run("full") is None
    assert list(ledger.check()) == []


_ON_A_SMALL_DISK = """
import os, sys
from milepost import Dag, Ledger
from milepost.errors import LedgerFull

folder = sys.argv[1]
dag = Dag("big")
dag.map(lambda n: "x" * 20_000, range(100), label="big", concurrency=4)
with Ledger.open(folder + "/runs.db") as ledger:
    try:
        dag.run(ledger=ledger, run_id="full")
    except LedgerFull:
        print("full while running")
fill = os.open(folder + "/fill", os.O_WRONLY | os.O_CREAT)
try:
    while os.write(fill, b"x" * 1024):
        pass
except OSError:
    os.close(fill)
try:
    with Ledger.open(folder + "/runs.db") as ledger:
        print("run is", ledger.get_run("full").status.value)
except LedgerFull:
    print("full while opening")
os.system(f"mount -o remount,size=50m {folder}")
with Ledger.open(folder + "/runs.db") as ledger:
    print("resumed to", dag.resume("full", ledger=ledger).status.value)
    print("problems:", list(ledger.check()))
"""


def _can_mount() -> bool:
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "-m", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="only root mounts a disk of its own; a page limit stands in for it above")
def test_a_disk_that_is_really_full_gives_the_same_answers(tmp_path: Path) -> None:
    # The mount lives in a namespace of its own and goes with the child.
    script = f'mount -t tmpfs -o size=640k none {tmp_path} && exec "$0" -c "$1" {tmp_path}'
    child = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable, _ON_A_SMALL_DISK], capture_output=True, text=True
    )
    lines = child.stdout.splitlines()
    assert lines[:1] == ["full while running"], child.stderr
    assert lines[1:2] in (["full while opening"], ["run is running"]), child.stderr
    assert lines[2:] == ["resumed to completed", "problems: []"]
