"""Several worker processes under one: started, watched, replaced when they die, stopped together.

The supervisor takes no tasks and holds no lease: it owns nothing but its processes. Each is a session of its
own command line with a pipe as its standard input: when the supervisor dies, however it dies, the pipe
closes and the workers drain. Signals reach the supervisor alone, which passes them on, so that Ctrl-C in a
terminal does not count twice.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence
from typing import Final

from milepost.cli.failures import FAILED, NOT_FOUND, USAGE

__all__ = ["Supervisor"]

_LOG: Final = logging.getLogger("milepost.worker")

_FIRST_PAUSE: Final = 0.5  # seconds before a process that died is started again, doubling up to ...
_LAST_PAUSE: Final = 30.0
_SETTLED: Final = 60.0  # a process that lived so long begins with the first pause again
_HOPELESS: Final = (USAGE, NOT_FOUND)  # it would end like this every time


class Supervisor:
    """Keeps one process for each command alive until it is told to stop.

    Args:
        commands: The command line of each worker, by its id.
        environment: What the processes have as theirs.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> None:
        """Take note; nothing is started yet."""
        self._commands = commands
        self._environment = dict(environment)
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._code = 0

    def run(self) -> int:
        """Work until SIGTERM or Ctrl-C, wait for every process, and return the exit code."""
        return asyncio.run(self._run())

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        async with asyncio.TaskGroup() as group:
            for worker_id, command in self._commands.items():
                group.create_task(self._keep(worker_id, command))
        return self._code

    def _stop(self) -> None:
        """Ask every process to stop: the first time they drain, the second time they stop now."""
        self._stopping.set()
        for process in self._processes.values():
            _ask_to_stop(process)

    async def _keep(self, worker_id: str, command: Sequence[str]) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            began = loop.time()
            code = await self._perform(worker_id, command)
            if self._stopping.is_set():
                if code not in (0, -signal.SIGTERM):  # by the signal itself: it had not begun to listen
                    _LOG.warning("worker %s ended with %s", worker_id, _told(code))
                    self._code = self._code or FAILED
                return
            if code in _HOPELESS:
                self._code = code
                self._stop()
                return
            if loop.time() - began > _SETTLED:
                pause = _FIRST_PAUSE
            _LOG.warning("worker %s died with %s; it is started again in %g s", worker_id, _told(code), pause)
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                pause = min(pause * 2, _LAST_PAUSE)

    async def _perform(self, worker_id: str, command: Sequence[str]) -> int:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, env=self._environment, process_group=0
        )
        self._processes[worker_id] = process
        _LOG.info("worker %s started as process %d", worker_id, process.pid)
        if self._stopping.is_set():
            _ask_to_stop(process)
        try:
            return await process.wait()
        finally:
            del self._processes[worker_id]


def _ask_to_stop(process: asyncio.subprocess.Process) -> None:
    try:
        process.send_signal(signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has ended meanwhile


def _told(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
