"""Opening, sharing, closing and keeping a ledger in order."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from rows import NOW, OWNER, completed, end, new_run, write

from milepost import AsyncLedger, Dag, Ledger, RunStatus
from milepost.clock import SystemClock
from milepost.errors import ConfigurationError, LedgerReadOnly, StoreError
from milepost.model import Run
from milepost.store import RunEnd
from milepost.stores import leasing

DEADLINE = 20.0  # seconds


def _sum() -> Dag:
    dag = Dag("sum")
    dag.node(sum, label="total", iterable=[1, 2])
    return dag


# --- sharing -----------------------------------------------------------------------------------


def test_the_same_file_is_opened_once_in_a_process_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger.open("runs.db") as one, Ledger.open(tmp_path / "runs.db") as two:
        monkeypatch.chdir("/")
        with Ledger.open(f"sqlite:///{tmp_path}/runs.db") as three:
            assert one.store is two.store is three.store
            assert one.commit == two.commit


def test_a_ledger_with_other_options_is_another(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with (
        Ledger.open(path) as one,
        Ledger.open(path, durability="process") as two,
        Ledger.open(path, lease=5) as three,
        Ledger.open(path, read_only=True) as four,
        Ledger.open(path, clock=SystemClock()) as five,
    ):
        assert len({ledger.store for ledger in (one, two, three, four, five)}) == 5
        assert (one.lease, three.lease) == (30.0, 5)


def test_every_ledger_in_memory_is_its_own() -> None:
    with Ledger.open(":memory:") as one, Ledger.open(":memory:") as two:
        one.commit(new_run())
        assert (len(one.list_runs()), len(two.list_runs())) == (1, 0)


def test_closing_one_ledger_leaves_the_runs_of_another_on_the_same_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    entered, leave = threading.Event(), threading.Event()

    def work() -> int:
        entered.set()
        assert leave.wait(DEADLINE)
        return 1

    dag = Dag("slow")
    dag.node(work)
    statuses: list[RunStatus] = []
    thread = threading.Thread(target=lambda: statuses.append(dag.run(ledger=path).status))
    thread.start()
    assert entered.wait(DEADLINE)
    with Ledger.open(path) as ledger:
        assert len(ledger.list_runs()) == 1
    leave.set()
    thread.join(DEADLINE)
    assert statuses == [RunStatus.COMPLETED]


def test_a_ledger_that_all_have_closed_is_closed_and_says_so(tmp_path: Path) -> None:
    one, two = Ledger.open(tmp_path / "runs.db"), Ledger.open(tmp_path / "runs.db")
    one.close()
    one.close()
    assert (one.is_open, two.is_open) == (False, True)
    two.commit(new_run())
    two.close()
    with pytest.raises(StoreError, match=r"has been closed\. Open it again"):
        two.list_runs()
    with pytest.raises(StoreError, match=r"has been closed\. Open it again"):
        two.commit(new_run("other"))
    with Ledger.open(tmp_path / "runs.db") as three:
        assert [run.run_id for run in three.list_runs()] == ["run"]


def test_a_ledger_that_nobody_holds_closes_itself(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "runs.db")
    store = ledger.store
    ledger.commit(new_run())
    del ledger
    gc.collect()
    with pytest.raises(StoreError, match="has been closed"):
        store.get_run("run")
    assert not (tmp_path / "runs.db-wal").exists()  # the last connection put the WAL away


def test_a_file_that_was_deleted_and_made_again_is_another_ledger(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with Ledger.open(path) as old:
        old.commit(new_run())
        shutil.move(path, tmp_path / "old.db")
        with Ledger.open(path) as new:
            assert new.list_runs() == []
            assert new.store is not old.store


def test_threads_that_open_a_file_at_once_share_it(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    ledgers: list[Ledger] = []

    def work() -> None:
        barrier.wait(DEADLINE)
        ledgers.append(Ledger.open(tmp_path / "runs.db"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert len({ledger.store for ledger in ledgers}) == 1
    for n, ledger in enumerate(ledgers):
        ledger.commit(new_run(f"run{n}"))
        ledger.close()
    assert not any(ledger.is_open for ledger in ledgers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": ""}, "path is empty"),
        ({"url": "mysql://x"}, "is not a ledger URL this version knows"),
        (
            {"url": "postgresql://user:secret@host/db?schema=Bad-Name"},
            "'Bad-Name' is not a schema's name",
        ),
        ({"url": ":memory:", "durability": "powr"}, "Did you mean 'power'?"),
        ({"url": ":memory:", "lease": 0}, "lease must be more than 0 seconds"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Ledger.open(**arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


# --- reading only ------------------------------------------------------------------------------


def test_a_ledger_opened_for_reading_shows_what_others_write_and_refuses_to_write(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with Ledger.open(path) as writer, Ledger.open(path, read_only=True) as reader:
        _sum().run(ledger=writer, run_id="one")
        assert [run.run_id for run in reader.list_runs()] == ["one"]
        assert reader.get_output("one", "total") == 3
        assert list(reader.check()) == []
        attempts: list[Callable[[], object]] = [
            lambda: _sum().run(ledger=reader),
            lambda: _sum().resume("one", ledger=reader),
            lambda: reader.delete_runs(older_than=timedelta(0)),
            lambda: reader.commit(write("one", ends=[end("x", "one")])),
            lambda: reader.store.request_cancel("one", NOW),
            lambda: reader.store.heartbeat(OWNER, [("one", 1)], now=NOW, lease=1),
        ]
        for attempt in attempts[:1] + attempts[2:]:
            with pytest.raises(LedgerReadOnly, match=r"(is|was opened) read-only"):
                attempt()
        assert [run.run_id for run in writer.list_runs()] == ["one"]


# --- deleting ----------------------------------------------------------------------------------


class FixedClock(SystemClock):
    """A clock that stands where the rows say they were written."""

    def now(self) -> int:
        return NOW + 1_000_000


def test_deleting_lets_others_write_between_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[str] = []
    with Ledger.open(tmp_path / "runs.db", durability="process", clock=FixedClock(), fault=commits.append) as ledger:
        for n in range(250):
            run_id = f"run{n:03}"
            ledger.commit(new_run(run_id))
            ledger.commit(write(run_id, ends=[end(run_id=run_id)], end=completed()))
        monkeypatch.setattr(leasing, "_DELETE_ROWS", 150)  # some 5 rows a run
        commits.clear()
        assert ledger.delete_runs(older_than=timedelta(0)) == 250
        assert commits.count("after_commit") >= 250 * 5 // 150
        assert ledger.list_runs() == []
        assert ledger.delete_runs(older_than=timedelta(0)) == 0


def test_a_deletion_that_is_interrupted_leaves_whole_runs_and_can_go_on(tmp_path: Path) -> None:
    points: list[str] = []
    interrupt_at: list[str] = []

    def fault(point: str) -> None:
        points.append(point)
        if points == interrupt_at:
            raise KeyboardInterrupt

    with Ledger.open(tmp_path / "runs.db", durability="process", clock=FixedClock(), fault=fault) as ledger:
        for n in range(220):
            run_id = f"run{n:03}"
            ledger.commit(new_run(run_id))
            ledger.commit(write(run_id, ends=[end(run_id=run_id)], end=completed()))
        for point in ("before_commit", "after_commit"):
            points.clear()
            interrupt_at.append(point)
            with pytest.raises(KeyboardInterrupt):
                ledger.delete_runs(older_than=timedelta(0))
            assert list(ledger.check()) == []
        left = {run.run_id for run in ledger.list_runs(limit=500)}
        assert len(left) == 120  # the first was taken back, the second had gone through
        gone = next(f"run{n:03}" for n in range(220) if f"run{n:03}" not in left)
        ledger.commit(new_run(gone))
        assert ledger.list_steps(gone) == []  # an id that is used again meets no old results
        interrupt_at.clear()
        assert ledger.delete_runs(older_than=timedelta(0)) == 120


# --- forks -------------------------------------------------------------------------------------

_FORKS = """
import os, signal, sys, threading
from milepost import Dag, Ledger
from milepost.errors import MilepostError
from milepost.runtime.keeper import is_executing_here

path = sys.argv[1]
dag = Dag("sum")
dag.node(sum, label="total", iterable=[1, 2])

def in_child(work):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # a child that hangs is killed
        code = 0
        try:
            work()
        except BaseException as error:
            print("child:", type(error).__name__, error)
            code = 1
        sys.stdout.flush()
        if leave == "exit":
            sys.exit(code)
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def use_parents():
    for name in ("read", "run", "check"):
        try:
            {"read": ledger.list_runs, "run": lambda: dag.run(ledger=ledger), "check": ledger.store.check}[name]()
        except MilepostError as error:
            print(name, "crosses a fork" if "must not cross a fork" in str(error) else error)
    ledger.close()

def use_own():
    with Ledger.open(path, durability="process") as own:
        dag.run(ledger=own)
        assert not is_executing_here(own, "held")

leave = sys.argv[2]
ledger = Ledger.open(path, durability="process")
busy = threading.Event()
done = threading.Event()

def hold():
    busy.set()
    while not done.is_set():  # the parent's locks are taken and released all the time
        dag.run(ledger=ledger)
        with Ledger.open(":memory:"):
            pass

def wait():
    done.wait()

held = Dag("held")
held.node(wait)
threads = [threading.Thread(target=hold) for _ in range(2)]
threads.append(threading.Thread(target=lambda: held.run(ledger=ledger, run_id="held")))
for thread in threads:
    thread.start()
busy.wait()
print([in_child(use_parents) for _ in range(2)])
print([in_child(use_own) for _ in range(6)])
done.set()
for thread in threads:
    thread.join()
dag.run(ledger=ledger, run_id="last")
print(ledger.get_run("held").status.value, ledger.get_run("last").status.value, list(ledger.check()))
ledger.close()
with Ledger.open(path) as again:
    print(again.get_run("last").status.value)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("leave", ["exit", "_exit"])
def test_a_forked_child_opens_its_own_ledger_and_never_touches_its_parents(tmp_path: Path, leave: str) -> None:
    child = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKS, str(tmp_path / "runs.db"), leave],
        capture_output=True,
        text=True,
        timeout=60,
    )
    refused = ["read crosses a fork", "run crosses a fork", "check crosses a fork"]
    assert child.stdout.splitlines() == [
        *refused,
        *refused,
        str([0] * 2),
        str([0] * 6),
        "completed completed []",
        "completed",
    ], child.stderr
    assert child.stderr == ""


# --- the async face ----------------------------------------------------------------------------


async def _call_all(ledger: Ledger, run: Run) -> dict[str, object]:
    face = AsyncLedger(ledger)
    return {
        "get_run": await face.get_run(run.run_id),
        "require_run": await face.require_run(run.run_id),
        "find_run": await face.find_run("latest"),
        "list_runs": await face.list_runs(status="completed", limit=5),
        "get_payload": await face.get_payload(run.run_id),
        "get_inputs": await face.get_inputs(run.run_id),
        "get_tags": await face.get_tags(run.run_id),
        "get_definition": await face.get_definition(run.run_id),
        "list_attempts": await face.list_attempts(run.run_id),
        "list_steps": await face.list_steps(run.run_id),
        "get_step": await face.get_step(run.run_id, "total"),
        "list_edges": await face.list_edges(run.run_id),
        "list_checkpoints": await face.list_checkpoints(run.run_id),
        "get_output": await face.get_output(run.run_id, "total"),
        "check": await face.check(),
        "delete_runs": await face.delete_runs(older_than=timedelta(days=1)),
    }


def test_the_async_face_has_the_verbs_of_the_ledger_with_the_same_arguments() -> None:
    for name, verb in vars(AsyncLedger).items():
        if not name.startswith("_"):
            assert inspect.iscoroutinefunction(verb), name
            assert inspect.signature(verb).parameters == inspect.signature(getattr(Ledger, name)).parameters, name


def test_the_async_face_answers_as_the_ledger_does(ledger: Ledger) -> None:
    run_id = _sum().run(ledger=ledger, tags={"of": "test"}).run_id
    run = ledger.require_run(run_id)
    answers = asyncio.run(_call_all(ledger, run))
    arguments: dict[str, tuple[tuple[object, ...], dict[str, object]]] = {
        "find_run": (("latest",), {}),
        "list_runs": ((), {"status": "completed", "limit": 5}),
        "get_step": ((run_id, "total"), {}),
        "get_output": ((run_id, "total"), {}),
        "check": ((), {}),
        "delete_runs": ((), {"older_than": timedelta(days=1)}),
    }
    for name, answer in answers.items():
        args, options = arguments.get(name, ((run_id,), {}))
        expected = getattr(ledger, name)(*args, **options)
        assert answer == (list(expected) if name == "check" else expected), name


# --- endings -----------------------------------------------------------------------------------


def test_a_ledger_answers_for_runs_that_are_not_there(ledger: Ledger) -> None:
    assert ledger.get_run("nothing") is None
    for verb in (ledger.require_run, ledger.find_run, ledger.get_payload, ledger.get_inputs, ledger.get_definition):
        with pytest.raises(LookupError, match="No run 'nothing' in this ledger"):
            verb("nothing")
    assert ledger.list_steps("nothing") == []
    assert ledger.list_attempts("nothing") == []


def test_a_run_is_found_by_its_unique_beginning_and_by_latest(ledger: Ledger) -> None:
    for n, run_id in enumerate(("abc1", "abd2", "xyz3")):
        ledger.commit(new_run(run_id, now=NOW + n))
        ledger.commit(write(run_id, end=RunEnd(RunStatus.COMPLETED, NOW + 10)))
    assert ledger.find_run("x").run_id == "xyz3"
    assert ledger.find_run("abd").run_id == "abd2"
    assert ledger.find_run("latest").run_id == "xyz3"
    for unclear in ("", "%", "_", "abc1x"):
        with pytest.raises(LookupError):
            ledger.find_run(unclear)
