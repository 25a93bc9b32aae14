"""A process is killed before and after every one of its commits, and another one goes on in its place."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from milepost import Ledger, RunStatus
from milepost.model import StepAttempt

Live = Callable[[Path, str, int | None], int]

RUN_ID = "victim"
KILLED = -9
RETRIES = {"parse[1]": 1, "parse[2]": 2, "parse[4]": 1, "flaky": 1, "risky": 1}  # failures on purpose


@dataclass
class Outcome:
    """What a run left behind, whoever executed it."""

    status: RunStatus
    error_type: str | None
    outputs: dict[str, str | None]
    edges: set[tuple[str, str]]


def _steps(ledger: Ledger) -> dict[str, list[StepAttempt]]:
    labels = dict.fromkeys(step.label for step in ledger.list_steps(RUN_ID))
    return {label: ledger.get_step(RUN_ID, label) for label in labels}


def _outcome(folder: Path) -> Outcome:
    with Ledger.open(folder / "runs.db", read_only=True) as ledger:
        run = ledger.require_run(RUN_ID)
        return Outcome(
            run.status,
            run.error_type,
            {a.label: a.output for attempts in _steps(ledger).values() for a in attempts if a.status == "completed"},
            {(edge.upstream, edge.downstream) for edge in ledger.list_edges(RUN_ID)},
        )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _effects(folder: Path) -> list[tuple[str, int]]:
    lines = (line.rsplit(" ", 1) for line in _lines(folder / "effects"))
    return [(label, int(attempt)) for label, attempt in lines]


def _check_history(folder: Path, lives: int) -> None:
    """Check everything that must hold however often the run was killed."""
    effects = _effects(folder)
    with Ledger.open(folder / "runs.db", read_only=True) as ledger:
        assert list(ledger.check()) == []
        run = ledger.require_run(RUN_ID)
        claims = ledger.list_attempts(RUN_ID)
        steps = _steps(ledger)

    # Claims: numbered without gaps, each closed, the run's own end in the last.
    assert [claim.lease_epoch for claim in claims] == list(range(1, len(claims) + 1))
    assert all(claim.finished_at is not None for claim in claims)
    assert claims[-1].status == run.status
    assert claims[-1].attempt == run.attempt
    for before, after in itertools.pairwise(claims):
        died = before.error_type == "ProcessDied"
        assert before.status == ("cancelled" if died else "failed")
        assert after.attempt == before.attempt + (not died)
        assert not died or before.owner != after.owner
    assert len({claim.owner for claim in claims}) <= lives

    done = Counter(label for label, _ in effects)
    for label, attempts in steps.items():
        assert [a.attempt for a in attempts] == list(range(1, len(attempts) + 1)), label
        assert [a.lease_epoch for a in attempts] == sorted(a.lease_epoch for a in attempts), label
        states = [a.status for a in attempts]
        assert "running" not in states, label
        kept = [a for a in attempts if a.status == "completed" and a.storage != "none"]
        assert len(kept) <= 1, label
        assert not kept or attempts[-1] is kept[0], label
        for a in attempts:
            assert (a.error_type is not None) == (a.status in ("failed", "cancelled")), (label, a.attempt)
            assert a.finished_at is not None
            assert a.finished_at >= a.started_at
        if attempts[0].kind != "map":
            performed = [a for a in attempts if a.error_type != "AtMostOnceInterrupted" and a.status != "cancelled"]
            assert done[label] >= len(performed), label
            # A failure that was recorded counts against the retries; one that a kill cut short does not.
            failures = sum(a.status == "failed" for a in performed)
            assert failures <= RETRIES.get(label, 0), label
            assert failures == RETRIES.get(label, 0) or "cancelled" in states, label


def _check_effects(folder: Path) -> None:
    """Check that nothing that was durable when a life began was performed again in it, or later."""
    effects = _effects(folder)
    for line in _lines(folder / "lives"):
        found = json.loads(line)
        again = {label for label, _ in effects[found["effects"] :]} & set(found["completed"])
        assert again == set(), found


def _kill_at_every_commit(live: Live, tmp_path: Path, scenario: str, check: Callable[[Path], None]) -> None:
    """Kill a process at each call of the hook, let a second one go on, and check what they left.

    Threads land as they like, so runs may differ by a commit: the end is where three lives in a row
    come to their end before the call.
    """
    fired: dict[int, str] = {}
    completed: list[int] = []
    while len(completed) < 3:
        number = len(fired) + 1
        folder = tmp_path / f"{number}.{len(completed)}"
        folder.mkdir()
        code = live(folder, scenario, number)
        if code == 0:
            completed.append(int((folder / "calls").read_text()))
            continue
        assert code == KILLED
        completed.clear()
        (shot,) = _lines(folder / "fired")
        count, fired[number] = shot.split()
        assert int(count) == number
        assert live(folder, scenario, None) == 0
        check(folder)
    # Every call of the hook in every commit of a whole run, from its creation to its end, has killed a process.
    whole = max(completed)
    assert set(fired) >= set(range(1, whole + 1))
    assert whole >= 10
    if scenario != "threads and keeper":
        points = [fired[number] for number in range(1, whole + 1)]
        assert points == ["before_commit", "after_commit"] * (whole // 2)


@pytest.mark.parametrize("scenario", ["one at a time", "threads", "threads and keeper", "async", "pure", "pure async"])
def test_a_run_with_retries_a_map_and_a_failure_survives_a_kill_at_every_commit(
    live: Live, tmp_path: Path, scenario: str
) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert live(undisturbed, scenario, None) == 0
    expected = _outcome(undisturbed)
    assert expected.status == RunStatus.COMPLETED
    assert expected.outputs["report"] == '{"amount":101,"state":"up"}'
    assert expected.edges == {
        ("numbers", "parse"),
        ("parse", "total"),
        ("total", "risky"),
        ("risky", "report"),
        ("flaky", "report"),
    }
    _check_history(undisturbed, 1)
    assert Counter(_effects(undisturbed)) == Counter(set(_effects(undisturbed)))

    def check(folder: Path) -> None:
        assert _outcome(folder) == expected
        _check_history(folder, 2)
        _check_effects(folder)

    _kill_at_every_commit(live, tmp_path, scenario, check)


def test_marked_steps_keep_their_promises_through_a_kill_at_every_commit(live: Live, tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert live(undisturbed, "marks", None) == 0
    expected = _outcome(undisturbed)
    assert expected.status == RunStatus.COMPLETED
    ends: Counter[str] = Counter()

    def check(folder: Path) -> None:
        _check_history(folder, 2)
        _check_effects(folder)
        outcome = _outcome(folder)
        second = json.loads(_lines(folder / "lives")[1])
        charged = Counter(label for label, _ in _effects(folder))["charge"]
        assert charged <= 1
        if "charge" in second["open"]:  # it was started, and nobody can know whether it finished
            assert (outcome.status, outcome.error_type) == (RunStatus.FAILED, "AtMostOnceInterrupted")
        else:
            assert charged == 1
            assert outcome == expected
        ends[outcome.status] += 1

    _kill_at_every_commit(live, tmp_path, "marks", check)
    assert ends["failed"] == 2  # after the start was durable, and before the end was
    assert ends["completed"] >= 10


@pytest.mark.parametrize("scenario", ["threads", "async", "pure"])
@pytest.mark.parametrize("calls", [6, 7, 10])  # a claim and the map's start take four
def test_a_run_whose_every_process_is_killed_after_a_few_commits_still_ends(
    live: Live, tmp_path: Path, scenario: str, calls: int
) -> None:
    lives = 1
    while (code := live(tmp_path, scenario, calls)) == KILLED:
        lives += 1
        assert lives < 60, "the run makes no progress"
    assert code == 0
    assert len(_lines(tmp_path / "fired")) == lives - 1 >= 2
    assert _outcome(tmp_path).outputs["report"] == '{"amount":101,"state":"up"}'
    _check_history(tmp_path, lives)
    _check_effects(tmp_path)
