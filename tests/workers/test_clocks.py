"""Machines whose clocks differ: who lives and whose lease is over goes by the server's clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from postgres import new_schema, server_url

from milepost import Dag, Ledger
from milepost.model import WorkerInfo
from milepost.runtime import find_interrupted, is_interrupted
from milepost.runtime.presence import Presence

HOUR = 3_600_000_000
ELSEWHERE = "17@elsewhere#0a0a-1"


@pytest.fixture(params=[-HOUR, HOUR], ids=["ahead", "behind"])
def wrong(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """Return a ledger of a machine whose clock is an hour ahead of the server's, or behind it."""
    url = new_schema(server_url())
    with Ledger.open(f"{url}&options=-c%20milepost.clock_shift%3D{request.param}") as opened:
        yield opened


def test_a_lease_that_runs_is_not_taken_for_over(wrong: Ledger) -> None:
    dag = Dag("greet")
    dag.node(lambda: "hello", label="hello")
    run_id = dag.submit(ledger=wrong).run_id
    now = time.time_ns() // 1000
    assert wrong.store.claim_tasks(["default"], owner=ELSEWHERE, now=now, lease=30_000_000, limit=1)
    assert not is_interrupted(wrong, wrong.require_run(run_id))
    assert find_interrupted(wrong) == []
    gate = wrong.why(run_id)
    assert gate.code == "running"
    assert "(in 29 s)" in gate.message or "(in 30 s)" in gate.message


def test_a_worker_is_alive_for_everybody_and_says_that_its_clock_is_off(
    wrong: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    dag = Dag("greet")
    dag.node(lambda: "hello", label="hello")
    enter = {"queues": ["default"], "workflows": ["greet"], "concurrency": 1, "has_helper": False}
    Presence(wrong, "w1", holds=lambda lease: False, **enter).enter()
    assert "this machine's clock is 3600 s off that of the ledger's server" in caplog.text
    (worker,) = wrong.list_workers()
    assert isinstance(worker, WorkerInfo)
    assert abs(worker.heartbeat_at - wrong.shared_now()) < 60_000_000
    assert abs(worker.heartbeat_at - time.time_ns() // 1000) > HOUR // 2
    assert wrong.why(dag.submit(ledger=wrong).run_id).code == "in_queue"


def test_without_a_server_the_clock_is_the_machine_s(tmp_path) -> None:
    with Ledger.open(tmp_path / "runs.db") as ledger:
        before = time.time_ns() // 1000
        assert before <= ledger.shared_now() <= time.time_ns() // 1000
