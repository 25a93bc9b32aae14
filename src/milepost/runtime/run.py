"""Run a graph, or resume one, from start to end: what every face calls."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from milepost.errors import ConfigurationError
from milepost.graph import Graph
from milepost.ledger import Ledger
from milepost.records import RunContext
from milepost.runtime.async_driver import AsyncDriver
from milepost.runtime.keeper import executing
from milepost.runtime.lifecycle import finish, new_run, open_ledger, resume_session
from milepost.runtime.outcome import FinishedRun
from milepost.runtime.progress import Progress
from milepost.runtime.replaying import Replay, begin_replay, new_replay
from milepost.runtime.session import RunSession
from milepost.runtime.steps import check_executor
from milepost.runtime.sync_driver import SyncDriver
from milepost.store import NewRun

__all__ = [
    "RunOptions",
    "drive",
    "drive_async",
    "open_async",
    "replay_graph",
    "replay_graph_async",
    "resume_graph",
    "resume_graph_async",
    "run_graph",
    "run_graph_async",
    "to_its_end",
]

DEFAULT_CONCURRENCY: Final = 32

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How to execute a run; what it is called and where it is recorded."""

    ledger: Ledger | str | os.PathLike[str] | None = None
    run_id: str | None = None
    max_concurrency: int | None = None
    executor: Executor | None = None
    durability: str | None = None
    tags: Mapping[str, Any] | None = None
    target: str | None = None
    on_start: Callable[[Progress], None] | None = None
    on_session: Callable[[RunSession], None] | None = None
    allow_changes: bool = False
    created_by: str | None = None
    correlation_id: str | None = None
    attempt: int = 1  # the number of the first attempt, where the caller counts attempts over several runs
    headers: str = "{}"  # JSON that a face keeps with the run
    workflow: str | None = None  # what the run is listed under, where that is not the graph's name

    def __post_init__(self) -> None:
        """Refuse what could never work, before a run is created."""
        limit = self.max_concurrency
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise ConfigurationError(f"max_concurrency must be a whole number of 1 or more, not {limit!r}.")
        if isinstance(self.attempt, bool) or not isinstance(self.attempt, int) or self.attempt < 1:
            raise ConfigurationError(f"attempt must be a whole number of 1 or more, not {self.attempt!r}.")
        if self.correlation_id is not None and not isinstance(self.correlation_id, str):
            raise ConfigurationError(f"correlation_id must be a text, not {self.correlation_id!r}.")
        check_executor("executor", self.executor)
        if self.target is not None and not isinstance(self.target, str):
            raise ConfigurationError(f"target must be a text such as 'file.py:dag', not {self.target!r}.")
        if self.on_start is not None and not callable(self.on_start):
            raise ConfigurationError(f"on_start must be a function of the run's progress, not {self.on_start!r}.")

    @property
    def limit(self) -> int:
        """How many bodies may run at once."""
        return self.max_concurrency or DEFAULT_CONCURRENCY


def run_graph(graph: Graph, inputs: Mapping[str, Any], kind: str, options: RunOptions) -> FinishedRun:
    """Create a run of the graph and drive it to its end in this thread."""
    ledger = open_ledger(options.ledger, options.durability)
    new = _new(ledger, graph, inputs, kind, options)
    with executing(ledger, new.run_id):
        ledger.commit(new)
        return drive(_begin(ledger, new, graph, inputs), options)


async def run_graph_async(graph: Graph, inputs: Mapping[str, Any], kind: str, options: RunOptions) -> FinishedRun:
    """Create a run of the graph and drive it to its end on the running loop."""
    ledger = await open_async(options)
    new = _new(ledger, graph, inputs, kind, options)
    with executing(ledger, new.run_id):
        _, cancelled = await to_its_end(ledger.commit_async(new))
        return await drive_async(_begin(ledger, new, graph, inputs), options, cancelled)


def _begin(ledger: Ledger, new: NewRun, graph: Graph, inputs: Mapping[str, Any]) -> RunSession:
    session = RunSession(ledger, new.run_id, 1, graph, inputs)
    session.workflow = new.workflow
    session.family = new.run_id, new.created_by
    if session.telling is not None:
        is_last = json.loads(new.headers).get("last_attempt", True)
        session.telling.ctx = RunContext(new.run_id, new.correlation_id, new.attempt, last_attempt=is_last)
    return session


def _new(ledger: Ledger, graph: Graph, inputs: Mapping[str, Any], kind: str, options: RunOptions) -> NewRun:
    new = new_run(
        ledger,
        graph,
        inputs,
        kind=kind,
        run_id=options.run_id,
        target=options.target,
        tags=options.tags,
        created_by=options.created_by,
    )
    new.workflow = options.workflow or new.workflow
    new.correlation_id, new.attempt, new.headers = options.correlation_id, options.attempt, options.headers
    return new


def resume_graph(graph: Graph, run_id: str, options: RunOptions) -> FinishedRun:
    """Take a run up where it stopped and drive it to its end in this thread."""
    ledger = open_ledger(options.ledger, options.durability)
    with executing(ledger, run_id):
        session = resume_session(ledger, run_id, graph, target=options.target, allow_changes=options.allow_changes)
        return drive(session, options)


async def resume_graph_async(graph: Graph, run_id: str, options: RunOptions) -> FinishedRun:
    """Take a run up where it stopped and drive it to its end on the running loop."""
    ledger = await open_async(options)
    with executing(ledger, run_id):
        claiming = asyncio.to_thread(
            resume_session, ledger, run_id, graph, target=options.target, allow_changes=options.allow_changes
        )
        session, cancelled = await to_its_end(claiming)
        return await drive_async(session, options, cancelled)


def replay_graph(graph: Graph, replay: Replay, options: RunOptions) -> FinishedRun:
    """Create a run that replays another one, and drive it to its end in this thread."""
    ledger = open_ledger(options.ledger, options.durability)
    new = new_replay(ledger, graph, replay, options.run_id, options.target, options.tags, options.created_by)
    with executing(ledger, new.run_id):
        return drive(begin_replay(ledger, graph, new, replay), options)


async def replay_graph_async(graph: Graph, replay: Replay, options: RunOptions) -> FinishedRun:
    """Create a run that replays another one, and drive it to its end on the running loop."""
    ledger = await open_async(options)
    new = await asyncio.to_thread(
        new_replay, ledger, graph, replay, options.run_id, options.target, options.tags, options.created_by
    )
    with executing(ledger, new.run_id):
        beginning = asyncio.to_thread(begin_replay, ledger, graph, new, replay)
        session, cancelled = await to_its_end(beginning)
        return await drive_async(session, options, cancelled)


def drive(session: RunSession, options: RunOptions) -> FinishedRun:
    """Drive a session to its end in this thread."""
    if options.on_session is not None:
        options.on_session(session)
    if options.on_start is not None:
        options.on_start(session.progress)
    SyncDriver(session, max_concurrency=options.limit, executor=options.executor).drive()
    return finish(session)


async def drive_async(
    session: RunSession, options: RunOptions, cancelled: asyncio.CancelledError | None
) -> FinishedRun:
    """Drive a session to its end on the running loop."""
    if options.on_session is not None:
        options.on_session(session)
    if options.on_start is not None and cancelled is None:
        options.on_start(session.progress)
    await AsyncDriver(session, max_concurrency=options.limit, executor=options.executor).drive(cancelled)
    return finish(session)


async def to_its_end(work: Awaitable[T]) -> tuple[T, asyncio.CancelledError | None]:
    """Await what must not be left half-way; return its result, and the cancellation that came meanwhile.

    A run that is created or claimed by the time its task is cancelled has to be recorded as cancelled.
    """
    task = asyncio.ensure_future(work)
    cancelled = None
    while True:
        try:
            return await asyncio.shield(task), cancelled
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception as error:
            if cancelled is not None:
                raise cancelled from error
            raise


async def open_async(options: RunOptions) -> Ledger:
    """Return the ledger that a run is recorded in, without blocking the loop."""
    if isinstance(options.ledger, Ledger):
        return open_ledger(options.ledger, options.durability)
    return await asyncio.to_thread(open_ledger, options.ledger, options.durability)
