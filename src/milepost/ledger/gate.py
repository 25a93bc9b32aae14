"""A gate that a run waits at, what is read to find it, and the words that it is told in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from milepost.clock import to_datetime
from milepost.model import Attempt, Run, Wait, WorkerInfo
from milepost.names import DEFAULT_QUEUE
from milepost.owner import is_owner_gone
from milepost.store import Store

__all__ = ["Gate", "Look", "clipped", "error_text", "is_worker_alive", "listed", "moment_text", "sentence", "upper"]

_SHOWN: Final = 3  # steps, waits or names that a sentence lists
_LONGEST: Final = 300  # characters of an error that a sentence repeats


@dataclass(frozen=True, slots=True)
class Gate:
    """What a run waits at, or what became of it.

    Attributes:
        code: Names the gate: ``running``, ``cancel_requested``, ``worker_gone``, ``lease_expired``,
            ``interrupted``, ``sleeping``, ``waiting_for_event``, ``next_attempt``, ``scheduled``,
            ``queue_paused``, ``no_worker``, ``unknown_workflow``, ``definition_changed``, ``put_back``,
            ``in_queue``, ``paused``, ``not_woken``, ``completed``, ``failed`` or ``cancelled``.
        message: The same in a sentence or two.
        remedy: What to do about it; empty where there is nothing to do.
        facts: The same as data. Names that end in ``_at`` or ``_until`` are ledger times (microseconds
            since 1970).
        also: Gates that the run meets next, as things stand.
    """

    code: str
    message: str
    remedy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    also: tuple[Gate, ...] = ()


def is_worker_alive(worker: WorkerInfo, now: int) -> bool:
    """Return whether a worker lives: not stopped, not silent for a lease, and not seen to be gone from here."""
    return worker.is_alive(now) and not is_owner_gone(worker.owner)


class Look:
    """What is read for one answer, each thing when it is first asked for."""

    def __init__(self, store: Store, run: Run, now: int, lease: int) -> None:
        """Begin with the run alone."""
        self.store = store
        self.run = run
        self.now = now
        self.lease = lease
        self.queue = run.queue or DEFAULT_QUEUE

    @cached_property
    def attempts(self) -> list[Attempt]:
        """The claims of the run, oldest first."""
        return self.store.list_attempts(self.run.run_id)

    @cached_property
    def open_waits(self) -> list[Wait]:
        """What the run still waits for."""
        return [wait for wait in self.store.list_waits(self.run.run_id) if wait.outcome is None]

    @cached_property
    def workers(self) -> list[WorkerInfo]:
        """The workers that are entered and have not stopped."""
        return [worker for worker in self.store.list_workers() if worker.stopped_at is None]

    @cached_property
    def live(self) -> list[WorkerInfo]:
        """The workers that live."""
        return [worker for worker in self.workers if is_worker_alive(worker, self.now)]

    @cached_property
    def takers(self) -> list[WorkerInfo]:
        """The live workers that take from the run's queue."""
        return [worker for worker in self.live if self.queue in worker.queues]

    def when(self, moment: int) -> str:
        """Return a moment in words: when it is, and how far from now."""
        return moment_text(moment, self.now)


# --- words ---------------------------------------------------------------------------------------


def moment_text(moment: int, now: int) -> str:
    """Return a moment in words: when it is, and how far from now.

    Example:
        >>> moment_text(0, 90_000_000)
        '1970-01-01 00:00:00 UTC (90 s ago)'
    """
    return f"{to_datetime(moment):%Y-%m-%d %H:%M:%S} UTC ({_distance(moment - now)})"


def _distance(micros: int) -> str:
    seconds = abs(micros) // 1_000_000
    if seconds < 120:
        told = f"{seconds} s"
    elif seconds < 7200:
        told = f"{seconds // 60} min"
    elif seconds < 172_800:
        told = f"{seconds // 3600} h"
    else:
        told = f"{seconds // 86400} d"
    return f"in {told}" if micros > 0 else f"{told} ago"


def error_text(error_type: str | None, message: str | None) -> str:
    """Return an error as one line."""
    return clipped(f"{error_type}: {message}" if message else str(error_type))


def clipped(text: str) -> str:
    """Return a text as one line that is not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def sentence(text: str) -> str:
    """Return a text that ends as a sentence does."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def upper(text: str) -> str:
    """Return a text that begins as a sentence does."""
    return text[:1].upper() + text[1:]


def listed(parts: Sequence[str], between: str = ", ") -> str:
    """Return the first few of many parts, and how many more there are."""
    more = len(parts) - _SHOWN
    return between.join(parts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
