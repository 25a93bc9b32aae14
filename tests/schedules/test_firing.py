"""Each tick becomes a run, exactly once: whoever fires it, whatever the clock does, whatever was missed."""

from __future__ import annotations

import itertools
import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from milepost import Dag, RunStatus, Worker
from milepost.engine.ticks import next_tick
from milepost.errors import StoreUnavailable
from milepost.ledger.tick_tasks import tick_tasks
from milepost.runtime import cancel_run
from milepost.runtime.firing import Firing
from milepost.runtime.maintenance import Maintenance

HOURLY = "0 * * * *"


def finish(place: Any, count: int = 1) -> None:
    """End the oldest runs that have not ended."""
    for run in [run for run in place.runs() if run.finished_at is None][:count]:
        cancel_run(place.ledger, run.run_id)


# --- ticks ---------------------------------------------------------------------------------------


def test_nothing_fires_before_its_time_and_each_tick_fires_once(place: Any, dag: Dag):
    dag.schedule("s", cron=HOURLY, ledger=place.ledger)
    place.clock.set("2026-05-01T00:59:59.999999+00:00")
    assert place.fire() == 0
    place.clock.set("2026-05-01T01:00:00+00:00")
    assert place.fire() == 1
    assert place.fire() == 0
    place.clock.set("2026-05-01T02:00:07+00:00")
    assert place.fire() == 1
    assert place.ticks() == ["2026-05-01T01:00:00", "2026-05-01T02:00:00"]


def test_a_run_works_on_the_interval_that_has_just_ended(place: Any, dag: Dag):
    template = {"day": ["{data_interval_start}", "{data_interval_end}", "{schedule}"]}
    dag.schedule("s", cron="30 2 * * *", timezone="Europe/Berlin", inputs=template, ledger=place.ledger)
    place.clock.set("2026-10-24T00:30:00+00:00")
    dag.schedule("other", every=60, ledger=place.ledger)  # one schedule's ticks are no other's
    place.fire()
    place.clock.set("2026-10-25T00:30:00+00:00")
    place.fire()
    start, end, name = place.ledger.get_inputs(place.runs()[-1].run_id)["day"]
    assert (start.isoformat(), end.isoformat(), name) == ("2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00", "s")
    place.clock.set("2026-10-26T01:30:00+00:00")
    place.fire()
    start, end, _ = place.ledger.get_inputs(place.runs()[-1].run_id)["day"]
    assert end - start == timedelta(days=1)  # of the wall, and 25 hours of the world
    assert end.astimezone(UTC) - start.astimezone(UTC) == timedelta(hours=25)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (range(28, 31), ["2026-03-28T01:30:00", "2026-03-29T01:00:00", "2026-03-30T00:30:00"]),
        (range(24, 27), ["2026-10-24T00:30:00", "2026-10-25T00:30:00", "2026-10-26T01:30:00"]),
    ],
    ids=["to summer time", "to winter time"],
)
def test_a_nightly_schedule_fires_once_a_night_when_the_clocks_change(
    place: Any, dag: Dag, days: range, expected: list[str]
):
    month = expected[0][:7]
    place.clock.set(f"{month}-{days[0]}T00:00:00+00:00")
    dag.schedule("s", cron="30 2 * * *", timezone="Europe/Berlin", ledger=place.ledger)
    for minutes in range(0, 72 * 60, 10):  # a look every ten minutes, for three days
        place.clock.set(f"{month}-{days[0]}T00:00:00+00:00")
        place.clock.pass_(minutes=minutes)
        place.fire()
    assert place.ticks() == expected


def test_an_hourly_schedule_fires_every_hour_when_the_clocks_change(place: Any, dag: Dag):
    for name, day in (("spring", "2026-03-28T22:30:00"), ("autumn", "2026-10-24T22:30:00")):
        place.clock.set(f"{day}+00:00")
        dag.schedule(name, cron=HOURLY, timezone="Europe/Berlin", ledger=place.ledger)
        for _ in range(12):
            place.clock.pass_(minutes=30)
            place.fire()
        ticks = [datetime.fromisoformat(tick) for tick in place.ticks(name)]
        assert len(ticks) == 6
        assert {b - a for a, b in itertools.pairwise(ticks)} == {timedelta(hours=1)}


def test_an_interval_does_not_drift_however_late_it_is_looked_at(place: Any, dag: Dag):
    dag.schedule("s", every=90, catch_up=True, ledger=place.ledger)
    for seconds in (91, 30, 200, 89, 400):
        place.clock.pass_(seconds=seconds)
        place.fire()
    ticks = [datetime.fromisoformat(tick) for tick in place.ticks()]
    assert place.ticks()[0] == "2026-05-01T00:01:30"
    assert len(ticks) == 9
    assert {b - a for a, b in itertools.pairwise(ticks)} == {timedelta(seconds=90)}


def test_nothing_fires_before_the_start_and_the_start_of_an_interval_is_its_first_tick(place: Any, dag: Dag):
    start = datetime(2026, 5, 1, 12, 34, tzinfo=UTC)
    dag.schedule("s", every=timedelta(hours=6), start_at=start, catch_up=True, ledger=place.ledger)
    dag.schedule("line", cron=HOURLY, start_at=start, ledger=place.ledger)
    place.clock.set("2026-05-01T12:33:59+00:00")
    assert place.fire() == 0
    place.clock.set("2026-05-01T18:34:00+00:00")
    place.fire()
    assert place.ticks() == ["2026-05-01T12:34:00", "2026-05-01T18:34:00"]
    assert place.ticks("line") == ["2026-05-01T18:00:00"]


# --- downtime ------------------------------------------------------------------------------------


def test_after_a_downtime_only_the_newest_tick_fires_where_nothing_is_made_up_for(place: Any, dag: Dag):
    dag.schedule("s", cron=HOURLY, ledger=place.ledger)
    place.clock.set("2026-05-04T10:30:00+00:00")
    assert place.fire() == 1
    assert place.ticks() == ["2026-05-04T10:00:00"]
    assert place.next() == "2026-05-04T11:00:00"


def test_years_of_missed_seconds_hold_up_nothing(place: Any, dag: Dag):
    dag.schedule("s", cron="* * * * * *", ledger=place.ledger)
    place.clock.set("2036-05-01T00:00:00.5+00:00")  # 300 million ticks later
    assert place.fire() == 1
    assert place.ticks() == ["2036-05-01T00:00:00"]


def test_after_a_downtime_every_missed_tick_fires_once_and_in_order_where_they_are_made_up_for(place: Any, dag: Dag):
    dag.schedule("s", cron=HOURLY, catch_up=True, ledger=place.ledger)
    place.clock.set("2026-05-11T10:30:00+00:00")
    fired = []
    while count := place.fire():
        fired.append(count)
        place.clock.pass_(seconds=1)
    assert fired == [100, 100, 50]  # bounded, so that one schedule does not hold up the rest
    start = datetime(2026, 5, 1, 1, tzinfo=UTC)
    assert place.ticks() == [f"{start + timedelta(hours=n):%Y-%m-%dT%H:%M:%S}" for n in range(250)]
    assert place.next() == "2026-05-11T11:00:00"


def test_workers_take_the_ticks_that_are_made_up_for_in_their_order(place: Any):
    taken = []

    def write(end: datetime) -> None:
        taken.append(end)

    dag = Dag("report")
    dag.node(write)
    dag.schedule("s", cron=HOURLY, catch_up=True, inputs={"end": "{data_interval_end}"}, ledger=place.ledger)
    place.clock.set("2026-05-02T00:00:00+00:00")
    place.fire()
    worker = Worker([dag], ledger=place.ledger, concurrency=1, heartbeat_process=False)
    assert worker.run_until_idle() == 24
    assert taken == sorted(taken)
    assert len(taken) == 24


def test_a_schedule_whose_start_lies_in_the_past_makes_up_for_it_only_where_it_catches_up(place: Any, dag: Dag):
    start = datetime(2026, 4, 30, 20, tzinfo=UTC)
    dag.schedule("all", cron=HOURLY, start_at=start, catch_up=True, ledger=place.ledger)
    dag.schedule("new", cron=HOURLY, start_at=start, ledger=place.ledger)
    place.clock.set("2026-05-01T00:30:00+00:00")
    place.fire()
    assert [tick[11:16] for tick in place.ticks("all")] == ["20:00", "21:00", "22:00", "23:00", "00:00"]
    assert place.ticks("new") == []


# --- how many at once ----------------------------------------------------------------------------


def test_a_tick_that_comes_while_enough_runs_go_on_is_skipped(place: Any, dag: Dag, caplog: pytest.LogCaptureFixture):
    dag.schedule("s", cron=HOURLY, max_active=2, ledger=place.ledger)
    caplog.set_level(logging.INFO, "milepost.worker")
    for hour in (1, 2, 3):
        place.clock.set(f"2026-05-01T0{hour}:00:00+00:00")
        place.fire()
    assert "schedule s skips its tick 2026-05-01T03:00:00+00:00" in caplog.text
    finish(place)
    assert place.fire() == 0  # what was skipped is not made up for
    place.clock.set("2026-05-01T04:00:00+00:00")
    place.fire()
    assert [tick[11:13] for tick in place.ticks()] == ["01", "02", "04"]


def test_a_tick_that_comes_while_enough_runs_go_on_waits_where_ticks_are_made_up_for(place: Any, dag: Dag):
    dag.schedule("s", cron=HOURLY, max_active=2, catch_up=True, ledger=place.ledger)
    place.clock.set("2026-05-01T05:00:00+00:00")
    assert place.fire() == 2
    assert place.fire() == 0
    assert place.next() == "2026-05-01T03:00:00"
    finish(place, 1)
    place.clock.pass_(seconds=1)
    assert place.fire() == 1
    finish(place, 2)
    place.clock.pass_(seconds=1)
    assert place.fire() == 2
    assert [tick[11:13] for tick in place.ticks()] == ["01", "02", "03", "04", "05"]


def test_schedules_that_wait_hide_none_of_the_others(place: Any, dag: Dag):
    for n in range(101):  # more than one page of what is due
        dag.schedule(f"wait{n:03}", every=60, max_active=1, catch_up=True, ledger=place.ledger)
    place.clock.pass_(minutes=2)
    assert place.fire() == 101
    dag.schedule("s", every=1, ledger=place.ledger)
    place.clock.pass_(minutes=2)
    assert place.fire() == 1
    assert len(place.runs()) == 1


def test_a_worker_looks_with_a_pause_while_ticks_wait_for_runs_to_end(place: Any, dag: Dag):
    dag.schedule("s", every=10, max_active=1, catch_up=True, ledger=place.ledger)
    maintenance = Maintenance(place.ledger, max_rescues=5)
    place.clock.pass_(seconds=35)
    maintenance.run_once()
    assert maintenance.pause() < 0.05  # more is due, and may fire at once
    maintenance.run_once()
    assert maintenance.pause() > 0.1  # two more are due, and nothing but the end of a run lets them fire
    dag.schedule("soon", every=10, start_at=place.clock.at + timedelta(seconds=0.5), ledger=place.ledger)
    place.ledger.remove_schedule("s")
    assert maintenance.pause() == pytest.approx(0.5)


# --- pausing and removing ------------------------------------------------------------------------


@pytest.mark.parametrize(("catch_up", "expected"), [(False, ["01", "05"]), (True, ["01", "02", "03", "04", "05"])])
def test_what_a_pause_left_out_is_made_up_for_only_where_the_schedule_catches_up(
    place: Any, dag: Dag, catch_up: bool, expected: list[str]
):
    dag.schedule("s", cron=HOURLY, catch_up=catch_up, ledger=place.ledger)
    place.clock.set("2026-05-01T01:00:00+00:00")
    place.fire()
    assert place.ledger.pause_schedule("s").paused_at is not None
    place.clock.set("2026-05-01T04:30:00+00:00")
    assert place.fire() == 0
    assert place.ledger.resume_schedule("s").paused_at is None
    place.fire()
    place.clock.set("2026-05-01T05:00:00+00:00")
    place.fire()
    assert [tick[11:13] for tick in place.ticks()] == expected


def test_a_pause_wins_over_whoever_has_read_the_schedule_before_it(place: Any, dag: Dag):
    dag.schedule("s", cron=HOURLY, ledger=place.ledger)
    place.clock.set("2026-05-01T01:00:00+00:00")
    (read,) = place.ledger.store.list_due_schedules(place.clock.now())
    place.ledger.pause_schedule("s")
    assert Firing(place.ledger)._fire(read, place.clock.now()) == 0
    assert place.ticks() == []


def test_a_schedule_of_the_same_name_is_not_fired_by_who_has_read_the_one_before(place: Any, dag: Dag):
    dag.schedule("s", cron=HOURLY, inputs={"day": "old"}, ledger=place.ledger)
    (read,) = place.ledger.store.list_due_schedules(place.clock.now() + 3600 * 1_000_000)
    place.ledger.remove_schedule("s")
    place.clock.pass_(seconds=1)
    dag.schedule("s", cron=HOURLY, inputs={"day": "new"}, ledger=place.ledger)
    place.clock.set("2026-05-01T01:00:00+00:00")
    assert Firing(place.ledger)._fire(read, place.clock.now()) == 0
    assert place.fire() == 1
    assert place.ledger.get_inputs(place.runs()[0].run_id) == {"day": "new"}


def test_runs_of_a_removed_schedule_go_on_and_nothing_more_fires(place: Any, dag: Dag):
    dag.schedule("s", cron=HOURLY, inputs={"day": "{data_interval_end:%H}"}, ledger=place.ledger)
    place.clock.set("2026-05-01T01:00:00+00:00")
    place.fire()
    place.ledger.remove_schedule("s")
    place.clock.set("2026-05-01T02:00:00+00:00")
    assert place.fire() == 0
    assert Worker([dag], ledger=place.ledger, heartbeat_process=False).run_until_idle() == 1
    (run,) = place.runs()
    assert run.status == RunStatus.COMPLETED
    assert place.ledger.get_result(run.run_id) == "01"
    assert place.ledger.delete_runs(older_than=timedelta(0)) == 0  # it ended in this very moment
    place.clock.pass_(seconds=1)
    assert place.ledger.delete_runs(older_than=timedelta(0)) == 1


# --- clocks, rivals, deaths ----------------------------------------------------------------------


def test_a_clock_that_goes_backwards_fires_nothing_again(place: Any, dag: Dag):
    dag.schedule("s", cron=HOURLY, ledger=place.ledger)
    place.clock.set("2026-05-01T03:00:00+00:00")
    place.fire()
    place.clock.set("2026-05-01T01:30:00+00:00")
    assert place.fire() == 0
    # Resumed, it goes on with what comes next by the clock that was set back: ticks that had their run.
    place.ledger.pause_schedule("s")
    place.ledger.resume_schedule("s")
    assert place.next() == "2026-05-01T02:00:00"
    for hour in (2, 3, 4):
        place.clock.set(f"2026-05-01T0{hour}:00:00+00:00")
        place.fire()
    assert sorted(place.ticks()) == ["2026-05-01T02:00:00", "2026-05-01T03:00:00", "2026-05-01T04:00:00"]


def test_who_comes_second_with_a_tick_that_was_read_before_submits_nothing(place: Any, dag: Dag):
    dag.schedule("s", cron=HOURLY, ledger=place.ledger)
    place.clock.set("2026-05-01T01:00:00+00:00")
    store, now = place.ledger.store, place.clock.now()
    (read,) = store.list_due_schedules(now)
    first, second = tick_tasks(read, [read.next_at], now), tick_tasks(read, [read.next_at], now + 1)
    second[0].idempotency_key = "another"  # the tick's key alone would stop it, too
    assert len(store.fire_schedule(read, next_tick(read, now), first)) == 1
    assert store.fire_schedule(read, next_tick(read, now), second) == []
    assert len(place.runs()) == 1


def test_of_many_who_fire_at_the_same_moment_each_tick_gets_one_run(place: Any, dag: Dag):
    names = [f"s{n}" for n in range(5)]
    for name in names:
        dag.schedule(name, cron=HOURLY, catch_up=True, ledger=place.ledger)
    place.clock.set("2026-05-01T20:00:00+00:00")
    rivals = [Firing(place.open_ledger()) for _ in range(4)]
    barrier = threading.Barrier(len(rivals))
    counts: list[int] = []

    def fire(firing: Firing) -> None:
        barrier.wait()
        counts.append(firing.fire_due())

    threads = [threading.Thread(target=fire, args=(rival,)) for rival in rivals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 5 * 20
    for name in names:
        assert len(set(place.ticks(name))) == len(place.ticks(name)) == 20


def test_one_schedule_that_cannot_be_fired_holds_up_no_other_and_is_told_once(
    place: Any, dag: Dag, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    dag.schedule("a", cron=HOURLY, timezone="Asia/Tokyo", ledger=place.ledger)
    dag.schedule("s", cron=HOURLY, ledger=place.ledger)

    def know(name: str) -> Any:  # this machine's zones, of which one has gone
        if name == "Asia/Tokyo":
            raise KeyError("No time zone found with key Asia/Tokyo")
        return UTC

    monkeypatch.setattr("milepost.engine.ticks.zone_of", know)
    place.clock.set("2026-05-01T01:00:00+00:00")
    assert place.fire() == 1
    assert place.fire() == 0
    assert caplog.text.count("schedule a could not be fired: KeyError: 'No time zone found") == 1
    monkeypatch.undo()
    assert place.fire() == 1  # and nothing of it was lost


def test_a_ledger_out_of_reach_is_said_as_such(place: Any, dag: Dag, monkeypatch: pytest.MonkeyPatch):
    dag.schedule("s", cron=HOURLY, ledger=place.ledger)
    place.clock.set("2026-05-01T01:00:00+00:00")

    def refuse(*args: Any) -> Any:
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(place.ledger.store, "fire_schedule", refuse)
        with pytest.raises(StoreUnavailable):
            place.fire()
    assert place.fire() == 1
