"""What a worker holds: slots, leases, and claims that went wrong."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from tasks import DIED, until

from milepost import Dag, Ledger, Retry, RunStatus, Worker
from milepost.errors import ConfigurationError, RunFailed, WorkerExists
from milepost.model import WorkerInfo
from milepost.owner import current_owner
from milepost.runtime.presence import Presence
from milepost.store import NewTask


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


class Background:
    """A worker in a thread of its own."""

    def __init__(self, *dags: Dag, **options: object) -> None:
        self.worker = Worker(dags, **{"heartbeat_process": False, "drain": 0.0, **options})  # type: ignore[arg-type]
        self._thread = threading.Thread(target=self.worker.run, daemon=True)

    def __enter__(self) -> Worker:
        self._thread.start()
        return self.worker

    def __exit__(self, *_: object) -> None:
        self.worker.stop()
        self.worker.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()


def adding() -> Dag:
    dag = Dag("adding")
    one = dag.node(lambda n: n + 1, label="one")
    dag.node(lambda n: n * 2, label="two", n=one)
    return dag


# --- slots -------------------------------------------------------------------------------------


def test_a_worker_claims_no_more_than_it_has_slots_for(ledger: Ledger, release: threading.Event) -> None:
    busy = Counter[str]()
    peak: list[int] = []
    lock = threading.Lock()

    def hold() -> None:
        with lock:
            busy["now"] += 1
            peak.append(busy["now"])
        assert release.wait(30)
        with lock:
            busy["now"] -= 1

    dag = Dag("hold")
    dag.node(hold)
    handles = [dag.submit(ledger=ledger) for _ in range(7)]
    with Background(dag, ledger=ledger, concurrency=3) as worker:
        until(lambda: busy["now"] == 3)
        assert len(ledger.list_runs(status="running")) == 3
        assert len(worker.executing) == 3
        release.set()
        for handle in handles:
            assert handle.wait(30).status == RunStatus.COMPLETED
    assert max(peak) == 3


def test_suspended_runs_hold_no_slot_while_others_run(ledger: Ledger) -> None:
    waiting = Dag("waiting")
    start = waiting.node(lambda n: n, label="start")
    paid = waiting.wait_event("paid")
    waiting.node(lambda n, paid: n + paid, label="end", n=start, paid=paid)
    sleepers = [waiting.submit({"n": n}, ledger=ledger) for n in range(6)]
    dag = adding()
    with Background(waiting, dag, ledger=ledger, concurrency=2):
        until(lambda: len(ledger.list_runs(status="suspended")) == 6)
        others = [dag.submit({"n": n}, ledger=ledger) for n in range(5)]
        assert [handle.result(30) for handle in others] == [2 * (n + 1) for n in range(5)]
        assert {handle.status() for handle in sleepers} == {RunStatus.SUSPENDED}
        assert {handle.record.lease_owner for handle in sleepers} == {None}
        ledger.emit_event("paid", 100)
        assert [handle.result(30) for handle in sleepers] == [100 + n for n in range(6)]
    for handle in sleepers:
        assert handle.record.attempt == 1
        assert sorted(step.label for step in ledger.list_steps(handle.run_id)) == ["end", "paid", "start"]
    assert list(ledger.check()) == []


def test_a_sleeping_run_goes_on_when_its_time_has_come_and_keeps_its_first_deadline(ledger: Ledger) -> None:
    dag = Dag("sleeper")
    nap = dag.sleep(0.3)
    dag.node(lambda: "awake", label="end", after=[nap])
    handle = dag.submit(ledger=ledger)
    with Background(dag, ledger=ledger):
        assert handle.result(30) == "awake"
    (wait,) = ledger.store.list_waits(handle.run_id)
    assert wait.wake_at is not None
    (_, end) = ledger.list_steps(handle.run_id)
    assert end.started_at >= wait.wake_at
    assert [attempt.status for attempt in ledger.list_attempts(handle.run_id)] == ["suspended", "completed"]


# --- going wrong -------------------------------------------------------------------------------


def test_a_claim_whose_answer_was_lost_is_given_back_and_executed(ledger: Ledger, ledger_url: str) -> None:
    dag = adding()
    handle = dag.submit({"n": 1}, ledger=ledger)
    now = time.time_ns() // 1000
    (lost,) = ledger.store.claim_tasks(["default"], owner=current_owner(), now=now, lease=3600_000_000, limit=9)
    assert lost.run.run_id == handle.run_id
    with Ledger.open(ledger_url, lease=0.3) as own, Background(dag, ledger=own):
        assert handle.result(30) == 4
    assert [(a.lease_epoch, a.error_type) for a in ledger.list_attempts(handle.run_id)] == [(1, "Released"), (2, None)]


def test_a_claim_that_is_on_its_way_to_its_slot_is_not_given_back(ledger: Ledger) -> None:
    dag = adding()
    handle = dag.submit({"n": 1}, ledger=ledger)
    slots: set[tuple[str, int]] = set()
    presence = Presence(
        ledger, "w", queues=["default"], workflows=[], concurrency=1, has_helper=False, holds=slots.__contains__
    )
    presence.enter()
    now = time.time_ns() // 1000
    ledger.store.claim_tasks(["default"], owner=current_owner(), now=now, lease=3600_000_000, limit=1)
    presence.beat_once()  # between the claim and the slot
    assert handle.status() == RunStatus.RUNNING
    slots.add((handle.run_id, 1))
    presence.beat_once()
    presence.beat_once()
    assert handle.status() == RunStatus.RUNNING
    slots.clear()  # now it stays unknown
    presence.beat_once()
    assert handle.status() == RunStatus.RUNNING
    presence.beat_once()
    assert handle.status() == RunStatus.PENDING
    presence.leave()


def test_a_run_that_was_rescued_from_this_very_worker_is_taken_up_again_when_its_old_claim_has_ended(
    ledger: Ledger, ledger_url: str, release: threading.Event
) -> None:
    entered = Counter[str]()

    def hold() -> int:
        entered["hold"] += 1
        assert release.wait(30)
        return entered["hold"]

    dag = Dag("hold")
    dag.node(hold)
    handle = dag.submit(ledger=ledger)
    with Ledger.open(ledger_url, lease=600) as own, Background(dag, ledger=own):
        until(lambda: entered["hold"] == 1)
        now = time.time_ns() // 1000
        ledger.store.rescue_tasks(now=now, limit=9, max_rescues=5, owner_gone=current_owner(), reason=DIED)
        until(
            lambda: len(ledger.list_attempts(handle.run_id)) > 1
        )  # the same worker claims it again, with its body at work
        release.set()
        assert handle.wait(30).status == RunStatus.COMPLETED
    assert list(ledger.check()) == []
    completed = [step for step in ledger.get_step(handle.run_id, "hold") if step.status == "completed"]
    assert [step.lease_epoch for step in completed] == [handle.record.lease_epoch]
    assert handle.record.lease_epoch > 1


def test_a_run_that_no_worker_could_ever_execute_ends_failed_and_says_why(ledger: Ledger) -> None:
    dag = adding()
    handle = dag.submit({"n": 1}, ledger=ledger)
    payload = ledger.get_payload(handle.run_id)
    definition = ledger.get_definition(handle.run_id)
    good = handle.record
    ledger.store.submit_tasks(
        [
            NewTask(
                run_id="broken",
                workflow=good.workflow,
                kind=good.kind,
                queue="default",
                inputs=payload.inputs,
                now=good.created_at,
                definition_hash=good.hash,
                definition=definition,
                policies="{no json",
            )
        ]
    )
    with Background(dag, ledger=ledger):
        assert handle.result(30) == 4
        run = until(lambda: (found := ledger.require_run("broken")).finished_at and found)
    assert (run.status, run.error_type) == (RunStatus.FAILED, "JSONDecodeError")
    assert list(ledger.check()) == []


def test_a_step_whose_failure_has_a_nul_in_its_message_ends_its_run(ledger: Ledger) -> None:
    def fail() -> None:
        raise ValueError("a\0b\ud800c")

    dag = Dag("fail")
    dag.node(fail)
    handle = dag.submit(ledger=ledger)
    with Background(dag, ledger=ledger), pytest.raises(RunFailed, match="ValueError"):
        handle.result(30)
    assert handle.record.lease_epoch == 1


def test_a_failed_run_is_tried_again_through_the_queue_and_repeats_no_completed_step(ledger: Ledger) -> None:
    ran = Counter[str]()

    def first() -> int:
        ran["first"] += 1
        return 1

    def second(n: int) -> int:
        ran["second"] += 1
        if ran["second"] < 3:
            raise ConnectionError("not yet")
        return n + ran["second"]

    dag = Dag("retried")
    dag.node(second, n=dag.node(first))
    handle = dag.submit(ledger=ledger, max_attempts=3, retry=Retry(delay=0.05, jitter=0.0))
    with Background(dag, ledger=ledger):
        assert handle.result(30) == 4
    assert ran == {"first": 1, "second": 3}
    assert (handle.record.attempt, handle.record.error_type) == (3, None)
    assert [(a.attempt, a.status) for a in ledger.list_attempts(handle.run_id)] == [
        (1, "failed"),
        (2, "failed"),
        (3, "completed"),
    ]


# --- names -------------------------------------------------------------------------------------


def test_two_live_workers_cannot_have_one_id_even_in_one_process(ledger: Ledger, release: threading.Event) -> None:
    dag = adding()
    with Background(dag, ledger=ledger, worker_id="w1"):
        until(lambda: ledger.store.get_worker("w1"))
        with pytest.raises(WorkerExists, match="w1"):
            Worker([dag], ledger=ledger, worker_id="w1", heartbeat_process=False).run_until_idle()
        info = ledger.store.get_worker("w1")
        assert isinstance(info, WorkerInfo)
        assert info.stopped_at is None  # the one that was refused took no name off
    Worker([dag], ledger=ledger, worker_id="w1", heartbeat_process=False).run_until_idle()


@pytest.mark.parametrize("name", ["1st", "a b", "", "x" * 64, 'a"; DROP TABLE runs; --', "ä", "a\n"])
def test_a_name_outside_the_rule_is_refused_before_anything_is_written(ledger: Ledger, name: str) -> None:
    dag = adding()
    with pytest.raises(ConfigurationError, match="is not a queue name"):
        dag.submit({"n": 1}, ledger=ledger, queue=name)
    with pytest.raises(ConfigurationError, match="is not a queue name"):
        Worker([dag], ledger=ledger, queues=[name])
    if name:
        with pytest.raises(ConfigurationError, match="is not a worker name"):
            Worker([dag], ledger=ledger, worker_id=name)
    assert ledger.list_runs() == []


@pytest.mark.parametrize("delay", [-1, -0.001, float("nan"), float("-inf")])
def test_a_delay_that_is_none_is_refused(ledger: Ledger, delay: float) -> None:
    with pytest.raises(ConfigurationError, match="delay must be 0 seconds or more"):
        adding().submit({"n": 1}, ledger=ledger, delay=delay)
    assert ledger.list_runs() == []


@pytest.mark.parametrize("delay", [float("inf"), 1e300])
def test_a_delay_that_never_ends_is_refused(ledger: Ledger, delay: float) -> None:
    with pytest.raises(ConfigurationError, match="delay"):
        adding().submit({"n": 1}, ledger=ledger, delay=delay)
