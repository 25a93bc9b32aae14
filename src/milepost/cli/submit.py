"""``milepost submit``: put a run into a queue, for whichever worker takes it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from milepost.cli.options import Inputs, InputsFile, LedgerUrl, Priority, Queue, RunId, Tags, Target

if TYPE_CHECKING:
    from milepost.runtime import RunHandle

__all__ = ["submit"]


def submit(
    target: Target,
    inputs: Inputs = None,
    file: InputsFile = None,
    queue: Queue = "default",
    priority: Priority = 0,
    delay: Annotated[
        str | None,
        typer.Option("--delay", metavar="SPAN", help="Not before: 30 (seconds), 5m, 2h.", show_default=False),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="TEXT",
            help="Idempotency key: the same key in the same queue is the same run.",
            show_default=False,
        ),
    ] = None,
    max_attempts: Annotated[
        int | None,
        typer.Option("--max-attempts", metavar="N", help="How often it may be tried (1).", show_default=False),
    ] = None,
    run_id: RunId = None,
    tags: Tags = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; the exit code is the run's.")] = False,
    ledger: LedgerUrl = None,
) -> None:
    """Put a run into a queue and print its id; a worker that knows the Dag executes it."""
    from milepost.cli.inputs import parse_tags, read_inputs
    from milepost.cli.ledgers import refuse_memory
    from milepost.cli.target import load_target
    from milepost.cli.times import parse_seconds

    refuse_memory(ledger)
    labels = parse_tags(tags or [])
    pause = None if delay is None else parse_seconds(delay, "--delay")
    found = load_target(target)
    handle = found.dag.submit(
        read_inputs(found.dag, inputs or [], file),
        ledger=ledger,
        queue=queue,
        priority=priority,
        delay=pause,
        idempotency_key=key,
        max_attempts=max_attempts,
        run_id=run_id,
        tags=labels,
        target=found.text,
    )
    print(handle.run_id, flush=True)
    if not handle.is_new:
        print(f"The key {key!r} was used before: this is its run, and nothing was submitted.", file=sys.stderr)
    if wait:
        raise typer.Exit(_wait(handle, ledger))


def _wait(handle: RunHandle, ledger: str | None) -> int:
    """Wait for the end of a run, tell it, and return the exit code."""
    from milepost.cli.console import STYLES, command, say, symbol
    from milepost.cli.failures import FAILED, INTERRUPTED
    from milepost.cli.ledgers import ledger_words
    from milepost.draw.looks import clip, duration_text, plain
    from milepost.states import RunStatus

    words = ledger_words(ledger)
    try:
        run = handle.wait()
    except KeyboardInterrupt:
        say(f"Run {handle.run_id} goes on without this command.", is_error=True)
        say(f"  What it waits for:  {command('why', handle.run_id, *words)}", is_error=True)
        return INTERRUPTED
    assert run.finished_at is not None
    took = duration_text((run.finished_at - run.created_at) / 1e6)
    style = STYLES[run.status.value]
    if run.status == RunStatus.COMPLETED:
        say(f"{symbol(run.status)} Run {run.run_id} completed {took} after it was submitted.", style)
        say(f"  Result:  {clip(plain(_result_text(handle)), 2000)}")
        return 0
    where = f" in step {run.error_step!r}" if run.error_step else ""
    error = f"{run.error_type}: {run.error_message}" if run.status == RunStatus.FAILED else run.error_message
    told = f"{run.status.value}{where}: {clip(plain(error or 'on request'), 500)}"
    say(f"{symbol(run.status)} Run {run.run_id} {told}", style, is_error=True)
    step = [run.error_step] if run.error_step else []
    say(f"  What happened:  {command('show', run.run_id, *step, *words)}", is_error=True)
    say(f"  Go on with it:  {command('resume', run.run_id, *words)}", is_error=True)
    return FAILED


def _result_text(handle: RunHandle) -> str:
    import json

    from milepost.errors import MilepostError
    from milepost.values import decode_plain, encode

    try:
        return json.dumps(decode_plain(encode(handle.result(0))), ensure_ascii=False)
    except MilepostError as error:  # an output that was not kept, or of a class that only its worker has
        return f"({error})"
