"""A machine whose clock is an hour off: it takes no lease that runs, and loses none of its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from postgres import new_schema, server_url
from tasks import until

from milepost import Dag, Ledger, RunStatus, Worker
from milepost.clock import SystemClock
from milepost.errors import RunBusy
from milepost.runtime import find_interrupted
from milepost.runtime.lifecycle import cancel_run
from milepost.runtime.maintenance import Maintenance

HOUR = 3600
ELSEWHERE = "17@elsewhere#0a0a-1"


class OffClock(SystemClock):
    """The machine's own clock, so many seconds off."""

    def __init__(self, seconds: int) -> None:
        self._off = seconds * 1_000_000

    def now(self) -> int:
        return super().now() + self._off


class Handed:
    """A clock that was handed in, so many seconds off."""

    def __init__(self, seconds: int) -> None:
        self._clock = OffClock(seconds)
        self.now = self._clock.now
        self.monotonic = self._clock.monotonic


class Together:
    """Two workers in threads, one of them with a wrong clock."""

    def __init__(self, *workers: Worker) -> None:
        self._workers = workers
        self._threads = [threading.Thread(target=worker.run, daemon=True) for worker in workers]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def url() -> str:
    return new_schema(server_url())


@pytest.fixture
def right(url: str) -> Iterator[Ledger]:
    with Ledger.open(url) as opened:
        yield opened


@pytest.fixture(params=[HOUR, -HOUR], ids=["ahead", "behind"])
def wrong(request: pytest.FixtureRequest, url: str) -> Iterator[Ledger]:
    with Ledger.open(url, clock=OffClock(request.param)) as opened:
        yield opened


def greeting() -> Dag:
    dag = Dag("greet")
    dag.node(lambda: "hello", label="hello")
    return dag


def claim_elsewhere(ledger: Ledger) -> None:
    now = ledger.clock.now()
    assert ledger.store.claim_tasks(["default"], owner=ELSEWHERE, now=now, lease=30_000_000, limit=1)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
@pytest.mark.parametrize("kind", [OffClock, Handed])
def test_no_lease_that_runs_is_given_to_anybody_else(url: str, right: Ledger, kind: type, seconds: int) -> None:
    with Ledger.open(url, clock=kind(seconds)) as wrong:
        _try_to_take(right, wrong)


def _try_to_take(right: Ledger, wrong: Ledger) -> None:
    dag = greeting()
    handle = dag.submit(ledger=right)
    claim_elsewhere(right)
    before = handle.record
    Maintenance(wrong, max_rescues=5).run_once()
    assert Worker([dag], ledger=wrong, heartbeat_process=False).run_until_idle() == 0
    assert find_interrupted(wrong) == []
    with pytest.raises(RunBusy):
        dag.resume(handle.run_id, ledger=wrong)
    assert handle.record == before
    assert cancel_run(wrong, handle.run_id) == "requested"
    assert handle.record.lease_epoch == 1


def test_a_lease_that_was_taken_by_a_wrong_clock_is_as_long_as_any(right: Ledger, wrong: Ledger) -> None:
    handle = greeting().submit(ledger=wrong)
    claim_elsewhere(wrong)
    Maintenance(right, max_rescues=5).run_once()
    run = handle.record
    assert (run.status, run.lease_epoch, run.rescues) == (RunStatus.RUNNING, 1, 0)
    assert run.lease_until is not None
    assert abs(run.lease_until - 30_000_000 - right.clock.now()) < 20_000_000


def test_a_lease_that_is_over_is_given_away_whatever_the_clock_says(url: str, wrong: Ledger) -> None:
    dag = greeting()
    handle = dag.submit(ledger=wrong)
    now = wrong.clock.now()
    wrong.store.claim_tasks(["default"], owner=ELSEWHERE, now=now, lease=1, limit=1)
    until(lambda: find_interrupted(wrong))
    Maintenance(wrong, max_rescues=5).run_once()
    assert handle.record.rescues == 1
    assert Worker([dag], ledger=wrong, heartbeat_process=False).run_until_idle() == 1
    assert handle.result(0) == "hello"


def test_workers_whose_clocks_differ_execute_each_run_once(right: Ledger, wrong: Ledger) -> None:
    ran = Counter[int]()
    lock = threading.Lock()

    def count(n: int) -> int:
        with lock:
            ran[n] += 1
        return n

    dag = Dag("counted")
    dag.node(count)
    handles = dag.submit_many([{"n": n} for n in range(60)], ledger=right)
    made = [Worker([dag], ledger=ledger, concurrency=4, heartbeat_process=False) for ledger in (right, wrong)]
    with Together(*made):
        assert [handle.result(60) for handle in handles] == list(range(60))
    assert ran == Counter(range(60))
    assert {handle.record.lease_epoch for handle in handles} == {1}


def test_a_run_that_sleeps_or_waits_is_claimed_when_it_is_time_and_goes_to_and_fro_between_no_clocks(
    right: Ledger, wrong: Ledger
) -> None:
    dag = Dag("nap")
    nap = dag.sleep(0.4)
    told = dag.wait_event("go", after=[nap])
    dag.node(lambda told: told, label="end", told=told)
    sides = {"right": right, "wrong": wrong}
    runs = [dag.submit(ledger=right, delay=0.2), dag.submit(ledger=wrong, delay=0.2)]
    # Each promotes what it holds to be due, and each executes: where they disagreed, runs would be claimed and
    # suspended again and again.
    made = [Worker([dag], ledger=ledger, heartbeat_process=False) for ledger in sides.values()]
    with Together(*made):
        until(lambda: all(len(right.store.list_waits(run.run_id)) == 2 for run in runs))
        wrong.emit_event("go", 7)
        assert [run.result(20) for run in runs] == [7, 7]
    for run in runs:
        assert len(right.list_attempts(run.run_id)) <= 3
