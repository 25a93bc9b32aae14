"""Runs of a schedule outside its ticks: by hand, and for the past."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from milepost import Dag
from milepost.errors import ConfigurationError, ScheduleNotFound

MAY = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


# --- by hand -------------------------------------------------------------------------------------


def test_a_run_by_hand_does_what_the_newest_tick_s_run_did(place: Any, dag: Dag):
    inputs = {"day": ["{data_interval_start}", "{data_interval_end}"]}
    dag.schedule("s", cron="0 2 * * *", inputs=inputs, ledger=place.ledger)
    place.clock.set("2026-05-03T09:30:00+00:00")
    run = place.ledger.trigger_schedule("s")
    start, end = place.ledger.get_inputs(run.run_id)["day"]
    assert (start, end) == (MAY + timedelta(days=1, hours=2), MAY + timedelta(days=2, hours=2))
    assert json.loads(place.ledger.get_payload(run.run_id).tags)["trigger"] == "manual"
    assert place.ledger.last_run_of_schedule("s") == run


def test_each_run_by_hand_is_a_run_of_its_own_and_leaves_the_ticks_alone(place: Any, dag: Dag):
    dag.schedule("s", cron="0 * * * *", max_active=1, ledger=place.ledger)
    before = place.next()
    ids = {place.ledger.trigger_schedule("s").run_id for _ in range(3)}  # max_active does not hold them back
    assert len(ids) == 3
    assert place.next() == before
    place.ledger.pause_schedule("s")
    assert place.ledger.trigger_schedule("s").run_id not in ids


def test_a_run_by_hand_before_the_start_has_an_interval_that_has_ended(place: Any, dag: Dag):
    start = MAY + timedelta(days=10, minutes=7)
    dag.schedule("s", every=3600, start_at=start, inputs={"day": "{data_interval_end}"}, ledger=place.ledger)
    run = place.ledger.trigger_schedule("s")
    assert place.ledger.get_inputs(run.run_id)["day"] == MAY - timedelta(minutes=53)


# --- the past ------------------------------------------------------------------------------------


def test_a_backfill_runs_every_tick_of_the_past_once_in_order(place: Any, dag: Dag):
    place.clock.at = MAY + 30 * DAY
    dag.schedule("s", cron="0 2 * * *", inputs={"day": "{data_interval_end:%d}"}, ledger=place.ledger)
    made = place.ledger.backfill_schedule("s", MAY + 10 * DAY, MAY + 13 * DAY)
    assert [run.is_new for run in made] == [True] * 3
    assert [run.run_id for run in made] == [run.run_id for run in place.runs()]
    assert place.ticks() == ["2026-05-11T02:00:00", "2026-05-12T02:00:00", "2026-05-13T02:00:00"]
    assert [place.ledger.get_inputs(run.run_id)["day"] for run in place.runs()] == ["11", "12", "13"]
    assert place.next() == "2026-05-31T02:00:00"


def test_a_backfill_includes_its_start_and_not_its_end(place: Any, dag: Dag):
    place.clock.at = MAY + 2 * DAY
    dag.schedule("s", cron="0 0 * * *", ledger=place.ledger)
    assert [tick.day for tick in place.ledger.list_past_ticks("s", MAY, MAY + DAY)] == [1]
    assert len(place.ledger.backfill_schedule("s", MAY, MAY + DAY)) == 1


def test_a_tick_has_one_run_ever_whichever_way_it_was_reached(place: Any, dag: Dag):
    dag.schedule("s", cron="0 * * * *", catch_up=True, ledger=place.ledger)
    place.clock.at = MAY + timedelta(hours=3)
    place.fire()
    made = place.ledger.backfill_schedule("s", MAY - timedelta(hours=2), MAY + timedelta(hours=3))
    assert [run.is_new for run in made] == [True, True, True, False, False]
    again = place.ledger.backfill_schedule("s", MAY - timedelta(hours=2), MAY + timedelta(hours=3))
    assert [(run.tick_at, run.run_id, run.is_new) for run in again] == [(r.tick_at, r.run_id, False) for r in made]
    place.ledger.remove_schedule("s")
    place.clock.pass_(seconds=1)
    dag.schedule("s", cron="0 * * * *", catch_up=True, start_at=MAY, ledger=place.ledger)
    assert place.fire() == 0  # MAY + 1 h, 2 h, 3 h have had their runs, and MAY itself by the backfill
    assert len(set(place.ticks())) == len(place.ticks()) == 6


def test_ticks_of_another_workflow_under_the_same_name_are_other_ticks(place: Any, dag: Dag):
    dag.schedule("s", cron="0 * * * *", ledger=place.ledger)
    place.clock.at = MAY + timedelta(hours=3)
    place.ledger.backfill_schedule("s", MAY, MAY + timedelta(hours=3))
    place.ledger.remove_schedule("s")
    other = Dag("other")
    other.node(lambda: 1, label="one")
    other.schedule("s", cron="0 * * * *", ledger=place.ledger)
    assert all(run.is_new for run in place.ledger.backfill_schedule("s", MAY, MAY + timedelta(hours=3)))


def test_a_backfill_goes_by_the_wall_of_its_zone_over_a_change_of_the_clocks(place: Any, dag: Dag):
    place.clock.at = datetime(2026, 11, 1, tzinfo=UTC)
    dag.schedule("s", cron="30 2 * * *", timezone="Europe/Berlin", ledger=place.ledger)
    place.ledger.backfill_schedule("s", datetime(2026, 10, 24, tzinfo=UTC), datetime(2026, 10, 27, tzinfo=UTC))
    assert place.ticks() == ["2026-10-24T00:30:00", "2026-10-25T00:30:00", "2026-10-26T01:30:00"]


def test_a_long_backfill_goes_in_batches_and_a_senseless_one_not_at_all(place: Any, dag: Dag):
    place.clock.at = MAY + 30 * DAY
    dag.schedule("s", every=60, ledger=place.ledger)
    made = place.ledger.backfill_schedule("s", MAY, MAY + timedelta(minutes=450))
    assert len({run.run_id for run in made}) == 450
    assert sorted(made, key=lambda run: run.run_id) == made
    dag.schedule("quick", every=1, ledger=place.ledger)
    with pytest.raises(ConfigurationError, match=r"ticks more than 100,000 times from .* Backfill a shorter interval"):
        place.ledger.backfill_schedule("quick", MAY, MAY + 2 * DAY)


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        (MAY, MAY, "A backfill ends after it starts"),
        (MAY + DAY, MAY, "A backfill ends after it starts"),
        (MAY, MAY + DAY, "A backfill is of the past, and 2026-05-02.* has not come"),
        (MAY - DAY, datetime(2026, 5, 1), "end must be an aware datetime"),  # noqa: DTZ001
        ("2026-04-01", MAY, "start must be an aware datetime"),
    ],
)
def test_a_backfill_of_no_past_is_refused(place: Any, dag: Dag, start: Any, end: Any, told: str):
    dag.schedule("s", cron="0 * * * *", ledger=place.ledger)
    with pytest.raises(ConfigurationError, match=told):
        place.ledger.backfill_schedule("s", start, end)
    assert place.runs() == []


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb",
    [
        "require_schedule",
        "pause_schedule",
        "resume_schedule",
        "remove_schedule",
        "trigger_schedule",
        "next_ticks",
        "last_run_of_schedule",
    ],
)
def test_an_unknown_name_is_told_its_neighbour(place: Any, dag: Dag, verb: str):
    dag.schedule("nightly", cron="0 2 * * *", ledger=place.ledger)
    with pytest.raises(ScheduleNotFound, match=r"No schedule 'nightl'\. Did you mean 'nightly'\?"):
        getattr(place.ledger, verb)("nightl")


def test_pausing_twice_and_resuming_what_is_not_paused_change_nothing(place: Any, dag: Dag):
    dag.schedule("s", cron="0 2 * * *", ledger=place.ledger)
    paused = place.ledger.pause_schedule("s")
    place.clock.pass_(hours=1)
    assert place.ledger.pause_schedule("s") == paused
    resumed = place.ledger.resume_schedule("s")
    assert place.ledger.resume_schedule("s") == resumed
    assert place.next() == "2026-05-01T02:00:00"


def test_the_next_ticks_of_a_paused_schedule_are_those_that_would_come(place: Any, dag: Dag):
    for name, catch_up in (("s", False), ("all", True)):
        dag.schedule(name, cron="0 2 * * *", catch_up=catch_up, ledger=place.ledger)
        place.ledger.pause_schedule(name)
    place.clock.set("2026-05-03T12:00:00+00:00")
    assert [tick.day for tick in place.ledger.next_ticks("s", 2)] == [4, 5]
    assert [tick.day for tick in place.ledger.next_ticks("all", 4)] == [1, 2, 3, 4]
