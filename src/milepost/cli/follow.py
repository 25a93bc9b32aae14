"""Following a run while it goes on: a thread that looks at its progress and shows it.

It costs the run next to nothing: the run writes its progress whether somebody looks or not, and a look that
takes long (at a graph of very many steps) makes the next one wait the longer. Whatever goes wrong here ends
the display, never the run.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from milepost.cli.console import console, is_live, say
from milepost.cli.lines import ProgressLines

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from milepost.runtime import NodeProgress, Progress

__all__ = ["Follower", "follower"]

_LOOKS: Final = 0.1  # seconds between two looks, at least
_FRAMES: Final = 8  # a second
_SHARE: Final = 20  # a look may take one part in this many of the time


class Follower:
    """Shows a run from :meth:`begin` to :meth:`end`, as plain lines."""

    def __init__(self) -> None:
        """Wait for a run to begin."""
        self.progress: Progress | None = None
        self._pause = threading.Event()
        self._thread: threading.Thread | None = None
        self._lines = ProgressLines()

    def begin(self, progress: Progress) -> None:
        """Start to follow; handed to a run as ``on_start``."""
        self.progress = progress
        try:
            self._start()
        except Exception as error:
            self._pause.set()
            say(f"The progress cannot be shown ({type(error).__name__}: {error}); the run goes on.", is_error=True)

    def end(self) -> None:
        """Show how the run stands at last, and stop; a second call does nothing."""
        if self.progress is not None and not self._pause.is_set():
            self._pause.set()
            self._stop()

    def _start(self) -> None:
        self._print()
        self._thread = threading.Thread(target=self._work, name="milepost-follower", daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._print()

    def _work(self) -> None:
        wait = 0.0
        while not self._pause.wait(wait):
            began = time.monotonic()
            self._print()
            wait = max(_LOOKS, _SHARE * (time.monotonic() - began))

    def _print(self) -> None:
        assert self.progress is not None
        for line in self._lines.look(self.progress.snapshot(), time.monotonic()):
            say(f"{time.strftime('%H:%M:%S')} {line}")


class _LiveFollower(Follower):
    """Shows a run as a display that is drawn over and over."""

    def __init__(self) -> None:
        super().__init__()
        self._live: Live | None = None
        self._view: Any = None
        self._console = console()
        self._nodes: list[NodeProgress] = []
        self._look_again = 0.0

    def _start(self) -> None:
        from rich.live import Live  # late: only a terminal needs it

        from milepost.cli.live import LiveView

        assert self.progress is not None
        self._view = LiveView(self.progress.workflow)
        self._live = Live(
            get_renderable=self._draw, console=self._console, refresh_per_second=_FRAMES, vertical_overflow="ellipsis"
        )
        self._live.start()

    def _stop(self) -> None:
        self._look_again = 0.0
        if self._live is not None:
            self._live.stop()  # draws the last frame

    def _draw(self) -> RenderableType:
        assert self.progress is not None
        began = time.monotonic()
        if began >= self._look_again:
            self._nodes = self.progress.snapshot()
            self._look_again = began + _SHARE * (time.monotonic() - began)
        rows = max(3, self._console.height - 4)
        is_over = self._pause.is_set()
        return self._view.draw(  # type: ignore[no-any-return]
            self._nodes, now=time.time_ns() // 1000, clock=began, rows=rows, is_over=is_over
        )


def follower() -> Follower:
    """Return what shows a run here: a live display on a terminal, lines elsewhere."""
    return _LiveFollower() if is_live() else Follower()
