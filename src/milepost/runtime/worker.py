"""A worker: takes tasks from queues and executes them, until it is told to stop.

It owns its slots, its registration and its heartbeat process; every lease it holds is one of a run in a
slot. Invariants: it claims no more than it has slots for; a lease that the ledger says it holds and no
slot knows of is given back; after a lost lease the slot is freed and nothing more of it is written. A run
that kills its workers takes others with it once or twice; from then on no two suspects share a worker.

What happens when it dies: its leases run out and any live worker rescues the runs. When it is told to
stop (SIGTERM) it claims nothing more, lets running steps finish until the deadline, and hands the rest
back; told twice, it hands back at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

from milepost.errors import (
    ConfigurationError,
    GraphChanged,
    LeaseLost,
    MilepostError,
    RunBusy,
    StoreError,
    StoreUnavailable,
)
from milepost.graph import Graph
from milepost.ledger import Ledger
from milepost.model import Run
from milepost.names import DEFAULT_QUEUE, check_name
from milepost.owner import current_owner
from milepost.runtime.async_driver import AsyncDriver
from milepost.runtime.claims import claimed_session
from milepost.runtime.giving_back import give_back, give_up
from milepost.runtime.keeper import executing
from milepost.runtime.lifecycle import open_ledger
from milepost.runtime.listener import Listener
from milepost.runtime.maintenance import Maintenance
from milepost.runtime.presence import Presence
from milepost.runtime.threads import BodyThreads
from milepost.runtime.told import tell_claimed, tell_end, tell_started
from milepost.store import ClaimedTask

__all__ = ["Worker", "Workflow", "new_worker_id"]

_LOG = logging.getLogger("milepost.worker")

POLL: Final = 1.0  # seconds between looks when nothing wakes the worker
FIRST_PAUSE: Final = 1.0  # seconds until a run that nobody here can execute may be claimed again, doubling up to ...
LAST_PAUSE: Final = 60.0
STEPS_PER_RUN: Final = 32  # bodies of one run at once
SUSPECT: Final = 2  # rescues in a row after which a run is executed beside no other such run
STOPPED: Final = "the worker was stopped"


class Workflow(Protocol):
    """What a worker executes: a face's definition with a name and a graph."""

    name: str
    kind: str

    def build(self) -> Graph:
        """Return the validated graph."""
        ...


def new_worker_id() -> str:
    """Return an id that says where the worker is: host, process, and a few random letters."""
    host = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in socket.gethostname())
    return f"w-{host[:32]}-{os.getpid()}-{secrets.token_hex(2)}"


class Worker:
    """Takes tasks from queues and executes them.

    Args:
        workflows: What it can execute, such as Dags; a run of any other workflow goes back to its queue.
        ledger: An open ledger, a path or a URL; None means ``MILEPOST_LEDGER``, else ``milepost.db``.
        queues: Where it takes tasks from; earlier queues go first.
        concurrency: How many runs at once.
        worker_id: Its name in ``milepost workers``; made from host and process if left out.
        drain: Seconds that running steps get to finish after a request to stop.
        max_rescues: A run whose workers died so often in a row without completing a step fails.
        heartbeat_process: Extend leases from a process of its own, so that a step that holds the
            interpreter lock cannot starve the heartbeat.

    Raises:
        ConfigurationError: A name or number cannot work, or two workflows share a name.

    Example:
        >>> from milepost import Dag, Worker
        >>> dag = Dag("greet")
        >>> _ = dag.node(lambda: "hello", label="hello")
        >>> worker = Worker([dag], ledger=":memory:", heartbeat_process=False)
        >>> handle = dag.submit({}, ledger=worker.ledger)
        >>> worker.run_until_idle()
        1
        >>> handle.result()
        'hello'
    """

    def __init__(
        self,
        workflows: Iterable[Workflow],
        *,
        ledger: Ledger | str | os.PathLike[str] | None = None,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        concurrency: int = 16,
        worker_id: str | None = None,
        drain: float | timedelta = 30.0,
        max_rescues: int = 5,
        heartbeat_process: bool = True,
    ) -> None:
        """Check everything; nothing is claimed yet."""
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigurationError(f"concurrency must be a whole number of 1 or more, not {concurrency!r}.")
        if isinstance(queues, str) or not queues:
            raise ConfigurationError(f"queues must be a list of at least one name, not {queues!r}.")
        self.queues = tuple(check_name("queue", queue) for queue in dict.fromkeys(queues))
        self.worker_id = check_name("worker", worker_id or new_worker_id())
        self.concurrency = concurrency
        self.ledger = open_ledger(ledger)
        self._graphs = _graphs(workflows)
        self._drain = drain.total_seconds() if isinstance(drain, timedelta) else float(drain)
        self._owner = current_owner()
        self._lease = int(self.ledger.lease * 1e6)
        self._has_helper = heartbeat_process
        self._maintenance = Maintenance(self.ledger, max_rescues=max_rescues)
        self._slots: dict[tuple[str, int], AsyncDriver | None] = {}  # by run and epoch
        self._suspect: tuple[str, int] | None = None  # the one run here whose workers died again and again
        self._is_handing_back = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = BodyThreads()
        self._stops = 0
        self._executed = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: asyncio.Event | None = None

    # --- running -----------------------------------------------------------------------------

    def run(self) -> None:
        """Work until :meth:`stop`, SIGTERM or Ctrl-C; then drain. Blocks.

        Raises:
            WorkerExists: A live worker has this id.
            StoreError: The ledger cannot be opened or written.
        """
        asyncio.run(self.run_async())

    def run_until_idle(self) -> int:
        """Work until nothing is due, and return how many runs were executed: for tests and scripts."""
        return asyncio.run(self.run_async(until_idle=True))

    async def run_async(self, *, until_idle: bool = False) -> int:
        """Do what :meth:`run` does on the running event loop; return how many runs were executed."""
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._is_handing_back = False  # a worker may be run again
        self._threads = BodyThreads()
        self._executed = 0
        restore = self._take_signals()  # first of all: whoever is entered as a worker ends as one
        presence = Presence(
            self.ledger,
            self.worker_id,
            queues=self.queues,
            workflows=sorted(self._graphs),
            concurrency=self.concurrency,
            has_helper=self._has_helper,
            holds=self._slots.__contains__,
        )
        try:
            await asyncio.to_thread(presence.enter)
            tell_started(self.worker_id, self._graphs, self.queues, self.concurrency)
            try:
                await self._execute_all(presence, until_idle=until_idle)
            finally:
                await asyncio.to_thread(presence.leave)
            _LOG.info("worker %s has stopped", self.worker_id)
        finally:
            restore()
        return self._executed

    async def _execute_all(self, presence: Presence, *, until_idle: bool) -> None:
        background = [asyncio.create_task(presence.beat()), asyncio.create_task(self._maintain())]
        listener = Listener(self.ledger, self._wake_from_thread)
        try:
            await self._work(until_idle=until_idle)
            await self._finish()
        finally:
            listener.close()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            self._threads.close()

    def stop(self) -> None:
        """Ask the worker to stop, from any thread: the first time it drains, the second time it stops now."""
        self._stops += 1
        self._wake_from_thread()

    @property
    def executing(self) -> list[str]:
        """The ids of the runs in its slots."""
        return [run_id for run_id, _ in self._slots]

    async def _work(self, *, until_idle: bool) -> None:
        assert self._news is not None
        while not self._is_stopping():
            self._news.clear()
            free = self.concurrency - len(self._slots)
            claimed = await self._claim(free) if free else []
            if self._is_stopping():
                for task in claimed:
                    await asyncio.to_thread(give_back, self.ledger, task.run, "Released", STOPPED)
                return
            for task in await self._postpone_suspects(claimed):
                self._begin(task)
            if len(claimed) == free and free:
                continue  # every slot that was asked for is filled: there may be more to do soon
            if until_idle and not claimed and not self._slots:
                return
            await self._wait(is_full=len(self._slots) >= self.concurrency)

    def _is_stopping(self) -> bool:
        return self._stops > 0

    async def _claim(self, free: int) -> list[ClaimedTask]:
        def claim() -> list[ClaimedTask]:
            now = self.ledger.shared_now()
            return self.ledger.store.claim_tasks(self.queues, owner=self._owner, now=now, lease=self._lease, limit=free)

        try:
            return await asyncio.to_thread(claim)
        except StoreError as error:
            _LOG.warning("no task could be claimed: %s", error)
            return []

    async def _wait(self, *, is_full: bool) -> None:
        assert self._news is not None
        # What falls due while every slot is taken has to wait for one: no reason to look.
        pause = POLL if is_full else await asyncio.to_thread(self._until_due)
        try:
            async with asyncio.timeout(pause):
                await self._news.wait()
        except TimeoutError:
            pass

    def _until_due(self) -> float:
        """Return the seconds until something falls due, at most those between two looks."""
        try:
            due = self.ledger.store.next_due()
            return POLL if due is None else min(POLL, max(0.0, (due - self.ledger.shared_now()) / 1e6))
        except StoreError:
            return POLL

    # --- one run -----------------------------------------------------------------------------

    def _begin(self, claimed: ClaimedTask) -> None:
        key = claimed.run.run_id, claimed.run.lease_epoch
        self._slots[key] = None
        if claimed.run.rescues >= SUSPECT:
            self._suspect = key
        tell_claimed(claimed.run)
        task = asyncio.create_task(self._execute(claimed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, claimed: ClaimedTask) -> None:
        run = claimed.run
        try:
            with executing(self.ledger, run.run_id):
                await self._execute_claimed(claimed)
            self._executed += 1
        except RunBusy:  # it was rescued from this very worker, which has not heard of that yet
            await self._put_back(run, "RunBusy", "an earlier claim of it has not ended in this process")
        except (LeaseLost, StoreUnavailable) as error:
            _LOG.warning("run %s left this worker: %s", run.run_id, error)
        except Exception as error:
            _LOG.exception("run %s could not be executed", run.run_id)
            await asyncio.to_thread(give_up, self.ledger, run, error)
        finally:
            key = run.run_id, run.lease_epoch
            self._slots.pop(key, None)
            if self._suspect == key:
                self._suspect = None
            assert self._news is not None
            self._news.set()

    async def _execute_claimed(self, claimed: ClaimedTask) -> None:
        run = claimed.run
        began = self.ledger.clock.monotonic()
        graph = self._graphs.get(run.workflow)
        if graph is None:
            await self._put_back(run, "UnknownWorkflow", "this worker does not know the workflow")
            return
        try:
            is_as_submitted = run.hash == graph.fingerprint and not claimed.payload.has_unchecked_inputs
            if run.lease_epoch == 1 and is_as_submitted and run.replay_of is None:
                session = claimed_session(self.ledger, claimed, graph)  # nothing to read: no hop
            else:
                session = await asyncio.to_thread(claimed_session, self.ledger, claimed, graph)
        except GraphChanged as error:
            await self._put_back(run, "GraphChanged", str(error))
            return
        driver = AsyncDriver(session, max_concurrency=STEPS_PER_RUN, threads=self._threads)
        self._slots[run.run_id, run.lease_epoch] = driver
        if self._is_handing_back:
            driver.hand_back(STOPPED, at_once=True)
        await driver.drive()
        if session.end is not None:
            tell_end(run, session.end, self.ledger.clock.monotonic() - began)

    async def _postpone_suspects(self, claimed: list[ClaimedTask]) -> list[ClaimedTask]:
        """Give back all but one of the runs whose workers died again and again; return what is to be begun."""
        suspects = [task for task in claimed if task.run.rescues >= SUSPECT]
        late = suspects if self._suspect is not None else suspects[1:]
        for task in late:  # before any of them begins, and takes the others with it
            message = "another run whose workers died again and again goes first"
            await asyncio.to_thread(give_back, self.ledger, task.run, "Released", message, FIRST_PAUSE)
        return [task for task in claimed if task not in late]

    async def _put_back(self, run: Run, kind: str, message: str) -> None:
        """Give back what cannot be executed here, for longer each time."""
        pause = min(FIRST_PAUSE * 2 ** min(run.lease_epoch - 1, 10), LAST_PAUSE)
        await asyncio.to_thread(give_back, self.ledger, run, kind, message, pause)

    # --- stopping ----------------------------------------------------------------------------

    async def _finish(self) -> None:
        """Let running runs end until the deadline, then hand them back."""
        assert self._news is not None
        if self._tasks:
            _LOG.info("stopping: %d running runs get %g s to finish", len(self._tasks), self._drain)
        deadline = self.ledger.clock.monotonic() + self._drain
        while self._tasks and self._stops < 2 and (left := deadline - self.ledger.clock.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
                self._news.clear()
            except TimeoutError:
                break
        self._is_handing_back = True
        for driver in list(self._slots.values()):
            if driver is not None:
                driver.hand_back(STOPPED, at_once=self._stops > 1)
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take_signals(self) -> Callable[[], None]:
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        assert self._loop is not None
        loop = self._loop
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

        def restore() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

        return restore

    def _wake_from_thread(self) -> None:
        loop, news = self._loop, self._news
        if loop is None or news is None:
            return
        try:
            loop.call_soon_threadsafe(news.set)
        except RuntimeError:
            pass  # the loop is closed: the worker has ended

    async def _maintain(self) -> None:
        while True:
            try:
                pause = await asyncio.to_thread(self._maintain_once)
            except MilepostError as error:
                _LOG.warning("maintenance failed: %s", error)
                pause = POLL
            except Exception:  # this task must outlive whatever one round meets
                _LOG.exception("maintenance met a defect")
                pause = POLL
            await asyncio.sleep(pause)

    def _maintain_once(self) -> float:
        self._maintenance.run_once()
        return self._maintenance.pause()


def _graphs(workflows: Iterable[Workflow]) -> Mapping[str, Graph]:
    graphs: dict[str, Graph] = {}
    for workflow in workflows:
        if workflow.name in graphs:
            raise ConfigurationError(f"Two workflows are named {workflow.name!r}. Give one of them another name.")
        graphs[workflow.name] = workflow.build()
    return graphs
