"""Only a certain misfit refuses an edge: what a type checker accepts, or what is not known, fits."""

from __future__ import annotations

import enum
import inspect
import io
import numbers
import os
import pathlib
import re
from collections import Counter, abc, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import (  # noqa: UP035 - both spellings are annotations
    IO,
    Annotated,
    Any,
    Dict,
    Generic,
    List,
    Literal,
    NamedTuple,
    NewType,
    NoReturn,
    Optional,
    Protocol,
    SupportsInt,
    TextIO,
    TypedDict,
    TypeVar,
)

import pytest
import typing_extensions
from pydantic import BaseModel

from milepost.dag.fits import element_of, fits

T = TypeVar("T")
EMPTY = inspect.Parameter.empty


class Animal:
    pass


class Dog(Animal):
    pass


class Stone:
    pass


class Tagged(list[str], Generic[T]):
    """A list of texts, whose parameter has nothing to do with its items."""


class Box(Generic[T]):
    pass


class IntBox(Box[int]):
    pass


class Crate(BaseModel, Generic[T]):
    x: T


class Goes(Protocol):
    def go(self) -> int: ...


class Row(NamedTuple):
    a: int
    b: str


class Movie(TypedDict):
    title: str


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


UserId = NewType("UserId", int)
Numbers = typing_extensions.TypeAliasType("Numbers", list[int])

FITS: list[tuple[Any, Any]] = [
    (int, int),
    (None, None),
    (None, int | None),
    (int, int | None),
    (int | str, int | str | None),
    (Dog, Animal),
    (bool, int),
    (int, float),
    (bool, float),
    (int, complex),
    (float, complex),
    (list[bool], list[float]),
    (int, numbers.Number),
    (int, abc.Hashable),
    (pathlib.Path, os.PathLike[str]),
    (datetime, date),
    (list[int], list),
    (list[int], Sequence[int]),
    (list[int], Iterable[float]),
    (list[int], abc.Container[int]),
    (List[int], list[int]),  # noqa: UP006
    (Dict[str, int], dict[str, int]),  # noqa: UP006
    (list[dict[str, int]], list[dict[str, Any]]),
    (dict[str, int], Mapping[str, int]),
    (dict[str, int], Iterable[str]),
    (defaultdict[str, int], dict[str, int]),
    (Counter[str], Mapping[str, int]),
    (set[int], abc.Set[int]),
    (str, Sequence[str]),
    (range, Sequence[int]),
    (Generator[int, None, None], Iterator[int]),
    (tuple[int, str], tuple[int, str]),
    (tuple[int, int], tuple[int, ...]),
    (tuple[int, int], Sequence[int]),
    (tuple[()], tuple[int, ...]),
    (Row, tuple[Any, ...]),
    (Movie, dict),
    (Movie, Mapping[str, Any]),
    (Literal["a"], str),
    (Literal["a"], Literal["a", "b"]),
    (Literal[Colour.RED], Colour),
    (UserId, int),
    (int, UserId),
    (list[UserId], list[int]),
    (Numbers, Sequence[int]),
    (Annotated[int, "note"], int),
    (type[Dog], type[Animal]),
    (Callable[[int], int], Callable[..., Any]),
    (re.Pattern[str], re.Pattern),
    (Box[int], Box),
    (Crate[int], Crate),
    (Crate, Crate[int]),
    (Crate[int], Crate[Any]),
    (IntBox, Box),
    # what is not annotated, or says nothing known here
    (Any, int),
    (int, Any),
    (object, int),
    (EMPTY, int),
    (int, EMPTY),
    ("Animal", int),
    (int, "Animal"),
    (list["Animal"], list[int]),
    (T, int),
    (list[T], list[int]),
    (Goes, Animal),
    (Animal, Goes),
    (SupportsInt, int),
    (io.TextIOWrapper, TextIO),
    (io.StringIO, IO[str]),
    (NoReturn, int),
    (Tagged[int], list[str]),
    (Tagged[int], Sequence[str]),
    (tuple[int, *tuple[str, ...]], tuple[int, str, str]),
    (tuple[int, str, str], tuple[int, *tuple[str, ...]]),
    (dict[str, int], Movie),
    (Annotated[int, {}], int),  # cannot be hashed
    # what only the value can tell
    (str, Literal["a"]),
    (Literal["a", "b"], Literal["b", "c"]),
    (Colour, Literal[Colour.RED]),
    (tuple[int, ...], tuple[int, int]),
]

MISFITS: list[tuple[Any, Any]] = [
    (int, str),
    (str, int),
    (bytes, str),
    (float, int),
    (complex, float),
    (None, int),
    (int, None),
    (Animal, Stone),
    (Colour, int),
    (str, pathlib.Path),
    (datetime, timedelta),
    (Crate[int], dict),
    (list[int], list[str]),
    (list[int], int),
    (int, list[int]),
    (int, Sequence[int]),
    (Sequence[int], int),
    (list[int], set[int]),
    (list[int], abc.Hashable),
    (list[list[int]], list[list[str]]),
    (list[UserId], list[str]),
    (list[int | None], list[str]),
    (Numbers, list[str]),
    (Iterator[int], Sequence[int]),
    (Generator[int, None, None], Sequence[int]),
    (dict[str, int], list[int]),
    (dict[str, int], dict[int, int]),
    (dict[str, int], Mapping[str, str]),
    (tuple[int], tuple[int, int]),
    (tuple[int, str], tuple[int, int]),
    (tuple[int, ...], tuple[str, str]),
    (tuple[int, int], Sequence[str]),
    (Sequence[str], tuple[int, int]),
    (Row, list[int]),
    (int | str, bytes),
    (bytes, int | str),
    (Optional[int], str),  # noqa: UP045
    (int | None, int),
    (Animal, Dog),
    (Sequence[int], list[int]),
    (Literal["a", 1], str),
    (Literal["a"], int),
    (Literal["a"], Literal["b"]),
    (Literal[1], Literal[True]),
    (str, Literal[1]),
    (type[Stone], type[Animal]),
    (int, Movie),
    (int, Callable[[], int]),
    (Box[int], Box[str]),
    (Crate[int], Crate[str]),
    (Crate[int], Animal),
]


@pytest.mark.parametrize(("offered", "wanted"), FITS, ids=str)
def test_what_a_type_checker_accepts_and_what_is_not_known_fits(offered: Any, wanted: Any) -> None:
    assert fits(offered, wanted)


@pytest.mark.parametrize(("offered", "wanted"), MISFITS, ids=str)
def test_a_misfit_is_refused(offered: Any, wanted: Any) -> None:
    assert not fits(offered, wanted)


def test_a_consumer_of_more_is_wanted_where_a_consumer_of_less_is() -> None:
    assert fits(Box[Animal], Box[Dog])
    assert fits(Box[Dog], Box[Animal])


@pytest.mark.parametrize(
    ("annotation", "element"),
    [
        (list[int], int),
        (Sequence[int], int),
        (Iterator[int], int),
        (dict[str, float], float),
        (Mapping[str, float], float),
        (tuple[int, ...], int),
        (tuple[int, int], int),
        (Numbers, int),
        (Annotated[list[int], "note"], int),
        (tuple[int, str], Any),
        (tuple[*tuple[int, ...]], Any),
        (tuple[()], Any),
        (list, Any),
        (str, Any),
        (Row, Any),
        (Counter[str], str),
        (Tagged[int], Any),  # its parameter says nothing of its items
        (list[int] | None, Any),
        (Any, Any),
        (EMPTY, Any),
    ],
    ids=str,
)
def test_the_element_of_an_annotation_is_known_or_any(annotation: Any, element: Any) -> None:
    assert element_of(annotation) == element
