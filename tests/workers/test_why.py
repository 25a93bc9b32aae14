"""``why`` names the exact gate that a run waits at, on both stores."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

import pytest
from rows import end, failed, new_run, start, write

from milepost import Dag, Ledger, Retry, Worker
from milepost.errors import RunNotFound
from milepost.ledger import Gate
from milepost.model import WorkerInfo
from milepost.owner import current_owner
from milepost.states import RunStatus
from milepost.store import RunEnd

ELSEWHERE = "17@elsewhere#0a0a-1"  # on another machine: only its lease tells whether it lives
MINUTE = 60_000_000


@pytest.fixture(scope="module")
def dead_owner() -> str:
    """Return the owner that a process of this machine was, which has ended."""
    line = "from milepost.owner import current_owner; print(current_owner())"
    return subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def dag() -> Dag:
    dag = Dag("greet")
    dag.node(lambda name: f"hello {name}", label="hello")
    return dag


def _now() -> int:
    return time.time_ns() // 1000


def _enter(
    ledger: Ledger,
    worker_id: str = "w1",
    *,
    owner: str = ELSEWHERE,
    queues: tuple[str, ...] = ("default",),
    workflows: tuple[str, ...] = ("greet",),
    concurrency: int = 4,
    age: int = 0,
) -> None:
    """Enter a worker that was last heard of ``age`` microseconds ago."""
    at = _now() - age
    info = WorkerInfo(worker_id, owner, queues, workflows, concurrency, 30_000_000, at, at, None)
    assert ledger.store.register_worker(info, owner_gone=None) is None


def _claim(ledger: Ledger, owner: str = ELSEWHERE, lease: int = MINUTE) -> Any:
    (task,) = ledger.store.claim_tasks(["default"], owner=owner, now=_now(), lease=lease, limit=1)
    return task.run


def _submit(ledger: Ledger, dag: Dag, **options: Any) -> str:
    return dag.submit({"name": "ada"}, ledger=ledger, **options).run_id


# --- runs that wait in a queue -------------------------------------------------------------------


def test_a_run_that_nobody_can_take_waits_for_a_worker(ledger: Ledger, dag: Dag) -> None:
    run_id = _submit(ledger, dag, queue="mail")
    gate = ledger.why(run_id)
    assert gate.code == "no_worker"
    assert gate.message == "No live worker takes from queue 'mail': no worker lives at all."
    assert gate.remedy == "Start one: `milepost worker TARGET --queue mail`."
    _enter(ledger, queues=("default", "bulk"))
    gate = ledger.why(run_id)
    assert gate.code == "no_worker"
    assert gate.message == "No live worker takes from queue 'mail': live ones take from 'bulk', 'default'."
    assert gate.facts["live_queues"] == ["bulk", "default"]


def test_workers_that_stopped_fell_silent_or_are_gone_do_not_count(ledger: Ledger, dag: Dag, dead_owner: str) -> None:
    run_id = _submit(ledger, dag)
    _enter(ledger, "silent", age=31_000_000)
    _enter(ledger, "gone", owner=dead_owner)
    _enter(ledger, "stopped")
    ledger.store.stop_worker("stopped", ELSEWHERE, _now())
    assert ledger.why(run_id).code == "no_worker"
    _enter(ledger, "alive", age=29_000_000)
    assert ledger.why(run_id).code == "in_queue"


def test_a_run_whose_workflow_no_live_worker_knows_names_those_that_they_know(ledger: Ledger, dag: Dag) -> None:
    _enter(ledger, workflows=("bill", "archive"))
    run_id = _submit(ledger, dag)
    gate = ledger.why(run_id)
    assert gate.code == "unknown_workflow"
    assert gate.message == (
        "No live worker of queue 'default' knows workflow 'greet': live ones know 'archive', 'bill'."
    )
    assert gate.facts["live_workflows"] == ["archive", "bill"]


def test_a_run_waits_for_its_turn_behind_better_priorities_and_older_ones(ledger: Ledger, dag: Dag) -> None:
    _enter(ledger, "w1", concurrency=4)
    _enter(ledger, "w2", concurrency=1)
    _enter(ledger, "elsewhere", queues=("other",), concurrency=100)
    older = _submit(ledger, dag, run_id="r1")
    run_id = _submit(ledger, dag, run_id="r2")
    _submit(ledger, dag, run_id="r3")
    _submit(ledger, dag, run_id="r0", queue="other")
    urgent = _submit(ledger, dag, run_id="r4", priority=-1)
    due = _submit(ledger, dag, run_id="r5", priority=-1, delay=0.000_001)
    assert ledger.why(urgent).facts["ahead"] == 0
    assert ledger.why(urgent).message == (
        "It waits for its turn in queue 'default': it is next, 2 live workers with 5 slots in all."
    )
    assert ledger.why(older).facts["ahead"] == 2
    gate = ledger.why(run_id)
    assert gate.code == "in_queue"
    assert gate.facts == {"queue": "default", "ahead": 3, "slots": 5, "priority": 0, "workers": ["w1", "w2"]}
    assert "3 tasks ahead of it, 2 live workers with 5 slots in all" in gate.message
    assert ledger.why(due).code == "in_queue"


def test_a_run_of_a_paused_queue_says_since_when(ledger: Ledger, dag: Dag) -> None:
    _enter(ledger)
    run_id = _submit(ledger, dag)
    ledger.pause_queue("default")
    gate = ledger.why(run_id)
    assert gate.code == "queue_paused"
    assert gate.remedy == "Let its tasks be taken again: `milepost queues resume default`."
    assert abs(gate.facts["paused_at"] - _now()) < MINUTE
    assert gate.also == ()
    ledger.resume_queue("default")
    assert ledger.why(run_id).code == "in_queue"


def test_a_scheduled_run_says_when_it_is_due_and_what_it_meets_then(ledger: Ledger, dag: Dag) -> None:
    run_id = _submit(ledger, dag, delay=3600)
    gate = ledger.why(run_id)
    assert gate.code == "scheduled"
    assert gate.message.startswith("It is due at ")
    assert gate.message.endswith("(in 59 min).")
    assert abs(gate.facts["available_at"] - _now() - 60 * MINUTE) < MINUTE
    assert [other.code for other in gate.also] == ["no_worker"]
    ledger.pause_queue("default")
    assert [other.code for other in ledger.why(run_id).also] == ["queue_paused", "no_worker"]


def test_a_run_that_is_tried_again_names_the_error_and_the_moment(ledger: Ledger) -> None:
    def send() -> None:
        raise ConnectionError("no route\nto host")

    dag = Dag("send")
    dag.node(send)
    run_id = dag.submit(ledger=ledger, max_attempts=3, retry=Retry(delay=240)).run_id
    Worker([dag], ledger=ledger, heartbeat_process=False).run_until_idle()
    gate = ledger.why(run_id)
    assert gate.code == "next_attempt"
    assert gate.message.startswith("Attempt 2 of 3 is due at ")
    assert gate.message.endswith("after this error in step 'send': ConnectionError: no route to host.")
    assert gate.facts["attempt"] == 2
    assert gate.facts["step"] == "send"
    assert abs(gate.facts["available_at"] - _now() - 4 * MINUTE) < MINUTE


# --- runs that no worker can execute -------------------------------------------------------------


def _half_done(ledger: Ledger) -> str:
    """Leave a run that began with one definition of ``greet``: its first step is done, the second waits."""
    began = Dag("greet")
    gone = began.node(lambda: 1, label="first")
    began.wait_event("go", after=gone)
    run_id = began.submit(ledger=ledger).run_id
    Worker([began], ledger=ledger, heartbeat_process=False).run_until_idle()
    assert ledger.require_run(run_id).status == RunStatus.SUSPENDED
    ledger.emit_event("go")
    return run_id


class _Background:
    """A worker that works in a thread until the block ends."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._thread = threading.Thread(target=worker.run)

    def __enter__(self) -> Worker:
        self._thread.start()
        return self.worker

    def __exit__(self, *_: object) -> None:
        self.worker.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()


def _wait_for_gate(ledger: Ledger, run_id: str, code: str) -> Gate:
    deadline = time.monotonic() + 20
    while (gate := ledger.why(run_id)).code != code:
        assert time.monotonic() < deadline, gate
        time.sleep(0.01)
    return gate


def test_a_run_that_began_with_another_definition_says_what_has_changed(ledger: Ledger) -> None:
    run_id = _half_done(ledger)
    changed = Dag("greet")
    changed.node(lambda: 1, label="second")
    with _Background(Worker([changed], ledger=ledger, heartbeat_process=False)):
        gate = _wait_for_gate(ledger, run_id, "definition_changed")
    assert "than the only live worker that knows it has, which gave it back" in gate.message
    assert "'first'" in gate.message
    assert "It is offered again at " in gate.message
    assert gate.remedy.endswith(f"or end it: `milepost cancel {run_id}`.")
    assert gate.facts["available_at"] > _now() - MINUTE


def test_a_run_that_was_put_back_by_a_worker_that_did_not_know_it_says_when_it_is_offered_again(
    ledger: Ledger, dag: Dag
) -> None:
    run_id = _submit(ledger, dag)
    other = Dag("other")
    other.node(lambda: 1, label="one")
    with _Background(Worker([other], ledger=ledger, heartbeat_process=False)):
        deadline = time.monotonic() + 20
        while not ledger.list_attempts(run_id) or ledger.require_run(run_id).status != RunStatus.PENDING:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert ledger.why(run_id).code == "unknown_workflow"
    run = ledger.require_run(run_id)
    _enter(ledger, "knows")
    gate = ledger.why(run_id)
    assert gate.code in ("put_back", "in_queue")
    due = run.available_at
    assert due is not None
    if gate.code == "put_back":
        assert gate.facts["available_at"] == due
        assert "It is offered again at " in gate.message


# --- runs that wait for something ----------------------------------------------------------------


def test_a_sleeping_run_says_until_when(ledger: Ledger) -> None:
    dag = Dag("nap")
    dag.sleep(7200, label="nap")
    run_id = dag.submit(ledger=ledger).run_id
    Worker([dag], ledger=ledger, heartbeat_process=False).run_until_idle()
    gate = ledger.why(run_id)
    assert gate.code == "sleeping"
    assert gate.message.startswith("Step 'nap' sleeps until ")
    (wait,) = gate.facts["waits"]
    assert wait["step"] == "nap"
    assert abs(wait["wake_at"] - _now() - 120 * MINUTE) < MINUTE
    assert [other.code for other in gate.also] == ["no_worker"]


def test_a_run_that_waits_for_events_says_since_when_until_when_and_how_to_emit_them(ledger: Ledger) -> None:
    dag = Dag("order")
    dag.wait_event("order 42 paid", timeout=3600, label="paid")
    dag.wait_event("packed", scope="depot", label="packed")
    dag.sleep(60, label="rest")
    run_id = dag.submit(ledger=ledger).run_id
    Worker([dag], ledger=ledger, heartbeat_process=False).run_until_idle()
    gate = ledger.why(run_id)
    assert gate.code == "waiting_for_event"
    assert "Step 'paid' waits for event 'order 42 paid' since " in gate.message
    assert "; it times out at " in gate.message
    assert "Step 'packed' waits for event 'packed' of scope 'depot' since " in gate.message
    assert "Step 'rest' sleeps until " in gate.message
    assert gate.remedy == (
        "Emit what it waits for: `milepost emit 'order 42 paid'`, `milepost emit packed --scope depot`."
    )
    ledger.emit_event("order 42 paid")
    assert ledger.why(run_id).code == "no_worker"  # it is woken, and nobody is there


# --- runs that somebody holds --------------------------------------------------------------------


def test_a_running_run_names_its_holder_its_lease_and_its_step(ledger: Ledger, dag: Dag) -> None:
    _enter(ledger)
    run_id = _submit(ledger, dag)
    run = _claim(ledger)
    gate = ledger.why(run_id)
    assert gate.code == "running"
    assert gate.message.startswith("Worker w1 (process 17 on elsewhere) executes it: lease until ")
    assert gate.message.endswith("No step has been running for longer than a moment.")
    assert gate.facts["worker_id"] == "w1"
    assert gate.facts["lease_until"] == run.lease_until
    assert gate.facts["heartbeat_at"] == run.lease_until - 30_000_000
    ledger.commit(write(run_id, starts=(start("hello", run_id, started_at=_now() - 3 * MINUTE),)))
    gate = ledger.why(run_id)
    assert "Step 'hello' runs since " in gate.message
    assert gate.message.endswith("(3 min ago).")
    assert [step["label"] for step in gate.facts["steps"]] == ["hello"]


def test_a_running_map_says_how_many_elements_are_done(ledger: Ledger) -> None:
    ledger.commit(new_run("run", now=_now(), lease_until=_now() + MINUTE, owner=ELSEWHERE))
    ledger.commit(write(starts=(start("parse", kind="map", storage="elements", progress_total=40),)))
    elements = [end(f"parse[{n}]", kind="element", parent="parse", seq=n + 2) for n in range(17)]
    ledger.commit(write(starts=(start("parse[17]", kind="element", parent="parse", seq=30),), ends=elements))
    gate = ledger.why("run")
    assert gate.code == "running"
    assert gate.message.startswith("Process 17 on elsewhere executes it: ")
    assert gate.message.endswith(", 17 of 40 elements done.")
    (step,) = gate.facts["steps"]
    assert (step["label"], step["kind"], step["done"], step["total"]) == ("parse", "map", 17, 40)


def test_a_step_that_failed_and_is_tried_again_is_named_with_its_error(ledger: Ledger) -> None:
    ledger.commit(new_run("run", now=_now(), lease_until=_now() + MINUTE, owner=ELSEWHERE))
    ledger.commit(write(ends=(end("send", status="failed", error_type="OSError", error_message="down"),)))
    told = ledger.why("run").message
    assert told.endswith("Step 'send' failed at attempt 1 (OSError: down) and is tried again.")
    ledger.commit(write(starts=(start("send", attempt=2, seq=2),)))
    assert ledger.why("run").message.endswith(", attempt 2.")


def test_a_request_to_stop_that_nobody_has_heard_says_who_should(ledger: Ledger, dag: Dag) -> None:
    _enter(ledger)
    run_id = _submit(ledger, dag)
    _claim(ledger)
    assert ledger.store.request_cancel(run_id, _now())
    gate = ledger.why(run_id)
    assert gate.code == "cancel_requested"
    assert "worker w1 (process 17 on elsewhere), which executes it, has not heard that yet" in gate.message


def test_a_lease_that_ran_out_is_rescued_by_any_live_worker(ledger: Ledger, dag: Dag) -> None:
    run_id = _submit(ledger, dag)
    _claim(ledger, lease=-1)
    gate = ledger.why(run_id)
    assert gate.code == "lease_expired"
    assert "process 17 on elsewhere, which executed it, fell silent: its lease ran out at " in gate.message.lower()
    assert gate.remedy.startswith("Any live worker rescues it, and none lives.")
    _enter(ledger, "w2", owner="18@elsewhere#0a0a-1")
    gate = ledger.why(run_id)
    assert gate.message.endswith("Any live worker rescues it within a second or two.")
    assert gate.remedy == ""


def test_a_worker_of_this_machine_that_died_is_known_at_once(ledger: Ledger, dag: Dag, dead_owner: str) -> None:
    run_id = _submit(ledger, dag)
    _claim(ledger, owner=dead_owner)
    assert ledger.store.request_cancel(run_id, _now())
    gate = ledger.why(run_id)
    assert gate.code == "worker_gone"
    assert "which executed it, is gone; its last heartbeat was at " in gate.message
    assert f"`milepost cancel {run_id}` ends it" in gate.message


def test_a_run_of_the_foreground_whose_process_is_gone_has_to_be_resumed(ledger: Ledger, dead_owner: str) -> None:
    ledger.commit(new_run("run", now=_now(), lease_until=_now() + MINUTE, owner=dead_owner))
    gate = ledger.why("run")
    assert gate.code == "interrupted"
    assert gate.remedy == "Go on with it: `milepost resume run`."
    ledger.commit(new_run("silent", now=_now(), lease_until=_now() - 1, owner=ELSEWHERE))
    assert ledger.why("silent").code == "interrupted"
    ledger.commit(new_run("alive", now=_now(), lease_until=_now() + MINUTE, owner=current_owner()))
    assert ledger.why("alive").code == "running"


def test_a_foreground_run_that_waits_for_an_event_names_it(ledger: Ledger) -> None:
    dag = Dag("order")
    dag.wait_event("paid")
    thread = threading.Thread(target=lambda: dag.run(ledger=ledger, run_id="run"))
    thread.start()
    deadline = time.monotonic() + 20
    while not ledger.list_waits("run"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    gate = ledger.why("run")
    ledger.emit_event("paid")
    thread.join(20)
    assert gate.code == "running"
    assert "Step 'paid' waits for event 'paid' since " in gate.message
    assert ledger.why("run").code == "completed"


# --- runs that have ended ------------------------------------------------------------------------


def test_a_run_that_has_ended_says_how(ledger: Ledger) -> None:
    now = _now()
    for run_id, finish in {
        "good": RunEnd(RunStatus.COMPLETED, now),
        "bad": failed(now),
        "stopped": RunEnd(RunStatus.CANCELLED, now, None, "RunCancelled", "somebody asked to cancel the run"),
    }.items():
        ledger.commit(new_run(run_id, now=now))
        ledger.commit(write(run_id, end=finish))
    gates = {run_id: ledger.why(run_id) for run_id in ("good", "bad", "stopped")}
    assert {run_id: gate.code for run_id, gate in gates.items()} == {
        "good": "completed",
        "bad": "failed",
        "stopped": "cancelled",
    }
    assert gates["good"].remedy == ""
    assert gates["bad"].message.endswith(" in step 'step': ValueError: no.")
    assert gates["bad"].remedy.endswith("`milepost resume bad`.")
    assert gates["stopped"].message.endswith(": somebody asked to cancel the run.")
    assert gates["bad"].facts == {"finished_at": now, "step": "step", "error": "ValueError: no"}


def test_asking_about_a_run_that_is_not_there_or_changing_nothing(ledger: Ledger, dag: Dag) -> None:
    with pytest.raises(RunNotFound, match="No run 'nothing' in this ledger"):
        ledger.why("nothing")
    run_id = _submit(ledger, dag)
    before = asdict(ledger.require_run(run_id))
    ledger.why(run_id)
    assert asdict(ledger.require_run(run_id)) == before
