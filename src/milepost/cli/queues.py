"""``milepost queues``: how deep they are, and whether tasks may be taken from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from milepost.cli.options import AsJson, LedgerUrl

if TYPE_CHECKING:
    from milepost.model import QueueInfo

__all__ = ["queues"]

QueueName = Annotated[str, typer.Argument(metavar="NAME", help="The queue; it need not hold tasks.")]

queues = typer.Typer(invoke_without_command=True)


@queues.callback()
def overview(context: typer.Context, ledger: LedgerUrl = None, as_json: AsJson = False) -> None:
    """List queues with their depth and the age of the oldest task; pause and resume them."""
    if context.invoked_subcommand is None:
        show_queues(ledger, as_json)
    elif ledger is not None or as_json:
        from milepost.errors import ConfigurationError

        raise ConfigurationError(f"Write options after the command: milepost queues {context.invoked_subcommand} ...")


@queues.command("list")
def show_queues(ledger: LedgerUrl = None, as_json: AsJson = False) -> None:
    """List queues that hold unfinished tasks or are paused."""
    from milepost.cli.console import print_json
    from milepost.cli.documents import queue_document
    from milepost.cli.ledgers import open_existing
    from milepost.ledger import is_worker_alive

    opened = open_existing(ledger)
    now = opened.shared_now()
    live = [worker for worker in opened.list_workers() if is_worker_alive(worker, now)]
    found = [
        (queue, [worker.worker_id for worker in live if queue.name in worker.queues]) for queue in opened.list_queues()
    ]
    if as_json:
        print_json({"ledger": opened.url, "queues": [queue_document(*entry) for entry in found]})
    elif found:
        _print(found, now)
    else:
        print(f"No queue of {opened.url} holds an unfinished task.")


@queues.command("pause")
def pause(name: QueueName, ledger: LedgerUrl = None) -> None:
    """Let no task be taken from a queue; runs under way go on."""
    from milepost.cli.ledgers import open_existing

    open_existing(ledger, read_only=False).pause_queue(name)
    print(f"Queue {name!r} is paused.")


@queues.command("resume")
def resume(name: QueueName, ledger: LedgerUrl = None) -> None:
    """Let tasks be taken from a paused queue again."""
    from milepost.cli.ledgers import open_existing

    was_paused = open_existing(ledger, read_only=False).resume_queue(name)
    print(f"Queue {name!r} is resumed." if was_paused else f"Queue {name!r} was not paused.")


def _print(found: list[tuple[QueueInfo, list[str]]], now: int) -> None:
    from milepost.cli.console import print_columns, styled
    from milepost.cli.times import ago_text

    rows = [
        (
            styled(queue.name, "bold"),
            styled(str(queue.pending)),
            styled(str(queue.running)),
            styled(str(queue.suspended)),
            styled("" if queue.oldest_at is None else ago_text(queue.oldest_at, now)),
            styled(str(len(worker_ids)), "" if worker_ids else "yellow"),
            styled("" if queue.paused_at is None else f"paused {ago_text(queue.paused_at, now)}", "yellow"),
        )
        for queue, worker_ids in found
    ]
    print_columns(rows, ("QUEUE", "PENDING", "RUNNING", "SUSPENDED", "OLDEST", "WORKERS", ""))
