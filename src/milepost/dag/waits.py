"""Steps of a Dag that wait: for a time, or for an event."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from milepost.names import DEFAULT_QUEUE
from milepost.runtime.steps import Step

__all__ = ["EVENT", "SLEEP"]


class _Wait(Step[..., Any]):
    """A step without a body: the driver waits, or the run is suspended."""

    def __init__(self, fn: Any, wait: str) -> None:
        super().__init__(fn, name=wait)
        self.wait = wait


def _sleep(duration: float | timedelta | datetime) -> None:
    raise AssertionError("a wait has no body")


def _event(event: str, timeout: float | timedelta | None = None, scope: str = DEFAULT_QUEUE) -> Any:
    raise AssertionError("a wait has no body")


SLEEP: Final = _Wait(_sleep, "sleep")
EVENT: Final = _Wait(_event, "event")
