"""The keeper: one thread per open ledger that looks after the runs of this process.

It extends their leases, writes starts and pure completions that have waited long enough, and
hears requests to cancel. It owns nothing: every write carries the run's epoch, and a keeper that
is late only makes others wait less for a takeover. It ends when no run is left.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from milepost.errors import LeaseLost, MilepostError, RunBusy, StoreError
from milepost.ledger import Ledger
from milepost.owner import current_owner
from milepost.runtime.session import RunSession
from milepost.store import Store

__all__ = ["Keeper", "executing", "is_executing_here", "keeper_of"]

TICK: Final = 0.1  # seconds between flushes
_CANCEL_TICKS: Final = 5  # ticks between looks for cancel requests
_LINGER_TICKS: Final = 20  # idle ticks before the thread ends

_LOGGER: Final = logging.getLogger("milepost.keeper")

_keepers: weakref.WeakKeyDictionary[Store, Keeper] = weakref.WeakKeyDictionary()
_executing: dict[tuple[str | int, str], object] = {}
_lock = threading.Lock()


def keeper_of(ledger: Ledger) -> Keeper:
    """Return the keeper of the ledger's store in this process."""
    with _lock:
        keeper = _keepers.get(ledger.store)
        if keeper is None:
            keeper = _keepers[ledger.store] = Keeper()
        return keeper


def _begin_again() -> None:
    # A forked child executes none of its parent's runs, and their keepers' threads are not in it.
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it at the fork
    _lock = threading.Lock()
    _executing.clear()
    _keepers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)


@contextmanager
def executing(ledger: Ledger, run_id: str) -> Iterator[None]:
    """Say, from before a run is claimed until after it is given up, that this process executes it.

    Raises:
        RunBusy: Another thread of this process does already.
    """
    key = _key_of(ledger, run_id)
    mine = object()
    try:  # begun before the mark is set: wherever an interrupt strikes, a mark must not stay
        with _lock:
            if key in _executing:
                raise RunBusy(run_id, "another thread of this process", "it ends")
            _executing[key] = mine
        yield
    finally:
        if _executing.get(key) is mine:
            del _executing[key]


def is_executing_here(ledger: Ledger, run_id: str) -> bool:
    """Return whether this process executes the run right now, also where the file was opened twice."""
    return _key_of(ledger, run_id) in _executing


def _key_of(ledger: Ledger, run_id: str) -> tuple[str | int, str]:
    # Two ledgers may well hold runs of one id; two open ledgers may well be one file.
    if ledger.url == ":memory:":
        return id(ledger), run_id
    return (ledger.url if "://" in ledger.url else os.path.realpath(ledger.url)), run_id


class Keeper:
    """Looks after sessions from :meth:`watch` until :meth:`release`."""

    def __init__(self) -> None:
        """Begin with nothing to watch and no thread."""
        self._lock = threading.Lock()
        self._sessions: dict[str, tuple[RunSession, Callable[[], None]]] = {}
        self._heartbeat_at: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    def watch(self, session: RunSession, wake: Callable[[], None]) -> None:
        """Look after a session; ``wake`` makes its driver look at ``stop_reason`` and ``lost``."""
        session.wake = wake
        with self._lock:
            self._sessions[session.run_id] = (session, wake)
            self._heartbeat_at[session.run_id] = session.ledger.clock.monotonic() + session.ledger.lease / 3
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, args=(session.ledger,), name="milepost-keeper", daemon=True)
                thread.start()
                self._thread = thread  # after the start: an interrupt in between may give two, but never none

    def release(self, session: RunSession) -> None:
        """Stop looking after a session."""
        with self._lock:
            self._sessions.pop(session.run_id, None)
            self._heartbeat_at.pop(session.run_id, None)

    def _run(self, ledger: Ledger) -> None:
        pause = threading.Event()
        idle = ticks = 0
        while True:
            pause.wait(TICK)  # never set: a wait that no signal handler has to interrupt
            with self._lock:
                idle = 0 if self._sessions else idle + 1
                if idle > _LINGER_TICKS:
                    self._thread = None
                    return
            ticks += 1
            self._perform(self._flush, ledger)
            self._perform(self._extend, ledger)
            if ticks % _CANCEL_TICKS == 0 and self._sessions:
                self._perform(self._hear_cancels, ledger)

    def _perform(self, duty: Callable[[Ledger], None], ledger: Ledger) -> None:
        try:
            duty(ledger)
        except Exception:
            # A defect. The keeper must outlive it: without one, every lease of this process would run out.
            _LOGGER.exception("The keeper of %s failed at %s and goes on.", ledger.url, duty.__name__)

    def _flush(self, ledger: Ledger) -> None:
        """Commit what waits in all sessions at once."""
        found = [(session, wake, session.flush()) for session, wake in list(self._sessions.values())]
        waiting = [(session, wake, flushed) for session, wake, flushed in found if flushed is not None]
        if not waiting:
            return
        outcomes = ledger.commit_many([flushed[0] for _, _, flushed in waiting])
        for (session, wake, flushed), error in zip(waiting, outcomes, strict=True):
            if error is None:
                session.flushed(flushed[1])
            elif session.end is None:  # else its driver ended the run meanwhile, with the same rows
                session.lose(error if isinstance(error, MilepostError) else StoreError(str(error)))
                wake()

    def _extend(self, ledger: Ledger) -> None:
        now = ledger.clock.monotonic()
        due = [run_id for run_id, at in list(self._heartbeat_at.items()) if at <= now]
        found = [self._sessions.get(run_id) for run_id in due]
        sessions = {(s[0].run_id, s[0].lease_epoch): s for s in found if s is not None and s[0].end is None}
        if not sessions:
            return
        try:
            lost = ledger.store.heartbeat(
                current_owner(), list(sessions), now=ledger.clock.now(), lease=int(ledger.lease * 1e6)
            )
        except StoreError:
            return  # tried again at the next tick; if it stays so, the lease runs out, as it should
        for run_id in due:
            if run_id in self._heartbeat_at:
                self._heartbeat_at[run_id] = now + ledger.lease / 3
        for key in lost:
            session, wake = sessions[key]
            if session.end is None:
                session.lose(LeaseLost(*key))
                wake()

    def _hear_cancels(self, ledger: Ledger) -> None:
        try:
            asked = ledger.store.list_stop_requests(current_owner())
        except StoreError:
            return
        for run_id, epoch, cancels in asked:
            found = self._sessions.get(run_id)
            if found is not None and found[0].lease_epoch == epoch and found[0].stop_reason is None:
                session, wake = found
                if cancels:
                    session.ask_to_stop("RunCancelled", "somebody asked to cancel the run")
                else:
                    session.ask_to_pause("somebody asked to pause the run")
                wake()
