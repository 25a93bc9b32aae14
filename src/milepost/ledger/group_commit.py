"""Writes of many threads and tasks, combined into few transactions.

Whoever comes first while nobody commits leads: it commits its own write at once, in its own
thread, so that a lone caller pays no hand-off. Whoever comes while a commit is under way queues;
when it ends, leadership passes to the head of the queue, which commits everything queued by then.
Writes of event loops are led by one background thread, because a loop must not wait for a disk.

Invariants: there is at most one leader; while the queue is not empty there is one; a caller
returns only when its own write is durable, or raises that write's own error.

An interrupt (Ctrl-C) may strike a caller's thread between any two calls. Whoever leaves, by whatever
way, therefore passes :meth:`GroupCommit._leave`, which puts the invariants right from any state in
between: it hands leadership on, and returns what the leader took and did not answer to the queue.
Writes are idempotent, so it does not matter whether their commit had gone through. State that
belongs together changes in one statement without a call in it, which no interrupt can split.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import weakref
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from milepost.errors import StoreError, StoreUnavailable
from milepost.store import Store, Write

__all__ = ["GroupCommit"]

Answers = list[Exception | None]


class _Entry:
    """The writes of one caller and how to tell it: a thread by its ``turn``, a task by its ``future``."""

    __slots__ = ("future", "is_told", "outcomes", "turn", "writes")

    def __init__(self, writes: Sequence[Write], future: asyncio.Future[None] | None = None) -> None:
        self.writes = writes
        self.future = future
        self.turn: threading.Lock | None = None  # held until its thread is told, or is to lead
        self.is_told = False
        self.outcomes: Answers = []


class GroupCommit:
    """Commit writes to a store, many at a time where many arrive at once.

    Args:
        store: Where they go.
    """

    def __init__(self, store: Store) -> None:
        """Begin with nobody waiting; the background thread starts when a loop first writes."""
        self._store: Final = store
        self._begin()
        _alive.add(self)

    def _begin(self) -> None:
        self._mutex = threading.Lock()
        self._leader: _Entry | None = None
        self._queue: deque[_Entry] = deque()
        self._batch: Collection[_Entry] = ()  # what the leader took from the queue
        self._is_closed = False
        self._turns: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()  # whom the thread leads for; None: stop
        self._thread: threading.Thread | None = None
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Entry]] = {}

    def commit(self, write: Write) -> None:
        """Return when the write is durable.

        Raises:
            LeaseLost: The writer's lease is stale; nothing was written.
            StoreError: The store refused or failed, or is closed.
        """
        outcome = self.commit_many((write,))[0]
        if outcome is not None:
            raise outcome

    def commit_many(self, writes: Sequence[Write]) -> list[Exception | None]:
        """Return when the writes are durable, all in one transaction: each one's error, or None."""
        entry = _Entry(writes)
        try:
            outcomes = self._perform(entry)
        finally:
            try:
                self._leave(entry)
            except BaseException:
                self._leave(entry)  # an interrupt struck while leaving
                raise
        return outcomes

    async def commit_async(self, write: Write) -> None:
        """Return when the write is durable, without ever blocking the event loop.

        Cancelling the wait does not take the write back.

        Raises:
            LeaseLost: The writer's lease is stale; nothing was written.
            StoreError: The store refused or failed, or is closed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        gathered = self._gathered.get(loop)
        if gathered is None:
            # Let every task that is ready now add its write before the thread is woken: one
            # hand-off and one transaction for all of them.
            for other in list(self._gathered):
                if other.is_closed():
                    self._gathered.pop(other, None)
            loop.call_soon(self._enqueue_gathered, loop)
            self._gathered[loop] = gathered = []
        gathered.append(_Entry((write,), future))
        await future

    def close(self) -> None:
        """Commit what is queued, refuse what comes later, end the background thread, and close the store."""
        with self._mutex:
            if self._is_closed:
                return
            self._is_closed = True
            thread = self._thread
        if thread is threading.current_thread():
            self._turns.put(None)  # the last reference went in the thread itself: it closes the store when it ends
            return
        # A last entry without a write: when its turn has come, everything before it is done.
        entry = _Entry(())
        try:
            self._perform(entry)
        finally:
            self._leave(entry)
        if thread is None:
            self._store.close()
        else:
            self._turns.put(None)
            thread.join()

    # --- a caller's way through ---------------------------------------------------------------

    def _perform(self, entry: _Entry) -> Answers:
        turn = None
        with self._mutex:
            if self._is_closed and entry.writes:
                return [self._closed_error()] * len(entry.writes)
            if self._leader is None and not self._queue:
                self._leader = entry
            else:
                turn = threading.Lock()
                turn.acquire()
                entry.turn = turn
                self._queue.append(entry)
                if self._leader is None:
                    self._appoint()
        if turn is None:
            return self._store.apply(entry.writes) if entry.writes else []
        turn.acquire()
        if not entry.is_told:
            self._lead(entry)
        return entry.outcomes

    def _lead(self, leader: _Entry) -> None:
        """Commit what is queued (the leader's own writes are its head) and tell everybody."""
        with self._mutex:
            fresh: deque[_Entry] = deque()
            self._batch, self._queue = self._queue, fresh
        batch = self._batch
        writes = [write for entry in batch for write in entry.writes]
        try:
            outcomes = self._store.apply(writes) if writes else []
        except Exception as error:
            # A defect is everybody's answer: trying again would meet it again.
            outcomes = [error] * len(writes)
        begin = 0
        for entry in batch:
            after = begin + len(entry.writes)
            entry.outcomes = outcomes[begin:after]
            begin = after
        self._tell(batch, leader)

    def _tell(self, batch: Iterable[_Entry], leader: _Entry) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[_Entry]] = {}
        for entry in batch:
            if entry.future is not None:
                loops.setdefault(entry.future.get_loop(), []).append(entry)
            elif entry is not leader and entry.turn is not None:
                entry.is_told = True
                entry.turn.release()
        for loop, entries in loops.items():
            _settle_in_loop(loop, entries)
            for entry in entries:
                entry.is_told = True

    def _leave(self, entry: _Entry) -> None:
        """Put the invariants right when a caller goes, whether it was answered, failed or was interrupted."""
        with self._mutex:
            if self._leader is entry:
                if self._batch:
                    waiting = deque(other for other in self._batch if not other.is_told and _is_waiting(other, entry))
                    waiting.extend(self._queue)
                    self._queue, self._batch = waiting, ()
                if self._queue and self._queue[0] is entry and entry.future is None:
                    self._queue.popleft()  # interrupted after its appointment, before it took the batch
                self._appoint()
            elif entry.turn is not None and not entry.is_told and entry in self._queue:
                self._queue.remove(entry)  # interrupted before anybody took it

    def _appoint(self) -> None:
        # The caller holds the mutex. Between naming the leader and waking it, nothing is called.
        if not self._queue:
            self._leader = None
            return
        head = self._queue[0]
        if head.turn is not None:
            self._leader = head
            head.turn.release()
        else:
            self._leader = head
            self._turns.put(head)

    def _closed_error(self) -> StoreError:
        return StoreError(f"The ledger {self._store.url} has been closed. Open it again: Ledger.open.")

    # --- on behalf of event loops -------------------------------------------------------------

    def _enqueue_gathered(self, loop: asyncio.AbstractEventLoop) -> None:
        entries = self._gathered.pop(loop, [])
        with self._mutex:
            if not self._is_closed:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._lead_for_loops, name="milepost-commit", daemon=True)
                    self._thread.start()
                self._queue.extend(entries)
                if self._leader is None:
                    self._appoint()
                return
        for entry in entries:
            entry.outcomes = [self._closed_error()]
        _settle(entries)

    def _lead_for_loops(self) -> None:
        while (entry := self._turns.get()) is not None:
            try:
                self._lead(entry)
            except BaseException as error:
                stopped = StoreUnavailable(f"The commit to {self._store.url} was interrupted by {error!r}. Try again.")
                untold = [other for other in self._batch if not other.is_told]
                for other in untold:
                    other.outcomes = [stopped] * len(other.writes)
                self._tell(untold, entry)
            finally:
                self._leave(entry)
        self._store.close()


def _is_waiting(entry: _Entry, leader: _Entry) -> bool:
    # A thread that leads and leaves waits no longer; a task on whose behalf the background thread leads does.
    return entry is not leader or entry.future is not None


def _settle_in_loop(loop: asyncio.AbstractEventLoop, entries: list[_Entry]) -> None:
    try:
        loop.call_soon_threadsafe(_settle, entries)
    except RuntimeError:
        pass  # the loop was closed while its writes were under way: nobody is left to tell


def _settle(entries: list[_Entry]) -> None:
    for entry in entries:
        future = entry.future
        if future is None or future.done():
            continue  # its task was cancelled meanwhile; the write stands all the same
        outcome = entry.outcomes[0]
        if outcome is None:
            future.set_result(None)
        else:
            future.set_exception(outcome)


_alive: weakref.WeakSet[GroupCommit] = weakref.WeakSet()


def _begin_again() -> None:
    # In a forked child neither the threads of the queue's callers nor the background thread exist.
    for committer in list(_alive):
        committer._begin()  # noqa: SLF001 - the class's own hook


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)
