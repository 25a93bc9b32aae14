"""A damaged or tampered ledger is recognised: `Ledger.check` says what is wrong and never falls over it."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from milepost import Dag, Ledger
from milepost.errors import LedgerUnreadable

PAGE = 4096
ELEMENTS = 40


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a ledger that holds a finished and a failed run."""
    path = tmp_path_factory.mktemp("healthy") / "runs.db"
    dag = Dag("big")
    numbers = dag.node(lambda: list(range(ELEMENTS)), label="numbers")
    texts = dag.map(lambda n: "x" * 4_000, numbers, label="texts")
    dag.node(lambda texts: sum(map(len, texts)), label="total", texts=texts)
    broken = Dag("broken")
    broken.node(lambda: 1 / 0, label="divide")
    with Ledger.open(path, durability="process") as ledger:
        dag.run(ledger=ledger, run_id="good")
        broken.run(ledger=ledger, run_id="bad")
        assert list(ledger.check()) == []
    return path


def _codes(path: Path) -> set[str]:
    with Ledger.open(path, read_only=True) as ledger:
        return {problem.code for problem in ledger.check()}


def test_damage_in_any_page_is_reported_or_refuses_the_file(healthy: Path, tmp_path: Path) -> None:
    data = healthy.read_bytes()
    path = tmp_path / "damaged.db"
    outcomes = set()
    for page in range(len(data) // PAGE):
        chance = random.Random(page)
        damaged = bytearray(data)
        start = page * PAGE + (100 if page == 0 else 0)
        damaged[start : start + 2_000] = chance.randbytes(2_000)
        path.write_bytes(damaged)
        try:
            codes = _codes(path)
        except LedgerUnreadable as error:
            codes = {error.reason}
        assert codes & {"damaged", "output_changed", "the database file is damaged"}, f"page {page}"
        outcomes |= codes
    assert outcomes >= {"damaged", "the database file is damaged"}


def test_a_file_that_was_cut_off_is_refused_as_damaged(healthy: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.db"
    path.write_bytes(healthy.read_bytes()[: 5 * PAGE + 17])
    with pytest.raises(LedgerUnreadable, match="damaged"):
        Ledger.open(path)


_REOPEN_RUN = """
UPDATE runs SET status = 'running', finished_at = NULL, lease_owner = 'x', lease_until = 1 WHERE run_id = 'bad'
"""
_REPEAT_STEP = """
INSERT INTO steps (run_id, label, attempt, seq, lease_epoch, kind, status, output, storage, started_at, finished_at)
SELECT run_id, label, 2, seq, lease_epoch, kind, status, output, storage, started_at, finished_at
FROM steps WHERE label = 'total'
"""


@pytest.mark.parametrize(
    ("sql", "code", "subject"),
    [
        ("UPDATE steps SET output = '0' WHERE label = 'total'", "output_changed", "good total"),
        ("UPDATE steps SET output = CAST(x'22ff22' AS TEXT) WHERE label = 'total'", "output_changed", "good total"),
        ("DELETE FROM runs WHERE run_id = 'good'", "damaged", None),
        ("DELETE FROM definitions WHERE workflow = 'big'", "damaged", None),
        (
            "UPDATE steps SET status = 'running', finished_at = NULL WHERE label = 'divide'",
            "open_step",
            "bad divide",
        ),
        ("UPDATE attempts SET status = 'running' WHERE run_id = 'bad'", "claims_disagree", "bad"),
        (_REOPEN_RUN, "claims_disagree", "bad"),
        ("UPDATE steps SET status = 'failed' WHERE label = 'total'", "unfinished_step", "good total"),
        (_REPEAT_STEP, "completed_twice", "good total"),
        ("DELETE FROM steps WHERE label = 'numbers'", "loose_edge", "good texts"),
        ("UPDATE steps SET finished_at = started_at - 1 WHERE label = 'total'", "time_runs_back", "good total"),
    ],
)
def test_a_row_that_breaks_an_invariant_is_named(
    healthy: Path, tmp_path: Path, sql: str, code: str, subject: str | None
) -> None:
    path = tmp_path / "tampered.db"
    path.write_bytes(healthy.read_bytes())
    tamper = sqlite3.connect(path)
    assert tamper.execute(sql).rowcount == 1
    tamper.commit()
    tamper.close()
    with Ledger.open(path) as ledger:
        problems = list(ledger.check())
    assert code in {problem.code for problem in problems}
    assert subject is None or (code, subject) in {(problem.code, problem.subject) for problem in problems}
    assert all(problem.message and problem.remedy.endswith((".", "closes it.")) for problem in problems)
