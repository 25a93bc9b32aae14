"""Executing a run in the foreground: signals, progress, the last words, the exit code."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from milepost.cli.console import STYLES, command, say, symbol
from milepost.cli.failures import FAILED, INTERRUPTED, PAUSED, TERMINATED
from milepost.cli.follow import Follower, follower
from milepost.cli.ledgers import ledger_words
from milepost.draw.looks import brief, duration_text
from milepost.errors import AtMostOnceInterrupted, InvalidTransition
from milepost.ledger import Ledger
from milepost.model import Run
from milepost.runtime import FinishedRun, Progress, cancel_run
from milepost.states import RunStatus, StepStatus

if TYPE_CHECKING:
    OnStart = Callable[[Progress], None]

__all__ = ["Terminated", "execute", "terminating"]


class Terminated(KeyboardInterrupt):
    """SIGTERM asked this process to stop: a run takes it as it takes Ctrl-C."""


def execute(perform: Callable[[OnStart], FinishedRun], *, ledger: str | None, verb: str = "Run") -> int:
    """Perform a run in the foreground and return the exit code.

    Args:
        perform: Starts or resumes the run; it passes what it is given on as ``on_start``.
        ledger: The ledger as it was named on the command line.
        verb: What the first line begins with.

    Raises:
        MilepostError: The run could not start or go on; a run that had begun stays resumable.
    """
    shown = follower()
    began: list[int] = []

    def on_start(progress: Progress) -> None:
        began.append(_now())
        say(f"{verb} {progress.run_id} of {progress.workflow!r}")
        shown.begin(progress)

    try:
        with terminating():
            run = perform(on_start)
    except KeyboardInterrupt as error:
        shown.end()
        _tell_interrupted(shown, ledger)
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    except SystemExit as error:
        shown.end()
        if shown.progress is None:
            raise
        _tell_exited(shown.progress.run_id, error, ledger)
        return FAILED  # whatever code the step asked for: the run has not completed
    except Exception:
        shown.end()
        if shown.progress is not None:
            _tell_stopped(shown.progress.run_id, ledger)
        raise
    finally:
        shown.end()
    return _tell_end(run, shown, began[0] if began else _now(), ledger)


@contextmanager
def terminating() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` in this thread for the length of a block.

    SIGHUP is left alone: a closed terminal kills the run like ``kill -9``, and ``resume --all`` finds it.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    former: Any = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _tell_end(run: FinishedRun, shown: Follower, began: int, ledger: str | None) -> int:
    took = duration_text((_now() - began) / 1e6)
    words = ledger_words(ledger)
    if run.status == RunStatus.COMPLETED:
        _say(RunStatus.COMPLETED, f"Run {run.run_id} completed in {took}{_counted(shown)}.")
        return 0
    for change in run.changes:
        say(f"  Since it started, {change}.", is_error=True)
    if run.status == RunStatus.SUSPENDED:
        where = f" by step {run.failed_step!r}" if run.failed_step else ""
        reason = run.record.error_message or "on request"
        _say(RunStatus.SUSPENDED, f"Run {run.run_id} was paused after {took}{where}: {brief(reason, 500)}")
        say(f"  Go on with it:  {command('resume', run.run_id, *words)}")
        return PAUSED
    if run.status == RunStatus.FAILED:
        where = f" in step {run.failed_step!r}" if run.failed_step else ""
        _say(
            RunStatus.FAILED,
            f"Run {run.run_id} failed after {took}{where}: {brief(run.error or '', 500)}",
            is_error=True,
        )
        step = [run.failed_step] if run.failed_step else []
        say(f"  What happened:  {command('show', run.run_id, *step, *words)}", is_error=True)
        if isinstance(run.exception, AtMostOnceInterrupted):
            return FAILED  # a resume would meet it again
    else:
        reason = run.error or "on request"
        _say(RunStatus.CANCELLED, f"Run {run.run_id} was cancelled after {took}: {brief(reason, 500)}", is_error=True)
    say(f"  Go on with it:  {command('resume', run.run_id, *words)}", is_error=True)
    return FAILED


def _tell_interrupted(shown: Follower, ledger: str | None) -> None:
    if shown.progress is None:
        say("Interrupted before the run began.", is_error=True)
        return
    run_id = shown.progress.run_id
    run = _settled(run_id, ledger)
    status = RunStatus.CANCELLED if run is None else run.status
    if status in (RunStatus.COMPLETED, RunStatus.FAILED):
        _say(status, f"Interrupted, but run {run_id} had {status.value} just before.", is_error=True)
        return
    _say(RunStatus.CANCELLED, f"Run {run_id} was interrupted and is recorded as {status.value}.", is_error=True)
    say(f"  Go on with it:  {command('resume', run_id, *ledger_words(ledger))}", is_error=True)


def _tell_exited(run_id: str, error: SystemExit, ledger: str | None) -> None:
    """Tell that a step ended the run by ``sys.exit()``, as it is recorded."""
    run = _settled(run_id, ledger)
    status = RunStatus.CANCELLED if run is None else run.status
    reason = (run.error_message if run is not None else None) or f"a step called sys.exit({error.code!r})"
    _say(status, f"Run {run_id} is recorded as {status.value}: {brief(reason, 500)}", is_error=True)
    say(f"  Go on with it:  {command('resume', run_id, *ledger_words(ledger))}", is_error=True)


def _tell_stopped(run_id: str, ledger: str | None) -> None:
    say(f"Run {run_id} stopped; what it completed is recorded.", is_error=True)
    say(f"  Go on with it:  {command('resume', run_id, *ledger_words(ledger))}", is_error=True)


def _settled(run_id: str, ledger: str | None) -> Run | None:
    """Return the run as it stands; record the interrupt where it struck before the run's driver could take it.

    None: a ledger in memory is gone with its run.
    """
    opened = Ledger.open(ledger)
    run = opened.get_run(run_id)
    if run is not None and run.status == RunStatus.RUNNING:
        try:
            cancel_run(opened, run_id)
        except InvalidTransition:
            pass  # it had ended after all
        run = opened.get_run(run_id)
    return run


def _counted(shown: Follower) -> str:
    if shown.progress is None:
        return ""
    nodes = shown.progress.snapshot()
    done = sum(node.status == StepStatus.COMPLETED for node in nodes)
    elements = sum(node.done for node in nodes if node.kind == "map")
    told = f": {done} step{'' if done == 1 else 's'}"
    return told + (f", {elements} map element{'' if elements == 1 else 's'}" if elements else "")


def _say(status: RunStatus, text: str, *, is_error: bool = False) -> None:
    say(f"{symbol(status)} {text}", STYLES[status.value], is_error=is_error)


def _now() -> int:
    return time.time_ns() // 1000
