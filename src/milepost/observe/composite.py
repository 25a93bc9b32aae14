"""Several observers as one, of which none can harm the others or the run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any, Final

from milepost.observe.protocol import RunObserver
from milepost.records import RunContext, RunStatus

__all__ = ["CompositeObserver"]

_LOGGER: Final = logging.getLogger("milepost.observe")


class CompositeObserver:
    """Tells each observer in order. What one of them raises is logged as ``observer_error``, and the others are told.

    Args:
        observers: Whom to tell.
        strict: Raise what an observer raises, once all were told: the run fails with it.

    Attributes:
        failures: How many calls have failed.

    Example:
        >>> from milepost.observe import ExecutionRecordsObserver, MemoryRecordStore
        >>> store = MemoryRecordStore()
        >>> CompositeObserver([ExecutionRecordsObserver(store)]).failures
        0
    """

    def __init__(self, observers: Iterable[RunObserver], *, strict: bool = False) -> None:
        """Keep the observers in their order."""
        self._observers = tuple(observers)
        self._strict = strict
        self.failures = 0
        self._lock = threading.Lock()

    def _tell(self, callback: str, *args: Any) -> None:
        first: Exception | None = None
        for observer in self._observers:
            try:
                getattr(observer, callback)(*args)
            except Exception as error:
                with self._lock:  # steps that run in parallel fail in parallel
                    self.failures += 1
                first = first or error
                told = type(observer).__name__, error
                _LOGGER.error("observer_error observer=%s error=%r", *told, exc_info=True)  # noqa: G201 - with its repr
        if self._strict and first is not None:
            raise first

    def on_pipeline_start(self, plan: Any, params: Any, ctx: RunContext) -> None:
        """Tell all."""
        self._tell("on_pipeline_start", plan, params, ctx)

    def on_pipeline_end(self, ctx: RunContext, status: RunStatus, duration_ms: int) -> None:
        """Tell all."""
        self._tell("on_pipeline_end", ctx, status, duration_ms)

    def on_process_start(self, plan: Any, ctx: RunContext, process_run_id: str) -> None:
        """Tell all."""
        self._tell("on_process_start", plan, ctx, process_run_id)

    def on_process_end(self, process_run_id: str, status: RunStatus, duration_ms: int) -> None:
        """Tell all."""
        self._tell("on_process_end", process_run_id, status, duration_ms)

    def on_step_start(self, plan: Any, ctx: RunContext, step_run_id: str) -> None:
        """Tell all."""
        self._tell("on_step_start", plan, ctx, step_run_id)

    def on_step_error(self, step_run_id: str, exc: BaseException) -> None:
        """Tell all."""
        self._tell("on_step_error", step_run_id, exc)

    def on_step_end(self, step_run_id: str, status: RunStatus, duration_ms: int) -> None:
        """Tell all."""
        self._tell("on_step_end", step_run_id, status, duration_ms)
