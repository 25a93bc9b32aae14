"""A worker on PostgreSQL is killed in the middle of a workflow; another one goes on with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from postgres import new_schema, server_url

from milepost import Ledger
from milepost.dsl import Workflow

ETL = """
import os, signal
from milepost.dsl import task_function

@task_function("w.effect")
def effect(name):
    if name == "x2" and not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    with open("effects", "a") as file:
        file.write(name + "\\n")
    return name
"""
WORKER = """
import sys
import effects_of_worker
from milepost import Ledger, Worker
from milepost.dsl.files import load_workflow

with Ledger.open(sys.argv[1]) as ledger:
    Worker([load_workflow("flow.yaml").for_worker()], ledger=ledger, heartbeat_process=False).run_until_idle()
"""
FLOW = """
name: flow
tasks:
  loop:
    task_id: loop
    operator_type: foreach
    items: "{{range(4)}}"
    loop_body: [{task_id: x, operator_type: task, function: w.effect, args: ["x{{item}}"]}]
  end: {task_id: end, operator_type: task, function: w.effect, args: [end], dependencies: [loop]}
"""


def test_another_worker_goes_on_where_one_was_killed(tmp_path: Path) -> None:
    url = new_schema(server_url())
    (tmp_path / "effects_of_worker.py").write_text(ETL)
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "flow.yaml").write_text(FLOW)
    with Ledger.open(url) as ledger:
        handle = Workflow.from_yaml(FLOW).submit(ledger=ledger)
        command = [sys.executable, "worker.py", url]
        died = subprocess.run(command, cwd=tmp_path, timeout=60)
        assert died.returncode == -signal.SIGKILL
        assert ledger.get_run(handle.run_id).status.value == "running"
        for _ in range(30):  # the lease of a process that is gone is seen to be over at once, or a little later
            if handle.record.finished_at is None:
                subprocess.run(command, cwd=tmp_path, timeout=60, check=True)
        assert handle.result(0) == "end"
    assert Counter((tmp_path / "effects").read_text().split()) == Counter(["x0", "x1", "x2", "x3", "end"])
