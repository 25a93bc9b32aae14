"""Code changes between storing and restoring: defaults fill what is new, and everything else says what to do."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from milepost.errors import ValueNotRestorable
from milepost.values import decode, decode_plain, encode

IMPORTS = """
import enum
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel
T = TypeVar("T")
"""

Change = Callable[[str, str, str], Any]


@pytest.fixture
def after_change(monkeypatch: pytest.MonkeyPatch) -> Change:
    """Return what stores a value of an old module and restores it with a new one."""

    def change(old: str, make: str, new: str) -> Any:
        text = encode(eval(make, load(old)))
        load(new)
        decode_plain(text)  # which needs no class
        return decode(text)

    def load(source: str) -> dict[str, Any]:
        module = types.ModuleType("shop")
        monkeypatch.setitem(sys.modules, "shop", module)
        exec(IMPORTS + source, module.__dict__)
        return module.__dict__

    return change


DATACLASS = "@dataclass\nclass Order:\n    x: int\n"
SLOTTED = "@dataclass(slots=True)\nclass Order:\n    x: int\n"
ROW = "class Order(NamedTuple):\n    x: int\n"
MODEL = "class Order(BaseModel):\n    x: int\n"


@pytest.mark.parametrize("old", [DATACLASS, SLOTTED, ROW, MODEL], ids=["dataclass", "slots", "namedtuple", "model"])
def test_a_new_field_takes_its_default(old: str, after_change: Change) -> None:
    restored = after_change(old, "Order(x=1)", old + "    y: str = 'default'\n")
    assert (restored.x, restored.y) == (1, "default")


@pytest.mark.parametrize(
    ("old", "line"),
    [
        (DATACLASS, "    y: list = field(default_factory=list)\n"),
        (MODEL, "    y: list = Field(default_factory=list)\n"),
        (MODEL, "    y: list = Field(default_factory=lambda data: [data['x']][:0])\n"),
        (MODEL, "    _y: list = PrivateAttr(default_factory=list)\n    @property\n    def y(self): return self._y\n"),
    ],
)
def test_a_new_field_takes_what_its_factory_makes(old: str, line: str, after_change: Change) -> None:
    assert after_change(old, "Order(x=1)", old + line).y == []


@pytest.mark.parametrize("old", [DATACLASS, ROW, MODEL], ids=["dataclass", "namedtuple", "model"])
def test_a_new_field_without_a_default_asks_for_one(old: str, after_change: Change) -> None:
    with pytest.raises(ValueNotRestorable, match=r"has a new field 'y' without a default. Remedy: give the field a"):
        after_change(old, "Order(x=1)", old + "    y: str\n")


@pytest.mark.parametrize(
    ("old", "line"),
    [
        (DATACLASS, "    y: int = field(default_factory=lambda: 1 / 0)\n"),
        (MODEL, "    y: int = Field(default_factory=lambda: 1 / 0)\n"),
        (MODEL, "    _y: int = PrivateAttr(default_factory=lambda: 1 / 0)\n"),
    ],
)
def test_a_default_that_fails_is_named_with_its_cause(old: str, line: str, after_change: Change) -> None:
    with pytest.raises(ValueNotRestorable, match=r"the default of its new field '_?y' failed") as caught:
        after_change(old, "Order(x=1)", old + line)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("old", [DATACLASS, SLOTTED, ROW, MODEL], ids=["dataclass", "slots", "namedtuple", "model"])
def test_a_field_that_is_gone_is_asked_back(old: str, after_change: Change) -> None:
    with pytest.raises(ValueNotRestorable, match=r"no longer has the stored field 'x'. Remedy: give the field back"):
        after_change(old, "Order(x=1)", old.replace("x: int", "renamed: int = 0"))


@pytest.mark.parametrize(
    ("old", "make", "new"),
    [
        (MODEL + "    _y: int = 1\n", "Order(x=1)", MODEL),
        (MODEL + "    model_config = ConfigDict(extra='allow')\n", "Order(x=1, y=2)", MODEL),
        (
            "class Slots:\n    __slots__ = ('y',)\n@dataclass(slots=True)\nclass Order(Slots):\n    x: int\n",
            "[(order := Order(1)), setattr(order, 'y', 2)][0]",
            SLOTTED,
        ),
    ],
    ids=["private", "extra", "slot"],
)
def test_what_else_an_object_carried_is_asked_back_too(old: str, make: str, new: str, after_change: Change) -> None:
    with pytest.raises(ValueNotRestorable, match=r"no longer has the stored field '_?y'"):
        after_change(old, make, new)


def test_fields_may_change_their_order(after_change: Change) -> None:
    two = DATACLASS + "    y: int\n"
    restored = after_change(two, "Order(1, 2)", "@dataclass\nclass Order:\n    y: int\n    x: int\n")
    assert list(vars(restored).items()) == [("y", 2), ("x", 1)]


def test_a_dataclass_may_gain_or_lose_slots(after_change: Change) -> None:
    assert after_change(DATACLASS, "Order(1)", SLOTTED).x == 1
    assert after_change(SLOTTED, "Order(1)", DATACLASS).x == 1


def test_a_renamed_class_is_asked_back_and_found_under_an_alias(after_change: Change) -> None:
    renamed = DATACLASS.replace("Order", "Purchase")
    with pytest.raises(ValueNotRestorable, match=r"shop:Order cannot be restored: module shop no longer has such a cl"):
        after_change(DATACLASS, "Order(1)", renamed)
    restored = after_change(DATACLASS, "Order(1)", renamed + "Order = Purchase\n")
    assert type(restored).__name__ == "Purchase"


def test_a_class_that_became_another_kind_is_asked_back(after_change: Change) -> None:
    with pytest.raises(ValueNotRestorable, match=r"what bears this name is not a dataclass. Remedy: restore the class"):
        after_change(DATACLASS, "Order(1)", MODEL)
    with pytest.raises(ValueNotRestorable, match=r"what bears this name is not a pydantic model"):
        after_change(MODEL, "Order(x=1)", "def Order(): ...\n")


def test_a_member_of_an_enumeration_may_change_its_value_but_not_its_name(after_change: Change) -> None:
    old = "class Colour(enum.Enum):\n    RED = 1\n"
    assert after_change(old, "Colour.RED", old.replace("1", "'red'")).value == "red"
    with pytest.raises(ValueNotRestorable, match=r"no longer has 'RED'. Remedy: give the member back"):
        after_change(old, "Colour.RED", old.replace("RED", "BLUE"))


def test_a_combination_of_flags_needs_all_its_flags(after_change: Change) -> None:
    old = "class Access(enum.Flag):\n    READ = 1\n    WRITE = 2\n"
    make = "Access.READ | Access.WRITE"
    assert after_change(old, make, old + "    RUN = 4\n").value == 3
    with pytest.raises(ValueNotRestorable, match=r"its stored form is damaged"):
        after_change(old, make, old.replace("    WRITE = 2\n", ""))
    with pytest.raises(ValueNotRestorable, match=r"no longer one of flags"):
        after_change(old, make, old.replace("Flag", "Enum"))


def test_a_model_that_is_no_longer_generic_is_asked_back(after_change: Change) -> None:
    old = "class Box(BaseModel, Generic[T]):\n    x: T\n"
    assert after_change(old, "Box[int](x=1)", old).x == 1
    with pytest.raises(ValueNotRestorable, match=r"no longer generic in this way. Remedy: restore the class"):
        after_change(old, "Box[int](x=1)", "class Box(BaseModel):\n    x: int\n")


def test_a_class_without_its_module_names_the_module(monkeypatch: pytest.MonkeyPatch, after_change: Change) -> None:
    text = encode(after_change(DATACLASS, "Order(1)", DATACLASS))
    monkeypatch.delitem(sys.modules, "shop")
    with pytest.raises(ValueNotRestorable, match=r"module shop is not imported. Remedy: import module shop before"):
        decode(text)
