"""How a step's body is called: arguments, context, and the executor it asks for."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from milepost.errors import ConfigurationError
from milepost.runtime.flight import Flight
from milepost.runtime.session import RunSession
from milepost.runtime.steps import Step, call_by_reference

__all__ = ["call_here", "is_queued", "prepare", "submit_to"]

Body = Callable[[], Any]


def prepare(session: RunSession, flight: Flight) -> Body:
    """Return the body with its arguments bound; calling it runs the step (or makes its coroutine)."""
    step: Step[..., Any] = flight.call.node.body
    kwargs = session.execution.arguments(flight.call)
    if step.context_parameter is not None:
        kwargs[step.context_parameter] = step.make_context(session, flight)
    if step.positional:
        return partial(step.fn, *_take_positional(step, kwargs), **kwargs)
    return partial(step.fn, **kwargs)


def _take_positional(step: Step[..., Any], kwargs: dict[str, Any]) -> list[Any]:
    """Move the arguments that can only be given by position out of the others."""
    names = list(step.positional)
    while names and names[-1] not in kwargs:
        names.pop()  # the function's own default
    if all(name in kwargs for name in names):
        return [kwargs.pop(name) for name in names]
    defaults = inspect.signature(step.fn).parameters  # one that is left out before one that is given
    return [kwargs.pop(name) if name in kwargs else defaults[name].default for name in names]


def call_here(session: RunSession, flight: Flight, body: Body) -> None:
    """Run a sync body in this thread and put its outcome on the flight. Never raises."""
    try:
        value = body()
    except BaseException as error:
        session.fail(flight, error)
    else:
        session.accept(flight, value)


def submit_to(
    executor: Executor, session: RunSession, flight: Flight, body: Body, land: Callable[[Flight], None]
) -> None:
    """Run a body on the user's own executor; ``land`` gets the flight back, in whatever thread.

    Executors other than threads get the step by reference (module and name), because the function
    object that the decorator replaced cannot be pickled.
    """
    assert isinstance(body, partial)
    step: Step[..., Any] = flight.call.node.body
    work: Callable[[], Any] = body
    if not isinstance(executor, ThreadPoolExecutor):
        reason = _why_not_elsewhere(step)
        if reason is not None:
            session.fail(flight, ConfigurationError(f"Step {flight.call.label!r} cannot run on its executor: {reason}"))
            flight.is_final = True
            land(flight)
            return
        work = partial(call_by_reference, step.fn.__module__, step.fn.__qualname__, body.args, body.keywords)

    def take(future: Future[Any]) -> None:
        try:
            value = future.result()
        except BaseException as error:
            session.fail(flight, error)
        else:
            session.accept(flight, value)
        land(flight)

    flight.is_away = True
    try:
        future = executor.submit(work)
    except Exception as error:
        session.fail(flight, error)
        land(flight)
        return
    flight.handle = future
    flight.reports_start = isinstance(executor, (ThreadPoolExecutor, *_process_pools()))
    future.add_done_callback(take)


def is_queued(flight: Flight) -> bool:
    """Return whether a flight still waits for a free place in its executor: its timeout has not begun to run.

    Only the standard pools tell; elsewhere the wait counts.
    """
    return flight.reports_start and not flight.handle.running() and not flight.handle.done()


def _why_not_elsewhere(step: Step[..., Any]) -> str | None:
    """Return why another process cannot be asked to run a step, or None where it can."""
    if step.context_parameter is not None:
        return "its StepContext cannot follow it into another process. Drop the parameter, or run the step in threads."
    module, qualname = getattr(step.fn, "__module__", None), getattr(step.fn, "__qualname__", "<unnamed>")
    if module is None or "<" in qualname:
        return "another process cannot find its function. Define it with def at the top level of a module."
    return None


def _process_pools() -> tuple[type, ...]:
    # Looked up, not imported: whoever has such a pool has loaded its module, and it is slow to load.
    module = sys.modules.get("concurrent.futures.process")
    return () if module is None else (module.ProcessPoolExecutor,)
