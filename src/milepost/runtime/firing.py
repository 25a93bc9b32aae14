"""Fire schedules: each tick becomes a run, exactly once, whoever gets there first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from milepost.clock import to_datetime
from milepost.engine.ticks import next_tick, ticks_between
from milepost.ledger import Ledger
from milepost.model import Schedule, new_run_id
from milepost.store import NewTask
from milepost.values import encode

__all__ = ["fill_template", "fire_due", "tick_task"]

_AT_ONCE: Final = 100  # ticks that one round catches up for one schedule


def fire_due(ledger: Ledger) -> int:
    """Submit a run for every tick that has come; return how many were submitted."""
    now = ledger.clock.now()
    fired = 0
    for schedule in ledger.store.list_due_schedules(now):
        fired += _fire(ledger, schedule, now)
    return fired


def _fire(ledger: Ledger, schedule: Schedule, now: int) -> int:
    assert schedule.next_at is not None
    due = ticks_between(schedule, schedule.next_at, now, _AT_ONCE + 1)
    if schedule.catch_up:
        due = due[:_AT_ONCE]
        if schedule.max_active is not None:
            # The rest stays due: it fires when running ones have ended.
            free = schedule.max_active - ledger.store.count_active_runs(schedule.creator)
            due = due[: max(0, free)]
        if not due:
            return 0
        next_at = next_tick(schedule, due[-1])
    else:
        # Without catch-up, of the ticks that were missed only the newest counts.
        next_at = next_tick(schedule, now)
        due = ticks_between(schedule, _newest(schedule, due, now), now, 1)
        if schedule.max_active is not None and ledger.store.count_active_runs(schedule.creator) >= schedule.max_active:
            due = []  # skipped, as the schedule says
    tasks = [tick_task(ledger, schedule, tick) for tick in due]
    return sum(outcome.is_new for outcome in ledger.store.fire_schedule(schedule, next_at, tasks))


def _newest(schedule: Schedule, due: list[int], now: int) -> int:
    newest = due[-1]
    while (following := next_tick(schedule, newest)) is not None and following <= now:
        newest = following
    return newest


def tick_task(ledger: Ledger, schedule: Schedule, tick: int) -> NewTask:
    """Return the task of one tick; its key makes that the tick is submitted once, ever."""
    following = next_tick(schedule, tick)
    values = {
        "data_interval_start": to_datetime(tick),
        "data_interval_end": to_datetime(following if following is not None else tick),
        "schedule": schedule.name,
    }
    now = ledger.clock.now()
    return NewTask(
        run_id=new_run_id(now),
        workflow=schedule.workflow,
        kind="dag",
        queue=schedule.queue,
        inputs=encode(fill_template(json.loads(schedule.inputs), values)),
        now=now,
        definition_hash=schedule.hash,
        definition=None,
        priority=schedule.priority,
        idempotency_key=f"{schedule.creator}@{tick}",
        target=schedule.target,
        tags=json.dumps({"schedule": schedule.name, "tick": to_datetime(tick).isoformat()}),
        created_by=schedule.creator,
    )


def fill_template(template: Any, values: Mapping[str, Any]) -> Any:
    """Return inputs with each ``"{name}"`` replaced by the tick's own value.

    A text that is nothing but one placeholder becomes the value itself (a datetime); inside a longer
    text it becomes ISO text.

    Example:
        >>> fill_template({"day": "{schedule}", "n": 3}, {"schedule": "nightly"})
        {'day': 'nightly', 'n': 3}
    """
    if isinstance(template, str):
        for name, value in values.items():
            if template == f"{{{name}}}":
                return value
        for name, value in values.items():
            shown = value.isoformat() if hasattr(value, "isoformat") else str(value)
            template = template.replace(f"{{{name}}}", shown)
        return template
    if isinstance(template, dict):
        return {key: fill_template(part, values) for key, part in template.items()}
    if isinstance(template, list):
        return [fill_template(part, values) for part in template]
    return template
