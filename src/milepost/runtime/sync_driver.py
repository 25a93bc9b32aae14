"""Drive a run from one thread: bodies run in threads, this thread alone decides and commits.

A step that is alone (nothing else can start, nothing is in the air) runs right here, without a
hop. Completions that arrive together are committed together.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from concurrent.futures import Executor, Future
from typing import Any, Final

from milepost.errors import MilepostError, StepTimedOut
from milepost.runtime.bodies import call_here, is_queued, prepare, submit_to
from milepost.runtime.flight import Flight
from milepost.runtime.keeper import keeper_of
from milepost.runtime.landing import describe_interrupt
from milepost.runtime.session import RunSession
from milepost.runtime.threads import BodyThreads
from milepost.runtime.waiting import LOOK, begin_wait, look, suspend
from milepost.states import RunStatus
from milepost.store import RunWrite

__all__ = ["SyncDriver"]

GRACE: Final = 2.0  # seconds that running bodies get to finish when the run is stopped
_LONGEST_WAIT: Final = 3600.0  # seconds; a queue cannot wait for ever, and looking again costs nothing


class SyncDriver:
    """Performs one session to its end.

    Args:
        session: The claimed run.
        max_concurrency: How many bodies may run at once.
        executor: Where bodies run that name none of their own; None means threads.
    """

    def __init__(self, session: RunSession, *, max_concurrency: int, executor: Executor | None = None) -> None:
        """Prepare to drive; nothing starts yet."""
        self._session = session
        self._limit = max_concurrency
        self._executor = executor
        self._landed: queue.SimpleQueue[Flight | None] = queue.SimpleQueue()  # None: look at the session
        self._threads: BodyThreads | None = None
        session.limit, session.executor = max_concurrency, executor
        self._loop: _LoopThread | None = None
        self._timed: dict[int, Flight] = {}  # by seq: flights with a deadline
        self._settling: list[Flight] = []  # what is being settled, in case an interrupt cuts it short
        self._unsure: RunWrite | None = None  # ... and the write that may or may not be durable
        self._draw = random.random
        self._clock = session.ledger.clock

    def drive(self) -> None:
        """Run until the run has ended in the ledger.

        Raises:
            KeyboardInterrupt: And SystemExit: recorded, then raised again.
            LeaseLost: Somebody else took the run over.
            StoreError: The ledger cannot be written; the run stays resumable.
        """
        keeper = keeper_of(self._session.ledger)
        try:
            keeper.watch(self._session, lambda: self._landed.put(None))
            self._session.open()
            self._commit(self._session.opening_write())
            self._work()
        except (KeyboardInterrupt, SystemExit) as error:
            try:
                self._stop(type(error).__name__, describe_interrupt(error, self._session.open_flights))
            except MilepostError as unrecorded:
                error.add_note(f"The run could not be marked as cancelled: {unrecorded}")
            raise
        finally:
            keeper.release(self._session)
            self._session.abandon()  # only where the ledger failed is anything left
            self._session.close()
            if self._threads is not None:
                self._threads.close()
            if self._loop is not None:
                self._loop.close()

    def _work(self) -> None:
        session = self._session
        execution = session.execution
        while not session.is_over:
            if session.lost is not None:
                raise session.lost
            if session.stop_reason is not None:
                self._stop(*session.stop_reason)
                return
            call = execution.next_call() if execution.running - len(session.waits) < self._limit else None
            if call is None:
                if session.pause_reason is not None and (write := session.pause_write()) is not None:
                    self._commit(write)
                    continue
                if session.may_suspend and session.is_waiting and suspend(session):
                    return
                self._settle(self._wait())
                continue
            flight = session.begin(call)
            node = call.node
            if node.at_most_once and not self._start_once(flight):
                continue
            if node.wait is not None:
                self._settle(begin_wait(session, flight))
                continue
            body = prepare(session, flight)
            step = node.body
            executor = step.executor or self._executor
            if executor is None and not step.is_async and step.timeout is None and self._is_alone:
                call_here(session, flight, body)
                self._settle([flight])
                continue
            if step.timeout is not None:
                flight.deadline = self._clock.monotonic() + step.timeout
                self._timed[flight.seq] = flight
            if step.is_async:
                self._submit_async(flight, body)
            elif executor is not None:
                submit_to(executor, session, flight, body, self._landed.put)
            else:
                self._submit_thread(flight, body)

    @property
    def _is_alone(self) -> bool:
        """Whether the flight that has just begun is the only thing to do until it ends."""
        execution = self._session.execution
        if execution.running > 1:
            return False
        return self._limit == 1 or not (execution.has_ready or execution.next_due() is not None)

    def _start_once(self, flight: Flight) -> bool:
        """Make an at_most_once start durable; return whether its body may run."""
        if self._session.refuse_second_start(flight):
            self._settle([flight])
            return False
        self._commit(self._session.start_write(flight))
        return True

    def _submit_thread(self, flight: Flight, body: Any) -> None:
        if self._threads is None:
            self._threads = BodyThreads()
        session, land = self._session, self._landed.put

        def work() -> None:
            call_here(session, flight, body)
            land(flight)

        flight.is_away = True
        self._threads.submit(work)

    def _submit_async(self, flight: Flight, body: Any) -> None:
        if self._loop is None:
            self._loop = _LoopThread()
        session, land = self._session, self._landed.put

        async def work() -> None:
            try:
                value = await body()
            except BaseException as error:
                session.fail(flight, error)
            else:
                session.accept(flight, value)
            land(flight)

        flight.is_away = True
        flight.handle = self._loop.submit(work())

    # --- waiting -----------------------------------------------------------------------------

    def _wait(self) -> list[Flight]:
        """Wait for flights to land, a retry to fall due, a timeout, or a word from the keeper."""
        landed = self._landed
        try:
            first = landed.get(timeout=self._patience())
        except queue.Empty:
            first = None
        flights = [first] if first is not None else []
        while not landed.empty():
            flight = landed.get_nowait()
            if flight is not None:
                flights.append(flight)
        now = self._clock.monotonic()
        if self._timed:
            flights += self._expire(now, {flight.seq for flight in flights})
        self._session.execution.wake(now)
        if self._session.waits:
            flights += look(self._session)
        return [flight for flight in flights if not flight.is_abandoned]

    def _patience(self) -> float | None:
        due = self._session.execution.next_due()
        deadlines = [flight.deadline for flight in self._timed.values() if flight.deadline is not None]
        moments = deadlines if due is None else [due, *deadlines]
        longest = LOOK if self._session.waits else _LONGEST_WAIT
        if not moments:
            return longest if self._session.waits else None
        return min(max(0.0, min(moments) - self._clock.monotonic()), longest)

    def _expire(self, now: float, landed: set[int]) -> list[Flight]:
        """Give up on flights past their deadline: each is replaced by a twin that carries the error."""
        expired = []
        for seq in landed:
            self._timed.pop(seq, None)
        for seq, flight in list(self._timed.items()):
            if flight.deadline is None or flight.deadline > now:
                continue
            timeout = flight.call.node.body.timeout
            if is_queued(flight):
                flight.deadline = now + timeout
                continue
            del self._timed[seq]
            flight.is_abandoned = True  # its thread may go on; what it brings comes too late
            flight.stop_reason = f"it exceeded its timeout of {timeout:g} s"
            if flight.handle is not None:
                flight.handle.cancel()
            twin = Flight(flight.call, flight.seq, flight.started_at)
            self._session.fail(twin, StepTimedOut(flight.call.label, timeout))
            expired.append(twin)
        return expired

    # --- committing --------------------------------------------------------------------------

    def _settle(self, flights: list[Flight]) -> None:
        interrupts = [f for f in flights if isinstance(f.error, (KeyboardInterrupt, SystemExit))]
        landed = [f for f in flights if f not in interrupts] if interrupts else flights
        if landed:
            self._settling = landed
            self._commit(self._session.settle(landed, self._clock.monotonic(), self._draw()))
            self._settling = []
        for flight in interrupts:
            flight.is_abandoned = True
            assert flight.error is not None
            raise flight.error

    def _commit(self, write: RunWrite | None) -> None:
        if write is not None:
            self._unsure = write
            self._session.ledger.commit(write)
            self._unsure = None
            if write.end is not None or self._session.is_handed_on:
                self._session.is_over = True
            if self._session.telling is not None and (write.ends or write.end is not None):
                self._session.telling.flush()

    def _settle_again(self) -> None:
        """Commit what an interrupt may have cut short; what was durable already does not change by it."""
        if self._unsure is not None:
            self._commit(self._unsure)
        elif self._settling:
            self._commit(self._session.record(self._settling))
        self._settling = []

    def _stop(self, error_type: str, message: str) -> None:
        """End the run early: let running bodies finish for a moment, then record what did not."""
        session = self._session
        session.ask_to_stop(error_type, message)
        try:
            self._settle_again()
            self._take_stragglers()
        except KeyboardInterrupt:
            self._settle_again()  # a second Ctrl-C: stop waiting
        if not session.is_over:
            session.end_early(session.interrupt(RunStatus.CANCELLED, error_type, message))

    def _take_stragglers(self) -> None:
        """Settle the bodies that end well within the grace; the others are left behind."""
        session = self._session
        waited = [flight for flight in session.open_flights if flight.is_away and not flight.is_abandoned]
        for flight in waited:
            if flight.handle is not None and not flight.call.node.body.is_async:
                flight.handle.cancel()
        if self._loop is not None:
            self._loop.cancel_all()  # and not by handles: the interrupt may have struck before a flight got its own
        deadline = self._clock.monotonic() + (GRACE if session.grace is None else session.grace)
        while waited and not session.is_over:
            # By what a flight says of itself: an interrupt may have taken it out of the queue already.
            landed = [flight for flight in waited if flight.finished_at]
            waited = [flight for flight in waited if flight not in landed]
            self._settle([flight for flight in landed if flight.error is None])
            left = deadline - self._clock.monotonic()
            if not landed and (left <= 0 or not self._hears_within(left)):
                return

    def _hears_within(self, seconds: float) -> bool:
        try:
            self._landed.get(timeout=seconds)
        except queue.Empty:
            return False
        return True


class _LoopThread:
    """An event loop in a thread of its own, for the async steps of a run that is driven by a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="milepost-loop", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Any) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def cancel_all(self) -> None:
        self._loop.call_soon_threadsafe(self._cancel_tasks)

    def close(self) -> None:
        """Cancel what is left and end; a body that blocks the loop or will not be cancelled is not waited for long."""
        asyncio.run_coroutine_threadsafe(self._wind_up(), self._loop)
        self._thread.join(GRACE)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _cancel_tasks(self, *, but: asyncio.Task[Any] | None = None) -> set[asyncio.Task[Any]]:
        tasks = asyncio.all_tasks(self._loop) - {but}
        for task in tasks:
            task.cancel()
        return tasks

    async def _wind_up(self) -> None:
        tasks = self._cancel_tasks(but=asyncio.current_task())
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        self._loop.stop()
