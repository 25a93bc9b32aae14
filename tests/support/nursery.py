"""Worker processes on demand: forked from one that has imported everything, each a real process of its own.

Started as a script, it reads one JSON request a line from stdin, forks a worker and answers with its process
id. Forking takes a few milliseconds where a fresh interpreter takes half a second or more.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Nursery", "Process", "nursery"]

PATIENCE = 30.0  # seconds


class Process:
    """A worker that was born in the nursery, which buries it when it is dead."""

    def __init__(self, pid: int, worker_id: str, log: Path) -> None:
        self.pid = pid
        self.worker_id = worker_id
        self._log = log

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def exit_code(self) -> int | None:
        """How it ended, negative for a signal; None while it lives."""
        found = self._log.with_suffix(".exit")
        return int(found.read_text()) if found.exists() else None

    def wait(self, patience: float = PATIENCE) -> int:
        """Return the exit code once it has ended."""
        pause, deadline = threading.Event(), time.monotonic() + patience
        while (code := self.exit_code) is None:
            assert time.monotonic() < deadline, f"worker {self.worker_id} lives on:\n{self.log}"
            pause.wait(0.005)
        return code

    def helpers(self) -> list[int]:
        """Return the processes that it started and that live."""
        return [pid for pid in _children(self.pid) if is_alive(pid)]


class Nursery:
    """The parent of all workers of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._born: list[Process] = []

    def start(self, url: str, **options: Any) -> Process:
        """Start a worker on a ledger.

        Options: ``lease`` in seconds, ``is_elsewhere`` (nobody can look at its process), and those of Worker.
        """
        worker_id = options.setdefault("worker_id", f"w{len(self._born)}")
        log = self.folder / f"{worker_id}-{len(self._born)}.log"
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({"url": url, "log": str(log), **options}) + "\n")
        self._server.stdin.flush()
        process = Process(int(self._server.stdout.readline()), worker_id, log)
        self._born.append(process)
        return process

    def close(self) -> None:
        """Kill whoever lives, and wait until all are buried."""
        for process in self._born:
            if process.exit_code is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send(signal.SIGKILL)
        for process in self._born:
            process.wait()
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(PATIENCE)
        assert self._server.stdout is not None
        self._server.stdout.close()


@contextmanager
def nursery(folder: Path) -> Iterator[Nursery]:
    """Open a nursery whose workers end with the block."""
    opened = Nursery(folder)
    try:
        yield opened
    finally:
        opened.close()


def is_alive(pid: int) -> bool:
    """Return whether a process runs (a dead one that nobody has buried does not)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:
            continue
        if int(text[text.rindex(")") + 2 :].split()[1]) == pid:
            found.append(int(entry.name))
    return found


# --- in the nursery ------------------------------------------------------------------------------


def _work(request: dict[str, Any]) -> None:
    from flows import FLOWS

    from milepost import Ledger, Worker, owner

    if request.pop("is_elsewhere", False):
        owner._machine = lambda: "0bad"  # as on another machine: nobody here can look at this process
        owner._owner.cache_clear()
    log = open(request.pop("log"), "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - until the process ends
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    logging.basicConfig(stream=log, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    ledger = Ledger.open(request.pop("url"), lease=request.pop("lease", 30.0))
    Worker(FLOWS, ledger=ledger, **request).run()
    ledger.close()


def _bury(logs: dict[int, str], *, block: bool = False) -> None:
    while logs:
        try:
            pid, status = os.waitpid(-1, 0 if block else os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        path = Path(logs.pop(pid)).with_suffix(".exit")
        path.with_suffix(".new").write_text(str(os.waitstatus_to_exitcode(status)))
        path.with_suffix(".new").rename(path)


def main() -> None:
    """Answer requests until stdin ends."""
    import flows  # noqa: F401 - before the forks, not after each

    import milepost.stores.postgres
    import milepost.stores.sqlite  # noqa: F401

    logs: dict[int, str] = {}
    # The pipe wakes the loop when a child dies, so that it is buried at once.
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    import selectors

    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        rest = b""
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, 4096)
                _bury(logs)
            if sys.stdin.fileno() not in ready:
                continue
            read = os.read(sys.stdin.fileno(), 1 << 16)
            if not read:
                break
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                request = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    code = 1
                    try:
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        os.close(woken)
                        os.close(waker)
                        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                        _work(request)
                        code = 0
                    except BaseException:
                        traceback.print_exc()
                    finally:
                        sys.stderr.flush()
                        os._exit(code)
                logs[pid] = request["log"]
                print(pid, flush=True)
    _bury(logs, block=True)


if __name__ == "__main__":
    main()
