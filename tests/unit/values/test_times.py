"""Dates and times come back with their zone, not with the offset it had that day."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, TypeAdapter

from milepost.errors import ValueNotRestorable, ValueNotStorable
from milepost.values import decode, decode_plain, encode

NEW_YORK = ZoneInfo("America/New_York")
NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)
NAIVE = NOON.replace(tzinfo=None)
parse = TypeAdapter(datetime | time).validate_json

TWICE_THAT_DAY = datetime(2024, 11, 3, 1, 30, tzinfo=NEW_YORK)
NEVER_THAT_DAY = datetime(2024, 3, 10, 2, 30, tzinfo=NEW_YORK)


class Moment(BaseModel):
    at: datetime


@pytest.mark.parametrize(
    "value",
    [
        *(date.min, date(2024, 2, 29), NAIVE, NAIVE.replace(microsecond=123456), NAIVE.replace(fold=1)),
        *(NOON, NOON.replace(tzinfo=timezone(timedelta(hours=-3, minutes=-30)))),
        NOON.replace(tzinfo=timezone(timedelta(seconds=3661, microseconds=5))),
        *(NOON.replace(tzinfo=timezone(timedelta(hours=1), "CET")), NOON.replace(tzinfo=ZoneInfo("UTC"))),
        *(TWICE_THAT_DAY, TWICE_THAT_DAY.replace(fold=1), NEVER_THAT_DAY, NOON.replace(tzinfo=NEW_YORK)),
        *(datetime.max.replace(tzinfo=NEW_YORK), datetime.min.replace(tzinfo=NEW_YORK)),
        *(time(1, 2, 3, 4), time(1, 2, tzinfo=UTC, fold=1), time(1, 2, tzinfo=NEW_YORK)),
        *(timedelta.min, timedelta.max, timedelta(days=-1, microseconds=1)),
        *(UTC, timezone(timedelta(hours=-5)), timezone(timedelta(hours=1), ""), NEW_YORK),
        *(parse(b'"2024-01-01T00:00:00Z"'), parse(b'"2024-01-01T00:00:00-03:30"'), parse(b'"10:00:00+01:00"')),
        Moment(at="2024-01-01T00:00:00+02:00"),  # type: ignore[arg-type] - pydantic parses it
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_time_comes_back(value: Any, check_comes_back: Callable[[Any], None]) -> None:
    check_comes_back(value)


def test_a_time_in_a_zone_goes_on_following_its_rules() -> None:
    restored = decode(encode(datetime(2024, 7, 1, tzinfo=NEW_YORK)))
    assert restored.utcoffset() == timedelta(hours=-4)
    assert (restored + timedelta(days=180)).utcoffset() == timedelta(hours=-5)


def test_the_two_times_of_the_hour_that_the_clock_repeats_stay_apart() -> None:
    first, second = decode(encode([TWICE_THAT_DAY, TWICE_THAT_DAY.replace(fold=1)]))
    assert second.astimezone(UTC) - first.astimezone(UTC) == timedelta(hours=1)


def test_times_are_shown_as_people_write_them() -> None:
    shown = decode_plain(encode([NOON, TWICE_THAT_DAY, timedelta(hours=1), NEW_YORK, timezone(timedelta(0), "GMT")]))
    assert shown == [
        "2024-07-01T12:00:00+00:00",
        "2024-11-03T01:30:00-04:00[America/New_York]",
        "1:00:00",
        "America/New_York",
        "GMT",
    ]


def test_a_zone_of_another_library_is_refused_by_name() -> None:
    class Elsewhere(tzinfo):
        def utcoffset(self, moment: datetime | None) -> timedelta:
            return timedelta(0)

    with pytest.raises(
        ValueNotStorable, match=r"Elsewhere at \$\.at\.tzinfo cannot be stored: only datetime.timezone and"
    ) as caught:
        encode({"at": NAIVE.replace(tzinfo=Elsewhere())})
    assert caught.value.path == "$.at.tzinfo"


def test_a_zone_that_was_read_from_a_file_is_refused() -> None:
    header = struct.pack(">4s16x6l", b"TZif", 0, 0, 0, 0, 1, 4)
    zone = ZoneInfo.from_file(io.BytesIO(header + struct.pack(">lBB4s", 3600, 0, 0, b"ONE")))
    for value in (zone, NAIVE.replace(tzinfo=zone)):
        with pytest.raises(ValueNotStorable, match="key"):
            encode(value)


def test_a_zone_that_this_system_lacks_is_named_with_the_remedy() -> None:
    with pytest.raises(ValueNotRestorable, match=r"zone Mars/Olympus .* Remedy: pip install tzdata"):
        decode('{"$":"datetime","v":"2024-01-01T00:00:00","zone":"Mars/Olympus"}')


def test_a_zone_s_key_leads_nowhere_but_to_a_zone() -> None:
    for key in ("../../etc/passwd", "/etc/passwd", "America", "", 5, None):
        with pytest.raises(ValueNotRestorable):
            decode('{"$":"zone","v":' + encode(key) + "}")


def test_an_offset_that_pydantic_parsed_asks_for_pydantic(monkeypatch: pytest.MonkeyPatch) -> None:
    text = encode(parse(b'"2024-01-01T00:00:00+02:00"'))
    monkeypatch.delattr("pydantic_core.TzInfo")
    with pytest.raises(ValueNotRestorable, match="import pydantic before reading"):
        decode(text)
