"""From a schedule and a tick to the task that is submitted for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from milepost.engine.templates import fill_template
from milepost.engine.ticks import moment_of, previous_tick
from milepost.model import UNCHECKED_INPUTS, Schedule, new_run_id
from milepost.store import NewTask

__all__ = ["fill_inputs", "tick_tasks", "trigger_task"]


def tick_tasks(schedule: Schedule, ticks: Sequence[int], now: int) -> list[NewTask]:
    """Return the tasks of ticks, in their order; the key of each lets the tick be submitted once, ever.

    Args:
        schedule: The schedule.
        ticks: Successive ticks of it.
        now: Ledger time.
    """
    tasks = []
    before = None
    for place, tick in enumerate(ticks):
        start = before if before is not None else previous_tick(schedule, tick)
        interval = _moments(schedule, start, tick)
        # Each a microsecond after the one before, so that the oldest tick is claimed first.
        task = _task(schedule, interval, now, run_id=new_run_id(now + place), trigger="tick")
        task.idempotency_key = f"{schedule.creator}/{schedule.workflow}@{tick}"
        tasks.append(task)
        before = tick
    return tasks


def trigger_task(schedule: Schedule, now: int) -> NewTask:
    """Return the task of a run outside the ticks; its interval is the newest one that has ended."""
    end = previous_tick(schedule, now + 1)
    interval = _moments(schedule, None if end is None else previous_tick(schedule, end), now if end is None else end)
    return _task(schedule, interval, now, run_id=new_run_id(now), trigger="manual")


def fill_inputs(schedule: Schedule, tick: int) -> str:
    """Return the inputs of a tick's run as stored text."""
    return _filled(schedule, _moments(schedule, previous_tick(schedule, tick), tick))


def _moments(schedule: Schedule, start: int | None, end: int) -> tuple[datetime, datetime]:
    return moment_of(schedule, end if start is None else start), moment_of(schedule, end)


def _filled(schedule: Schedule, interval: tuple[datetime, datetime]) -> str:
    start, end = interval
    return fill_template(
        schedule.inputs, {"data_interval_start": start, "data_interval_end": end, "schedule": schedule.name}
    )


def _task(schedule: Schedule, interval: tuple[datetime, datetime], now: int, *, run_id: str, trigger: str) -> NewTask:
    start, end = (moment.isoformat() for moment in interval)
    tags = {"schedule": schedule.name, "trigger": trigger, "data_interval_start": start, "data_interval_end": end}
    return NewTask(
        run_id=run_id,
        workflow=schedule.workflow,
        kind=schedule.kind,
        queue=schedule.queue,
        inputs=_filled(schedule, interval),
        now=now,
        definition_hash=schedule.hash,
        priority=schedule.priority,
        target=schedule.target,
        tags=json.dumps(tags),
        headers=UNCHECKED_INPUTS,
        created_by=schedule.creator,
    )
