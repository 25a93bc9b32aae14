"""Type arguments of generic models: the `int` of `Box[int]`, as part of the stored class.

They are restricted to what can be named safely: storable builtin types, the user's own value classes, and unions,
containers and literals of them.
"""

from __future__ import annotations

import functools
import operator
import types
import typing
from collections import abc
from collections.abc import Collection
from typing import Any

from milepost.values.classes import class_name, is_model, is_value_class
from milepost.values.objects import class_of, must_be_found
from milepost.values.walk import STANDARD, STANDARD_NAMES, Reader, Refused, Tree, Writer

_ABSTRACT = ("Collection", "Iterable", "Mapping", "MutableMapping", "MutableSequence", "Sequence")
_GENERICS: dict[str, Any] = {
    **{f"typing:{name}": getattr(typing, name) for name in _ABSTRACT},
    **{
        f"typing:{name}": getattr(typing, name)
        for name in ("Counter", "DefaultDict", "Deque", "Dict", "FrozenSet", "List", "OrderedDict", "Set", "Tuple")
    },
    **{f"collections.abc:{name}": getattr(abc, name) for name in _ABSTRACT},
}
"""Generic types besides the standard ones. `List[int]` is not `list[int]`: models of the two are two classes."""


def write_type(argument: Any, model: type, known: Collection[type]) -> Tree:
    """Write a type argument of a generic model."""
    origin, inner = typing.get_origin(argument), typing.get_args(argument)
    if argument is None:
        return None
    if argument is Any:
        return "any"
    if argument is Ellipsis:
        return "..."
    if origin is typing.Literal:
        return {"of": "literal", "args": [Writer(known, careful=True).write(value) for value in inner]}
    if origin in (typing.Union, types.UnionType):
        word = "union" if origin is typing.Union else "|"
        return {"of": word, "args": [write_type(part, model, known) for part in inner]}
    if origin is not None and (generic_name := _generic_name(argument, origin, inner)):
        return {"of": generic_name, "args": [write_type(part, model, known) for part in inner]}
    if isinstance(argument, type) and is_model(argument):
        generic = argument.__pydantic_generic_metadata__  # type: ignore[attr-defined]
        if generic["origin"] is not None:
            must_be_found(generic["origin"], known)
            args = [write_type(part, model, known) for part in generic["args"]]
            return {"of": class_name(generic["origin"]), "args": args}
    if isinstance(argument, type):
        if argument in STANDARD_NAMES:
            return STANDARD_NAMES[argument]
        if is_value_class(argument):
            must_be_found(argument, known)
            return class_name(argument)
    raise Refused(
        model,
        f"its type argument {argument!r} has no stored form",
        remedy=f"Return a class of its own: class Name({model.__name__}).",
    )


def read_type(tree: Tree, reader: Reader) -> Any:
    """Read a type argument of a generic model."""
    if tree is None:
        return None
    if tree == "any":
        return Any
    if tree == "...":
        return Ellipsis
    if isinstance(tree, str):
        return STANDARD.get(tree) or _find_value_class(tree, reader)
    word, inner = tree["of"], tree["args"]
    if word == "literal":
        return typing.Literal[tuple(reader.read(value) for value in inner)]
    arguments = tuple(read_type(part, reader) for part in inner)
    if word == "union":
        return typing.Union[arguments]  # noqa: UP007 - the members are only known here
    if word == "|":
        return functools.reduce(operator.or_, arguments)
    origin: Any = _GENERICS.get(word) or STANDARD.get(word) or _find_value_class(word, reader)
    return origin[arguments]


def _generic_name(argument: Any, origin: Any, inner: tuple[Any, ...]) -> str | None:
    if not inner and origin is not tuple:
        return None
    generics = {**_GENERICS, **({STANDARD_NAMES[origin]: origin} if origin in STANDARD_NAMES else {})}
    for name, generic in generics.items():
        if (typing.get_origin(generic) or generic) is origin and generic[inner] == argument:
            return name
    return None


def _find_value_class(name: str, reader: Reader) -> type:
    return class_of(reader, name, is_value_class, "class of values")
