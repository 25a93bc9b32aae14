"""When a schedule fires: cron lines in time zones whose clocks change, and intervals that never drift."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milepost.engine.ticks import (
    check_cron,
    check_zone,
    latest_tick,
    moment_of,
    next_tick,
    previous_tick,
    rule_ticks,
    ticks_between,
)
from milepost.errors import ConfigurationError
from milepost.model import Schedule

BERLIN = "Europe/Berlin"
SECOND = 1_000_000


def rule(cron: str | None = None, *, every: timedelta | None = None, zone: str = "UTC", start: str = "") -> Schedule:
    return Schedule(
        name="s",
        workflow="w",
        target=None,
        hash=None,
        queue="default",
        priority=0,
        cron=cron,
        every=None if every is None else every // timedelta(microseconds=1),
        timezone=zone,
        start_at=at(start) if start else 0,
        catch_up=False,
        max_active=None,
        inputs="{}",
        next_at=None,
        paused_at=None,
        created_at=0,
    )


def at(text: str) -> int:
    """Return ledger time of an ISO text; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def ticks_of(schedule: Schedule, after: str, count: int) -> list[str]:
    """Return the ticks after a moment as wall times of the schedule's zone."""
    return [f"{moment_of(schedule, tick):%d %H:%M%z}" for tick in islice(rule_ticks(schedule, at(after)), count)]


# --- daylight saving -----------------------------------------------------------------------------


def test_a_daily_time_that_a_change_to_summer_time_skips_fires_right_after_the_change():
    assert ticks_of(rule("30 2 * * *", zone=BERLIN), "2026-03-28", 3) == [
        "28 02:30+0100",
        "29 03:00+0200",
        "30 02:30+0200",
    ]


def test_a_daily_time_that_comes_twice_fires_the_first_time_only():
    assert ticks_of(rule("30 2 * * *", zone=BERLIN), "2026-10-24", 3) == [
        "24 02:30+0200",
        "25 02:30+0200",
        "26 02:30+0100",
    ]


@pytest.mark.parametrize("moment", ["2026-10-25T00:31", "2026-10-25T01:10", "2026-10-25T01:30", "2026-10-25T01:59:59"])
def test_asked_while_an_hour_repeats_the_next_tick_is_never_in_the_past(moment: str):
    daily = rule("30 2 * * *", zone=BERLIN)
    assert next_tick(daily, at(moment)) == at("2026-10-26T02:30+01:00")
    assert previous_tick(daily, at(moment)) == at("2026-10-25T02:30+02:00")


def test_an_hourly_line_fires_every_hour_on_the_day_that_has_23():
    hourly = rule("0 * * * *", zone=BERLIN)
    assert ticks_of(hourly, "2026-03-28T23:30", 4) == [
        "29 01:00+0100",
        "29 03:00+0200",
        "29 04:00+0200",
        "29 05:00+0200",
    ]
    day = ticks_between(hourly, at("2026-03-29T00:00+01:00"), at("2026-03-29T23:59+02:00"), 100)
    assert len(day) == 23
    assert {later - earlier for earlier, later in pairwise(day)} == {3600 * SECOND}


def test_an_hourly_line_fires_every_hour_on_the_day_that_has_25():
    hourly = rule("0 * * * *", zone=BERLIN)
    assert ticks_of(hourly, "2026-10-24T23:30", 4) == [
        "25 02:00+0200",
        "25 02:00+0100",
        "25 03:00+0100",
        "25 04:00+0100",
    ]
    day = ticks_between(hourly, at("2026-10-25T00:00+02:00"), at("2026-10-25T23:59+01:00"), 100)
    assert len(day) == 25
    assert {later - earlier for earlier, later in pairwise(day)} == {3600 * SECOND}


def test_two_times_that_are_skipped_together_are_one_tick():
    assert ticks_of(rule("0,30 2 * * *", zone=BERLIN), "2026-03-28T12:00", 2) == ["29 03:00+0200", "30 02:00+0200"]


def test_the_same_line_is_another_moment_in_another_zone():
    assert (
        next_tick(rule("0 2 * * *", zone="Asia/Tokyo"), at("2026-05-01"))
        == at("2026-05-01T02:00+09:00") + 86_400 * SECOND
    )
    assert next_tick(rule("0 2 * * *", zone="America/New_York"), at("2026-05-01")) == at("2026-05-01T02:00-04:00")


ZONES = [
    "UTC",
    BERLIN,
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Kathmandu",
]
LINES = [
    "* * * * *",
    "*/7 * * * *",
    "0 * * * *",
    "30 2 * * *",
    "0,30 0-3 * * *",
    "15 */2 * * *",
    "0 0 * * *",
    "0 12 1 * *",
    "0 3 * * sun#2",
    "59 23 L * *",
    "0 0 29 2 *",
    "*/20 * * * * *",
]


@settings(max_examples=150, deadline=None)
@given(
    line=st.sampled_from(LINES),
    zone=st.sampled_from(ZONES),
    # Every day on which one of these zones changes its clocks is within these years.
    moment=st.integers(at("2015-01-01"), at("2030-01-01")),
)
def test_ticks_go_forward_and_the_tick_before_a_tick_is_the_one_it_followed(line: str, zone: str, moment: int):
    schedule = rule(line, zone=zone)
    ticks = list(islice(rule_ticks(schedule, moment), 5))
    assert ticks == sorted(set(ticks))
    assert ticks[0] > moment
    for earlier, later in pairwise(ticks):
        assert previous_tick(schedule, later) == earlier
        assert next_tick(schedule, earlier) == later
    before = previous_tick(schedule, moment + 1)
    assert before is not None
    assert before <= moment
    assert next_tick(schedule, before) == ticks[0]


@settings(max_examples=60, deadline=None)
@given(zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe"]), year=st.integers(2015, 2029))
def test_a_daily_line_fires_once_a_day_whatever_the_clocks_do(zone: str, year: int):
    daily = rule("30 2 * * *", zone=zone)
    ticks = ticks_between(daily, next_tick(daily, at(f"{year}-01-02")) or 0, at(f"{year}-12-30"), 1000)
    days = [moment_of(daily, tick).date() for tick in ticks]
    assert days == [days[0] + timedelta(days=n) for n in range(len(days))]


# --- start and intervals -------------------------------------------------------------------------


def test_no_tick_comes_before_the_start_and_the_start_may_be_one():
    assert next_tick(rule("0 2 * * *", start="2026-05-10T02:00"), at("2026-05-01")) == at("2026-05-10T02:00")
    assert next_tick(rule("0 2 * * *", start="2026-05-10T02:01"), at("2026-05-01")) == at("2026-05-11T02:00")
    assert next_tick(rule(every=timedelta(hours=1), start="2026-05-10T02:07"), at("2026-05-01")) == at(
        "2026-05-10T02:07"
    )


def test_an_interval_is_counted_from_its_start_so_a_late_look_moves_no_tick():
    schedule = rule(every=timedelta(seconds=7), start="2026-05-01T00:00:03")
    tick, ticks = at("2026-05-01"), []
    for late in (0, 900_000, 3 * SECOND, 6_999_999):
        tick = next_tick(schedule, tick) or 0
        ticks.append(tick)
        tick += late
    assert ticks == [at("2026-05-01T00:00:03") + n * 7 * SECOND for n in range(4)]


def test_the_tick_before_an_interval_s_start_is_one_interval_earlier():
    schedule = rule(every=timedelta(minutes=15), start="2026-05-01")
    assert previous_tick(schedule, at("2026-05-01")) == at("2026-04-30T23:45")
    assert previous_tick(schedule, at("2026-05-01") + 1) == at("2026-05-01")


def test_a_sparse_line_finds_its_tick_before_over_years():
    assert previous_tick(rule("0 0 29 2 *"), at("2028-02-29")) == at("2024-02-29")
    assert previous_tick(rule("0 0 29 2 *"), at("1904-02-29")) == at("1896-02-29")


def test_the_newest_tick_that_has_come_is_found_without_going_through_all_that_were_missed():
    every_second = rule("* * * * * *")
    first, now = at("1971-01-01"), at("2026-05-01T00:00:00.5")
    assert latest_tick(every_second, first, now) == at("2026-05-01")
    assert latest_tick(rule("0 2 * * *"), at("2026-05-01T02:00"), at("2026-05-01T02:00")) == at("2026-05-01T02:00")


def test_ticks_between_are_bounded_and_include_both_ends():
    hourly = rule("0 * * * *")
    first, last = at("2026-05-01T01:00"), at("2026-05-01T04:00")
    assert ticks_between(hourly, first, last, 100) == [first + n * 3600 * SECOND for n in range(4)]
    assert ticks_between(hourly, first, last, 2) == [first, first + 3600 * SECOND]
    assert ticks_between(hourly, first, first - 1, 100) == []
    assert ticks_between(hourly, first, last, 0) == []


def test_a_line_ends_with_the_calendar():
    assert next_tick(rule("0 0 1 1 *"), at("9999-06-01")) is None


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 31 feb *"])
def test_a_line_that_means_no_day_at_all_is_refused_as_such(line: str):
    with pytest.raises(ConfigurationError, match=f"{line.replace('*', '.')}' never fires: no such day exists"):
        check_cron(line, "UTC")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        "* * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 32 * *",
        "* * * 13 *",
        "*/0 * * * *",
        "@daily",
        "1 2 3 4 5 6 7",
    ],
)
def test_what_is_no_cron_line_is_refused_with_the_form(line: str):
    with pytest.raises(
        ConfigurationError, match=r"is not a cron line .* Use five fields: minute hour day month weekday"
    ):
        check_cron(line, "UTC")


def test_a_line_that_is_no_text_is_refused():
    with pytest.raises(ConfigurationError, match="must be text such as"):
        check_cron(5, "UTC")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Europe/Berln", "Did you mean 'Europe/Berlin'"),
        ("", "Use a name such as"),
        ("../etc", "Use a name"),
        (None, "Use a"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest(name: Any, told: str):
    with pytest.raises(ConfigurationError, match=f"is not a time zone this system knows.*{told}"):
        check_zone(name)


def test_a_system_without_zones_is_told_how_to_get_them_and_still_has_utc(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("milepost.engine.ticks.available_timezones", set)
    with pytest.raises(ConfigurationError, match="pip install tzdata"):
        check_zone("Mars/Olympus")
    assert check_zone("UTC") == "UTC"
