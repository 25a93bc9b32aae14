"""One attempt of a step while it is in the air: from its start to its recorded end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from milepost.engine import Call
from milepost.store import CheckpointWrite

__all__ = ["Flight"]


class Flight:
    """What the driver, the body's thread and the keeper share about one attempt.

    The body's thread writes ``value``, ``text``, ``error``, ``is_final`` and ``finished_at`` and
    then hands the flight back; until then they belong to it. ``stop_reason`` and ``is_abandoned``
    are written by the driver and the keeper only; ``progress`` by the body only. ``attempt`` is the
    call's number at the start: the call itself goes on to the next attempt while the keeper may
    still be writing about this one.
    """

    __slots__ = (
        "attempt",
        "call",
        "deadline",
        "error",
        "finished_at",
        "handle",
        "hash",
        "is_abandoned",
        "is_away",
        "is_final",
        "is_written",
        "progress",
        "progress_sent",
        "reports_start",
        "saves",
        "seq",
        "started_at",
        "stop_reason",
        "text",
        "timer",
        "value",
    )

    def __init__(self, call: Call, seq: int, started_at: int) -> None:
        """Begin an attempt."""
        self.call = call
        self.attempt = call.attempt
        self.seq = seq
        self.started_at = started_at
        self.finished_at = 0
        self.value: Any = None
        self.text: str | None = None
        self.hash: str | None = None
        self.error: BaseException | None = None
        self.is_final = False  # no retry, whatever the policy says
        self.is_written = False  # its start row is in the ledger
        self.is_away = False  # its body was handed to a thread, an executor or a task, and comes back from there
        self.is_abandoned = False  # nobody waits for its result any more
        self.stop_reason: str | None = None
        self.progress: tuple[int | None, int | None, str | None] | None = None
        self.progress_sent: object = None
        self.deadline: float | None = None
        self.timer: asyncio.TimerHandle | None = None  # what ends it at its deadline, on an event loop
        self.reports_start = False  # its handle says when an executor takes it up
        self.saves: Sequence[CheckpointWrite] = ()  # what is committed with its end
        self.handle: Any = None  # what can cancel it: a future or a task
