"""Both drivers behind one face, so that one test says what both must do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from milepost import Dag, FinishedRun

PATIENCE = 10.0  # seconds; a condition that has not come true by then never will


class Way:
    """One of the two ways to run a Dag: in this thread, or on an event loop."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, dag: Dag, **options: Any) -> FinishedRun:
        return asyncio.run(dag.run_async(**options)) if self.name == "async" else dag.run(**options)

    def resume(self, dag: Dag, run_id: str, **options: Any) -> FinishedRun:
        if self.name == "async":
            return asyncio.run(dag.resume_async(run_id, **options))
        return dag.resume(run_id, **options)


@pytest.fixture(params=["sync", "async"])
def way(request: pytest.FixtureRequest) -> Way:
    return Way(request.param)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """An event for bodies to wait on; set at the latest when the test ends, so that no thread outlives it."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Wait until a condition holds, and return what it returned."""

    def wait(condition: Callable[[], Any]) -> Any:
        pause = threading.Event()
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < deadline, "the condition never came true"
            pause.wait(0.005)
        return found

    return wait


@pytest.fixture
def in_background() -> Iterator[Callable[[Callable[[], Any]], Callable[[], Any]]]:
    """Run a function in a thread; calling what comes back waits for its result."""
    threads = []

    def start(work: Callable[[], Any]) -> Callable[[], Any]:
        outcome: list[Any] = []

        def body() -> None:
            try:
                outcome.append((work(), None))
            except BaseException as error:
                outcome.append((None, error))

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        threads.append(thread)

        def result() -> Any:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the work in the background has not ended"
            value, error = outcome[0]
            if error is not None:
                raise error
            return value

        return result

    yield start
    for thread in threads:
        thread.join(PATIENCE)
