"""What the client writes, the command line shows: the same rows."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from tracked import Base

from milepost.tracking import Client


def milepost(base: Base, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "milepost", *words, "--ledger", base.url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def begin(client: Client) -> tuple[Any, Any]:
    workflow = client.create_workflow_run(workflow_name="etl", workflow_version="1", tags={"env": "prod"})
    client.update_workflow_run_status(workflow_run_id=workflow, status="running")
    client.spawn_task(task_name="extract", params=[1, 2], workflow_run_id=workflow)
    (claim,) = client.claim_task()
    client.save_checkpoint_for_run(run_id=claim.run_id, step_name="rows", data=3)
    return workflow, claim


def test_a_workflow_run_is_listed_and_says_that_it_is_tracked_from_outside(base: Base) -> None:
    workflow, _ = begin(base.client())
    assert str(workflow) in milepost(base, "runs")
    shown = milepost(base, "show", str(workflow))
    assert "of etl: running" in shown
    assert "env=prod" in shown
    told = milepost(base, "why", str(workflow))
    assert "It is tracked from outside: running since" in told
    assert "0 of its 1 tasks are over" in told
    assert "Nothing is wrong" in milepost(base, "doctor")


def test_a_task_by_hand_shows_its_holder_its_params_what_it_saved_and_what_it_belongs_to(base: Base) -> None:
    workflow, claim = begin(base.client(worker_id="etl_host"))
    shown = milepost(base, "show", str(claim.task_id))
    for part in (f"inside    run {workflow}", "[1, 2]", "saved     rows=3", "executed by a claim by hand of etl_host"):
        assert part in shown
    assert '"inputs"' in milepost(base, "show", str(claim.task_id), "--json")
    assert "A claim by hand of etl_host executes it: lease until" in milepost(base, "why", str(claim.task_id))


def test_a_task_that_waits_for_an_event_says_how_to_emit_it(base: Base) -> None:
    client = base.client()
    _, claim = begin(client)
    client.await_event(None, claim.task_id, claim.run_id, "pay", "paid")
    assert "milepost emit paid --scope work" in milepost(base, "why", str(claim.task_id))
    milepost(base, "emit", "paid", "--scope", "work", "--payload", "7")
    assert client.claim_task()[0].event_payload == 7
