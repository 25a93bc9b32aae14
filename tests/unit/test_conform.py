"""A step's output is held against its return annotation as a type checker would, and never refused wrongly."""

from __future__ import annotations

import collections
import enum
import io
import numbers
import os
import re
import subprocess
import sys
import types
from collections import ChainMap, Counter, OrderedDict, abc, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path, PurePath
from typing import (  # noqa: UP035 - both spellings are annotations
    IO,
    Annotated,
    Any,
    BinaryIO,
    ClassVar,
    Dict,
    Final,
    Generic,
    List,
    Literal,
    LiteralString,
    NamedTuple,
    NewType,
    NoReturn,
    NotRequired,
    Optional,
    Protocol,
    SupportsInt,
    TextIO,
    Tuple,
    Type,
    TypedDict,
    TypeVar,
    Union,
    Unpack,
    runtime_checkable,
)

import pytest
import typing_extensions
from pydantic import AfterValidator, BaseModel, Field, PositiveInt, RootModel, StringConstraints

from milepost.errors import OutputMismatch
from milepost.runtime.conform import annotation_name, return_check, show

T = TypeVar("T")


class Word(enum.StrEnum):
    YES = "yes"


class Level(enum.IntEnum):
    LOW = 1


class Colour(enum.Enum):
    RED = 1


class Animal:
    pass


class Dog(Animal):
    pass


class Goes(Protocol):
    def go(self) -> int: ...


@runtime_checkable
class GoesVisibly(Protocol):
    def go(self) -> int: ...


@runtime_checkable
class HasSize(Protocol):
    @property
    def size(self) -> int: ...


class Car:
    def go(self) -> int:
        return 1


class Moody:
    @property
    def size(self) -> int:
        raise RuntimeError("not now")


class Row(NamedTuple):
    a: int
    b: float = 1.0


class LongRow(Row):
    pass


class Movie(TypedDict):
    title: str
    year: NotRequired[int]
    rank: Annotated[NotRequired[int], "note"]


class Folder(TypedDict, total=False):
    name: str
    folders: list[Folder]


class Box(Generic[T]):
    pass


@dataclass
class Point:
    x: int


@dataclass
class Pair(Generic[T]):
    x: T


class Item(BaseModel):
    x: int


class Crate(BaseModel, Generic[T]):
    x: T


class Unasked(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        raise TypeError("ask no questions")


class Secretive(metaclass=Unasked):
    pass


class Countdown(Sequence[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("looked into")


class NoText:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


def id_of(row: tuple[Any, ...]) -> str:
    """Name a row by its annotation, without addresses, which differ between the processes of a test run."""
    return re.sub(r" at 0x\w+", "", str(row[0]))


UserId = NewType("UserId", int)
Alias = typing_extensions.TypeAliasType("Alias", list[int])

PASSES: list[tuple[Any, ...]] = [  # an annotation, and values that keep its promise
    (int, 1, True, Level.LOW),
    (str, "a", Word.YES),
    (float, 1.5, 1, True),
    (complex, 1j, 1.5, 1),
    (None, None),
    (type(None), None),
    (Animal, Dog()),
    (date, datetime.now(UTC)),
    (Exception, ValueError()),
    (enum.Enum, Colour.RED),
    (Path, Path()),
    (Item, Item(x=1)),
    (Row, Row(1), LongRow(1)),
    (numbers.Number, 1, 1.5),
    (abc.Hashable, 1),
    # what promises nothing that can be checked
    (Any, 1),
    (object, 1),
    (T, 1),
    ("Animal", 1),
    (list["Nowhere"], [1]),  # type: ignore[name-defined]  # noqa: F821
    (list[T], [1]),
    (LiteralString, "a"),
    (NoReturn, 1),
    (typing_extensions.Self, 1),
    (Goes, Car(), 5),
    (Secretive, 5),
    (list[Goes], [5]),
    (TextIO, io.StringIO()),
    (IO[str], io.StringIO()),
    (list[BinaryIO], [io.BytesIO()]),
    # containers
    (list, [1]),
    (list[int], [], [1, True, Level.LOW]),
    (list[float], [1.5, 1, True]),
    (list[complex], [1j, 1.5, 1]),
    (list[str], ["a", Word.YES]),
    (list[date], [datetime.now(UTC)]),
    (list[Animal], [Animal(), Dog()]),
    (list[PurePath], [Path()]),
    (list[Row], [LongRow(1)]),
    (list[None], [None]),
    (list[Any], [1]),
    (list[object], [1]),
    (set[int], {True}),
    (frozenset[int], frozenset({1})),
    (abc.Set[int], {1}, frozenset({1})),
    (abc.Collection[int], {1}, [1]),
    (deque[int], deque([1])),
    (Counter[str], Counter("a")),
    (dict[str, int], {}, {"a": 1}, Counter("a"), defaultdict(int, a=1)),
    (dict[int, str], {True: "a"}),
    (OrderedDict[str, int], OrderedDict(a=1)),
    (defaultdict[str, list[int]], defaultdict(list, a=[1])),
    (Mapping[str, int], {"a": 1}, types.MappingProxyType({"a": 1}), ChainMap({"a": 1})),
    (Sequence[int], [1], (1,), range(3), range(0), deque([1]), b"ab", Countdown()),
    (Sequence[str], ["a"], "abc", ""),
    (Iterable[int], [1], {1: 2}, {1: 2}.keys(), {1: 2}.values(), iter(["not looked at"])),
    (Iterator[int], iter(["not looked at"])),
    (abc.Generator[int, None, None], (n for n in "not looked at")),
    (tuple[int, float], (1, 1), Row(1, 2.0)),
    (tuple[int, ...], (), (1, 2)),
    (tuple[()], ()),
    (tuple[int, Unpack[tuple[str, ...]]], (1, "a", "b")),  # noqa: UP044
    (tuple[int, *tuple[str, ...]], (1,)),
    (Tuple, (1,)),  # noqa: UP006
    (Tuple[int, str], (1, "a")),  # noqa: UP006
    (List[int], [1]),  # noqa: UP006
    (Dict[str, int], {"a": 1}),  # noqa: UP006
    # unions, literals, aliases and wrappers
    (int | None, 1, None),
    (Optional[Item], Item(x=1), None),  # noqa: UP045
    (Union[int, str], "a"),  # noqa: UP007
    (list[int | str], [1, "a"]),
    (list[int] | None, [1], None),
    (int | Goes, 5),
    (Literal["a", 1], "a", 1),
    (Literal["yes"], Word.YES),
    (Literal[Colour.RED], Colour.RED),
    (UserId, 5),
    (list[UserId], [5]),
    (Alias, [1]),
    (Final[int], 1),
    (ClassVar[int], 1),
    (Annotated[int, "note"], 1),
    (Annotated[int, Field(gt=0)], 1),
    (list[PositiveInt], [1]),
    (Annotated[Sequence[int], Field(min_length=1)], range(1)),
    (Annotated[str, StringConstraints(to_lower=True)], "A"),
    (Annotated[int, AfterValidator((1).__truediv__)], 0),  # a validator is no constraint, and is not called
    (Annotated[int | None, Field(gt=0)], None),  # a rule that means nothing for None
    # generic classes, models, typed dicts, protocols, classes as values
    (Box[int], Box()),
    (list[Box[int]], [Box()]),
    (Pair[Animal], Pair(Animal())),
    (Crate[int], Crate[int](x=1), Crate(x=1)),
    (list[Crate[Any]], [Crate[int](x=1)]),
    (RootModel[list[int]], RootModel[list[int]]([1])),
    (list[Point], [Point("not looked at")]),  # type: ignore[arg-type]
    (list[Item], [Item.model_construct(x="not looked at")]),
    (Movie, {"title": "Brazil"}, {"title": "Brazil", "year": 1985, "more": 1}),
    (list[Movie], [{"title": "Brazil"}]),
    (Folder, {}, {"folders": [{"name": "a", "folders": []}]}),
    (typing_extensions.TypedDict("Loose", {"a": int}), {"a": 1}),
    (GoesVisibly, Car()),
    (list[GoesVisibly], [Car()]),
    (SupportsInt, 5),
    (HasSize, Moody()),
    (os.PathLike[str], Path()),
    (type, int),
    (type[Animal], Dog),
    (Type[int], bool),  # noqa: UP006
    (type[Any], int),
    (type[int | str], str),
    (Callable[[int], int], len),
    (list[Callable[..., Any]], [int]),
    (re.Pattern[str], re.compile("a")),
]


@pytest.mark.parametrize("row", PASSES, ids=[id_of(row) for row in PASSES])
def test_what_a_type_checker_accepts_passes(row: tuple[Any, ...]) -> None:
    annotation, *values = row
    check = return_check("make", annotation)
    for value in values:
        if check is not None:
            check(value)


BREACHES: list[tuple[Any, Any, str]] = [
    (int, "a", "str 'a'"),
    (int, 1.5, "float 1.5"),
    (int, None, "None"),
    (None, 1, "int 1"),
    (bool, 1, "int 1"),
    (float, "1", "str '1'"),
    (str, b"a", "bytes b'a'"),
    (Animal, Car, "type <class "),
    (Item, {"x": 1}, "dict {'x': 1}"),
    (Point, {"x": 1}, "dict {'x': 1}"),
    (Row, (1, 2.0), "tuple (1, 2.0)"),
    (list[int], (1,), "tuple (1,)"),
    (list[int], ["a"], "list ['a'], where [0] is str 'a', not int"),
    (list[int], [1, 2, None], "list [1, 2, None], where [2] is None, not int"),
    (list[list[int]], [[1], [2, "a"]], "list [[1], [2, 'a']], where [1][1] is str 'a', not int"),
    (list[Item], [{"x": 1}], "list [{'x': 1}], where [0] is dict {'x': 1}, not Item"),
    (list[Row], [(1, 2.0)], "list [(1, 2.0)], where [0] is tuple (1, 2.0), not Row"),
    (list[Decimal], [1], "list [1], where [0] is int 1, not Decimal"),
    (list[Colour], [1], "list [1], where [0] is int 1, not Colour"),
    (list[datetime], [date(2024, 1, 1)], "where [0] is date datetime.date(2024, 1, 1), not datetime"),
    (set[int], {"a"}, "set {'a'}, where [0] is str 'a', not int"),
    (frozenset[int], {1}, "set {1}"),
    (Counter[str], {"a": 1}, "dict {'a': 1}"),
    (Sequence[int], {1}, "set {1}"),
    (Sequence[int], "abc", "str 'abc', where [0] is str 'a', not int"),
    (Sequence[str], b"abc", "bytes b'abc', where [0] is int 97, not str"),
    (Sequence[str], range(3), "range range(0, 3), where [0] is int 0, not str"),
    (Iterable[int], 5, "int 5"),
    (Iterator[int], [1], "list [1]"),
    (dict[str, int], {1: 1}, "dict {1: 1}, where <key 1> is int 1, not str"),
    (dict[str, int], {"a": "b"}, "dict {'a': 'b'}, where ['a'] is str 'b', not int"),
    (dict[str, list[int]], {"a": [1, None]}, "dict {'a': [1, None]}, where ['a'][1] is None, not int"),
    (dict[tuple[int, int], Any], {(1, "a"): 1}, "where <key (1, 'a')>[1] is str 'a', not int"),
    (Mapping[str, int], [1], "list [1]"),
    (tuple[int, str], [1, "a"], "list [1, 'a']"),
    (tuple[int, str], (1,), "tuple (1,): its length is 1, not 2"),
    (tuple[()], (1,), "tuple (1,): its length is 1, not 0"),
    (tuple[int, str], (1, 2), "tuple (1, 2), where [1] is int 2, not str"),
    (tuple[int, ...], (1, "a"), "tuple (1, 'a'), where [1] is str 'a', not int"),
    (Optional[int], "a", "str 'a'"),  # noqa: UP045
    (list[int] | None, ["a"], "list ['a'], where [0] is str 'a', not int"),
    (list[int | None], ["a"], "list ['a'], where [0] is str 'a', not int | None"),
    (list[list[int] | dict[str, int]], [{"a": None}], "where [0]['a'] is None, not int"),
    (Literal["a"], "b", "str 'b'"),
    (Literal[1], True, "bool True"),
    (Literal[True], 1, "int 1"),
    (list[Literal["a", "b"]], ["c"], "list ['c'], where [0] is str 'c', not Literal['a', 'b']"),
    (UserId, "a", "str 'a'"),
    (Alias, ["a"], "list ['a'], where [0] is str 'a', not int"),
    (Annotated[int, "note"], "a", "str 'a'"),
    (Annotated[int, Field(gt=0)], "a", "str 'a'"),
    (PositiveInt, -1, "int -1: input should be greater than 0"),
    (list[PositiveInt], [1, 0], "list [1, 0], where [1] is int 0: input should be greater than 0"),
    (Annotated[str, StringConstraints(min_length=2)], "a", "str 'a': string should have at least 2 characters"),
    (Movie, {"year": 1985}, "dict {'year': 1985}: it lacks the key 'title'"),
    (Movie, {"title": 5}, "dict {'title': 5}, where ['title'] is int 5, not str"),
    (Movie, [1], "list [1]"),
    (list[Movie], [{}], "list [{}], where [0] is dict {}: it lacks the key 'title'"),
    (Folder, {"folders": [{"folders": [5]}]}, "where ['folders'][0]['folders'][0] is int 5, not Folder"),
    (Box[int], 5, "int 5"),
    (Crate[int], Item(x=1), "Item Item(x=1)"),
    (type[Animal], int, "type <class 'int'>"),
    (type[Animal], Dog(), "Dog <"),
    (Callable[[int], int], 5, "int 5"),
    (GoesVisibly, 5, "int 5"),
    (list[GoesVisibly], [5], "list [5], where [0] is int 5, not GoesVisibly"),
    (re.Pattern[str], "a", "str 'a'"),
    (int, NoText(), "NoText <"),
    (list[int], [NoText()], "where [0] is NoText <"),
]


@pytest.mark.parametrize(("annotation", "value", "detail"), BREACHES, ids=[id_of(row) for row in BREACHES])
def test_what_the_annotation_denies_is_refused_with_its_place(annotation: Any, value: Any, detail: str) -> None:
    check = return_check("make", annotation)
    assert check is not None
    for _ in range(2):
        with pytest.raises(OutputMismatch) as caught:
            check(value)
        assert detail in caught.value.detail
        assert str(caught.value).isprintable()


def test_the_error_is_a_sentence_that_ends_in_the_remedy() -> None:
    check = return_check("parse", list[int])
    assert check is not None
    with pytest.raises(OutputMismatch) as caught:
        check(["a"])
    assert str(caught.value) == (
        "Step 'parse' is annotated to return list[int] but returned list ['a'], where [0] is str 'a', not int. "
        "Correct the annotation or the value."
    )


def test_nothing_is_checked_where_nothing_is_promised() -> None:
    for annotation in (Any, object, T, "Forward", Goes, TextIO, NoReturn, int | Any, list[int] | Goes):
        assert return_check("make", annotation) is None


def test_looking_at_a_value_neither_consumes_nor_changes_it() -> None:
    numbers_to_come = iter([1, 2])
    value = {"a": numbers_to_come}
    check = return_check("make", dict[str, Iterator[int]])
    assert check is not None
    check(value)
    assert list(numbers_to_come) == [1, 2]


def test_a_value_that_contains_itself_is_left_to_the_one_who_stores_it() -> None:
    folder: dict[str, Any] = {}
    folder["folders"] = [folder]
    check = return_check("make", Folder)
    assert check is not None
    check(folder)
    folder["name"] = 5
    with pytest.raises(OutputMismatch):
        check(folder)


def test_only_a_constraint_asks_for_pydantic() -> None:
    code = (
        "import sys\n"
        "from collections.abc import Sequence\n"
        "from typing import Annotated, Literal, TypedDict\n"
        "from milepost.runtime.conform import return_check\n"
        "class Movie(TypedDict):\n    title: str\n"
        "for annotation, value in ((int, 1), (list[int] | None, [1]), (dict[str, Sequence[int]], {'a': [1]}),\n"
        "                          (Movie, {'title': 'a'}), (Literal['a'], 'a'), (Annotated[int, 'note'], 1)):\n"
        "    return_check('make', annotation)(value)\n"
        "print('pydantic' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (int, "int"),
        (None, "None"),
        (type(None), "None"),
        (list[int], "list[int]"),
        (List[int], "List[int]"),  # noqa: UP006
        (Optional[int], "Optional[int]"),  # noqa: UP045
        (dict[str, None], "dict[str, None]"),
        (int | None, "int | None"),
        (Literal["a"], "Literal['a']"),
        (Folder, "Folder"),
        (Alias, "Alias"),
        (collections.abc.Sequence[int], "collections.abc.Sequence[int]"),
    ],
    ids=str,
)
def test_an_annotation_is_named_as_people_write_it(annotation: Any, name: str) -> None:
    assert annotation_name(annotation) == name


def test_any_value_is_shown_in_one_short_line() -> None:
    assert show("a\nb") == "'a\\nb'"
    assert show(type("Tall", (), {"__repr__": lambda self: "a\n  b"})()) == "a b"
    assert show(NoText()).startswith("<")
    assert show(type("list", (), {})()).startswith("<")  # which is none
    for large in ("x" * 10_000, list(range(10_000)), {n: n for n in range(1000)}, 10**4000, Path("x" * 1000)):
        assert len(show(large)) <= 60
