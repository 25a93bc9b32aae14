"""An observer that writes one log line for each event, with names as well as ids."""

from __future__ import annotations

import logging
import threading
from typing import Any

from milepost.records import EventName, RunContext, RunStatus

__all__ = ["LoggingObserver"]


class LoggingObserver:
    """Logs every event under its name, with its facts in ``extra`` and in the message. Payloads are never logged.

    Args:
        logger: Where to; ``milepost.runs`` if left out.
        slow_step_threshold_ms: A step that takes longer gets a warning ``slow_step`` besides.
    """

    def __init__(self, logger: logging.Logger | None = None, slow_step_threshold_ms: int | None = None) -> None:
        """Begin with nothing heard."""
        self._logger = logger or logging.getLogger("milepost.runs")
        self._threshold = slow_step_threshold_ms
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()

    def _log(self, event: str, level: int = logging.INFO, **facts: Any) -> None:
        told = " ".join(f"{name}={value}" for name, value in facts.items())
        self._logger.log(level, "%s %s", event, told, extra={"event": event, "facts": facts})

    def _begin(self, key: str, unit: type) -> str:
        with self._lock:
            self._names[key] = unit.__name__
        return unit.__name__

    def _end(self, key: str) -> str | None:
        with self._lock:
            return self._names.pop(key, None)

    def on_pipeline_start(self, plan: Any, params: Any, ctx: RunContext) -> None:
        """Log it."""
        name = self._begin(ctx.run_id, plan.pipeline_type)
        facts: dict[str, Any] = {"run_id": ctx.run_id, "correlation_id": ctx.correlation_id, "attempt": ctx.attempt}
        self._log(EventName.PIPELINE_START, pipeline=name, **facts)

    def on_pipeline_end(self, ctx: RunContext, status: RunStatus, duration_ms: int) -> None:
        """Log it."""
        facts: dict[str, Any] = {"run_id": ctx.run_id, "correlation_id": ctx.correlation_id, "attempt": ctx.attempt}
        name = self._end(ctx.run_id)
        self._log(EventName.PIPELINE_END, pipeline=name, **facts, status=str(status), duration_ms=duration_ms)

    def on_process_start(self, plan: Any, ctx: RunContext, process_run_id: str) -> None:
        """Log it."""
        name = self._begin(process_run_id, plan.process_type)
        self._log(EventName.PROCESS_START, process=name, run_id=ctx.run_id, process_run_id=process_run_id)

    def on_process_end(self, process_run_id: str, status: RunStatus, duration_ms: int) -> None:
        """Log it."""
        name = self._end(process_run_id)
        facts: dict[str, Any] = {"process_run_id": process_run_id, "status": str(status), "duration_ms": duration_ms}
        self._log(EventName.PROCESS_END, process=name, **facts)

    def on_step_start(self, plan: Any, ctx: RunContext, step_run_id: str) -> None:
        """Log it."""
        name = self._begin(step_run_id, plan.step_type)
        self._log(EventName.STEP_START, step=name, run_id=ctx.run_id, step_run_id=step_run_id)

    def on_step_error(self, step_run_id: str, exc: BaseException) -> None:
        """Log it as an error."""
        with self._lock:
            name = self._names.get(step_run_id)
        self._log(EventName.STEP_ERROR, logging.ERROR, step=name, step_run_id=step_run_id, error=repr(exc))

    def on_step_end(self, step_run_id: str, status: RunStatus, duration_ms: int) -> None:
        """Log it, and warn of a slow step."""
        name = self._end(step_run_id)
        facts: dict[str, Any] = {"step": name, "step_run_id": step_run_id}
        self._log(EventName.STEP_END, **facts, status=str(status), duration_ms=duration_ms)
        if self._threshold is not None and duration_ms > self._threshold:
            self._log("slow_step", logging.WARNING, **facts, duration_ms=duration_ms, threshold_ms=self._threshold)
