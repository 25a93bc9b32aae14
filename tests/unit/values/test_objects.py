"""Enumerations, named tuples and dataclasses come back as they were, without running any of their code."""

from __future__ import annotations

import enum
import functools
from collections import namedtuple
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypedDict, TypeVar
from urllib.parse import urlsplit

import pydantic
import pytest

from milepost.errors import ValueNotStorable
from milepost.values import decode, decode_plain, encode

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2
    CRIMSON = 1  # noqa: PIE796 - an alias


class Shape(enum.Enum):
    ROUND = {"sides": 0}  # a member's value need not be hashable, nor storable


class Word(enum.StrEnum):
    YES = "yes"


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


@dataclass
class Planet:
    mass: float


class Planets(Planet, enum.Enum):
    EARTH = 5.97


@dataclass
class Point:
    x: Any
    y: Any = None


@dataclass(frozen=True)
class Frozen:
    x: Any


@dataclass(slots=True)
class Slotted:
    x: Any
    y: Any = None


@dataclass(frozen=True, slots=True)
class FrozenSlotted:
    x: Any


@dataclass(slots=True)
class SlottedChild(Slotted):
    z: int = 0


class HasSlots:
    __slots__ = ("__private", "hidden")

    def hide(self, value: Any) -> Self:
        self.hidden = self.__private = value
        return self


@dataclass
class OverSlots(HasSlots):
    x: int


@dataclass
class Computed:
    x: int
    double: int = field(init=False)
    note: InitVar[str] = ""
    limit: ClassVar[int] = 5

    def __post_init__(self, note: str) -> None:
        self.double = self.x * 2
        self.made_with = note


@dataclass
class Lazy:
    x: int

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.x


@dataclass
class Incomparable:
    x: int = field(compare=False, repr=False, hash=False)


@dataclass
class Typed(Generic[T]):
    x: T


@dataclass(kw_only=True)
class Child(Point):
    z: int = 0


@dataclass
class Empty:
    pass


class Doubling:
    """A descriptor as a field's default."""

    def __get__(self, instance: Any, owner: type) -> int:
        return 7 if instance is None else instance.kept

    def __set__(self, instance: Any, value: int) -> None:
        instance.kept = int(value)


@dataclass
class Described:
    x: int = Doubling()  # type: ignore[assignment]


class Row(NamedTuple):
    a: Any
    b: str = "b"


class OpenRow(Row):
    """A subclass without __slots__, so that its objects carry attributes."""


Pair = namedtuple("Pair", ["left", "right"])  # noqa: PYI024 - both ways of making one are stored


class Movie(TypedDict):
    title: str


@pydantic.dataclasses.dataclass
class Checked:
    x: int
    tags: list[str] = pydantic.Field(default_factory=list)


def with_attribute(owner: Any, value: Any) -> Any:
    owner.stray = value
    return owner


ENUMS = [
    *(Colour.RED, Colour.CRIMSON, Shape.ROUND, Word.YES, Level.LOW, Planets.EARTH),
    *(Access.READ, Access(0), Access.READ | Access.RUN, ~Access.READ, Bits.ONE | Bits.TWO, Bits(8)),
]
DATACLASSES = [
    *(Point(1), Point(Point(1), [Point(2), (Frozen(3),)]), Frozen((1,)), Empty(), Child(x=1, z=2), Typed[int](1)),
    *(Slotted(1), FrozenSlotted(None), SlottedChild(1, 2, 3), OverSlots(1), OverSlots(1).hide([2])),
    *(
        Computed(2, note="kept outside the fields"),
        Computed(3),
        Lazy(1),
        Incomparable(1),
        Described(3),
        Checked(1, ["a"]),
    ),
    *(with_attribute(Point(1), [2]), with_attribute(Child(x=1), {"$": Point(2)})),
]
TUPLES = [
    *(Row(1), Row([Row(2)]), Pair([1], None), OpenRow(1), with_attribute(OpenRow(1), (2,)), urlsplit("http://x/y?z")),
]


@pytest.mark.parametrize(
    "value", [*ENUMS, *DATACLASSES, *TUPLES, Movie(title="Brazil")], ids=lambda value: type(value).__name__
)
def test_an_object_comes_back(value: Any, check_comes_back: Callable[[Any], None]) -> None:
    check_comes_back(value)


def test_a_member_of_an_enumeration_comes_back_as_the_member_itself() -> None:
    for member in (Colour.RED, Shape.ROUND, Word.YES, Access.READ | Access.RUN):
        assert decode(encode(member)) is member


def test_a_cached_property_is_no_part_of_the_value() -> None:
    lazy = Lazy(2)
    before = encode(lazy)
    assert lazy.double == 4
    assert encode(lazy) == before
    assert "double" not in vars(decode(before))


def test_fields_that_were_deleted_or_never_set_stay_unset() -> None:
    for value in (Slotted(1, 2), Point(1, [2])):
        del value.x
        restored = decode(encode(value))
        assert not hasattr(restored, "x")
        assert restored.y == value.y


def test_the_order_of_fields_in_the_text_is_that_of_the_class() -> None:
    late = Point(1, 2)
    del late.x
    late.x = 1
    assert encode(late) == encode(Point(1, 2))


@dataclass
class Loud:
    x: int
    calls: ClassVar[list[str]] = []

    def __post_init__(self) -> None:
        self.calls.append("__post_init__")

    def __setattr__(self, name: str, value: Any) -> None:
        self.calls.append("__setattr__")
        object.__setattr__(self, name, value)

    @property
    def stray(self) -> int:
        return 1

    @stray.setter
    def stray(self, value: Any) -> None:
        self.calls.append("stray")


class LoudRow(namedtuple("LoudRow", ["x"])):  # noqa: PYI024, SLOT002
    def __new__(cls, x: int) -> Self:
        Loud.calls.append("__new__")
        return super().__new__(cls, x)


def test_nothing_of_the_class_runs_when_an_object_is_restored() -> None:
    text = encode([Loud(1), LoudRow(2)])
    Loud.calls.clear()
    assert [item.x for item in decode(text)] == [1, 2]
    decode(encode(Loud(1)).replace("}}", '},"extra":{"stray":5}}'))  # as nobody but a forger would write it
    assert "stray" not in Loud.calls[-1:]
    Loud.calls.clear()
    decode(text)
    assert Loud.calls == []


@dataclass
class Failing(Exception):
    x: int


@dataclass
class Listing(list):  # type: ignore[type-arg]
    x: int = 0


@pytest.mark.parametrize("value", [Failing(1), Listing()], ids=lambda value: type(value).__name__)
def test_a_dataclass_that_is_also_a_builtin_type_is_refused(value: Any) -> None:
    with pytest.raises(ValueNotStorable, match="a dataclass and a subclass of a builtin type at once"):
        encode(value)


def test_a_named_tuple_with_the_wrong_number_of_items_is_refused() -> None:
    with pytest.raises(ValueNotStorable, match="not as many items as fields"):
        encode(tuple.__new__(Row, (1,)))


def test_the_path_to_what_cannot_be_stored_goes_through_fields_and_attributes() -> None:
    for value, path in (
        (Point({"a": [1, object()]}), "$.x.a[1]"),
        (Row(Point(object())), "$.a.x"),
        (with_attribute(Point(1), [object()]), "$.stray[0]"),
        ({1: {("k",): object()}}, "$[1][tuple]"),
        ({object(): 1}, "$<key 0>"),
        ([{object()}], "$[0]<item>"),
    ):
        with pytest.raises(ValueNotStorable) as caught:
            encode(value)
        assert (caught.value.type_name, caught.value.path) == ("builtins.object", path)


def test_code_of_the_value_that_fails_while_it_is_stored_is_an_error_with_a_name() -> None:
    described = Described(1)
    described.kept = None  # type: ignore[attr-defined]

    class Unset:
        def __get__(self, instance: Any, owner: type) -> int:
            raise ZeroDivisionError("no\nvalue")

        def __set__(self, instance: Any, value: int) -> None: ...

    Described.x = Unset()  # type: ignore[assignment]
    try:
        with pytest.raises(ValueNotStorable, match=r"reading it failed with ZeroDivisionError: no\\nvalue") as caught:
            encode(Described(1))
    finally:
        Described.x = Doubling()  # type: ignore[assignment]
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_objects_are_shown_by_their_fields() -> None:
    shown = decode_plain(encode([Point(1, Row(2)), Colour.RED, Access.READ | Access.RUN, with_attribute(Point(1), 2)]))
    assert shown == [{"x": 1, "y": {"a": 2, "b": "b"}}, "Colour.RED", "Access(5)", {"x": 1, "y": None, "stray": 2}]
