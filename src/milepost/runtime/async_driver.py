"""Drive a run on an event loop: async bodies are tasks, sync bodies go to threads.

An async step that is alone is awaited right here, in the driver's own task. The loop never waits
for the disk: commits are made by the ledger's commit thread, together with those of other runs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, cast

from milepost.errors import MilepostError, StepTimedOut
from milepost.runtime.bodies import call_here, is_queued, prepare, submit_to
from milepost.runtime.flight import Flight
from milepost.runtime.keeper import keeper_of
from milepost.runtime.landing import describe_interrupt
from milepost.runtime.session import RunSession
from milepost.runtime.sync_driver import GRACE
from milepost.runtime.threads import BodyThreads
from milepost.runtime.waiting import LOOK, begin_wait, look, suspend
from milepost.states import RunStatus
from milepost.store import RunWrite

__all__ = ["AsyncDriver"]


class AsyncDriver:
    """Performs one session to its end on the running loop.

    Args:
        session: The claimed run.
        max_concurrency: How many bodies may run at once.
        executor: Where sync bodies run that name none of their own; None means threads.
        threads: The threads of somebody who drives many runs; None means threads of its own.
    """

    def __init__(
        self,
        session: RunSession,
        *,
        max_concurrency: int,
        executor: Executor | None = None,
        threads: BodyThreads | None = None,
    ) -> None:
        """Prepare to drive; nothing starts yet."""
        self._session = session
        self._limit = max_concurrency
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        session.limit, session.executor = max_concurrency, executor
        self._landed: list[Flight] = []
        self._news = asyncio.Event()
        self._threads = threads
        self._has_own_threads = threads is None
        self._inline: asyncio.Task[Any] | None = None  # the driver's own task, while it awaits a body
        self._has_cancelled_inline = False  # ... and the keeper's news cancelled it
        self._cancels_before = 0  # requests to cancel the driver's task that others made before it drove
        self._clock = session.ledger.clock
        self._draw = random.random

    async def drive(self, cancelled: asyncio.CancelledError | None = None) -> None:
        """Run until the run has ended in the ledger.

        Args:
            cancelled: The driver's task was cancelled while the run was created or claimed: it ends at once.

        Raises:
            asyncio.CancelledError: The driver's task was cancelled: recorded, then raised again.
            KeyboardInterrupt: And SystemExit: recorded, then raised again.
            LeaseLost: Somebody else took the run over.
            StoreError: The ledger cannot be written; the run stays resumable.
        """
        session = self._session
        self._cancels_before = _cancels()
        keeper = keeper_of(session.ledger)
        try:
            keeper.watch(session, self._wake_from_thread)
            session.open()
            if cancelled is not None:
                raise cancelled
            await self._commit(session.opening_write())
            await self._work()
        except (KeyboardInterrupt, SystemExit, asyncio.CancelledError) as error:
            told = type(error).__name__, describe_interrupt(error, session.open_flights)
            try:
                await self._finish_stop(*(session.stop_reason or told))
            except MilepostError as unrecorded:
                error.add_note(f"The run could not be marked as cancelled: {unrecorded}")
            raise
        finally:
            keeper.release(session)
            session.abandon()  # only where the ledger failed is anything left
            session.close()
            if self._threads is not None and self._has_own_threads:
                self._threads.close()

    def hand_back(self, message: str, *, at_once: bool) -> None:
        """Give the run back to its queue: told on the loop's own thread, done by :meth:`drive`."""
        self._session.ask_to_hand_back(message, at_once=at_once)
        self._wake()  # its bodies may be ones that never ask whether to go on

    async def _work(self) -> None:
        session = self._session
        execution = session.execution
        while not session.is_over:
            if session.lost is not None:
                raise session.lost
            if session.stop_reason is not None:
                await self._finish_stop(*session.stop_reason)
                return
            call = execution.next_call() if execution.running - len(session.waits) < self._limit else None
            if call is None:
                if session.pause_reason is not None and (write := session.pause_write()) is not None:
                    await self._commit(write)
                    continue
                if session.may_suspend and session.is_waiting and await asyncio.to_thread(suspend, session):
                    return
                await self._settle(await self._wait())
                continue
            flight = session.begin(call)
            if call.node.at_most_once:
                if session.refuse_second_start(flight):
                    await self._settle([flight])
                    continue
                await self._commit(session.start_write(flight))
            if call.node.wait is not None:
                await self._settle(await asyncio.to_thread(begin_wait, session, flight))
                continue
            body = prepare(session, flight)
            if not call.node.body.is_async:
                self._submit_sync(flight, body)
            elif self._is_alone and call.node.branches is None:  # a run inside may wait, and this one with it
                await self._await_here(flight, body)
            else:
                flight.is_away = True
                flight.handle = self._loop.create_task(self._fly(flight, body))
                flight.handle.add_done_callback(partial(self._land_task, flight))

    @property
    def _is_alone(self) -> bool:
        """Whether the flight that has just begun is the only thing to do until it ends."""
        session, execution = self._session, self._session.execution
        if execution.running > 1 or session.stop_reason is not None or session.lost is not None:
            return False  # asked to stop while its start was committed: a task can be told, this one no more
        return self._limit == 1 or not (execution.has_ready or execution.next_due() is not None)

    # --- bodies ------------------------------------------------------------------------------

    async def _await_here(self, flight: Flight, body: Callable[[], Any]) -> None:
        self._inline = asyncio.current_task()
        try:
            await self._fly(flight, body, self._cancels_before)
        except asyncio.CancelledError:
            self._take_back_cancel()
            if _cancels() > self._cancels_before:
                raise  # somebody else cancelled the driver
            return
        finally:
            self._take_back_cancel()
            self._inline = None
        await self._settle([flight])

    def _take_back_cancel(self) -> None:
        # Whoever awaits the driver counts requests to cancel its task (asyncio.timeout does): ours must not stay.
        if self._has_cancelled_inline and self._inline is not None:
            self._has_cancelled_inline = False
            self._inline.uncancel()

    async def _fly(self, flight: Flight, body: Callable[[], Any], cancels_before: int = 0) -> None:
        """Await an async body and put its outcome on the flight."""
        session = self._session
        timeout = flight.call.node.body.timeout
        try:
            if timeout is None:
                value = await cast("Awaitable[Any]", body())
            else:
                value = await self._fly_within(flight, body, timeout)
        except asyncio.CancelledError as error:
            if flight.stop_reason is not None or _cancels() > cancels_before:
                raise
            session.fail(flight, error)  # the body cancelled itself: its failure, not our interrupt
        except BaseException as error:
            session.fail(flight, error)
        else:
            session.accept(flight, value)

    async def _fly_within(self, flight: Flight, body: Callable[[], Any], seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds) as limit:
                return await cast("Awaitable[Any]", body())
        except TimeoutError as error:
            if limit.expired():
                raise StepTimedOut(flight.call.label, seconds) from error
            raise  # the body's own

    def _submit_sync(self, flight: Flight, body: Any) -> None:
        session = self._session
        executor = flight.call.node.body.executor or self._executor
        if executor is not None:
            submit_to(executor, session, flight, body, self._land_from_thread)
        else:
            if self._threads is None:
                self._threads = BodyThreads()

            def work() -> None:
                call_here(session, flight, body)
                self._land_from_thread(flight)

            flight.is_away = True
            self._threads.submit(work)
        timeout = flight.call.node.body.timeout
        if timeout is not None and not flight.finished_at:
            flight.timer = self._loop.call_later(timeout, self._expire, flight, timeout)

    def _expire(self, flight: Flight, timeout: float) -> None:
        if flight.finished_at or flight.is_abandoned:
            return
        if is_queued(flight):
            flight.timer = self._loop.call_later(timeout, self._expire, flight, timeout)
            return
        flight.is_abandoned = True  # its thread may go on; what it brings comes too late
        flight.stop_reason = f"it exceeded its timeout of {timeout:g} s"
        if flight.handle is not None:
            flight.handle.cancel()
        twin = Flight(flight.call, flight.seq, flight.started_at)
        self._session.fail(twin, StepTimedOut(flight.call.label, timeout))
        self._land(twin)

    # --- waiting -----------------------------------------------------------------------------

    def _land(self, flight: Flight) -> None:
        if flight.timer is not None:
            flight.timer.cancel()  # or the loop would hold the value until the deadline
        if not flight.is_abandoned:
            self._landed.append(flight)
            self._news.set()

    def _land_task(self, flight: Flight, _: asyncio.Task[None]) -> None:
        if not flight.finished_at and flight.stop_reason is None:  # somebody cancelled the task, and it was not us
            self._session.fail(flight, asyncio.CancelledError("the step's task was cancelled"))
        self._land(flight)

    def _land_from_thread(self, flight: Flight) -> None:
        try:
            self._loop.call_soon_threadsafe(self._land, flight)
        except RuntimeError:
            pass  # the loop is closed: the run was abandoned long ago

    def _wake_from_thread(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            pass

    def _wake(self) -> None:
        self._news.set()
        session = self._session
        must_stop = session.stop_reason is not None or session.lost is not None
        if must_stop and self._inline is not None and not self._has_cancelled_inline:
            self._has_cancelled_inline = True
            self._inline.cancel()

    async def _wait(self) -> list[Flight]:
        """Wait for flights to land, a retry to fall due, or a word from the keeper."""
        if not self._landed:
            due = self._session.execution.next_due()
            pause = None if due is None else max(0.0, due - self._clock.monotonic())
            if self._session.waits:
                pause = LOOK if pause is None else min(pause, LOOK)
            if pause is None:
                await self._news.wait()
            else:
                try:
                    async with asyncio.timeout(pause):
                        await self._news.wait()
                except TimeoutError:
                    pass
            if self._session.waits:
                self._landed += await asyncio.to_thread(look, self._session)
        self._news.clear()
        landed, self._landed = self._landed, []
        self._session.execution.wake(self._clock.monotonic())
        return [flight for flight in landed if flight.finished_at]

    # --- committing --------------------------------------------------------------------------

    async def _settle(self, flights: list[Flight]) -> None:
        interrupts = [f for f in flights if isinstance(f.error, (KeyboardInterrupt, SystemExit))]
        landed = [f for f in flights if f not in interrupts] if interrupts else flights
        if landed:
            await self._commit(self._session.settle(landed, self._clock.monotonic(), self._draw()))
        for flight in interrupts:
            flight.is_abandoned = True
            assert flight.error is not None
            raise flight.error

    async def _commit(self, write: RunWrite | None) -> None:
        if write is not None:
            await self._session.ledger.commit_async(write)
            if write.end is not None or self._session.is_handed_on:
                self._session.is_over = True
            if self._session.telling is not None and (write.ends or write.end is not None):
                await asyncio.to_thread(self._session.telling.flush)  # a store of records may wait for a disk

    async def _finish_stop(self, error_type: str, message: str) -> None:
        """Stop in a task of its own, so that cancelling the driver again cannot cut it short."""
        stopping = self._loop.create_task(self._stop(error_type, message))
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                if stopping.cancelled():
                    break
        stopping.result()

    async def _stop(self, error_type: str, message: str) -> None:
        session = self._session
        session.ask_to_stop(error_type, message)
        waited = [flight for flight in session.open_flights if flight.is_away and not flight.is_abandoned]
        for flight in waited:
            if flight.handle is not None:
                flight.handle.cancel()
        deadline = self._loop.time() + (GRACE if session.grace is None else session.grace)
        while waited and not session.is_over:
            landed, self._landed = self._landed, []
            waited = [flight for flight in waited if flight not in landed]
            await self._settle([flight for flight in landed if flight.finished_at and flight.error is None])
            if not landed and not await self._hears_until(deadline):
                break
        if not session.is_over:
            await asyncio.to_thread(self._end_early, error_type, message)

    async def _hears_until(self, deadline: float) -> bool:
        try:
            async with asyncio.timeout_at(deadline):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True

    def _end_early(self, error_type: str, message: str) -> None:
        session = self._session
        session.end_early(session.interrupt(RunStatus.CANCELLED, error_type, message))


def _cancels() -> int:
    """Return how many requests to cancel the current task are open."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
