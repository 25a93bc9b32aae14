"""Threads for step bodies: as many as needed, daemonic, reused.

The standard pool joins its threads when the interpreter exits, so one step that hangs past its
timeout would keep the process alive for ever. Ours are left behind instead.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable

__all__ = ["BodyThreads"]


class BodyThreads:
    """Run functions in threads; a new one is started when none is idle.

    The caller bounds how many run at once. Functions must not raise.
    """

    def __init__(self) -> None:
        """Begin with no thread."""
        self._work: queue.SimpleQueue[tuple[contextvars.Context, Callable[[], None]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._count = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work`` in a thread, in a copy of the caller's context."""
        with self._lock:
            if self._idle:
                self._idle -= 1
                is_new = False
            else:
                is_new = True
                self._count += 1
        self._work.put((contextvars.copy_context(), work))
        if is_new:
            threading.Thread(target=self._run, name=f"milepost-step-{self._count}", daemon=True).start()

    def close(self) -> None:
        """Let idle threads end; busy ones end after their work."""
        for _ in range(self._count):
            self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            context, work = item
            context.run(work)
            item = context = work = None  # type: ignore[assignment]  # keep no result alive while idle
            with self._lock:
                self._idle += 1
