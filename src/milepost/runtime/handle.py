"""A run somewhere else: look at it, wait for it, stop it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from milepost.clock import to_datetime
from milepost.errors import RunCancelled, RunFailed, WaitTimedOut
from milepost.ledger import Gate, Ledger
from milepost.model import Run
from milepost.runtime.lifecycle import cancel_run
from milepost.states import RunStatus

__all__ = ["RunEvent", "RunHandle"]

_FIRST_LOOK: Final = 0.005  # seconds between looks at a run, growing to ...
_LAST_LOOK: Final = 0.25


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something that happened to a run or to one of its steps.

    Attributes:
        at: When, in UTC.
        run_id: The run.
        step: The step's label, or None for the run itself.
        status: The state that was entered.
        attempt: Which try of the step or run.
        error: ``Type: message`` where it failed.
    """

    at: datetime
    run_id: str
    step: str | None
    status: str
    attempt: int
    error: str | None = None


class RunHandle:
    """What ``submit`` returns; made for any run by ``RunHandle(ledger, run_id)``.

    Attributes:
        run_id: The run.
        is_new: False where the idempotency key had been used: this is the first run of that key.
    """

    def __init__(self, ledger: Ledger, run_id: str, *, is_new: bool = True) -> None:
        """Point at a run; nothing is read yet."""
        self.ledger = ledger
        self.run_id = run_id
        self.is_new = is_new

    def __repr__(self) -> str:
        """Return the id."""
        return f"<handle of run {self.run_id}>"

    @property
    def record(self) -> Run:
        """The run's row, read now.

        Raises:
            RunNotFound: It does not exist (its transaction was rolled back, or it was deleted).
        """
        return self.ledger.require_run(self.run_id)

    def status(self) -> RunStatus:
        """Return where the run stands now."""
        return self.record.status

    def why(self) -> Gate:
        """Return the gate that the run waits at; see :meth:`milepost.Ledger.why`."""
        return self.ledger.why(self.run_id)

    def cancel(self) -> str:
        """Ask the run to stop; return ``"requested"``, or ``"cancelled"`` where nobody executed it.

        Raises:
            InvalidTransition: It has ended already.
        """
        return cancel_run(self.ledger, self.run_id)

    def wait(self, timeout: float | timedelta | None = None) -> Run:
        """Return the run's row once it has ended.

        Args:
            timeout: Seconds to wait at most; None waits for ever.

        Raises:
            WaitTimedOut: It has not ended in time; the run goes on.
        """
        for pause in self._looks(timeout):
            run = self.record
            if run.finished_at is not None:
                return run
            time.sleep(pause)
        raise WaitTimedOut(self.run_id, self.record.status.value)

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the run and return the output of its final step, or a dict by label of several.

        Raises:
            RunFailed: The run failed.
            RunCancelled: The run was cancelled.
            WaitTimedOut: It has not ended in time; the run goes on.
        """
        return self._result(self.wait(timeout))

    def events(self, timeout: float | timedelta | None = None) -> Iterator[RunEvent]:
        """Yield what happens to the run and its steps, from its beginning, live until it has ended.

        Raises:
            WaitTimedOut: It has not ended in time.
        """
        seen: set[tuple[str | None, int, str]] = set()
        for pause in self._looks(timeout):
            run = self.record
            yield from self._happened(run, seen)
            if run.finished_at is not None:
                return
            time.sleep(pause)
        raise WaitTimedOut(self.run_id, self.record.status.value)

    # --- the same, awaited -------------------------------------------------------------------

    async def status_async(self) -> RunStatus:
        """Do what :meth:`status` does without blocking the event loop."""
        return await asyncio.to_thread(self.status)

    async def why_async(self) -> Gate:
        """Do what :meth:`why` does without blocking the event loop."""
        return await asyncio.to_thread(self.why)

    async def cancel_async(self) -> str:
        """Do what :meth:`cancel` does without blocking the event loop."""
        return await asyncio.to_thread(self.cancel)

    async def wait_async(self, timeout: float | timedelta | None = None) -> Run:  # noqa: ASYNC109 - as the sync one
        """Do what :meth:`wait` does without blocking the event loop."""
        for pause in self._looks(timeout):
            run = await asyncio.to_thread(self.ledger.require_run, self.run_id)
            if run.finished_at is not None:
                return run
            await asyncio.sleep(pause)
        raise WaitTimedOut(self.run_id, "still open")

    async def result_async(self, timeout: float | timedelta | None = None) -> Any:  # noqa: ASYNC109
        """Do what :meth:`result` does without blocking the event loop."""
        return await asyncio.to_thread(self._result, await self.wait_async(timeout))

    async def events_async(self, timeout: float | timedelta | None = None) -> AsyncIterator[RunEvent]:  # noqa: ASYNC109
        """Do what :meth:`events` does without blocking the event loop."""
        seen: set[tuple[str | None, int, str]] = set()
        for pause in self._looks(timeout):
            run = await asyncio.to_thread(self.ledger.require_run, self.run_id)
            for event in await asyncio.to_thread(self._happened, run, seen):
                yield event
            if run.finished_at is not None:
                return
            await asyncio.sleep(pause)
        raise WaitTimedOut(self.run_id, "still open")

    # --- inside ------------------------------------------------------------------------------

    def _looks(self, timeout: float | timedelta | None) -> Iterator[float]:
        """Yield growing pauses until the time is up; there is always a last look at its very end."""
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        clock = self.ledger.clock
        deadline = None if seconds is None else clock.monotonic() + seconds
        pause = _FIRST_LOOK
        while deadline is None or clock.monotonic() < deadline:
            yield pause if deadline is None else min(pause, max(0.0, deadline - clock.monotonic()))
            pause = min(pause * 1.5, _LAST_LOOK)
        yield 0.0

    def _result(self, run: Run) -> Any:
        if run.status == RunStatus.FAILED:
            payload = self.ledger.get_payload(run.run_id)
            raise RunFailed(
                run.run_id, run.error_step, run.error_type, run.error_message, payload.error_traceback or ""
            )
        if run.status != RunStatus.COMPLETED:
            raise RunCancelled(run.run_id, run.error_message)
        return self.ledger.get_result(run.run_id)

    def _happened(self, run: Run, seen: set[tuple[str | None, int, str]]) -> list[RunEvent]:
        found = []
        if run.started_at is not None:
            found.append(RunEvent(to_datetime(run.started_at), run.run_id, None, "running", run.attempt))
        for step in self.ledger.list_steps(run.run_id):
            found.append(RunEvent(to_datetime(step.started_at), run.run_id, step.label, "running", step.attempt))
            if step.finished_at is not None:
                error = None if step.error_type is None else f"{step.error_type}: {step.error_message}"
                at = to_datetime(step.finished_at)
                found.append(RunEvent(at, run.run_id, step.label, step.status.value, step.attempt, error))
        if run.finished_at is not None:
            error = None if run.error_type is None else f"{run.error_type}: {run.error_message}"
            at = to_datetime(run.finished_at)
            found.append(RunEvent(at, run.run_id, None, run.status.value, run.attempt, error))
        fresh = [event for event in found if (event.step, event.attempt, event.status) not in seen]
        seen.update((event.step, event.attempt, event.status) for event in fresh)
        return sorted(fresh, key=lambda event: event.at)
