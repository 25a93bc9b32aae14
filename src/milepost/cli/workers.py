"""``milepost workers``: who takes tasks, what they know and what they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from milepost.cli.options import AsJson, LedgerUrl

if TYPE_CHECKING:
    from milepost.ledger import Ledger
    from milepost.model import WorkerInfo

__all__ = ["workers"]

_STYLES = {"alive": "green", "silent": "red", "gone": "red", "stopped": "dim"}


def workers(
    every: Annotated[bool, typer.Option("--all", help="Also those that have stopped.")] = False,
    ledger: LedgerUrl = None,
    as_json: AsJson = False,
) -> None:
    """List workers: which live, where they take tasks from, what they know and what they run."""
    from milepost.cli.console import print_json
    from milepost.cli.documents import worker_document
    from milepost.cli.ledgers import open_existing

    opened = open_existing(ledger)
    now = opened.shared_now()
    found = [(worker, _state(worker, now), _runs(opened, worker)) for worker in opened.list_workers()]
    shown = [entry for entry in found if every or entry[1] != "stopped"]
    if as_json:
        print_json({"ledger": opened.url, "workers": [worker_document(*entry) for entry in shown]})
    elif shown:
        _print(shown, now)
    else:
        stopped = " that have not stopped (--all shows those as well)" if found else ""
        print(f"No workers in {opened.url}{stopped}.")


def _state(worker: WorkerInfo, now: int) -> str:
    from milepost.owner import is_owner_gone

    if worker.stopped_at is not None:
        return "stopped"
    if is_owner_gone(worker.owner):
        return "gone"
    return "alive" if worker.is_alive(now) else "silent"


def _runs(opened: Ledger, worker: WorkerInfo) -> list[str]:
    if worker.stopped_at is not None:
        return []
    # A process may hold several workers: a run belongs to the one that takes from its queue.
    return [run.run_id for run in opened.store.list_owned(worker.owner) if run.queue in worker.queues]


def _print(shown: list[tuple[WorkerInfo, str, list[str]]], now: int) -> None:
    from milepost.cli.console import print_columns, styled
    from milepost.cli.times import ago_text
    from milepost.owner import describe_owner

    rows = [
        (
            styled(worker.worker_id),
            styled(state, _STYLES[state]),
            styled(f"{len(run_ids)}/{worker.concurrency}"),
            styled(ago_text(worker.started_at, now)),
            styled(ago_text(worker.heartbeat_at, now)),
            styled(describe_owner(worker.owner)),
            styled(", ".join(worker.queues)),
            styled(", ".join(worker.workflows)),
        )
        for worker, state, run_ids in shown
    ]
    print_columns(rows, ("WORKER", "STATE", "RUNS", "STARTED", "HEARTBEAT", "PROCESS", "QUEUES", "WORKFLOWS"))
