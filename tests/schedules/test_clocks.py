"""Machines whose clocks differ: on a shared ledger schedules go by the server's."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from postgres import new_schema, server_url

from milepost import Dag, Ledger
from milepost.runtime.firing import Firing
from milepost.runtime.maintenance import Maintenance

HOUR = 3_600_000_000


def open_shifted(url: str, shift: int) -> Ledger:
    """Open a ledger whose server is so many microseconds ahead of this machine."""
    return Ledger.open(f"{url}&options=-c%20milepost.clock_shift%3D{shift}")


@pytest.fixture(scope="module")
def url() -> str:
    return new_schema(server_url())


def test_a_machine_that_is_an_hour_ahead_fires_nothing_early_and_skips_nothing(url: str, dag: Dag):
    with open_shifted(url, -HOUR) as ahead, Ledger.open(url) as right:
        dag.schedule("early", every=60, start_at=datetime.now(UTC) - timedelta(minutes=30), catch_up=True, ledger=right)
        first = right.require_schedule("early").next_at
        assert Firing(ahead).fire_due() == 0
        assert Maintenance(ahead, max_rescues=5).pause() == 1.0
        assert right.require_schedule("early").next_at == first
        assert Firing(right).fire_due() == 31
        right.remove_schedule("early")


def test_a_machine_that_is_an_hour_behind_fires_what_has_come(url: str, dag: Dag):
    with open_shifted(url, HOUR) as behind, Ledger.open(url) as right:
        dag.schedule("late", every=60, start_at=datetime.now(UTC) + timedelta(minutes=59), ledger=right)
        assert Firing(right).fire_due() == 0
        assert Firing(behind).fire_due() == 1
        right.remove_schedule("late")


def test_on_a_file_the_clock_is_the_machine_s(ledger: Ledger):
    before = time.time_ns() // 1000
    assert before <= ledger.shared_now() <= time.time_ns() // 1000
