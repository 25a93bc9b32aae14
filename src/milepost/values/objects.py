"""Objects of the user's own classes: enumerations, named tuples and dataclasses.

An object is restored as it was when it was stored: by `object.__new__` and its fields, without `__init__` and
`__post_init__`, which may compute, check or print things that belong to the moment the object was made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from enum import Enum, Flag
from functools import cached_property, lru_cache
from inspect import getattr_static
from typing import Any

from milepost.values.classes import class_name, find_class, is_dataclass, is_enum, is_namedtuple, is_reachable
from milepost.values.scalars import text_of
from milepost.values.walk import (
    FAMILIES,
    READERS,
    SHOWERS,
    Reader,
    Refused,
    Shower,
    Tree,
    Unreadable,
    WriteFunction,
    Writer,
)

MISSING: Any = dataclasses.MISSING
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the class was made at run time, by a class statement


def must_be_found(cls: type, known: Collection[type]) -> bool:
    """Refuse a class that a reader could not find again; return whether its name alone leads to it.

    A class defined inside a function, or replaced since, cannot be found by name in another process. A result
    that cannot be restored is worse than an early error, so it is refused when it is stored, unless the
    caller knows the class and so will the reader.
    """
    if is_reachable(cls):
        return True
    if cls in known:
        return False
    if "<locals>" in cls.__qualname__:
        reason = "its class is defined inside a function, where nothing finds it again"
        raise Refused(
            cls, reason, remedy="Define the class at the top of a module, or let an annotation of the step mention it."
        )
    raise Refused(cls, f"the name {class_name(cls)} does not lead to its class, so nothing could restore it")


def class_of(reader: Reader, name: str, is_kind: Callable[[type], bool], kind: str) -> type:
    """Find a class for this reader, which remembers it for the other objects of the same value."""
    cls = reader.classes.get((kind, name))
    if cls is None:
        cls = reader.classes[kind, name] = find_class(name, reader.known, is_kind, kind)
    return cls


def show_object(shower: Shower, tree: dict[str, Tree]) -> Tree:
    """Show an object as its fields, with whatever else it carries."""
    shown = {name: shower.show(part) for name, part in tree["fields"].items()}
    extra = shower.show(tree.get("extra", {}))
    return {**shown, **extra} if isinstance(extra, dict) else {**shown, "extra": extra}


def write_extra(writer: Writer, owner: Any, extra: dict[str, Any]) -> Tree:
    """Write what an object carries besides its fields, as the dict that it is."""
    writer.enter()  # reading it takes the frames of two levels
    try:
        tree = writer.write(extra)
    except Refused as refused:
        if refused.trail:  # the dict made here is no part of the user's value: the path goes on from its owner
            refused.trail[-1] = (owner, refused.trail[-1][1])
        raise
    writer.depth -= 1
    return tree


def gone(name: str, field: str) -> Unreadable:
    """Say that a stored field is no longer in the class."""
    return Unreadable(name, f"the class no longer has the stored field {field!r}", "give the field back to the class")


def added(name: str, field: str) -> Unreadable:
    """Say that a field without a default is in the class but not in the stored value."""
    return Unreadable(name, f"the class has a new field {field!r} without a default", "give the field a default")


def default_of(name: str, field: str, make: Callable[[], Any]) -> Any:
    """Make the default of a field added since the value was stored."""
    try:
        return make()
    except Exception as error:  # a default factory is the user's code
        raise Unreadable(name, f"the default of its new field {field!r} failed", "mend the default") from error


def _enum_family(cls: type, known: Collection[type]) -> tuple[WriteFunction, bool] | None:
    if not is_enum(cls):
        return None
    lasting, name, members = must_be_found(cls, known), class_name(cls), getattr(cls, "__members__", {})

    def write_enum(writer: Writer, value: Enum) -> Tree:
        if members.get(value._name_) is value:
            return {"$": "enum", "class": name, "name": value._name_}
        # A combination of flags is no member; its number is all it has.
        return {"$": "enum", "class": name, "value": writer.write(value._value_)}

    return write_enum, lasting


def _read_enum(reader: Reader, tree: dict[str, Tree]) -> Enum:
    name = tree["class"]
    cls: Any = class_of(reader, name, is_enum, "enumeration")
    if "name" in tree:
        member: Enum | None = cls.__members__.get(text_of(tree, "name"))
        if member is None:
            raise Unreadable(name, f"the enumeration no longer has {tree['name']!r}", "give the member back to it")
        return member
    if not issubclass(cls, Flag):
        raise Unreadable(name, "the enumeration is no longer one of flags", "restore the class as it was")
    combination: Enum = cls(reader.read(tree["value"]))
    return combination


def _show_enum(shower: Shower, tree: dict[str, Tree]) -> Tree:
    short = tree["class"].rpartition(":")[2].rpartition(".")[2]
    return f"{short}.{tree['name']}" if "name" in tree else f"{short}({shower.show(tree['value'])})"


def _namedtuple_family(cls: type, known: Collection[type]) -> tuple[WriteFunction, bool] | None:
    if not is_namedtuple(cls):
        return None
    lasting, name = must_be_found(cls, known), class_name(cls)
    names: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]

    def write_namedtuple(writer: Writer, value: tuple[Any, ...]) -> Tree:
        if len(value) != len(names):
            raise Refused(cls, "it has not as many items as fields")
        fields = writer.write_fields(value, zip(names, value, strict=True))
        tree = {"$": "namedtuple", "class": name, "fields": fields}
        extra = getattr(value, "__dict__", None)
        if extra:
            tree["extra"] = write_extra(writer, value, extra)
        return tree

    return write_namedtuple, lasting


def _read_namedtuple(reader: Reader, tree: dict[str, Tree]) -> Any:
    name = tree["class"]
    cls: Any = class_of(reader, name, is_namedtuple, "named tuple")
    stored = reader.read_fields(tree["fields"])
    defaults = getattr(cls, "_field_defaults", {})
    values = []
    for field in cls._fields:
        value = stored.pop(field, MISSING)
        if value is MISSING and (value := defaults.get(field, MISSING)) is MISSING:
            raise added(name, field)
        values.append(value)
    if stored:
        raise gone(name, next(iter(stored)))
    restored = tuple.__new__(cls, values)
    if "extra" in tree:
        _restore_extra(reader, name, restored, tree["extra"])
    return restored


def _dataclass_family(cls: type, known: Collection[type]) -> tuple[WriteFunction, bool] | None:
    if not is_dataclass(cls):
        return None
    if not all(base is object or base.__flags__ & _HEAP_TYPE for base in cls.__mro__):
        # object.__new__ could not make one, and what the builtin part holds would be lost.
        raise Refused(cls, "it is a dataclass and a subclass of a builtin type at once")
    lasting, name = must_be_found(cls, known), class_name(cls)
    names, is_simple = _layout(cls)
    own, slots, passing = frozenset(names), slots_besides(cls, names), _passing_names(cls)

    def write_dataclass(writer: Writer, value: Any) -> Tree:
        state = getattr(value, "__dict__", None)
        if is_simple and state is not None and tuple(state) == names:  # nearly always
            return {"$": "dataclass", "class": name, "fields": writer.write_state(value, state)}
        found = {field: getattr(value, field, MISSING) for field in names}
        fields = {field: part for field, part in found.items() if part is not MISSING}
        tree: dict[str, Tree] = {"$": "dataclass", "class": name, "fields": writer.write_state(value, fields)}
        if len(fields) < len(names):
            tree["unset"] = [field for field in names if field not in fields]
        if slots or (state and not own.issuperset(state)):
            extra = {key: part for key, part in (state or {}).items() if key not in own and key not in passing}
            extra.update((slot, getattr(value, slot)) for slot in slots if hasattr(value, slot))
            if extra:
                tree["extra"] = write_extra(writer, value, extra)
        return tree

    return write_dataclass, lasting


def _read_dataclass(reader: Reader, tree: dict[str, Tree]) -> Any:
    name = tree["class"]
    cls: Any = class_of(reader, name, is_dataclass, "dataclass")
    stored = reader.read_fields(tree["fields"])
    restored = object.__new__(cls)
    names, is_simple = _layout(cls)
    if is_simple and tuple(stored) == names:  # nearly always
        restored.__dict__.update(stored)
    else:
        _restore_fields(name, restored, stored, tree.get("unset", ()))
    if "extra" in tree:
        _restore_extra(reader, name, restored, tree["extra"])
    return restored


def _restore_fields(name: str, restored: Any, stored: dict[str, Any], unset: Collection[str]) -> None:
    for field in dataclasses.fields(restored):
        value = stored.pop(field.name, MISSING)
        if value is MISSING:
            if field.name in unset:
                continue
            value = _field_default(name, field)
        object.__setattr__(restored, field.name, value)
    if stored:
        raise gone(name, next(iter(stored)))


@lru_cache(maxsize=1024)
def _layout(cls: type) -> tuple[tuple[str, ...], bool]:
    """Return the fields of a dataclass, and whether an object's `__dict__` is all there is to it."""
    names = tuple(field.name for field in dataclasses.fields(cls))
    is_simple = (
        cls.__dictoffset__ != 0
        and not slots_besides(cls, names)
        and not any(hasattr(getattr_static(cls, field, None), "__set__") for field in names)  # slot or descriptor
    )
    return names, is_simple


def _field_default(name: str, field: dataclasses.Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    factory: Any = field.default_factory
    if factory is not MISSING:
        return default_of(name, field.name, factory)
    raise added(name, field.name)


def _restore_extra(reader: Reader, name: str, restored: Any, tree: Tree) -> None:
    slots, state = slots_besides(type(restored), ()), getattr(restored, "__dict__", None)
    for attribute, value in reader.read(tree).items():
        # Never through setattr alone: a property of this name would run.
        if attribute in slots:
            object.__setattr__(restored, attribute, value)
        elif state is not None:
            state[attribute] = value
        else:
            raise gone(name, attribute)


def _passing_names(cls: type) -> frozenset[str]:
    """Name the instance attributes that are no part of the value."""
    # A cached property is computed again on demand; typing notes the alias that was called, Box[int], on the
    # object.
    cached = (name for base in cls.__mro__ for name, thing in vars(base).items() if isinstance(thing, cached_property))
    return frozenset({"__orig_class__", *cached})


def slots_besides(cls: type, names: Collection[str]) -> tuple[str, ...]:
    """Name the slots of a class and of those it inherits from, without these."""
    return tuple(slot for base in cls.__mro__ for slot in _slots_of(base) if slot not in names)


def _slots_of(base: type) -> Iterator[str]:
    slots = vars(base).get("__slots__", ())
    for slot in (slots,) if isinstance(slots, str) else tuple(slots):
        if slot.startswith("__") and not slot.endswith("__"):
            yield f"_{base.__name__.lstrip('_')}{slot}"
        elif slot not in ("__dict__", "__weakref__"):
            yield slot


# In this order: an enumeration may have a dataclass mixed in, and its members are still members.
FAMILIES += [_enum_family, _namedtuple_family, _dataclass_family]
READERS.update(enum=_read_enum, namedtuple=_read_namedtuple, dataclass=_read_dataclass)
SHOWERS.update(enum=_show_enum, namedtuple=show_object, dataclass=show_object)
