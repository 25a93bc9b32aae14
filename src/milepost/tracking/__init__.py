"""Workflow tracking: programs outside the engine record workflow runs and work on tasks, in their own transactions.

It is a face on the one ledger. Its *task* is a run in a queue, its *run id* names one claim of it and changes with
every retry and every rescue, its *workflow run* is a run of its own kind that tasks are linked to; *sleeping* is
suspended.
"""

from milepost.errors import TaskCancelled, TaskNotFound, TaskSuspended, TrackingError, WorkflowRunNotFound
from milepost.tracking.aio import AsyncClient
from milepost.tracking.client import Client, get_client, spawn_cancellable_task, spawn_retry_task
from milepost.tracking.shapes import CheckpointRow, Claim, RunRow, Spawned, StatusChange, TaskRow, WorkflowRunRow
from milepost.tracking.workflows import display_name

__all__ = [
    "AsyncClient",
    "CheckpointRow",
    "Claim",
    "Client",
    "RunRow",
    "Spawned",
    "StatusChange",
    "TaskCancelled",
    "TaskNotFound",
    "TaskRow",
    "TaskSuspended",
    "TrackingError",
    "WorkflowRunNotFound",
    "WorkflowRunRow",
    "display_name",
    "get_client",
    "spawn_cancellable_task",
    "spawn_retry_task",
]
