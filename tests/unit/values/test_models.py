"""Pydantic models come back by their state: unvalidated, with type arguments, extra and private attributes."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Dict, Generic, List, Literal, Optional, TypeVar, Union  # noqa: UP035

import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, computed_field

from milepost.errors import ValueNotStorable
from milepost.values import decode, decode_plain, encode

T = TypeVar("T")
U = TypeVar("U")


@dataclass
class Point:
    x: Any


class Word(enum.StrEnum):
    YES = "yes"


class Item(BaseModel):
    x: Any
    y: Any = None


class Renamed(BaseModel):
    x: int = Field(alias="theX", exclude=True)


class Private(BaseModel):
    x: int
    _given: int = PrivateAttr(default=5)
    _never_set: str = PrivateAttr()


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: Any = 0


class FrozenItem(BaseModel):
    model_config = ConfigDict(frozen=True)
    x: int


class Numbers(RootModel[list[int]]):
    pass


class Derived(BaseModel):
    x: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.x

    @computed_field  # type: ignore[prop-decorator]
    @functools.cached_property
    def triple(self) -> int:
        return 3 * self.x


class Box(BaseModel, Generic[T]):
    x: T


class Two(BaseModel, Generic[T, U]):
    x: T
    y: U


class Root(RootModel[T], Generic[T]):
    pass


class IntBox(Box[int]):
    z: int = 1


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str] = []


class Owner(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")
    others: dict[str, Cat | Dog] = {}


class Page(BaseModel):
    url: pydantic.HttpUrl
    store: pydantic.PostgresDsn | None = None


class Slotted(BaseModel):
    __slots__ = ("hidden",)
    x: int


ODD_EXTRAS = [Open.model_construct(**{"$": 1, "a b": [1]}), Open.model_construct(**{"\ud83d\ude00": 1})]
MODELS = [
    *(Item(x=1), Item(x=1, y=None), Item(x=Item(x=[Point(1)])), Item.model_construct(y=2), Renamed(theX=1)),
    *(Private(x=1), Open(x=1, more=[Item(x=1)]), Open(), *ODD_EXTRAS, FrozenItem(x=1), Numbers([1, 2]), Derived(x=2)),
    *(Owner(pet=Cat()), Owner(pet=Dog(tricks=["sit"]), others={"a": Cat()}), IntBox(x=1)),
    *(Page(url="http://exé.example/a b?q=é#f"), Page(url="HTTP://X.example", store="postgres://u:p%40@a:1,b:2/db")),  # type: ignore[arg-type]
]
GENERIC_MODELS = [
    *(Box[int](x=1), Box(x=1), Box[Any](x=1), Box[Box[int]](x=Box[int](x=1)), Box[list[int]](x=[1]), Box[None](x=None)),
    *(Box[int | None](x=None), Box[Optional[int]](x=1), Box[Union[int, str]](x="a"), Box[Literal["a", 1]](x="a")),  # noqa: UP007, UP045
    *(Box[List[int]](x=[1]), Box[Dict[str, int]](x={}), Box[Sequence[int]](x=[1]), Box[tuple[int, ...]](x=(1,))),  # noqa: UP006
    *(Box[tuple[()]](x=()), Box[Path](x=Path("a")), Box[datetime](x=datetime.now(UTC)), Box[Point](x=Point(1))),
    *(Box[Item](x=Item(x=1)), Box[Word](x=Word.YES), Box[Literal[Word.YES]](x=Word.YES), Root[int](1)),
    *(Two[int, list[Box[str]]](x=1, y=[Box[str](x="a")]), Box[pydantic.HttpUrl](x="http://x.example")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("value", [*MODELS, *GENERIC_MODELS], ids=lambda value: type(value).__name__)
def test_a_model_comes_back(value: Any, check_comes_back: Callable[[Any], None]) -> None:
    check_comes_back(value)
    assert decode(encode(value)) == value


def test_which_fields_were_set_comes_back() -> None:
    for item in (Item(x=1), Item(x=1, y=None), Open(x=1, more=2), Open(), Item.model_construct(y=2)):
        assert decode(encode(item)).model_fields_set == item.model_fields_set


def test_private_attributes_come_back_set_or_unset() -> None:
    private = Private(x=1)
    private._given = 6
    restored = decode(encode(private))
    assert restored._given == 6
    assert not hasattr(restored, "_never_set")
    private._never_set = "set"
    assert decode(encode(private))._never_set == "set"


def test_a_field_that_was_deleted_stays_unset() -> None:
    item = Item(x=1)
    del item.x
    assert not hasattr(decode(encode(item)), "x")


def test_restored_models_are_not_validated_again() -> None:
    wrong = Derived.model_construct(x="not a number")
    assert decode(encode(wrong)).x == "not a number"


def test_no_code_of_the_model_runs_when_it_is_restored() -> None:
    calls: list[str] = []
    Loud.calls = calls
    text = encode(Loud(x=1))
    assert calls == ["validator", "post_init"]
    assert decode(text).x == 1
    assert calls == ["validator", "post_init"]


class Loud(BaseModel):
    x: int

    def model_post_init(self, context: Any, /) -> None:
        self.calls.append("post_init")

    @pydantic.field_validator("x")
    @classmethod
    def _hear(cls, value: int) -> int:
        cls.calls.append("validator")  # type: ignore[attr-defined]
        return value


def test_restored_models_work_as_models() -> None:
    restored = decode(encode(Owner(pet=Cat())))
    assert restored.model_dump() == {"pet": {"kind": "cat", "lives": 9}, "others": {}}
    assert restored.model_copy(update={"pet": Dog()}).pet == Dog()
    opened = decode(encode(Open(x=1, more=2)))
    opened.further = 3
    assert opened.model_extra == {"more": 2, "further": 3}
    frozen = decode(encode(FrozenItem(x=1)))
    with pytest.raises(pydantic.ValidationError):
        frozen.x = 2


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            Box[Annotated[int, Field(gt=0)]](x=1),
            r"type argument .* has no stored form\. Return a class of its own: class Name\(Box\[",
        ),
        (Box[Callable[[], int]](x=int), "type argument .* has no stored form"),
        (Box[type](x=int), "type argument <class 'type'> has no stored form"),
        (Two[int, T](x=1, y=2), "type argument ~T has no stored form"),  # type: ignore[valid-type]
        (Slotted(x=1), "its slot 'hidden' is no field of the model"),
    ],
)
def test_a_model_that_could_not_be_restored_is_refused(value: Any, words: str) -> None:
    with pytest.raises(ValueNotStorable, match=words):
        encode(value)


def test_an_attribute_that_is_no_field_is_refused_rather_than_lost() -> None:
    item = Item(x=1)
    item.__dict__["stray"] = 1
    with pytest.raises(ValueNotStorable, match="its attribute 'stray' is no field of the model"):
        encode(item)


def test_secrets_are_not_written_to_a_ledger() -> None:
    class Account(BaseModel):
        password: pydantic.SecretStr

    with pytest.raises(
        ValueNotStorable, match=r"SecretStr at \$.password cannot be stored: it is a secret, and a ledger can be read"
    ):
        encode(Account(password=pydantic.SecretStr("x")), known=(Account,))


def test_a_url_whose_text_does_not_lead_back_to_it_is_refused() -> None:
    class Shortened(pydantic.AnyUrl):
        def __str__(self) -> str:
            return "http://elsewhere.example/"

    with pytest.raises(ValueNotStorable, match="its text does not make an equal one"):
        encode(Shortened("http://x.example/"), known=(Shortened,))


def test_models_are_shown_by_their_fields() -> None:
    shown = decode_plain(encode([Open(x=1, more=Numbers([1])), Private(x=1), Page(url="http://x.example")]))  # type: ignore[arg-type]
    assert shown == [{"x": 1, "more": {"root": [1]}}, {"x": 1}, {"url": "http://x.example/", "store": None}]
    assert decode_plain(encode(ODD_EXTRAS)) == [{"x": 0, "$": 1, "a b": [1]}, {"x": 0, "\\ud83d\\ude00": 1}]
