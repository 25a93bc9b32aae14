"""A rollback whose process died is finished by whoever takes the run over."""

from __future__ import annotations

import time

from tasks import until

from milepost import Dag, Ledger, RunStatus, Worker, step
from milepost.owner import current_owner
from milepost.runtime.keeper import executing
from milepost.runtime.rollback import _begin


def test_a_worker_finishes_the_rollback_of_a_run_that_it_takes_over(ledger: Ledger) -> None:
    undone: list[int] = []

    def take_back(output: int) -> None:
        undone.append(output)

    @step(undo=take_back)
    def add(n: int) -> int:
        return n + 1

    dag = Dag("undoable")
    dag.node(add, label="last", n=dag.node(add, label="first"))
    handle = dag.submit({"n": 1}, ledger=ledger)
    worker = Worker([dag], ledger=ledger, heartbeat_process=False)
    worker.run_until_idle()
    assert handle.result(10) == 3
    with executing(ledger, handle.run_id):  # a rollback that is claimed and marked, and never driven
        plan, session = _begin(ledger, handle.run_id, dag.build(), to=None, dry_run=False, skip_missing=False)
        assert session is not None
        assert plan.undo == ("last", "first")
    ledger.store.rescue_tasks(
        now=time.time_ns() // 1000, limit=9, max_rescues=5, owner_gone=current_owner(), reason=("ProcessDied", "gone")
    )
    assert handle.status() == RunStatus.PENDING
    Worker([dag], ledger=ledger, heartbeat_process=False).run_until_idle()
    until(lambda: handle.record.finished_at)
    assert (handle.record.status, handle.record.error_type) == (RunStatus.CANCELLED, "RolledBack")
    assert undone == [3, 2]
    assert list(ledger.check()) == []


def test_a_rollback_leaves_no_trace_of_itself_on_the_next_execution(ledger: Ledger) -> None:
    undone: list[int] = []

    def take_back(output: int) -> None:
        undone.append(output)

    @step(undo=take_back)
    def add(n: int) -> int:
        return n + 1

    dag = Dag("again")
    dag.node(add)
    run = dag.run(n=1, ledger=ledger)
    for _ in range(3):
        assert dag.rollback(run.run_id, ledger=ledger).undo == ("add",)
        assert dag.resume(run.run_id, ledger=ledger).result() == 2
    assert undone == [2, 2, 2]
    assert [attempt.attempt for attempt in ledger.get_step(run.run_id, "add")] == [1, 2, 3, 4]
    assert list(ledger.check()) == []
