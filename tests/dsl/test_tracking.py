"""A workflow's run is a workflow run of the tracking client."""

from __future__ import annotations

from milepost import Worker
from milepost.dsl import WorkflowBuilder
from milepost.tracking import Client


def flow():
    flow = WorkflowBuilder("tracked", "3.1").add_tags("etl").task("a", "t.echo", args=["{{inputs.n}}"])
    return flow.foreach("l", "{{range(2)}}", lambda w: w.task("x", "t.echo", args=["{{item}}"])).build()


def test_a_run_is_read_as_a_workflow_run_with_its_version_inputs_result_and_tags(ledger):
    finished = flow().run({"n": 3}, ledger=ledger)
    row = Client(ledger=ledger).get_workflow_run(workflow_run_id=finished.run_id)
    assert (row["workflow_name"], row["workflow_version"], row["status"]) == ("tracked", "3.1", "completed")
    assert (row["inputs"], row["result"], row["tags"]) == ({"n": 3}, [0, 1], {"etl": True})
    assert row["task_count"] == 4  # a, l, and two iterations of x
    assert row["workflow_hash"] == ledger.get_run(finished.run_id).hash


def test_a_submitted_run_is_pending_until_a_worker_has_it(ledger):
    workflow = flow()
    handle = workflow.submit({"n": 1}, ledger=ledger)
    client = Client(ledger=ledger)
    assert client.get_workflow_run(workflow_run_id=handle.run_id)["status"] == "pending"
    Worker([workflow.for_worker()], ledger=ledger, heartbeat_process=False).run_until_idle()
    row = client.get_workflow_run(workflow_run_id=handle.run_id)
    assert (row["status"], row["workflow_version"]) == ("completed", "3.1")


def test_a_run_keeps_the_definition_it_began_with(ledger):
    old = WorkflowBuilder("kept").wait_for_event("go", "go").task("a", "t.echo", args=["old"]).build()
    handle = old.submit(ledger=ledger)
    Worker([old.for_worker()], ledger=ledger, heartbeat_process=False).run_until_idle()
    new = (
        WorkflowBuilder("kept").wait_for_event("go", "go").task("a", "t.echo", args=["new"]).task("b", "t.echo").build()
    )
    ledger.emit_event("go", None)
    Worker([new.for_worker()], ledger=ledger, heartbeat_process=False).run_until_idle()
    assert handle.result(5) == "old"
    later = new.submit(ledger=ledger)
    Worker([new.for_worker()], ledger=ledger, heartbeat_process=False).run_until_idle()
    assert [step.label for step in ledger.list_steps(later.run_id)] == ["go", "a", "b"]
