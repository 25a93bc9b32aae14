"""What ``milepost doctor`` looks for in any store, and what it says about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

from milepost.errors import LedgerUnreadable
from milepost.model import Problem
from milepost.states import RunStatus

__all__ = ["check_ledger"]

_SHOWN: Final = 100  # findings of one kind that are listed; more would hide the rest
_REPORT: Final = "Please report this together with the ledger: it must not happen."


class _Rows(Protocol):
    def __call__(self, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]: ...


def check_ledger(url: str, complaints: list[str], rows: _Rows) -> Iterator[Problem]:
    """Yield what is wrong: the database's own complaints first, then the ledger's invariants."""
    for complaint in complaints:
        yield _damaged(url, f"the database reports: {complaint}")
    try:
        yield from _check_invariants(rows)
    except LedgerUnreadable as error:
        yield _damaged(url, f"the checks could not go on: {error.reason}")


def _damaged(url: str, message: str) -> Problem:
    remedy = "Copy the file away, then save what can be read: `sqlite3 FILE .recover` into a new one."
    return Problem("damaged", url, message, remedy)


def _check_invariants(rows: _Rows) -> Iterator[Problem]:
    for run_id, label, attempt, status in rows("find_open_steps", limit=_SHOWN):
        yield Problem(
            "open_step",
            f"{run_id} {label}",
            f"attempt {attempt} is marked running though its run is {status}",
            f"`milepost resume {run_id}` closes it." if status != RunStatus.COMPLETED else _REPORT,
        )
    for run_id, status, held in rows("find_broken_claims", limit=_SHOWN):
        yield Problem("claims_disagree", run_id, f"the run is {status} and {held} of its claims are open", _REPORT)
    for run_id, label in rows("find_unfinished_steps", limit=_SHOWN):
        yield Problem("unfinished_step", f"{run_id} {label}", "the run is completed and this step is not", _REPORT)
    for run_id, label, count in rows("find_completed_twice", limit=_SHOWN):
        yield Problem("completed_twice", f"{run_id} {label}", f"{count} attempts of one step are completed", _REPORT)
    for run_id, upstream, downstream in rows("find_loose_edges", limit=_SHOWN):
        yield Problem(
            "loose_edge",
            f"{run_id} {downstream}",
            f"an edge says that it took the output of {upstream!r}, and one of the two has no attempt",
            _REPORT,
        )
    for run_id, label, attempt in rows("find_bad_times", limit=_SHOWN):
        yield Problem(
            "time_runs_back",
            f"{run_id} {label}",
            f"attempt {attempt} ended before it started",
            "The machine's clock was set back; durations of that time are not to be trusted.",
        )
