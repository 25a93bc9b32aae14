"""``milepost doctor``: is the ledger sound, did runs die, and what to do about it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import typer

from milepost.cli.options import AsJson, LedgerUrl

if TYPE_CHECKING:
    from milepost.ledger import Ledger
    from milepost.model import Problem

__all__ = ["doctor"]

_CLOCK_LIMIT: Final = 5.0  # seconds


def doctor(ledger: LedgerUrl = None, as_json: AsJson = False) -> None:
    """Check a ledger and explain what is wrong with it, if anything; exit code 1 if so."""
    from milepost.cli.console import print_json
    from milepost.cli.documents import problem_document
    from milepost.cli.failures import FAILED
    from milepost.cli.ledgers import ledger_words, open_existing
    from milepost.errors import LedgerUnreadable
    from milepost.ledger import default_ledger
    from milepost.model import Problem
    from milepost.stores.postgres_address import hide_password

    counts: Counter[str] = Counter()
    url = hide_password(ledger or default_ledger())
    try:
        opened = open_existing(ledger)
        url = opened.url
        problems = list(_examine(opened, counts, ledger_words(ledger)))
    except LedgerUnreadable as error:
        # Only damage is a finding; a file that may not be read is a mistake in the question.
        if not getattr(error.__cause__, "sqlite_errorname", "").startswith("SQLITE_CORRUPT"):
            raise
        remedy = "Copy the file away, then `sqlite3 FILE .recover` into a new one."
        problems = [Problem("damaged", error.url, "the database file is damaged and cannot be read", remedy)]
    if as_json:
        print_json(
            {
                "ledger": url,
                "is_healthy": not problems,
                "runs": dict(counts),
                "problems": [problem_document(problem) for problem in problems],
            }
        )
    else:
        _print(url, counts, problems)
    raise typer.Exit(FAILED if problems else 0)


def _examine(opened: Ledger, counts: Counter[str], words: list[str]) -> Iterator[Problem]:
    yield from opened.check()
    yield from _check_clock(opened)
    page = opened.list_runs(inner=True, limit=500)
    while page:
        counts.update(run.status.value for run in page)
        page = opened.list_runs(inner=True, limit=500, before=page[-1])
    yield from _find_interrupted(opened, words)


def _check_clock(opened: Ledger) -> Iterator[Problem]:
    from milepost.model import Problem

    ahead = (opened.clock.now() - opened.shared_now()) / 1e6
    if abs(ahead) > _CLOCK_LIMIT:
        where = "ahead of" if ahead > 0 else "behind"
        yield Problem(
            "clock_off",
            opened.url,
            f"this machine's clock is {abs(ahead):.0f} s {where} that of the ledger's server",
            "Set it (NTP): leases go by the server's clock, but the times in the records by each machine's own.",
        )


def _find_interrupted(opened: Ledger, words: list[str]) -> Iterator[Problem]:
    from milepost.cli.console import command
    from milepost.model import Problem
    from milepost.runtime import describe_owner, find_interrupted

    for run in find_interrupted(opened):
        target = opened.get_payload(run.run_id).target
        file = (target or "").rpartition(":")[0]
        again = command("resume", run.run_id, *words)
        remedy = f"Go on with it: `{again}`, or all of them: `{command('resume', '--all', *words)}`."
        if run.queue is not None:
            remedy = f"Any live worker rescues it; see whether one lives: `{command('why', run.run_id, *words)}`."
        elif target is None:
            remedy = f"It does not say where its Dag is: `{again} --target file.py:dag`."
        elif file.endswith(".py") and not os.path.exists(file):
            remedy = f"Its file {file} is gone: `{again} --target file.py:dag`."
        owner = describe_owner(run.lease_owner or "nobody")
        yield Problem(
            "interrupted_run", run.run_id, f"{owner}, which executed this run of {run.workflow}, is gone", remedy
        )


def _print(url: str, counts: Counter[str], problems: list[Problem]) -> None:
    from milepost import __version__
    from milepost.cli.console import console, styled
    from milepost.states import RunStatus

    out = console()
    # What was written last may still stand in the file beside it.
    sizes = [os.path.getsize(file) for file in (url, f"{url}-wal") if os.path.isfile(file)]
    size = f", {sum(sizes) / 1000:,.0f} kB" if sizes else ""
    told = ", ".join(f"{counts[status.value]} {status.value}" for status in RunStatus if counts[status.value])
    out.print(styled(f"{url}{size}: {told or 'no runs'} (milepost {__version__})"), soft_wrap=True)
    for problem in problems:
        out.print(styled(f"{problem.code}  {problem.subject}", "bold red"), soft_wrap=True)
        out.print(styled(f"  {problem.message}."), soft_wrap=True)
        out.print(styled(f"  Remedy: {problem.remedy}"), soft_wrap=True)
    if problems:
        out.print(styled(f"{len(problems)} finding{'' if len(problems) == 1 else 's'}.", "red"))
    else:
        out.print(styled("Nothing is wrong.", "green"))
