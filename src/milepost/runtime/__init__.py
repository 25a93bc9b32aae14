"""The drivers of the engine: they perform what the pure core decides."""

from milepost.owner import describe_owner
from milepost.runtime.context import StepContext
from milepost.runtime.handle import RunEvent, RunHandle
from milepost.runtime.lifecycle import cancel_run, find_interrupted, is_interrupted, pause_run
from milepost.runtime.outcome import FinishedRun
from milepost.runtime.progress import NodeProgress, Progress
from milepost.runtime.steps import Step, step
from milepost.runtime.worker import Worker, new_worker_id

__all__ = [
    "FinishedRun",
    "NodeProgress",
    "Progress",
    "RunEvent",
    "RunHandle",
    "Step",
    "StepContext",
    "Worker",
    "cancel_run",
    "describe_owner",
    "find_interrupted",
    "is_interrupted",
    "new_worker_id",
    "pause_run",
    "step",
]
