"""A clock that stands where a test puts it, and ledgers on each database that schedules share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from postgres import new_schema, server_url

from milepost import Dag, Ledger
from milepost.clock import to_datetime, to_micros
from milepost.model import Run
from milepost.runtime.firing import Firing


class Clock:
    """Time moves when a test says so."""

    def __init__(self) -> None:
        self.at = datetime(2026, 5, 1, tzinfo=UTC)

    def now(self) -> int:
        return to_micros(self.at)

    def monotonic(self) -> float:
        return self.at.timestamp()

    def set(self, text: str) -> None:
        self.at = datetime.fromisoformat(text)

    def pass_(self, **span: float) -> None:
        self.at += timedelta(**span)


class Place:
    """A ledger, the clock it goes by, and what its schedules have started."""

    def __init__(self, open_ledger: Callable[[], Ledger], clock: Clock) -> None:
        self.open_ledger = open_ledger
        self.clock = clock
        self.ledger = open_ledger()
        self._firing = Firing(self.ledger)

    def fire(self) -> int:
        return self._firing.fire_due()

    def runs(self, name: str = "s") -> list[Run]:
        """Return the runs of a schedule in the order in which workers take them."""
        found = [run for run in self.ledger.list_runs(limit=1000) if run.created_by == f"schedule:{name}"]
        return sorted(found, key=lambda run: run.run_id)

    def ticks(self, name: str = "s") -> list[str]:
        """Return the ticks that have a run, as UTC, in the order in which workers take them."""
        return [self.tick_of(run) for run in self.runs(name)]

    def tick_of(self, run: Run) -> str:
        end = json.loads(self.ledger.get_payload(run.run_id).tags)["data_interval_end"]
        return f"{datetime.fromisoformat(end).astimezone(UTC):%Y-%m-%dT%H:%M:%S}"

    def next(self, name: str = "s") -> str | None:
        at = self.ledger.require_schedule(name).next_at
        return None if at is None else f"{to_datetime(at):%Y-%m-%dT%H:%M:%S}"


def make_dag(name: str = "report") -> Dag:
    def write(day: Any = None) -> Any:
        return day

    dag = Dag(name)
    dag.node(write)
    return dag


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Place]:
    url = new_schema(server_url()) if request.param == "postgres" else str(tmp_path / "runs.db")
    with ExitStack() as stack:
        yield Place(lambda: stack.enter_context(Ledger.open(url, clock=clock)), clock)


@pytest.fixture
def dag() -> Dag:
    return make_dag()
