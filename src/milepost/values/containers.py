"""Containers: those of JSON, and the others of the standard library."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

from milepost.values.scalars import int_of
from milepost.values.walk import (
    SURROGATE_PAIR,
    TAG,
    TEXT,
    WRITERS,
    Reader,
    Refused,
    Shower,
    Tree,
    WriteFunction,
    Writer,
    register,
)

_FACTORIES: dict[str, type] = {
    cls.__name__: cls for cls in (bool, bytes, dict, float, frozenset, int, list, set, str, tuple)
}
"""What a defaultdict may make: builtin types only, since the name of a factory is stored."""


def _write_list(writer: Writer, value: list[Any]) -> Tree:
    return writer.write_items(value, value)


def _write_tuple(writer: Writer, value: tuple[Any, ...]) -> Tree:
    return {"$": "tuple", "v": writer.write_items(value, value)}


def _write_dict(writer: Writer, value: dict[Any, Any]) -> Tree:
    if not TEXT.issuperset(map(type, value)) or TAG in value:
        return {"$": "dict", "v": writer.write_pairs(value, value)}
    if writer.careful and any(SURROGATE_PAIR.search(key) for key in value):
        return {"$": "dict", "v": writer.write_pairs(value, value)}
    if writer.plain.issuperset(map(type, value.values())):
        return value
    return writer.write_fields(value, value.items())


def _read_dict(reader: Reader, tree: dict[str, Tree]) -> dict[Any, Any]:
    return dict(reader.read_pairs(tree["v"]))


def _show_pairs(shower: Shower, tree: dict[str, Tree]) -> Tree:
    return shower.show_pairs(tree["v"])


def _set_writer(tag: str) -> WriteFunction:
    def write_set(writer: Writer, value: set[Any] | frozenset[Any]) -> Tree:
        # Sets have no order, and that of iteration changes from process to process with the hashes of texts.
        kinds = set(map(type, value))
        if len(kinds) == 1 and kinds <= {str, int}:
            return {"$": tag, "v": writer.write_items(value, sorted(value))}
        writer.enter()
        try:
            items = [writer.write(item) for item in value]
        except Refused as refused:
            refused.inside(value, "<item>")
            raise
        writer.depth -= 1
        return {"$": tag, "v": sorted(items, key=json.dumps)}

    return write_set


def _write_ordered(writer: Writer, value: OrderedDict[Any, Any]) -> Tree:
    _refuse_attributes(value)
    return {"$": "ordereddict", "v": writer.write_pairs(value, value)}


def _write_counter(writer: Writer, value: Counter[Any]) -> Tree:
    _refuse_attributes(value)
    return {"$": "counter", "v": writer.write_pairs(value, value)}


def _refuse_attributes(value: OrderedDict[Any, Any] | Counter[Any]) -> None:
    # typing notes the alias that was called, Counter[str], on the object.
    stray = value.__dict__.keys() - {"__orig_class__"}
    if stray:
        raise Refused(type(value), f"it carries an attribute besides its items, {min(stray)!r}")


def _read_counter(reader: Reader, tree: dict[str, Tree]) -> Counter[Any]:
    counter: Counter[Any] = Counter()
    # Not Counter(pairs), which would count the pairs, and not through a dict, which reads better but copies.
    for key, count in reader.read_pairs(tree["v"]):
        counter[key] = count
    return counter


def _write_defaultdict(writer: Writer, value: defaultdict[Any, Any]) -> Tree:
    factory: Any = value.default_factory
    name = None if factory is None else getattr(factory, "__name__", "")
    if name is not None and _FACTORIES.get(name) is not factory:
        raise Refused(type(value), "only a builtin type can be its default_factory")
    return {"$": "defaultdict", "factory": name, "v": writer.write_pairs(value, value)}


def _read_defaultdict(reader: Reader, tree: dict[str, Tree]) -> defaultdict[Any, Any]:
    factory = None if tree["factory"] is None else _FACTORIES[tree["factory"]]
    return defaultdict(factory, reader.read_pairs(tree["v"]))


def _write_deque(writer: Writer, value: deque[Any]) -> Tree:
    return {"$": "deque", "maxlen": value.maxlen, "v": writer.write_items(value, value)}


def _read_deque(reader: Reader, tree: dict[str, Tree]) -> deque[Any]:
    return deque(reader.read_items(tree["v"]), tree["maxlen"])


def _write_range(writer: Writer, value: range) -> Tree:
    return {"$": "range", "v": [WRITERS[int](writer, part) for part in (value.start, value.stop, value.step)]}


def _read_range(reader: Reader, tree: dict[str, Tree]) -> range:
    start, stop, step = (int_of(reader, part) for part in tree["v"])
    return range(start, stop, step)


def _show_range(shower: Shower, tree: dict[str, Tree]) -> Tree:
    return f"range({', '.join(str(shower.show(part)) for part in tree['v'])})"


WRITERS[list] = _write_list
register("tuple", [tuple], _write_tuple, lambda reader, tree: tuple(reader.read_items(tree["v"])))
register("dict", [dict], _write_dict, _read_dict, _show_pairs)
register("set", [set], _set_writer("set"), lambda reader, tree: set(reader.read_items(tree["v"])))
register(
    "frozenset",
    [frozenset],
    _set_writer("frozenset"),
    lambda reader, tree: frozenset(reader.read_items(tree["v"])),
)
register(
    "ordereddict",
    [OrderedDict],
    _write_ordered,
    lambda reader, tree: OrderedDict(reader.read_pairs(tree["v"])),
    _show_pairs,
)
register("counter", [Counter], _write_counter, _read_counter, _show_pairs)
register("defaultdict", [defaultdict], _write_defaultdict, _read_defaultdict, _show_pairs)
register("deque", [deque], _write_deque, _read_deque)
register("range", [range], _write_range, _read_range, _show_range)
