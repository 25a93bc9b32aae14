"""Writes of many threads and tasks, combined into few transactions.

Whoever comes first while nobody commits leads: it commits its own write at once, in its own
thread, so that a lone caller pays no hand-off. Whoever comes while a commit is under way queues;
when it ends, leadership passes to the head of the queue, which commits everything queued by then.
Writes of event loops are led by one background thread, because a loop must not wait for a disk.

Invariants: there is at most one leader; while the queue is not empty there is one; a caller
returns only when its own write is durable, or raises that write's own error. A leader that is
interrupted hands the others' writes on before its exception leaves (writes are idempotent, so it
does not matter whether its commit went through).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

from milepost.store import Store, Write

__all__ = ["GroupCommit"]

Outcomes = list[tuple["asyncio.Future[None]", Exception | None]]


class _Entry:
    """The queued writes of one caller, and how to tell it."""

    __slots__ = ("future", "leads", "outcomes", "signal", "writes")

    def __init__(
        self, writes: Sequence[Write], signal: threading.Lock | None, future: asyncio.Future[None] | None = None
    ) -> None:
        self.writes = writes
        self.signal = signal
        self.future = future
        self.leads = False
        self.outcomes: list[Exception | None] = []


class GroupCommit:
    """Commit writes to a store, many at a time where many arrive at once.

    Args:
        store: Where they go.
    """

    def __init__(self, store: Store) -> None:
        """Begin with nobody waiting; the background thread starts when a loop first writes."""
        self._store: Final = store
        self._mutex = threading.Lock()
        self._queue: deque[_Entry] = deque()
        self._is_led = False
        self._turns: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: lead; False: stop
        self._thread: threading.Thread | None = None
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Entry]] = {}

    def commit(self, write: Write) -> None:
        """Return when the write is durable.

        Raises:
            LeaseLost: The writer's lease is stale; nothing was written.
            StoreError: The store refused or failed.
        """
        outcome = self.commit_many((write,))[0]
        if outcome is not None:
            raise outcome

    def commit_many(self, writes: Sequence[Write]) -> list[Exception | None]:
        """Return when the writes are durable, all in one transaction: each one's error, or None."""
        with self._mutex:
            entry = None
            if self._is_led:
                entry = _Entry(writes, _closed_gate())
                self._queue.append(entry)
            else:
                self._is_led = True
        if entry is not None:
            return self._await_turn(entry)
        try:
            return self._store.apply(writes)
        finally:
            self._pass_on()

    async def commit_async(self, write: Write) -> None:
        """Return when the write is durable, without ever blocking the event loop.

        Cancelling the wait does not take the write back.

        Raises:
            LeaseLost: The writer's lease is stale; nothing was written.
            StoreError: The store refused or failed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        gathered = self._gathered.get(loop)
        if gathered is None:
            # Let every task that is ready now add its write before the thread is woken: one
            # hand-off and one transaction for all of them.
            self._gathered[loop] = gathered = []
            loop.call_soon(self._enqueue_gathered, loop)
        gathered.append(_Entry((write,), None, future))
        await future

    def close(self) -> None:
        """Let the background thread finish what is queued, then end it."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._turns.put(False)
            thread.join()

    # --- inside ------------------------------------------------------------------------------

    def _enqueue_gathered(self, loop: asyncio.AbstractEventLoop) -> None:
        entries = self._gathered.pop(loop)
        with self._mutex:
            self._queue.extend(entries)
            must_lead, self._is_led = not self._is_led, True
            if self._thread is None:
                self._thread = threading.Thread(target=self._lead_for_loops, name="milepost-commit", daemon=True)
                self._thread.start()
        if must_lead:
            self._turns.put(True)

    def _lead_for_loops(self) -> None:
        while self._turns.get():
            self._lead()

    def _await_turn(self, entry: _Entry) -> list[Exception | None]:
        assert entry.signal is not None
        try:
            entry.signal.acquire()
            if entry.leads:
                self._lead()
        except BaseException:
            # An interrupt in a caller's thread: take the write back if nobody took it yet, and
            # never leave the queue without a leader.
            with self._mutex:
                is_queued = entry in self._queue
                if is_queued:
                    self._queue.remove(entry)
                must_pass = entry.leads and is_queued
            if must_pass:
                self._pass_on()
            raise
        return entry.outcomes

    def _lead(self) -> None:
        with self._mutex:
            batch = list(self._queue)
            self._queue.clear()
        try:
            outcomes = iter(self._store.apply([write for entry in batch for write in entry.writes]))
        except BaseException as error:
            self._hand_back(batch, error)
            raise
        for entry in batch:
            entry.outcomes = list(islice(outcomes, len(entry.writes)))
        self._pass_on()
        self._tell(batch)

    def _hand_back(self, batch: list[_Entry], error: BaseException) -> None:
        # The leader's own write goes with it; a defect (an Exception here) is everybody's answer,
        # since trying again would meet it again.
        if isinstance(error, Exception):
            for entry in batch:
                entry.outcomes = [error] * len(entry.writes)
            self._pass_on()
            self._tell(batch)
            return
        with self._mutex:
            self._queue.extendleft(reversed([entry for entry in batch if not entry.leads]))
        self._pass_on()

    def _pass_on(self) -> None:
        with self._mutex:
            if not self._queue:
                self._is_led = False
                return
            head = self._queue[0]
            head.leads = True
        if head.signal is not None:
            head.signal.release()
        else:
            self._turns.put(True)

    def _tell(self, batch: list[_Entry]) -> None:
        loops: dict[asyncio.AbstractEventLoop, Outcomes] = {}
        for entry in batch:
            if entry.future is not None:
                loops.setdefault(entry.future.get_loop(), []).append((entry.future, entry.outcomes[0]))
            elif entry.signal is not None:
                entry.signal.release()
        for loop, outcomes in loops.items():
            _call_in_loop(loop, outcomes)


def _closed_gate() -> threading.Lock:
    # A bare lock that its owner waits for and somebody else releases: an Event costs ten times as much.
    gate = threading.Lock()
    gate.acquire()
    return gate


def _call_in_loop(loop: asyncio.AbstractEventLoop, outcomes: Outcomes) -> None:
    try:
        loop.call_soon_threadsafe(_settle, outcomes)
    except RuntimeError:
        pass  # the loop was closed while its writes were under way: nobody is left to tell


def _settle(outcomes: Outcomes) -> None:
    for future, outcome in outcomes:
        if future.done():
            continue  # its task was cancelled meanwhile; the write stands all the same
        if outcome is None:
            future.set_result(None)
        else:
            future.set_exception(outcome)
