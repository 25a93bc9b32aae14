"""Spans and moments as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from milepost.cli.times import ago_text, iso, parse_since, parse_span
from milepost.errors import ConfigurationError

DAY = 86400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("30m", 1800),
        ("30min", 1800),
        ("2h", 7200),
        ("3d", 3 * DAY),
        ("1w", 7 * DAY),
        ("1h30m", 5400),
        ("0.5d", DAY / 2),
        (" 2 H ", 7200),
        ("0s", 0),
    ],
)
def test_a_span_is_a_number_and_a_unit(text, seconds):
    assert parse_span(text, "--since") == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "3", "h", "3x", "-3d", "3d ago", "1h 30", "٣x"])
def test_a_text_that_is_no_span_is_refused_with_examples(text):
    with pytest.raises(ConfigurationError, match="--older-than must be a span such as 45s"):
        parse_span(text, "--older-than")


@pytest.mark.parametrize("text", ["9999999999999d", "1" + "0" * 400 + "s"])
def test_a_span_beyond_all_time_is_refused(text):
    with pytest.raises(ConfigurationError, match="longer than time itself"):
        parse_span(text, "--since")
    with pytest.raises(ConfigurationError, match="longer than time itself"):
        parse_since(text)


def test_since_takes_spans_dates_and_times():
    assert parse_since("2h") == timedelta(hours=2)
    assert parse_since("2026-05-31T12:00:00+02:00") == datetime(2026, 5, 31, 10, tzinfo=UTC)
    assert parse_since("2026-05-31T12:00:00Z") == datetime(2026, 5, 31, 12, tzinfo=UTC)
    local = parse_since("2026-05-31")
    assert isinstance(local, datetime)
    assert local == datetime(2026, 5, 31).astimezone()


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", ""])
def test_since_refuses_the_rest_with_examples(text):
    with pytest.raises(ConfigurationError, match="such as 30m, 2h or 3d, or a date such as"):
        parse_since(text)


def test_moments_are_iso_in_utc_and_nothing_stays_nothing():
    assert iso(0) == "1970-01-01T00:00:00.000000+00:00"
    assert iso(None) is None


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.2, "just now"), (59, "59 s ago"), (61, "1 min ago"), (7300, "2 h 1 min ago"), (3 * DAY, "3 d ago")],
)
def test_how_long_ago_reads_as_people_say_it(seconds, expected):
    assert ago_text(0, int(seconds * 1e6)) == expected


def test_what_is_long_ago_or_in_the_future_is_told_as_a_date():
    assert ago_text(0, 30 * DAY * 10**6).startswith("19")
    assert ago_text(10**15, 0).startswith("2001-09-0")
