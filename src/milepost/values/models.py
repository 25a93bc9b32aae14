"""Pydantic models: stored by their state, restored without validation, and without importing pydantic.

A model of a generic class, `Box[int]`, is stored as the class and its type arguments; see `type_arguments`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from functools import cached_property
from typing import Any

from milepost.values.classes import class_name, is_model
from milepost.values.objects import (
    MISSING,
    added,
    class_of,
    default_of,
    gone,
    must_be_found,
    show_object,
    slots_besides,
    write_extra,
)
from milepost.values.type_arguments import read_type, write_type
from milepost.values.walk import FAMILIES, READERS, SHOWERS, Reader, Refused, Tree, Unreadable, WriteFunction, Writer

_OWN_SLOTS = ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


def _model_family(cls: Any, known: Collection[type]) -> tuple[WriteFunction, bool] | None:
    if not is_model(cls):
        return None
    generic = cls.__pydantic_generic_metadata__
    origin = generic["origin"] or cls
    lasting = must_be_found(origin, known)
    head: dict[str, Tree] = {"$": "model", "class": class_name(origin)}
    if generic["origin"] is not None:
        head["args"] = [write_type(argument, cls, known) for argument in generic["args"]]
        lasting = lasting and _have_names(generic["args"], cls)
    names = tuple(cls.model_fields)
    passing = {name for base in cls.__mro__ for name, thing in vars(base).items() if isinstance(thing, cached_property)}
    slots = slots_besides(cls, _OWN_SLOTS)
    if slots:
        raise Refused(cls, f"its slot {slots[0]!r} is no field of the model")

    def write_model(writer: Writer, value: Any) -> Tree:
        state = fields = value.__dict__
        if tuple(state) != names:
            stray = [name for name in state if name not in names and name not in passing]
            if stray:
                raise Refused(cls, f"its attribute {stray[0]!r} is no field of the model")
            fields = {name: state[name] for name in names if name in state}
        tree = {**head, "fields": writer.write_state(value, fields)}
        if len(fields) < len(names):
            tree["unset"] = [name for name in names if name not in fields]
        extra = getattr(value, "__pydantic_extra__", None)
        if extra:
            tree["extra"] = write_extra(writer, value, extra)
        private = getattr(value, "__pydantic_private__", None)
        if private is not None:
            tree["private"] = write_extra(writer, value, private)
            unset = [name for name in cls.__private_attributes__ if name not in private]
            if unset:
                tree["unset_private"] = unset
        fields_set = value.__pydantic_fields_set__
        if fields_set != fields.keys():
            tree["set"] = sorted(fields_set)
        return tree

    return write_model, lasting


def _have_names(arguments: tuple[Any, ...], cls: type) -> bool:
    """Tell whether the type arguments of a model can be found by whoever knows nothing."""
    try:
        for argument in arguments:
            write_type(argument, cls, ())
    except Refused:
        return False
    return True


def _read_model(reader: Reader, tree: dict[str, Tree]) -> Any:
    name = tree["class"]
    cls = _read_class(reader, tree)
    stored = reader.read_fields(tree["fields"])
    fields_set = set(tree.get("set", stored))
    state = _restore_state(name, cls.model_fields, stored, tree.get("unset", ()))
    restored = object.__new__(cls)
    object.__setattr__(restored, "__dict__", state)
    object.__setattr__(restored, "__pydantic_fields_set__", fields_set)
    extra = reader.read(tree["extra"]) if "extra" in tree else {}
    private = reader.read(tree["private"]) if "private" in tree else {}
    for slot, part in (
        ("__pydantic_extra__", _check_extra(cls, name, extra)),
        ("__pydantic_private__", _complete_private(cls, name, tree, private, state)),
    ):
        # A root model has None for them on its class; setting them would add to the fields in its __dict__.
        if part is not None or not cls.__pydantic_root_model__:
            object.__setattr__(restored, slot, part)
    return restored


def _restore_state(name: str, fields: dict[str, Any], stored: dict[str, Any], unset: Collection[str]) -> dict[str, Any]:
    if tuple(stored) == tuple(fields):  # nearly always
        return stored
    state: dict[str, Any] = {}
    for field, info in fields.items():
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
    return state


def _default(info: Any, state: dict[str, Any]) -> Any:
    if getattr(info, "default_factory_takes_validated_data", False):
        return info.get_default(call_default_factory=True, validated_data=state)
    return info.get_default(call_default_factory=True)


def _check_extra(cls: Any, name: str, extra: dict[str, Any]) -> dict[str, Any] | None:
    if cls.model_config.get("extra") == "allow":
        return extra
    if extra:
        raise gone(name, next(iter(extra)))
    return None


def _complete_private(
    cls: Any, name: str, tree: dict[str, Tree], stored: dict[str, Any], state: dict[str, Any]
) -> dict[str, Any] | None:
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
    arguments = tuple(read_type(argument, reader) for argument in tree["args"])
    try:
        return origin[arguments]
    except TypeError as error:
        reason = "the model is no longer generic in this way"
        raise Unreadable(name, reason, "restore the class as it was") from error


FAMILIES.append(_model_family)
READERS["model"] = _read_model
SHOWERS["model"] = show_object
