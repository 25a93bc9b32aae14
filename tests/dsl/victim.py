"""A process that runs a workflow and kills itself where it is told to: ``victim.py KIND LEDGER EFFECTS KILL_AT``."""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from milepost import Ledger
from milepost.dsl import Workflow, WorkflowBuilder, task_function

KIND, LEDGER, EFFECTS, KILL_AT = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])


@task_function("v.effect")
def effect(name: str, value: Any = None) -> Any:
    """Leave one line; the process dies before it leaves line number KILL_AT."""
    with EFFECTS.open("a+") as file:
        file.seek(0)
        if len(file.readlines()) == KILL_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        file.write(f"{name}\n")
    return value


def build() -> Workflow:
    """Return the workflow of a kind."""
    flow = WorkflowBuilder("victim").task("begin", "v.effect", args=["begin", 0], result_key="n")
    if KIND == "parallel":
        flow.parallel(
            "fan",
            {
                "a": lambda w: w.task("a1", "v.effect", args=["a1", 1]).task("a2", "v.effect", args=["a2", "{{a1}}"]),
                "b": lambda w: w.task("b1", "v.effect", args=["b1", 1]).task("b2", "v.effect", args=["b2", "{{b1}}"]),
            },
        )
    elif KIND == "foreach":
        flow.foreach("loop", "{{range(4)}}", lambda w: w.task("x", "v.effect", args=["x{{item}}", "{{item}}"]))
    elif KIND == "while":
        flow.while_loop(
            "loop", "{{n}} < 3", lambda w: w.task("x", "v.effect", args=["x{{n}}", "{{n + 1}}"], result_key="n")
        )
    elif KIND == "wait":
        flow.task("before", "v.effect", args=["before"]).wait("pause", timedelta(seconds=0.05))
        flow.task("after", "v.effect", args=["after"])
    else:
        flow.emit_event("send", "ready", payload={"v": 1}).wait_for_event("hear", "ready")
        flow.task("heard", "v.effect", args=["heard", "{{hear.payload.v}}"])
    return flow.task("end", "v.effect", args=["end", "done"]).build()


if __name__ == "__main__":
    with Ledger.open(LEDGER) as ledger:
        workflow = build()
        known = ledger.get_run("victim-1")
        if known is None:
            finished = workflow.run(ledger=ledger, run_id="victim-1", max_concurrency=1)
        else:
            finished = workflow.resume("victim-1", ledger=ledger, max_concurrency=1)
        print(finished.status.value, finished.result())
