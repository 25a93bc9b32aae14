"""The inputs of a scheduled run, filled in for a tick."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from milepost.engine.templates import check_template, fill_template
from milepost.errors import ConfigurationError
from milepost.values import decode, encode

START = datetime(2026, 10, 24, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
END = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
TICK: dict[str, datetime | str] = {"data_interval_start": START, "data_interval_end": END, "schedule": "nightly"}


def filled(value: Any) -> Any:
    return decode(fill_template(encode(value), TICK))


def test_a_text_that_is_one_placeholder_becomes_the_value_with_its_zone():
    end = filled({"end": "{data_interval_end}"})["end"]
    assert end == END
    assert end.tzinfo == ZoneInfo("Europe/Berlin")
    assert filled(["{schedule}"]) == ["nightly"]


def test_inside_a_longer_text_and_with_a_format_a_value_is_text():
    assert filled("out/{schedule}/{data_interval_start}") == "out/nightly/2026-10-24T02:30:00+02:00"
    assert filled("{data_interval_start:%Y-%m-%d}") == "2026-10-24"


def test_texts_are_filled_however_deep_they_are_and_nothing_else_is():
    value = {"a": [{"b": "{schedule}"}, 3, None, True, 1.5], "{schedule}": "x"}
    assert filled(value) == {"a": [{"b": "nightly"}, 3, None, True, 1.5], "{schedule}": "x"}


def test_doubled_braces_and_braces_of_other_kinds_stay():
    assert filled("{{schedule}}") == "{schedule}"
    assert filled('{"a": {"b": 1}} {} {0} {a b}') == '{"a": {"b": 1}} {} {0} {a b}'


def test_what_has_a_type_of_its_own_is_a_constant():
    value = {"path": Path("a/{b}"), "day": date(2026, 1, 1), "moment": datetime(2026, 1, 1, tzinfo=UTC), "pair": (1, 2)}
    check_template(encode(value))
    assert filled(value) == value


def test_the_first_pass_of_a_repeated_hour_and_the_second_stay_apart():
    second = END.replace(fold=1)
    text = fill_template('["{data_interval_end}"]', {**TICK, "data_interval_end": second})
    assert decode(text)[0].utcoffset() == second.utcoffset() != END.utcoffset()


@pytest.mark.parametrize("value", ["{data_intervall_end}", {"a": ["of {data_interval}"]}, "{x:%Y}"])
def test_an_unknown_placeholder_is_refused_with_those_there_are(value: Any):
    with pytest.raises(ConfigurationError, match=r"is no value of a tick\..*There are \{data_interval_start\}, "):
        check_template(encode(value))


def test_a_misspelt_placeholder_is_told_its_neighbour():
    with pytest.raises(ConfigurationError, match="Did you mean 'data_interval_end'"):
        check_template(encode("{data_intervall_end}"))


def test_a_placeholder_where_it_would_never_be_filled_is_refused():
    for value in (Path("out/{schedule}"), ("{data_interval_end}",), {1: "{schedule}"}):
        with pytest.raises(ConfigurationError, match="inside a value that is not plain"):
            check_template(encode({"value": value}))
