"""Containers come back with their types, keys and order."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from milepost.errors import ValueNotStorable
from milepost.values import decode, decode_plain, encode


@dataclass(frozen=True)
class Frozen:
    x: Any


LISTS = [[], [1, "a", None, 2.5, True], [[1], [[]]], [math.nan], [10**5000], ["\ud83d", "\ude00"], ["\ud83d\ude00"]]
TUPLES = [(), (1, (2,)), ([1],)]
DICTS = [{}, {"a": 1, "b": {"c": [1]}}, {"": 1}, {"b": 1, "a": 2}, {"\ud800": 1}, {"\ud83d\ude00": 1}, {"a": math.inf}]
DICTS_LIKE_TAGS = [{"$": 1}, {"$": "tuple", "v": [1]}, {"a": {"$": 1}}, [{"$": 1}]]
DICTS_OF_ANY_KEY = [
    *({1: "a"}, {1: "a", "1": "b"}, {None: 1, True: 2, 2.5: 3}, {(1, "a"): 1}, {frozenset({1}): 1}),
    *({math.nan: 1}, {Frozen(1): Frozen(2)}, {date(2024, 1, 1): 1}),
]
SETS = [
    *(set(), {1, 2}, {"b", "a"}, {1, "a", None, (2,)}, {True, 2}, {10**5000, "a"}, {"\ud800", 1}),
    *(frozenset(), frozenset({frozenset({1}), frozenset()})),
]
OTHERS = [
    *(deque(), deque([1, 2]), deque([1], maxlen=3), range(0), range(1, 10, 3), range(10**5000)),
    *(Counter("aab"), Counter({1: -1}), OrderedDict(b=1, a=2), OrderedDict({1: 2})),
    *(defaultdict(list, a=[1]), defaultdict(None, a=1), defaultdict(int)),
]


@pytest.mark.parametrize(
    "value",
    [*LISTS, *TUPLES, *DICTS, *DICTS_LIKE_TAGS, *DICTS_OF_ANY_KEY, *SETS, *OTHERS],
    ids=lambda value: type(value).__name__,
)
def test_a_container_comes_back(value: Any, check_comes_back: Callable[[Any], None]) -> None:
    check_comes_back(value)


def test_dicts_keep_their_order_and_sets_have_none() -> None:
    assert list(decode(encode({"b": 1, "a": 2}))) == ["b", "a"]
    assert list(decode(encode({2: 1, 1: 2}))) == [2, 1]
    many = [f"item {n}" for n in range(100)]
    assert encode({*many, 1, None}) == encode({1, None, *reversed(many)})


def test_a_part_that_is_held_twice_comes_back_as_two_equal_copies() -> None:
    part = [1]
    first, second = decode(encode([part, part]))
    assert first == second == [1]
    assert first is not second


def test_a_value_that_contains_itself_is_refused_where_it_does() -> None:
    a_list: list[Any] = [1]
    a_list.append({"again": a_list})
    a_dict: dict[int, Any] = {}
    a_dict[1] = (a_dict,)
    for value, path in ((a_list, "$[1].again"), (a_dict, "$[1][0]")):
        with pytest.raises(ValueNotStorable, match="it refers to itself") as caught:
            encode(value)
        assert caught.value.path == path


@pytest.mark.parametrize(
    "wrap",
    [lambda inner: [inner], lambda inner: {1: inner}, lambda inner: frozenset({inner}), Frozen],
    ids=["list", "dict", "set", "object"],
)
def test_nesting_is_limited_to_what_can_be_read_on_a_stack_that_is_used_already(wrap: Callable[[Any], Any]) -> None:
    value: Any = 1
    for _ in range(149):
        value = wrap(value)
    text = encode(value)

    def restored_below(frames: int) -> Any:
        return decode(text) if frames == 0 else restored_below(frames - 1)

    assert encode(restored_below(200)) == text
    decode_plain(text)
    with pytest.raises(ValueNotStorable, match="nested more than 150 levels deep"):
        encode(wrap(wrap(wrap(value))))


def test_a_stack_that_is_nearly_used_up_is_an_error_with_a_name() -> None:
    value: Any = 1
    for _ in range(140):
        value = (value,)

    def fill(frames: int) -> Any:
        try:
            return fill(frames + 1)
        except RecursionError:
            with pytest.raises(ValueNotStorable, match="too deep to store from here"):
                encode(value)
            return frames

    assert fill(0) > 0


@pytest.mark.parametrize("factory", [lambda: 1, Frozen, dict.fromkeys, "list"])
def test_a_defaultdict_makes_builtin_types_only(factory: Any) -> None:
    value: defaultdict[Any, Any] = defaultdict(list)
    if not callable(factory):
        factory = type(factory, (), {})
    value.default_factory = factory
    with pytest.raises(ValueNotStorable, match="only a builtin type can be its default_factory"):
        encode(value)


@pytest.mark.parametrize("value", [Counter("a"), OrderedDict(a=1)], ids=lambda value: type(value).__name__)
def test_an_attribute_of_a_dict_is_refused_rather_than_lost(value: Any) -> None:
    value.note = 1
    with pytest.raises(ValueNotStorable, match="an attribute besides its items, 'note'"):
        encode(value)


def test_containers_are_shown_as_lists_and_objects_of_json() -> None:
    shown = decode_plain(encode([(1, {2}), deque([3]), {1: "a", None: "b", (1, 2): "c"}, {1: "a", "1": "b"}, range(3)]))
    assert shown == [[1, [2]], [3], {"1": "a", "null": "b", "[1, 2]": "c"}, [[1, "a"], ["1", "b"]], "range(0, 3, 1)"]
