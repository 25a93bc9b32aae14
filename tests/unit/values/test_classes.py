"""Classes are found by name, among what is imported and what the reader knows, and nowhere else."""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar

import pytest
from pydantic import BaseModel
from typing_extensions import TypeAliasType

from milepost.errors import ValueNotRestorable, ValueNotStorable
from milepost.values import classes_in, decode, decode_plain, encode

T = TypeVar("T")


@dataclass
class Top:
    x: int

    @dataclass
    class Inner:
        y: int


class Word(enum.Enum):
    YES = 1


Make = Callable[[str, str], types.ModuleType]


@pytest.fixture
def make_module(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return what makes a module from its source and imports it under a name, for this test."""

    def make(name: str, source: str) -> types.ModuleType:
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(source, module.__dict__)
        return module

    return make


# --- classes inside functions -----------------------------------------------------------------------


def local_classes() -> tuple[type, ...]:
    @dataclass
    class Local:
        x: Any

    class LocalRow(NamedTuple):
        x: Any

    class LocalModel(BaseModel):
        x: Any

    return Local, LocalRow, LocalModel


@pytest.mark.parametrize("cls", local_classes(), ids=lambda cls: cls.__name__)
def test_a_class_inside_a_function_is_refused_unless_the_reader_will_know_it(cls: Any) -> None:
    value = cls(x=[cls(x=1)])
    for _ in range(2):  # knowing it once does not make it known
        with pytest.raises(
            ValueNotStorable, match=r"defined inside a function, where nothing finds it again\. Define the class"
        ):
            encode(value)
        text = encode([value, value], known=(cls,))
    restored = decode(text, known=(int, cls))
    assert restored == [value, value]
    assert type(restored[0]) is type(restored[0].x[0]) is cls
    with pytest.raises(ValueNotRestorable, match="it was defined inside a function"):
        decode(text)
    decode_plain(text)


@pytest.mark.parametrize("cls", local_classes(), ids=lambda cls: cls.__name__)
def test_a_generic_model_of_a_class_inside_a_function_is_refused_as_the_class_is(cls: Any) -> None:
    value = Box[cls].model_construct(x=1)
    for _ in range(2):
        with pytest.raises(ValueNotStorable, match="its class is defined inside a function"):
            encode(value)
        text = encode(value, known=(cls,))
    assert type(decode(text, known=(cls,))) is Box[cls]


def test_a_class_that_its_name_leads_away_from_is_refused(make_module: Make) -> None:
    module = make_module("shop", "from dataclasses import dataclass\n@dataclass\nclass Order:\n    x: int\n")
    replaced = module.Order(1)
    del module.Order
    with pytest.raises(ValueNotStorable, match="the name shop:Order does not lead to its class"):
        encode(replaced)


def test_a_class_inside_a_class_is_found() -> None:
    assert decode(encode(Top.Inner(1))) == Top.Inner(1)


# --- what a name may lead to ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "shop.not_imported:Order",
            "module shop.not_imported is not imported. Remedy: import module shop.not_imported",
        ),
        ("antigravity:Order", "module antigravity is not imported"),
        ("dataclasses:Gone", "module dataclasses no longer has such a class. Remedy: .* Gone = TheNewName"),
        ("subprocess:Popen", "what bears this name is not a dataclass"),
        ("builtins:eval", "what bears this name is not a dataclass"),
        ("builtins:int", "what bears this name is not a dataclass"),
        ("builtins:__import__.__call__", "no longer has such a class"),
        ("__main__:Order", "did not load the script that stored it. Remedy: .*alias_main"),
        ("Order", "no name of the form module:qualname"),
        ("a\nb:C", r"type a\\nb:C cannot be restored"),
    ],
)
def test_stored_data_leads_to_nothing_but_classes_of_the_tagged_kind(name: str, words: str) -> None:
    with pytest.raises(ValueNotRestorable, match=words) as caught:
        decode('{"$":"dataclass","class":' + encode(name) + ',"fields":{}}')
    assert str(caught.value).isprintable()
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("tag", ["dataclass", "model", "namedtuple", "url"])
def test_a_class_of_another_kind_is_refused(tag: str) -> None:
    text = encode(Word.YES).replace('"enum"', f'"{tag}"')
    with pytest.raises(ValueNotRestorable, match="what bears this name is not a"):
        decode(text)


def test_a_lazy_module_is_not_asked(make_module: Make) -> None:
    make_module("lazy", "def __getattr__(name): raise AssertionError(name)")
    with pytest.raises(ValueNotRestorable, match="module lazy no longer has such a class"):
        decode('{"$":"dataclass","class":"lazy:Order","fields":{}}')


def test_a_class_that_the_reader_knows_comes_before_what_is_imported(make_module: Make) -> None:
    source = "from dataclasses import dataclass\n@dataclass\nclass Order:\n    x: int\n"
    old = make_module("shop", source).Order
    text = encode(old(1))
    new = make_module("shop", source).Order
    assert type(decode(text)) is new
    assert type(decode(text, known=(old,))) is old


def test_an_error_says_where_in_the_value_the_class_is_missing() -> None:
    text = encode({"a": [1, {2: Top(1)}]}).replace(":Top", ":Gone")
    with pytest.raises(ValueNotRestorable, match=r"Gone at \$\.a\[1\]\[0\] cannot be restored"):
        decode(text)


# --- classes_in -------------------------------------------------------------------------------------


class Leaf(BaseModel):
    word: Word


class Branch(NamedTuple):
    leaves: list[Leaf]


class Tree(TypedDict):
    branches: dict[str, Branch]
    parent: Optional[Tree]  # noqa: UP045


class Box(BaseModel, Generic[T]):
    x: T


@dataclass
class Unresolved:
    x: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (Top, {Top}),
        (list[Top], {Top}),
        (Optional[Top], {Top}),  # noqa: UP045
        (Top | None, {Top}),
        (dict[str, tuple[Top, ...]], {Top}),
        (Annotated[Top, "note"], {Top}),
        (NewType("NewTop", Top), {Top}),
        (TypeAliasType("Tops", list[Top]), {Top}),
        (Literal[Word.YES, 1], {Word}),
        (type[Top], {Top}),
        (Callable[[int], Top], {Top}),
        (Tree, {Branch, Leaf, Word}),
        (Box[Top], {Top}),
        (Box[Box[Top]], {Top}),
        (Unresolved, {Unresolved}),
        (Iterator[Top], {Top}),
        (list["Top"], set()),
        (Any, set()),
        (None, set()),
        ("Top", set()),
        (T, set()),
    ],
    ids=lambda part: "" if isinstance(part, set) else str(part),  # sets have no order for all processes
)
def test_the_classes_that_an_annotation_mentions_are_known(annotation: Any, expected: set[type]) -> None:
    assert set(classes_in(annotation)) - {Box[Top], Box[Box[Top]]} == expected


def test_an_alias_that_speaks_of_itself_has_its_classes() -> None:
    # As `type Endless = list[Endless] | Top` of Python 3.12 makes it.
    endless = types.SimpleNamespace()
    endless.__value__ = list[endless] | Top  # type: ignore[valid-type]
    assert Top in classes_in(endless)


def test_what_an_annotation_mentions_is_enough_to_store_and_restore_local_classes() -> None:
    @dataclass
    class Local:
        x: int

    class Holder(BaseModel):
        local: Local

    known = classes_in(list[Holder])
    value = [Holder(local=Local(1))]
    assert decode(encode(value, known), known) == value
