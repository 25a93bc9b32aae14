"""Pydantic models: stored by their state, restored without validation, and without importing pydantic.

A model of a generic class, `Box[int]`, is stored as the class and its type arguments. The arguments are
restricted to what can be named safely: storable builtin types, the user's own value classes, and unions,
containers and literals of them.
"""

from __future__ import annotations

import functools
import operator
import types
import typing
from collections.abc import Collection
from functools import cached_property
from typing import Any

from milepost.values.classes import (
    class_name,
    is_dataclass,
    is_enum,
    is_model,
    is_namedtuple,
)
from milepost.values.objects import MISSING, added, class_of, default_of, gone, must_be_found, show_object
from milepost.values.walk import (
    FAMILIES,
    READERS,
    SHOWERS,
    STANDARD,
    Reader,
    Refused,
    Tree,
    Unreadable,
    WriteFunction,
    Writer,
)


def _model_family(cls: Any, known: Collection[type]) -> tuple[WriteFunction, bool] | None:
    if not is_model(cls):
        return None
    generic = cls.__pydantic_generic_metadata__
    origin = generic["origin"] or cls
    lasting = must_be_found(origin, known)
    head: dict[str, Tree] = {"$": "model", "class": class_name(origin)}
    if generic["origin"] is not None:
        head["args"] = [_write_type(argument, cls, known) for argument in generic["args"]]
    names = tuple(cls.model_fields)
    passing = {name for base in cls.__mro__ for name, thing in vars(base).items() if isinstance(thing, cached_property)}

    def write_model(writer: Writer, value: Any) -> Tree:
        state = value.__dict__
        stray = [name for name in state if name not in cls.model_fields and name not in passing]
        if stray:
            raise Refused(cls, f"its attribute {stray[0]!r} is no field of the model")
        unset = [name for name in names if name not in state]
        present = [(name, state[name]) for name in names if name in state]
        tree = {**head, "fields": writer.write_fields(value, present)}
        if unset:
            tree["unset"] = unset
        extra = getattr(value, "__pydantic_extra__", None)
        if extra is not None:
            tree["extra"] = writer.write_fields(value, extra.items())
        private = getattr(value, "__pydantic_private__", None)
        if private is not None:
            tree["private"] = writer.write_fields(value, private.items())
            unset = [name for name in cls.__private_attributes__ if name not in private]
            if unset:
                tree["unset_private"] = unset
        fields_set = value.__pydantic_fields_set__
        if fields_set != tree["fields"].keys():
            tree["set"] = sorted(fields_set)
        return tree

    return write_model, lasting


def _read_model(reader: Reader, tree: dict[str, Tree]) -> Any:
    name = tree["class"]
    cls = _read_class(reader, tree)
    stored = reader.read_fields(tree["fields"])
    fields_set = set(tree.get("set", stored))
    state: dict[str, Any] = {}
    unset = tree.get("unset", ())
    for field, info in cls.model_fields.items():
        value = stored.pop(field, MISSING)
        if value is MISSING:
            if field in unset:
                continue
            if info.is_required():
                raise added(name, field)
            value = default_of(name, field, functools.partial(_default, info, state))
        state[field] = value
    if stored:
        raise gone(name, next(iter(stored)))
    restored = object.__new__(cls)
    object.__setattr__(restored, "__dict__", state)
    object.__setattr__(restored, "__pydantic_fields_set__", fields_set)
    for slot, part in (
        ("__pydantic_extra__", _read_extra(reader, cls, name, tree)),
        ("__pydantic_private__", _read_private(reader, cls, name, tree, state)),
    ):
        # A root model has None for them on its class; setting them would add to the fields in its __dict__.
        if part is not None or not cls.__pydantic_root_model__:
            object.__setattr__(restored, slot, part)
    return restored


def _default(info: Any, state: dict[str, Any]) -> Any:
    if getattr(info, "default_factory_takes_validated_data", False):
        return info.get_default(call_default_factory=True, validated_data=state)
    return info.get_default(call_default_factory=True)


def _read_extra(reader: Reader, cls: Any, name: str, tree: dict[str, Tree]) -> dict[str, Any] | None:
    extra = reader.read_fields(tree.get("extra", {}))
    if cls.model_config.get("extra") == "allow":
        return extra
    if extra:
        raise gone(name, next(iter(extra)))
    return None


def _read_private(
    reader: Reader, cls: Any, name: str, tree: dict[str, Tree], state: dict[str, Any]
) -> dict[str, Any] | None:
    stored = reader.read_fields(tree.get("private", {}))
    for attribute in stored:
        if attribute not in cls.__private_attributes__:
            raise gone(name, attribute)
    for attribute, private in cls.__private_attributes__.items():
        # An attribute that was not set is not stored; one that the class gained since takes its default.
        if attribute not in stored and attribute not in tree.get("unset_private", ()):
            value = default_of(name, attribute, functools.partial(_private_default, private, state))
            if not _is_undefined(value):
                stored[attribute] = value
    return stored if cls.__private_attributes__ else None


def _private_default(private: Any, state: dict[str, Any]) -> Any:
    factory = private.default_factory
    if factory is None:
        return private.get_default()
    return factory(state) if getattr(private, "default_factory_takes_validated_data", False) else factory()


def _is_undefined(value: Any) -> bool:
    return type(value).__name__ == "PydanticUndefinedType"


def _read_class(reader: Reader, tree: dict[str, Tree]) -> Any:
    name = tree["class"]
    origin: Any = class_of(reader, name, is_model, "pydantic model")
    if "args" not in tree:
        return origin
    arguments = tuple(_read_type(argument, reader) for argument in tree["args"])
    try:
        return origin[arguments]
    except TypeError as error:
        reason = "the model is no longer generic in this way"
        raise Unreadable(name, reason, "restore the class as it was") from error


def _write_type(argument: Any, model: type, known: Collection[type]) -> Tree:
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
        return {"of": word, "args": [_write_type(part, model, known) for part in inner]}
    if origin in STANDARD.values():
        return {"of": class_name(origin), "args": [_write_type(part, model, known) for part in inner]}
    if isinstance(argument, type) and is_model(argument):
        generic = argument.__pydantic_generic_metadata__  # type: ignore[attr-defined]
        if generic["origin"] is not None:
            args = [_write_type(part, model, known) for part in generic["args"]]
            return {"of": class_name(generic["origin"]), "args": args}
    if isinstance(argument, type) and (argument in STANDARD.values() or _is_value_class(argument)):
        if argument not in STANDARD.values():
            must_be_found(argument, known)
        return class_name(argument)
    raise Refused(model, f"its type argument {argument!r} cannot be stored")


def _read_type(tree: Tree, reader: Reader) -> Any:
    if tree is None:
        return None
    if tree == "any":
        return Any
    if tree == "...":
        return Ellipsis
    if isinstance(tree, str):
        return _read_value_class(tree, reader)
    word, inner = tree["of"], tree["args"]
    if word == "literal":
        return typing.Literal[tuple(reader.read(value) for value in inner)]
    arguments = tuple(_read_type(part, reader) for part in inner)
    if word == "union":
        return typing.Union[arguments]  # noqa: UP007 - the members are only known here
    if word == "|":
        return functools.reduce(operator.or_, arguments)
    origin: Any = _read_value_class(word, reader)
    return origin[arguments]


def _read_value_class(name: str, reader: Reader) -> type:
    return STANDARD.get(name) or class_of(reader, name, _is_value_class, "class of values")


def _is_value_class(cls: type) -> bool:
    return is_enum(cls) or is_dataclass(cls) or is_namedtuple(cls) or is_model(cls)


FAMILIES.append(_model_family)
READERS["model"] = _read_model
SHOWERS["model"] = show_object
