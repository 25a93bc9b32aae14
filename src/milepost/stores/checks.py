"""What ``milepost doctor`` looks for in any store, and what it says about it."""

from __future__ import annotations

from typing import Any, Final, Protocol

from milepost.model import Problem

__all__ = ["check_ledger"]

_SHOWN: Final = 100  # findings of one kind that are listed; more would hide the rest


class _Rows(Protocol):
    def __call__(self, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]: ...


def check_ledger(url: str, complaints: list[str], rows: _Rows) -> list[Problem]:
    """Return what is wrong: the database's own complaints first, then the ledger's invariants."""
    problems = [
        Problem(
            "damaged",
            url,
            f"the database reports: {complaint}",
            "Copy the file away, then `sqlite3 FILE .recover` into a new one.",
        )
        for complaint in complaints
    ]
    problems += [
        Problem(
            "open_step",
            f"{run_id} {label}",
            f"attempt {attempt} is marked running though its run is {status}",
            f"`milepost resume {run_id}` closes it.",
        )
        for run_id, label, attempt, status in rows("find_orphan_steps", limit=_SHOWN)
    ]
    problems += [
        Problem(
            "completed_twice",
            f"{run_id} {label}",
            f"{count} attempts of one step are completed",
            "Please report this with the ledger: it must not happen.",
        )
        for run_id, label, count in rows("find_completed_twice", limit=_SHOWN)
    ]
    problems += [
        Problem(
            "time_runs_back",
            f"{run_id} {label}",
            f"attempt {attempt} ended before it started",
            "The machine's clock was set back; durations of that time are not to be trusted.",
        )
        for run_id, label, attempt in rows("find_bad_times", limit=_SHOWN)
    ]
    return problems
