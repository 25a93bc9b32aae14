"""What cannot be restored is refused when it is stored, with the type, the place and what to do."""

from __future__ import annotations

import array
import re
import threading
import types
from collections import ChainMap, UserDict
from pathlib import PosixPath
from typing import Any

import pytest

from milepost.errors import ValueNotStorable
from milepost.values import encode


class Text(str):  # noqa: SLOT000
    pass


class Whole(int):
    pass


class Mapped(dict):  # type: ignore[type-arg]
    pass


class Place(PosixPath):
    pass


class Plain:
    pass


class Arrayish(float):
    """As the scalars of numpy: a subclass of a builtin type that turns itself into one."""

    def tolist(self) -> float:
        return float(self)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Text("a"), "Text cannot be stored: it is a subclass of str, and only str itself comes back as it was"),
        (Whole(1), "it is a subclass of int, and only int itself"),
        (Mapped(), "it is a subclass of dict, and only dict itself"),
        (Place("a"), "it is a subclass of PosixPath, and only PosixPath itself"),
        (Arrayish(1), "cannot be stored. Return what its tolist() makes"),
        (array.array("i", [1]), "array.array cannot be stored. Return what its tolist() makes"),
        (memoryview(b"a"), "cannot be stored. Return what its tolist() makes"),
        (Plain(), "Plain cannot be stored. Return plain data, a dataclass or a pydantic model"),
        (ValueError("a"), "builtins.ValueError cannot be stored"),
        (re.compile("a"), "re.Pattern cannot be stored"),
        *(
            (value, "cannot be stored. Return plain data")
            for value in (int, Plain, len, types, ..., object(), slice(1))
        ),
        *((value, "cannot be stored. Return plain data") for value in (iter([]), {}.keys(), ChainMap(), UserDict())),
        (threading.Lock(), "cannot be stored"),
        ((item for item in ()), "builtins.generator cannot be stored"),
        (types.SimpleNamespace(a=1), "types.SimpleNamespace cannot be stored"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_without_a_stored_form_is_refused_in_one_line(value: Any, words: str) -> None:
    with pytest.raises(ValueNotStorable, match=re.escape(words)) as caught:
        encode(value)
    assert caught.value.type_name == f"{type(value).__module__}.{type(value).__qualname__}"
    assert caught.value.path == "$"
    assert str(caught.value).isprintable()
    assert "mark the step transient=True" in str(caught.value)


def test_the_first_part_without_a_stored_form_is_named_with_its_place() -> None:
    with pytest.raises(ValueNotStorable, match=r"Plain at \$\.rows\[1\]\['a b'\] cannot be stored") as caught:
        encode({"rows": [1, {"a b": Plain()}]})
    assert caught.value.path == "$.rows[1]['a b']"


def test_a_subclass_of_text_as_a_key_is_refused_too() -> None:
    with pytest.raises(ValueNotStorable, match=r"Text at \$<key 1>"):
        encode({"a": 1, Text("b"): 2})


def test_a_refusal_leaves_nothing_behind() -> None:
    for _ in range(2):
        with pytest.raises(ValueNotStorable):
            encode([1, Plain()])
    assert encode([1]) == "[1]"
