"""A machine whose clock is an hour off: it takes no lease that runs, and loses none of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from postgres import new_schema, server_url
from tasks import until

from milepost import Dag, Ledger, RunStatus, Worker
from milepost.errors import RunBusy
from milepost.runtime import find_interrupted
from milepost.runtime.lifecycle import cancel_run
from milepost.runtime.maintenance import Maintenance

HOUR = 3600
ELSEWHERE = "17@elsewhere#0a0a-1"


class OffClock:
    """The machine's clock, so many seconds off."""

    def __init__(self, seconds: int) -> None:
        self._off = seconds * 1_000_000

    def now(self) -> int:
        return time.time_ns() // 1000 + self._off

    def monotonic(self) -> float:
        return time.monotonic()


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


def test_no_lease_that_runs_is_given_to_anybody_else(right: Ledger, wrong: Ledger) -> None:
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
    threads = [threading.Thread(target=worker.run, daemon=True) for worker in made]
    for thread in threads:
        thread.start()
    assert [handle.result(60) for handle in handles] == list(range(60))
    for worker in made:
        worker.stop()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert ran == Counter(range(60))
    assert {handle.record.lease_epoch for handle in handles} == {1}
