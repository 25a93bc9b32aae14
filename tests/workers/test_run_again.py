"""One Worker, run again and again: for tests and scripts."""

from __future__ import annotations

from milepost import Dag, Ledger, Worker


def test_a_worker_that_was_run_until_idle_goes_on_when_it_is_run_again(ledger: Ledger) -> None:
    dag = Dag("approval")
    dag.node(lambda reply: f"approved by {reply}", label="note", reply=dag.wait_event("approved"))
    plain = Dag("plain")
    plain.node(lambda: "done", label="done")
    worker = Worker([dag, plain], ledger=ledger, heartbeat_process=False)
    assert plain.submit(ledger=ledger).status() == "pending"
    handle = dag.submit(ledger=ledger)
    assert worker.run_until_idle() == 2
    assert handle.status() == "suspended"
    ledger.emit_event("approved", "Grace")
    worker.run_until_idle()
    assert handle.result(timeout=5) == "approved by Grace"
    again = plain.submit(ledger=ledger)
    worker.run_until_idle()
    assert again.wait(timeout=5).status == "completed"
