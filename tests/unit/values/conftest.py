"""What the tests of values share: the one meaning of "comes back as it was"."""

from __future__ import annotations

import enum
import functools
import json
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import datetime, time
from decimal import Decimal
from typing import Any

import pytest

from milepost.values import decode, decode_plain, encode


@pytest.fixture(scope="session")
def check_comes_back() -> Callable[[Any], None]:
    """Return a check that a value is stored as text fit for all, and restored as it was."""
    return _check_comes_back


@pytest.fixture(scope="session")
def same() -> Callable[[Any, Any], bool]:
    """Return what tells whether two values are equal with equal types all the way down, nan included."""
    return _same


def _check_comes_back(value: Any) -> None:
    text = encode(value)
    text.encode("utf-8")
    assert "\n" not in text
    json.loads(text, parse_constant=pytest.fail)
    restored = decode(text)
    assert _same(restored, value), restored
    assert encode(restored) == text
    assert encode([value]) == f"[{text}]"
    json.dumps(decode_plain(text), allow_nan=False, ensure_ascii=False).encode("utf-8")


def _same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, enum.Enum):
        return left is right
    if isinstance(left, float | complex | Decimal):
        return repr(left) == repr(right)
    if isinstance(left, datetime | time):
        return repr(left) == repr(right) and type(left.tzinfo) is type(right.tzinfo) and left.fold == right.fold
    if isinstance(left, defaultdict) and left.default_factory is not right.default_factory:
        return False
    if isinstance(left, deque) and left.maxlen != right.maxlen:
        return False
    if isinstance(left, dict):
        return _same(list(left.items()), list(right.items()))
    if isinstance(left, list | tuple | deque):
        own = type(left) in (list, tuple, deque) or _same(_state(left), _state(right))
        return own and len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, set | frozenset):
        return len(left) == len(right) and all(any(_same(one, other) for other in right) for one in left)
    if hasattr(left, "__dataclass_fields__") or hasattr(left, "__pydantic_fields_set__"):
        return _same(_state(left), _state(right))
    return bool(left == right)


def _state(value: Any) -> dict[str, Any]:
    """Return all that an object holds, in slots or not, but what it computes on demand."""
    kinds = type(value).__mro__
    slots = [
        name for kind in kinds for name in vars(kind).get("__slots__", ()) if name not in ("__dict__", "__weakref__")
    ]
    parts = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
    cached = {
        name for kind in kinds for name, thing in vars(kind).items() if isinstance(thing, functools.cached_property)
    }
    return {name: part for name, part in parts.items() if name not in cached and name != "__orig_class__"}
