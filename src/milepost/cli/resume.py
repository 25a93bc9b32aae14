"""``milepost resume``: go on with a run, or with every run whose process died."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING, Annotated, Final

import typer

from milepost.cli.options import AllowChanges, Durability, LedgerUrl, MaxConcurrency, RunTarget

if TYPE_CHECKING:
    from milepost.cli.target import Target
    from milepost.ledger import Ledger
    from milepost.model import Run

__all__ = ["find_target", "require_kind", "resume"]

_GRACE: Final = 10.0  # seconds a child gets to record that it was stopped


def resume(
    name: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run id, its unique beginning, or `latest`.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Go on with every run whose process died.")] = False,
    target: RunTarget = None,
    allow_changes: AllowChanges = False,
    ledger: LedgerUrl = None,
    durability: Durability = "power",
    max_concurrency: MaxConcurrency = None,
) -> None:
    """Go on with a run that died, failed, was cancelled or paused; completed steps do not run again."""
    from milepost.cli.ledgers import open_existing
    from milepost.errors import ConfigurationError

    if (name is None) != every:
        raise ConfigurationError("Name one run, or give --all for every run whose process died; not both, not neither.")
    if every and target is not None:
        raise ConfigurationError("--target belongs to one run. Name the run, or leave --target out.")
    opened = open_existing(ledger, read_only=False, durability=durability)
    if name is None:
        code = _resume_all(opened, ledger, durability, max_concurrency)
    else:
        code = _resume_one(opened, opened.find_run(name), target, ledger, max_concurrency, allow_changes=allow_changes)
    raise typer.Exit(code)


def _resume_one(
    opened: Ledger,
    run: Run,
    target: str | None,
    ledger: str | None,
    max_concurrency: int | None,
    *,
    allow_changes: bool = False,
) -> int:
    from milepost.cli.console import command
    from milepost.cli.execution import execute
    from milepost.cli.tasks import TASK, load_engine
    from milepost.errors import InvalidTransition
    from milepost.states import RunStatus

    if run.status == RunStatus.COMPLETED:
        # Said before the target is loaded: whether that can be found does not matter any more.
        look = f"Look at it: `{command('show', run.run_id)}`."
        raise InvalidTransition(f"Run {run.run_id}", "completed", "be resumed", look)
    if run.kind == TASK:
        engine = load_engine(opened, run, target)
        return execute(engine.finish, ledger=ledger, verb="Resuming task")
    found = find_target(opened, run, target)
    return execute(
        lambda on_start: found.dag.resume(
            run.run_id,
            ledger=opened,
            max_concurrency=max_concurrency,
            target=None if target is None else found.text,
            allow_changes=allow_changes,
            on_start=on_start,
        ),
        ledger=ledger,
        verb="Resuming run",
    )


def find_target(opened: Ledger, run: Run, target: str | None) -> Target:
    """Return where the Dag of a run is: as the caller says, else as the run does.

    Raises:
        ConfigurationError: Neither says, or it cannot be loaded.
    """
    from milepost.cli.target import load_target
    from milepost.errors import ConfigurationError, TargetNotFound

    place = target if target is not None else opened.get_payload(run.run_id).target
    if place is None:
        raise ConfigurationError(
            f"Run {run.run_id} does not say where its Dag is (it was not a variable of a module). "
            "Name it with --target file.py:dag, or --target file.py:function where a function returns it."
        )
    try:
        return load_target(place)
    except ConfigurationError as error:
        if target is not None or type(error) not in (ConfigurationError, TargetNotFound):
            raise  # of others, such as a list of mistakes, the place is right
        raise type(error)(f"{error} If the Dag of run {run.run_id} has moved, name it with --target.") from error


def require_kind(run: Run, kinds: tuple[str, ...], verb: str, remedy: str) -> None:
    """Refuse a run of a kind that has no such verb.

    Raises:
        ConfigurationError: Its kind is none of these.
    """
    from milepost.errors import ConfigurationError

    if run.kind not in kinds:
        known = ", ".join(map(repr, kinds))
        raise ConfigurationError(
            f"Run {run.run_id} is of kind {run.kind!r}, and `milepost {verb}` takes {known} only. {remedy}"
        )


def _resume_all(opened: Ledger, ledger: str | None, durability: str, max_concurrency: int | None) -> int:
    from milepost.cli.failures import FAILED, INTERRUPTED, TERMINATED, report
    from milepost.cli.ledgers import ledger_words
    from milepost.errors import MilepostError
    from milepost.ledger import ENVIRONMENT
    from milepost.runtime import find_interrupted, is_interrupted

    runs = find_interrupted(opened)
    if not runs:
        _tell_nothing(opened)
        return 0
    if len(runs) == 1:
        try:
            return _resume_one(opened, runs[0], None, ledger, max_concurrency)
        except MilepostError as error:
            report(error)
            return FAILED
    print(f"{len(runs)} runs to resume.", flush=True)
    # Each in a process of its own: two runs may come from different files of one name, which one
    # process cannot import both; and what one of them breaks must not reach the next.
    options = ["--durability", durability]
    environment = dict(os.environ)
    if opened.full_url == opened.url:
        options += ledger_words(ledger)
    else:
        environment[ENVIRONMENT] = opened.full_url  # a command line is no place for a password
    if max_concurrency is not None:
        options += ["--max-concurrency", str(max_concurrency)]
    worst = 0
    for run in runs:
        now = opened.get_run(run.run_id)
        if now is None or not is_interrupted(opened, now):
            print(f"Run {run.run_id} is in other hands by now.", flush=True)
            continue
        code = _perform(["resume", run.run_id, *options], environment)
        if code in (INTERRUPTED, TERMINATED):
            return code
        worst = FAILED if code else worst
    return worst


def _perform(arguments: list[str], environment: dict[str, str]) -> int:
    """Run ``milepost`` with these arguments; an interrupt waits until the child has recorded its own."""
    from milepost.cli.console import own_words
    from milepost.cli.execution import Terminated, terminating
    from milepost.cli.failures import INTERRUPTED, TERMINATED

    line = [*own_words(), *arguments]
    with terminating(), subprocess.Popen(line, env=environment) as child:  # noqa: S603 - ourselves
        try:
            return child.wait()
        except KeyboardInterrupt as error:
            # Ctrl-C reaches the whole terminal, so the child has had it; SIGTERM was for this process alone.
            if isinstance(error, Terminated):
                child.send_signal(signal.SIGTERM)
            try:
                code = child.wait(_GRACE)
            except subprocess.TimeoutExpired:
                child.kill()
                code = child.wait()
            return code if code in (INTERRUPTED, TERMINATED) else INTERRUPTED


def _tell_nothing(opened: Ledger) -> None:
    from milepost.runtime import describe_owner
    from milepost.states import RunStatus

    print("No run to resume: no process died in the middle of one.")
    for run in opened.list_runs(status=RunStatus.RUNNING, limit=5):
        print(f"  Run {run.run_id} is being executed by {describe_owner(run.lease_owner or 'nobody')}.")
