"""Whatever a generator of values thinks of comes back, and whatever happens to stored text is survived."""

from __future__ import annotations

import enum
import json
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from milepost.errors import ValueNotRestorable
from milepost.values import content_hash, decode, decode_plain, encode
from milepost.values.walk import READERS

# No examples are kept from run to run: what fails is printed, and becomes a test of its own.
many = settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # which judges the machine
)


class Word(enum.Enum):
    YES = "yes"
    NO = "no"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Frozen:
    x: Any
    y: Any = None


@dataclass
class Point:
    x: Any
    y: list[Any] = field(default_factory=list)


class Row(NamedTuple):
    a: Any
    b: Any = 1


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: Any
    y: Any = None


texts = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates too
names = texts.filter(lambda name: name not in ("x", "y", "_fields_set"))
zones = st.sampled_from([ZoneInfo("Europe/Paris"), timezone.utc, timezone(timedelta(hours=-5), "X")])  # noqa: UP017
atoms = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.binary(max_size=8)),
    *(
        st.complex_numbers(),
        st.decimals().filter(lambda number: not number.is_snan()),
        st.fractions(),
        st.uuids(),
        st.ip_addresses(),
    ),
    *(st.dates(), st.timedeltas(), st.datetimes(timezones=st.none() | zones), st.times(timezones=st.none() | zones)),
    *(st.integers(-(10**700), 10**700), st.sampled_from([*Word, *Access, Access(0), math.nan])),
    st.builds(PurePosixPath, texts.filter(lambda text: "\x00" not in text)),
)
hashables = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3), st.builds(Frozen, inner, inner)
    ),
    max_leaves=5,
)
values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        *(st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.lists(inner, max_size=4).map(deque)),
        *(st.dictionaries(texts | st.just("$"), inner, max_size=4), st.dictionaries(hashables, inner, max_size=3)),
        *(st.sets(hashables, max_size=4), st.dictionaries(hashables, st.integers(), max_size=3).map(Counter)),
        st.dictionaries(texts, inner, max_size=3).map(OrderedDict),
        *(st.builds(Point, inner, st.lists(inner, max_size=2)), st.builds(Row, inner, inner), st.builds(Frozen, inner)),
        st.builds(
            lambda x, extra: Open.model_construct(x=x, **extra), inner, st.dictionaries(names, inner, max_size=2)
        ),
    ),
    max_leaves=12,
)


@many
@given(values)
def test_any_value_comes_back_with_its_type(same: Callable[[Any, Any], bool], value: Any) -> None:
    text = encode(value)
    restored = decode(text)
    assert same(restored, value), (restored, value)
    assert encode(restored) == text
    assert content_hash(encode(restored)) == content_hash(text)


@many
@given(values)
def test_any_stored_value_is_one_line_of_json_that_people_can_look_at(value: Any) -> None:
    text = encode(value)
    assert "\n" not in text
    text.encode("utf-8")
    json.loads(text, parse_constant=pytest.fail)
    json.dumps(decode_plain(text), allow_nan=False, ensure_ascii=False).encode("utf-8")


@many
@given(st.lists(hashables, max_size=8), st.randoms())
def test_the_text_of_a_set_does_not_tell_in_which_order_it_grew(items: list[Any], chance: Any) -> None:
    first = dict.fromkeys(items)  # what counts as one item does so in both orders
    mixed = list(first)
    chance.shuffle(mixed)
    assert encode(set(first)) == encode(set(mixed))
    assert encode(frozenset(first)) == encode(frozenset(mixed))


def survives(text: str) -> None:
    """Read damaged text: a value or an error with a name and one printable line, and nothing else."""
    for read in (decode, decode_plain):
        try:
            read(text)
        except ValueNotRestorable as error:
            told = str(error)
        else:
            continue
        assert told.isprintable()


@many
@given(values, st.data())
def test_text_with_characters_changed_is_read_or_refused(value: Any, data: st.DataObject) -> None:
    text = encode(value)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 5)))
    survives(text[:start] + data.draw(st.text('{}[],:"$0123456789.eE-ntrufalsv \\\n', max_size=4)) + text[end:])


@many
@given(values, st.data())
def test_text_with_parts_exchanged_is_read_or_refused(value: Any, data: st.DataObject) -> None:
    tree = json.loads(encode(value))
    parts = list(parts_of(tree))
    owner, key = data.draw(st.sampled_from(parts)) if parts else ([tree], 0)
    other, its_key = data.draw(st.sampled_from(parts)) if parts else ([None], 0)
    owner[key] = data.draw(
        st.sampled_from([other[its_key], None, -1, "", "a:b", [], {}, [[]], {"$": "int"}, 1.5, True])
    )
    try:
        survives(json.dumps(tree))
    except (ValueError, RecursionError):  # it contains itself now
        assert parts


def parts_of(tree: Any) -> Any:
    for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield tree, key
        yield from parts_of(part)


CLASSES = [f"{__name__}:{name}" for name in ("Word", "Access", "Frozen", "Point", "Row", "Open", "many", "Gone")]
KEYS = [
    "v",
    "class",
    "kind",
    "fields",
    "extra",
    "private",
    "set",
    "unset",
    "args",
    "of",
    "name",
    "zone",
    "fold",
    "value",
]
junk = st.recursive(
    st.one_of(
        *(
            st.none(),
            st.booleans(),
            st.integers(-3, 3),
            st.floats(),
            st.sampled_from([*CLASSES, *READERS, "x", "a:b", "1"]),
        ),
        texts,
    ),
    lambda inner: st.one_of(
        *(
            st.lists(inner, max_size=3),
            st.dictionaries(texts | st.sampled_from([*KEYS, "x", "__class__"]), inner, max_size=3),
        ),
        st.fixed_dictionaries(
            {"$": st.sampled_from([*READERS, "unknown"]) | inner, "v": inner},
            optional={key: inner for key in KEYS if key not in ("v", "class")}
            | {"class": st.sampled_from(CLASSES) | inner},
        ),
    ),
    max_leaves=15,
)


@settings(many, max_examples=600)
@given(junk)
@example({"$": "enum", "class": CLASSES[0], "name": []})
@example({"$": "dataclass", "class": CLASSES[3], "fields": {"x": 1}, "extra": {"__class__": 1, "__dict__": 2}})
@example({"$": "decimal", "v": "1E" + "9" * 30})
@example({"$": "model", "class": CLASSES[5], "fields": {"x": 1}, "args": [{"of": CLASSES[0], "args": ["any"]}]})
def test_text_that_nobody_stored_is_read_or_refused(tree: Any) -> None:
    survives(json.dumps(tree, allow_nan=True))


@pytest.mark.parametrize(
    "text",
    ["", " ", "nul", "NaN", "[Infinity]", "{", '{"$":}', "[1,]", "1 2", "[" * 100_000, "\x00", "\ud800", '{"$":"int"}'],
)
def test_text_that_is_no_stored_value_is_refused(text: str) -> None:
    with pytest.raises(ValueNotRestorable, match=r"cannot be restored: .* Remedy: "):
        decode(text)
    with pytest.raises(ValueNotRestorable):
        decode_plain(text)


@pytest.mark.parametrize("text", [None, b"\xff", 5])
def test_what_is_no_text_is_refused(text: Any) -> None:
    with pytest.raises(ValueNotRestorable):
        decode(text)


def test_the_hash_of_a_text_is_that_of_its_bytes() -> None:
    assert content_hash("null") == "941dffce4e4308ceb33e87326003257d"
    assert content_hash("\ud800") != content_hash("\ud801")
