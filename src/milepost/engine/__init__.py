"""The pure core: what is ready, what an outcome means, when to retry, what a restart reuses.

Nothing here reads a clock, draws a number, touches a file or starts a thread: the drivers in
:mod:`milepost.runtime` hand in the time and perform what the core asks for.
"""

from milepost.engine.calls import Call, Failure, MapMark
from milepost.engine.elements import flatten, list_elements
from milepost.engine.execution import Execution
from milepost.engine.replay import PlannedStep, Recorded, ReplayPlan, find_changes, plan_replay
from milepost.engine.restart import History, RestartPlan, StepSummary, plan_restart
from milepost.engine.retry import next_delay
from milepost.engine.rollback import RollbackPlan, Undoable, plan_rollback

__all__ = [
    "Call",
    "Execution",
    "Failure",
    "History",
    "MapMark",
    "PlannedStep",
    "Recorded",
    "ReplayPlan",
    "RestartPlan",
    "RollbackPlan",
    "StepSummary",
    "Undoable",
    "find_changes",
    "flatten",
    "list_elements",
    "next_delay",
    "plan_replay",
    "plan_restart",
    "plan_rollback",
]
