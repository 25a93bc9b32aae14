"""The heartbeat process extends its worker's leases, and says that it lives, whatever database holds them."""

from __future__ import annotations

import time

from milepost import Dag, Ledger
from milepost.model import WorkerInfo
from milepost.owner import current_owner
from milepost.runtime.heartbeat import HeartbeatProcess


def test_leases_are_extended_from_a_process_of_its_own(ledger: Ledger) -> None:
    dag = Dag("greet")
    dag.node(lambda: "hello", label="hello")
    run_id = dag.submit(ledger=ledger).run_id
    now = time.time_ns() // 1000
    (task,) = ledger.store.claim_tasks(["default"], owner=current_owner(), now=now, lease=60_000_000, limit=1)
    helper = HeartbeatProcess(ledger.full_url, current_owner(), 0.3)
    try:
        deadline = time.monotonic() + 30
        # A beat sets the lease to 0.3 s from now, which is earlier than what the claim took.
        while ledger.require_run(run_id).lease_until == task.run.lease_until:
            assert helper.is_running
            assert time.monotonic() < deadline, "no beat arrived"
            time.sleep(0.01)
    finally:
        helper.close()
    assert not helper.is_running


def test_a_worker_that_cannot_speak_itself_is_said_to_live(ledger: Ledger) -> None:
    past = time.time_ns() // 1000 - 3600_000_000
    silent = WorkerInfo("w1", current_owner(), ("default",), (), 1, 300_000, past, past, None)
    assert ledger.store.register_worker(silent, owner_gone=None) is None
    helper = HeartbeatProcess(ledger.full_url, current_owner(), 0.3, "w1")
    try:
        deadline = time.monotonic() + 30
        while ledger.list_workers()[0].heartbeat_at == past:
            assert time.monotonic() < deadline, "no beat arrived"
            time.sleep(0.01)
    finally:
        helper.close()
