"""Telling observers of a run: starts when they happen, ends once they are durable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from milepost.graph import Graph
from milepost.observe import RunObserver
from milepost.records import RunContext, RunStatus
from milepost.runtime.flight import Flight
from milepost.runtime.progress import Progress
from milepost.states import RunStatus as LedgerStatus
from milepost.states import StepStatus
from milepost.store import RunEnd

__all__ = ["Telling"]


_STOPPED: Final = (StepStatus.FAILED, StepStatus.CANCELLED)


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
        graph: What the run executes.
        progress: How far its steps are.
        ctx: The run and its attempt.
    """

    def __init__(self, observer: RunObserver, graph: Graph, progress: Progress, ctx: RunContext) -> None:
        """Begin with nothing told."""
        self.ctx = ctx
        self._observer = observer
        self._graph = graph
        self._progress = progress
        plans: tuple[Any, Mapping[str, tuple[Any, Any]]] = graph.plans() or (None, {})
        self._plan, self._plans = plans
        self._nodes: dict[str, list[int]] = {}  # of each process that has started here and not ended
        self._process_began: dict[str, int] = {}
        self._ended: list[_Ended] = []
        self._began_at = 0

    def opened(self, inputs: Mapping[str, Any], now: int) -> None:
        """Tell that the run begins here."""
        self._began_at = now
        if self._plan is None:
            self._observer.on_pipeline_start(_Plan(pipeline_type=_Named(self._graph.name)), inputs, self.ctx)
        else:
            self._observer.on_pipeline_start(self._plan, inputs["params"], self.ctx)

    def began(self, flight: Flight) -> None:
        """Tell that an attempt of a step starts."""
        found = self._plans.get(flight.call.node.label)
        if found is None:
            self._observer.on_step_start(_Plan(step_type=_Named(flight.call.label)), self.ctx, self._id(flight))
            return
        process, step = found
        process_run_id = f"{self.ctx.run_id}/{process.process_type.__name__}"
        if process_run_id not in self._nodes:
            members = [label for label, (other, _) in self._plans.items() if other is process]
            self._nodes[process_run_id] = [self._graph[label].index for label in members]
            self._process_began[process_run_id] = flight.started_at
            self._observer.on_process_start(process, self.ctx, process_run_id)
        self._observer.on_step_start(step, replace(self.ctx, process_run_id=process_run_id), self._id(flight))

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

    def unrecorded(self) -> None:
        """Note that the ends that nobody was told of never became durable: the attempts have failed here."""
        self._ended = [replace(one, status=RunStatus.FAILED) for one in self._ended]

    def flush(self) -> None:
        """Tell of the ends that are durable by now."""
        ended, self._ended = self._ended, []
        for one in ended:
            if one.error is not None:
                self._observer.on_step_error(one.step_run_id, one.error)
            self._observer.on_step_end(one.step_run_id, one.status, one.duration_ms)
        for process_run_id, indexes in list(self._nodes.items()):
            shown = [self._progress.node(index) for index in indexes]
            ends = max((node.finished_at or 0 for node in shown), default=0)
            if all(node.status == StepStatus.COMPLETED for node in shown):
                self._end_process(process_run_id, RunStatus.SUCCESS, ends)
            elif any(node.status in _STOPPED for node in shown) and not any(node.running for node in shown):
                self._end_process(process_run_id, RunStatus.FAILED, ends)

    def _end_process(self, process_run_id: str, status: RunStatus, now: int) -> None:
        del self._nodes[process_run_id]
        took = max(0, now - self._process_began.pop(process_run_id)) // 1000
        self._observer.on_process_end(process_run_id, status, took)

    def closed(self, end: RunEnd | None, now: int) -> None:
        """Tell how the run has ended; one that is suspended or handed back has not, one that was lost has failed."""
        self.flush()
        if end is not None and end.status in (LedgerStatus.SUSPENDED, LedgerStatus.PENDING) and end.outcome != "retry":
            return
        for process_run_id in list(self._nodes):
            self._end_process(process_run_id, RunStatus.FAILED, now)
        is_done = end is not None and end.status == LedgerStatus.COMPLETED
        took = max(0, now - self._began_at) // 1000
        self._observer.on_pipeline_end(self.ctx, RunStatus.SUCCESS if is_done else RunStatus.FAILED, took)

    def _id(self, flight: Flight) -> str:
        return f"{self.ctx.run_id}/{flight.call.label}#{flight.attempt}"
