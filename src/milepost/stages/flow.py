"""One flow, two ways to perform it: blocking, or on the running event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from milepost.runtime.async_driver import AsyncDriver
from milepost.runtime.session import RunSession
from milepost.runtime.sync_driver import SyncDriver

__all__ = ["Call", "Drive", "Flow", "perform", "perform_async"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """Call this function, which waits for the disk; the flow gets what it returns."""

    fn: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Drive:
    """Drive this session to its end."""

    session: RunSession


Flow = Generator[Call | Drive, Any, T]


def perform(flow: Flow[T]) -> T:
    """Perform a flow in this thread and return its result."""
    send: Callable[[Any], Call | Drive] = flow.send
    value: Any = None
    while True:
        try:
            command = send(value)
        except StopIteration as done:
            result: T = done.value
            return result
        try:
            value = None
            if isinstance(command, Drive):
                SyncDriver(command.session, max_concurrency=1).drive()
            else:
                value = command.fn()
            send = flow.send
        except BaseException as error:
            send, value = flow.throw, error


async def perform_async(flow: Flow[T]) -> T:
    """Perform a flow on the running loop and return its result.

    A task that is cancelled while it waits for the disk is cancelled in the session that follows, so that
    a run that was claimed meanwhile is recorded as cancelled.
    """
    send: Callable[[Any], Call | Drive] = flow.send
    value: Any = None
    cancelled: asyncio.CancelledError | None = None
    while True:
        try:
            command = send(value)
        except StopIteration as done:
            if cancelled is not None:
                raise cancelled from None
            result: T = done.value
            return result
        try:
            if isinstance(command, Drive):
                value, given, cancelled = None, cancelled, None
                await AsyncDriver(command.session, max_concurrency=1).drive(given)
            else:
                value, late = await _to_its_end(command.fn)
                cancelled = late or cancelled
            send = flow.send
        except BaseException as error:
            send, value = flow.throw, error


async def _to_its_end(fn: Callable[[], T]) -> tuple[T, asyncio.CancelledError | None]:
    """Call a function in a thread and wait for it, also when the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(asyncio.to_thread(fn))
    cancelled = None
    while True:
        try:
            return await asyncio.shield(task), cancelled
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
