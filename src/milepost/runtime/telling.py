"""Telling observers of a run: starts when they happen, ends once they are durable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from milepost.observe import RunObserver
from milepost.records import RunContext, RunStatus
from milepost.runtime.flight import Flight
from milepost.states import RunStatus as LedgerStatus
from milepost.states import StepStatus
from milepost.store import RunEnd

__all__ = ["Telling"]


class _Named:
    """Stands for a class in a plan: observers ask it for its name."""

    def __init__(self, name: str) -> None:
        self.__name__ = name


@dataclass(frozen=True, slots=True)
class _Plan:
    pipeline_type: _Named | None = None
    step_type: _Named | None = None


@dataclass(frozen=True, slots=True)
class _Ended:
    step_run_id: str
    status: RunStatus
    duration_ms: int
    error: BaseException | None


class Telling:
    """What one session tells its observer; used by its driver alone.

    Args:
        observer: Who is told.
        workflow: What the run executes.
        ctx: The run and its attempt.
    """

    def __init__(self, observer: RunObserver, workflow: str, ctx: RunContext) -> None:
        """Begin with nothing told."""
        self.ctx = ctx
        self._observer = observer
        self._workflow = workflow
        self._ended: list[_Ended] = []
        self._began_at = 0

    def opened(self, inputs: Mapping[str, Any], now: int) -> None:
        """Tell that the run begins here."""
        self._began_at = now
        self._observer.on_pipeline_start(_Plan(pipeline_type=_Named(self._workflow)), inputs, self.ctx)

    def began(self, flight: Flight) -> None:
        """Tell that an attempt of a step starts."""
        self._observer.on_step_start(_Plan(step_type=_Named(flight.call.label)), self.ctx, self._id(flight))

    def ended(self, flight: Flight, status: str, error: BaseException | None) -> None:
        """Note how an attempt has ended; told by :meth:`flush`, once that is durable."""
        took = max(0, flight.finished_at - flight.started_at) // 1000
        is_done = status == StepStatus.COMPLETED.value
        found = RunStatus.SUCCESS if is_done else RunStatus.FAILED
        self._ended.append(_Ended(self._id(flight), found, took, None if is_done else error))

    def cut_off(self, flight: Flight, error_type: str, message: str, now: int) -> None:
        """Note that an attempt was stopped from outside."""
        error = type(error_type, (Exception,), {})(message)
        took = max(0, now - flight.started_at) // 1000
        self._ended.append(_Ended(self._id(flight), RunStatus.FAILED, took, error))

    def flush(self) -> None:
        """Tell of the ends that are durable by now."""
        ended, self._ended = self._ended, []
        for one in ended:
            if one.error is not None:
                self._observer.on_step_error(one.step_run_id, one.error)
            self._observer.on_step_end(one.step_run_id, one.status, one.duration_ms)

    def closed(self, end: RunEnd | None, now: int) -> None:
        """Tell how the run has ended; one that is suspended or handed back has not, one that was lost has failed."""
        self.flush()
        if end is not None and end.status in (LedgerStatus.SUSPENDED, LedgerStatus.PENDING) and end.outcome != "retry":
            return
        is_done = end is not None and end.status == LedgerStatus.COMPLETED
        took = max(0, now - self._began_at) // 1000
        self._observer.on_pipeline_end(self.ctx, RunStatus.SUCCESS if is_done else RunStatus.FAILED, took)

    def _id(self, flight: Flight) -> str:
        return f"{self.ctx.run_id}/{flight.call.label}#{flight.attempt}"
