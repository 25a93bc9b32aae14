"""Steps that wait: for a time, or for an event. Nothing runs meanwhile, and the wait itself is durable.

A wait is registered once, when its step is first reached; whoever takes the run up later finds it there,
with its first deadline. While a driver lives it looks now and then; a worker's driver suspends the run
instead, and whatever resolves a wait makes the run claimable again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from milepost.clock import to_micros
from milepost.errors import ConfigurationError, MilepostError
from milepost.names import DEFAULT_QUEUE, check_event
from milepost.runtime.flight import Flight
from milepost.runtime.session import RunSession
from milepost.states import RunStatus
from milepost.store import NewWait, RunEnd

__all__ = ["LOOK", "begin_wait", "look", "suspend"]

LOOK: Final = 0.1  # seconds between looks while a driver lives


def begin_wait(session: RunSession, flight: Flight) -> list[Flight]:
    """Register what a flight waits for; return it where that has happened already, or cannot be."""
    try:
        wait = _new_wait(session, flight)
    except MilepostError as error:
        session.fail(flight, error)
        flight.is_final = True
        return [flight]
    now = session.ledger.shared_now()
    (found,) = session.ledger.store.register_waits([wait], now)
    session.waits[flight.call.label] = flight
    if found.outcome is None and (found.wake_at is None or found.wake_at > now):
        return []
    return look(session)


def look(session: RunSession) -> list[Flight]:
    """Resolve what has become due, and return the flights whose waits are over."""
    return _take(session)[0]


def suspend(session: RunSession) -> bool:
    """Give the run up until one of its waits is resolved; return False where one just was."""
    landed, seen = _take(session)
    if landed:
        for flight in landed:  # not lost: it is found once more
            session.waits[flight.call.label] = flight
            flight.finished_at = 0
        return False
    if session.inner_waits and _has_inner_outcome(session):
        return False  # the step that waits with the run inside it looks for itself
    write = session.last_write()
    if write is not None:
        session.ledger.commit(write)
    now = session.ledger.shared_now()
    session.ledger.store.suspend_run(session.run_id, session.lease_epoch, seen=seen, now=now)
    session.end = RunEnd(RunStatus.SUSPENDED, now)
    session.is_over = True
    return True


def _has_inner_outcome(session: RunSession) -> bool:
    inner = set().union(*session.inner_waits.values())
    waits = session.ledger.store.list_waits(session.run_id)
    return any(wait.label in inner and wait.outcome is not None for wait in waits)


def _take(session: RunSession) -> tuple[list[Flight], int]:
    """Return the flights whose waits are over, and how many waits of the run are resolved in all."""
    waits = session.ledger.store.resolve_due_waits(session.run_id, session.ledger.shared_now())
    landed = []
    resolved = 0
    for wait in waits:
        if wait.outcome is None:
            continue
        resolved += 1
        flight = session.waits.pop(wait.label, None)
        if flight is not None:
            session.end_wait(flight, wait)
            landed.append(flight)
    return landed, resolved


def _new_wait(session: RunSession, flight: Flight) -> NewWait:
    """Return the write that registers what a flight waits for."""
    node = flight.call.node
    asked = session.execution.arguments(flight.call)
    flight.is_written = True  # its one row comes with its end: until then the wait's own row tells
    now = session.ledger.shared_now()
    scope = event = wake_at = None
    if node.wait == "sleep":
        wake_at = _moment(asked["duration"], now, flight.call.label)
    else:
        scope, event = asked.get("scope", DEFAULT_QUEUE), check_event(asked["event"])
        timeout = asked.get("timeout")
        wake_at = None if timeout is None else _moment(timeout, now, flight.call.label)
    assert node.wait is not None
    return NewWait(session.run_id, session.lease_epoch, flight.call.label, node.wait, scope, event, wake_at)


def _moment(duration: Any, now: int, label: str) -> int:
    """Return the ledger time at which a wait is over: a moment, or so long from now."""
    if isinstance(duration, datetime) and duration.tzinfo is not None:
        return to_micros(duration)
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e11:
        raise ConfigurationError(
            f"Step {label!r} cannot wait for {duration!r}. Give it 0 or more seconds, a timedelta or an aware datetime."
        )
    return now + int(seconds * 1e6)
