"""``milepost worker``: take tasks from queues and execute them, in one process or in several."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from milepost.cli.options import LedgerUrl

if TYPE_CHECKING:
    from milepost.cli.target import Flow

__all__ = ["worker"]


def worker(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET...",
            help="What it can execute: file.py:dag, pkg.mod:dag, or file.py or pkg.mod for every Dag in it.",
            show_default=False,
        ),
    ],
    queues: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            metavar="NAME",
            help="Where it takes tasks from; may be repeated, earlier ones go first. Default: default.",
            show_default=False,
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", min=1, help="How many runs at once, in each process.")
    ] = 16,
    processes: Annotated[
        int,
        typer.Option("--processes", metavar="N", min=1, help="How many worker processes; one that dies is replaced."),
    ] = 1,
    worker_id: Annotated[
        str | None,
        typer.Option(
            "--worker-id",
            metavar="ID",
            help="Its name in `milepost workers`; made from host and process if left out.",
            show_default=False,
        ),
    ] = None,
    drain: Annotated[
        str,
        typer.Option("--drain", metavar="SPAN", help="How long runs may go on after SIGTERM: 30 (seconds), 2m."),
    ] = "30",
    ledger: LedgerUrl = None,
    is_supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Take tasks from queues and execute them. SIGTERM or Ctrl-C drains; the second one stops now."""
    from milepost.cli.ledgers import refuse_memory
    from milepost.cli.times import parse_seconds
    from milepost.names import check_name
    from milepost.runtime import new_worker_id

    refuse_memory(ledger)
    seconds = parse_seconds(drain, "--drain")
    names = [check_name("queue", name) for name in queues or ["default"]]
    name = check_name("worker", worker_id or new_worker_id())
    if processes > 1:
        check_name("worker", f"{name}-{processes}")
    dags = _load(targets)
    options: dict[str, Any] = {"queues": names, "concurrency": concurrency, "drain": seconds}
    if processes == 1:
        _work(dags, name, ledger, options, is_supervised=is_supervised)
        return
    raise typer.Exit(_supervise(dags, targets, name, ledger, processes, options))


def _load(targets: list[str]) -> list[Flow]:
    """Return every Dag that the targets name, each once."""
    from milepost.cli.target import load_targets

    dags = {id(found.dag): found.dag for text in targets for found in load_targets(text)}
    return list(dags.values())


def _work(dags: list[Flow], name: str, ledger: str | None, options: dict[str, Any], *, is_supervised: bool) -> None:
    from milepost.cli.logs import log_to_stderr
    from milepost.runtime import Worker

    made = Worker(dags, ledger=ledger, worker_id=name, **options)
    log_to_stderr(name if is_supervised else None)
    if is_supervised:
        _watch_supervisor(made.stop)
    made.run()


def _watch_supervisor(stop: Any) -> None:
    """Drain when the process that started this one is gone: its end of our standard input closes then."""
    import os

    def watch() -> None:
        while os.read(0, 4096):  # not sys.stdin: a thread that waits in it must not hold its lock at the end
            pass
        stop()

    threading.Thread(target=watch, name="milepost-supervised", daemon=True).start()


def _supervise(
    dags: list[Flow], targets: list[str], name: str, ledger: str | None, processes: int, options: dict[str, Any]
) -> int:
    import os

    from milepost.cli.console import own_words
    from milepost.cli.logs import log_to_stderr
    from milepost.cli.supervisor import Supervisor
    from milepost.ledger import ENVIRONMENT
    from milepost.runtime import Worker

    # Made and let go: what cannot work is said once, here, and not by each process for ever.
    url = Worker(dags, ledger=ledger, worker_id=name, **options).ledger.full_url
    log_to_stderr(None)
    line = [*own_words(), "worker", *targets, "--supervised"]
    for queue in options["queues"]:
        line += ["--queue", queue]
    line += ["--concurrency", str(options["concurrency"]), "--drain", str(options["drain"])]
    commands = {f"{name}-{place}": [*line, "--worker-id", f"{name}-{place}"] for place in range(1, processes + 1)}
    # The ledger by the environment: a command line is no place for a password.
    return Supervisor(commands, {**os.environ, ENVIRONMENT: url}).run()
