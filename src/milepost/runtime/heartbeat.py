"""The heartbeat of a worker, in a process of its own.

A step that holds the interpreter lock for a minute starves every thread of its process, and with them
any heartbeat. This process shares nothing with the worker but the ledger: it extends all leases of one
owner by one statement, for as long as the worker lives. It stops when its standard input closes or the
worker's process is gone, however it ended, and it holds its tongue while the worker is stopped (SIGSTOP): a worker
that does not move must lose its leases.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Final

from milepost.errors import MilepostError
from milepost.ledger import Ledger
from milepost.owner import is_owner_gone
from milepost.stores.postgres_address import is_postgres

__all__ = ["HeartbeatProcess", "is_stopped", "main"]

BEATS_PER_LEASE: Final = 3
_PROGRAM: Final = "import sys; from milepost.runtime.heartbeat import main; sys.exit(main(sys.stdin.buffer))"


class HeartbeatProcess:
    """Starts and ends the helper process of one worker.

    Args:
        url: The ledger's URL, with its password if it has one: it goes through a pipe, not the command line.
        owner: Whose leases are extended.
        lease: Seconds of a lease.
        worker_id: The worker that is said to live, beside its leases.
    """

    def __init__(self, url: str, owner: str, lease: float, worker_id: str = "") -> None:
        """Start the process."""
        self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal reaches the worker alone; the pipe tells the rest
        )
        order = {"url": url, "owner": owner, "lease": lease, "pid": os.getpid(), "worker_id": worker_id}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """The helper's process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the helper lives."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process and wait for it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            pass  # it is gone already
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped (SIGSTOP, a debugger) or gone, where the system tells."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _is_stopped_elsewhere(pid) if not Path("/proc/self/stat").exists() else True
    return text[text.rindex(")") + 2 :].split()[0] in {"T", "t", "Z", "X"}


def _is_stopped_elsewhere(pid: int) -> bool:  # no /proc: macOS and the BSDs
    done = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return done.returncode != 0 or done.stdout.strip()[:1] in {"T", "Z"}


def _open(url: str) -> Ledger:
    # What a beat says is worth no sync; on PostgreSQL that is the server's business.
    return Ledger.open(url) if is_postgres(url) else Ledger.open(url, durability="process")


def main(orders: IO[bytes]) -> int:
    """Extend leases until the standard input closes."""
    order = json.loads(orders.readline())
    over = threading.Event()

    def watch() -> None:
        while orders.read(1):
            pass
        over.set()

    threading.Thread(target=watch, daemon=True).start()
    lease = int(order["lease"] * 1e6)
    ledger: Ledger | None = None
    while not over.wait(order["lease"] / BEATS_PER_LEASE):
        if is_owner_gone(order["owner"]):
            break  # a process that the worker forked may hold the pipe open
        if is_stopped(order["pid"]):
            continue
        try:
            ledger = ledger or _open(order["url"])
            ledger.store.heartbeat_owner(order["owner"], now=ledger.clock.now(), lease=lease)
            ledger.store.heartbeat_worker(order["worker_id"], order["owner"], ledger.shared_now())
        except MilepostError:
            continue  # the next beat tries again; if it stays so, the leases run out, as they should
    if ledger is not None:
        ledger.close()
    return 0
