"""How schedules are shown: as lines for people, and as JSON documents.

The keys of the documents are promised: they may grow, never change. Times are ISO 8601 in UTC, durations
seconds; what is not there is null.

``schedule list``        {"ledger", "schedules": [schedule]}
``schedule show``        {"ledger", "schedule": schedule}
``schedule backfill``    {"ledger", "schedule": its name, "runs": [{"tick", "run_id", "is_new"}]}
``... --dry-run``        {"ledger", "schedule": its name, "ticks": [tick]}

schedule    name, workflow, target, cron, every, timezone, start_at, catch_up, max_active, inputs (the template),
            queue, priority, created_at, paused_at, next_at, next_ticks ([tick]), last_run (as ``runs`` has it)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from milepost.cli.console import STYLES, print_columns, styled, symbol
from milepost.cli.documents import plain_value, run_document
from milepost.cli.times import ago_text, iso, tick_text
from milepost.clock import to_datetime
from milepost.engine.ticks import moment_of
from milepost.runtime import is_interrupted

if TYPE_CHECKING:
    from rich.text import Text

    from milepost.ledger import Ledger
    from milepost.model import Run, Schedule, TickRun

__all__ = [
    "next_text",
    "print_schedule",
    "print_schedules",
    "print_ticks",
    "run_documents",
    "schedule_document",
    "tick_documents",
    "when_text",
]

_LISTED: Final = 2  # next ticks of each in a list
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))


# --- lines ---------------------------------------------------------------------------------------


def print_schedules(ledger: Ledger, schedules: Sequence[Schedule]) -> None:
    """Print a line for each schedule."""
    rows = [
        (
            styled(one.name, "bold"),
            styled(when_text(one)),
            styled(one.workflow),
            styled(next_text(ledger, one, _LISTED), "" if one.paused_at is None else "yellow"),
            *_last_run(ledger, one),
        )
        for one in schedules
    ]
    print_columns(rows, ("SCHEDULE", "WHEN", "WORKFLOW", "NEXT TICKS", "LAST RUN", ""))


def print_schedule(ledger: Ledger, schedule: Schedule, ticks: int) -> None:
    """Print all that is known of one schedule."""
    missed = "made up for" if schedule.catch_up else "only the newest is made up for"
    most = "any number" if schedule.max_active is None else f"{schedule.max_active}"
    paused = "" if schedule.paused_at is None else tick_text(moment_of(schedule, schedule.paused_at))
    status, run = _last_run(ledger, schedule)
    facts = [
        ("when", styled(when_text(schedule))),
        ("workflow", styled(schedule.workflow)),
        ("target", styled(schedule.target or "")),
        ("queue", styled(f"{schedule.queue}, priority {schedule.priority}")),
        ("inputs", styled(_inputs_text(schedule))),
        ("from", styled(tick_text(moment_of(schedule, schedule.start_at)))),
        ("missed ticks", styled(missed)),
        ("runs at once", styled(most)),
        ("paused since", styled(paused, "yellow")),
        ("last run", status.append("  ").append_text(run)),
    ]
    print_columns([(styled(name, "dim"), value) for name, value in facts if value.plain.strip()])
    upcoming = ledger.next_ticks(schedule.name, ticks)
    if upcoming:
        print("Next ticks, if it is resumed now:" if paused else "Next ticks:")
        for tick in upcoming:
            print(f"  {tick_text(tick)}")


def print_ticks(schedule: Schedule, ticks: Sequence[datetime]) -> None:
    """Print the ticks that a backfill would start runs for."""
    count = f"{len(ticks)} tick{'' if len(ticks) == 1 else 's'}"
    print(f"Would start a run for each of {count} of {schedule.name!r} that has had none.")
    for tick in ticks:
        print(f"  {tick_text(tick)}")


def when_text(schedule: Schedule) -> str:
    """Return a schedule's rule: its cron line and time zone, or its interval as people type it."""
    if schedule.every is None:
        return f"{schedule.cron} ({schedule.timezone})"
    left, text = schedule.every / 1e6, ""
    for unit, seconds in _UNITS:
        count, left = divmod(left, seconds)
        text += f"{count:.0f}{unit}" if count else ""
    return f"every {text}{f'{left:g}s' if left else ''}"


def next_text(ledger: Ledger, schedule: Schedule, count: int) -> str:
    """Return the next ticks of a schedule, or why there are none."""
    if schedule.paused_at is not None:
        return "paused"
    if schedule.next_at is None:
        return "none any more"
    if schedule.next_at < ledger.clock.now():
        return f"due since {tick_text(moment_of(schedule, schedule.next_at))}"
    return ", ".join(map(tick_text, ledger.next_ticks(schedule.name, count)))


def _last_run(ledger: Ledger, schedule: Schedule) -> tuple[Text, Text]:
    run = ledger.last_run_of_schedule(schedule.name)
    if run is None:
        return styled("none yet", "dim"), styled("")
    is_dead = is_interrupted(ledger, run)
    word = "interrupted" if is_dead else run.status.value
    told = f"{symbol(run.status)} {word} {ago_text(_moment(run), ledger.clock.now())}"
    return styled(told, "yellow" if is_dead else STYLES[run.status.value]), styled(run.run_id, "dim")


def _moment(run: Run) -> int:
    return run.finished_at or run.started_at or run.created_at


def _inputs_text(schedule: Schedule) -> str:
    inputs = plain_value(schedule.inputs)
    return ", ".join(f"{name}={value!r}" for name, value in inputs.items()) if isinstance(inputs, dict) else ""


# --- documents -----------------------------------------------------------------------------------


def schedule_document(ledger: Ledger, schedule: Schedule, ticks: int = 5) -> dict[str, Any]:
    """Return what is promised of a schedule."""
    last = ledger.last_run_of_schedule(schedule.name)
    return {
        "name": schedule.name,
        "workflow": schedule.workflow,
        "target": schedule.target,
        "cron": schedule.cron,
        "every": None if schedule.every is None else schedule.every / 1e6,
        "timezone": schedule.timezone,
        "start_at": iso(schedule.start_at),
        "catch_up": schedule.catch_up,
        "max_active": schedule.max_active,
        "inputs": plain_value(schedule.inputs),
        "queue": schedule.queue,
        "priority": schedule.priority,
        "created_at": iso(schedule.created_at),
        "paused_at": iso(schedule.paused_at),
        "next_at": iso(schedule.next_at),
        "next_ticks": tick_documents(ledger.next_ticks(schedule.name, ticks)),
        "last_run": None if last is None else run_document(ledger, last),
    }


def tick_documents(ticks: Sequence[datetime]) -> list[str]:
    """Return ticks as ISO 8601 texts in UTC."""
    return [tick.astimezone(UTC).isoformat(timespec="microseconds") for tick in ticks]


def run_documents(runs: Sequence[TickRun]) -> list[dict[str, Any]]:
    """Return what is promised of the runs of a backfill."""
    return [
        {
            "tick": to_datetime(run.tick_at).isoformat(timespec="microseconds"),
            "run_id": run.run_id,
            "is_new": run.is_new,
        }
        for run in runs
    ]
