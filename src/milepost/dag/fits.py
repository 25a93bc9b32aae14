"""Whether a value of one annotation may be handed to a parameter of another.

The rule is that of a type checker, as far as both annotations are known: wherever one is missing, or says something
this module does not understand, the answer is that it fits. A wrong "no" would refuse a graph that works.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections import Counter, OrderedDict, abc, defaultdict, deque
from types import NoneType
from typing import IO, Annotated, Any, BinaryIO, Final, Literal, TextIO, Union

__all__ = ["element_of", "fits", "is_mappable", "map_outputs"]

_UNKNOWN: Final = (Any, object, inspect.Parameter.empty, IO, TextIO, BinaryIO)  # open() returns none of the last three
_TOWER: Final[dict[Any, tuple[type, ...]]] = {float: (int,), complex: (int, float)}
# Generic types whose one argument is the type of their elements, and those with a key and a value.
_SEQUENCES: Final = frozenset(
    {list, set, frozenset, deque, Counter, abc.Sequence, abc.MutableSequence, abc.Set, abc.MutableSet}
    | {abc.Collection, abc.Container, abc.Iterable, abc.Iterator, abc.Reversible, abc.KeysView, abc.ValuesView}
)
_MAPPINGS: Final = frozenset({dict, defaultdict, OrderedDict, abc.Mapping, abc.MutableMapping})


def fits(offered: Any, wanted: Any) -> bool:
    """Return False where a value annotated as ``offered`` certainly is no ``wanted``.

    Example:
        >>> fits(int, float), fits(list[int], list[str]), fits(int, int | None)
        (True, False, True)
    """
    try:
        return _fits_cached(offered, wanted)
    except TypeError:  # an annotation that cannot be hashed
        return _fits(offered, wanted)
    except RecursionError:  # two `type` statements that speak of themselves
        return True


@functools.lru_cache(maxsize=4096)
def _fits_cached(offered: Any, wanted: Any) -> bool:
    return _fits(offered, wanted)


def _fits(offered: Any, wanted: Any) -> bool:
    offered, wanted = _plain(offered), _plain(wanted)
    if _is_unknown(offered) or _is_unknown(wanted) or offered == wanted:
        return True
    have, given = _parts(offered)
    want, asked = _parts(wanted)
    if have in (Union, types.UnionType):
        return all(_fits(part, wanted) for part in given)
    if want in (Union, types.UnionType):
        return any(_fits(offered, part) for part in asked)
    if have is Literal and want is Literal:
        known = [(type(value), value) for value in asked]
        return any((type(value), value) in known for value in given)
    if have is Literal:
        return all(_fits(type(value), wanted) for value in given)
    if want is Literal:  # a text may be the one that is wanted
        return any(_fits(offered, type(value)) for value in asked)
    if not isinstance(have, type) or not isinstance(want, type) or _is_protocol(have) or _is_protocol(want):
        return True
    try:
        is_one = issubclass(have, (want, *_TOWER.get(want, ())))
    except TypeError:  # a typed dict answers nobody, and any dict may be one
        return not hasattr(want, "__required_keys__") or hasattr(have, "__required_keys__") or issubclass(have, dict)
    return is_one and _arguments_fit(given, asked, have, want)


def _arguments_fit(given: tuple[Any, ...], asked: tuple[Any, ...], have: type, want: type) -> bool:
    if not given or not asked or any(map(_is_unpacked, (*given, *asked))):
        return True
    if have is tuple and want is tuple:
        return _tuples_fit(given, asked)
    if have is tuple and len(asked) == 1:  # tuple[int, int] to Sequence[int]
        return all(_fits(part, asked[0]) for part in given if part is not Ellipsis)
    if len(given) != len(asked):
        return True
    pairs = list(zip(given, asked, strict=True))
    if {have, want} <= _SEQUENCES or {have, want} <= _MAPPINGS:
        return all(_fits(one, other) for one, other in pairs)
    # What parameters of two classes have to do with each other is not known here; nor is whether a class produces
    # or consumes what it has as a parameter, and so which of the two must fit the other.
    return have is not want or all(_fits(one, other) or _fits(other, one) for one, other in pairs)


def _tuples_fit(given: tuple[Any, ...], asked: tuple[Any, ...]) -> bool:
    if asked[-1] is Ellipsis:
        return all(_fits(part, asked[0]) for part in given if part is not Ellipsis)
    if given[-1] is Ellipsis:  # its length is known only at run time
        return all(_fits(given[0], part) for part in asked)
    return len(given) == len(asked) and all(_fits(one, other) for one, other in zip(given, asked, strict=True))


def element_of(annotation: Any) -> Any:
    """Return the annotation of one element of a sequence or of one value of a dict, Any where unknown.

    Example:
        >>> element_of(list[int]), element_of(dict[str, float])
        (<class 'int'>, <class 'float'>)
    """
    origin, arguments = _parts(_plain(annotation))
    if origin in _MAPPINGS and len(arguments) == 2:
        return arguments[1]
    if origin is tuple:
        parts = [part for part in arguments if part is not Ellipsis]
        return parts[0] if len(set(parts)) == 1 and not _is_unpacked(parts[0]) else Any
    return arguments[0] if origin in _SEQUENCES and len(arguments) == 1 else Any


def is_mappable(annotation: Any) -> bool:
    """Return False where a value annotated so is certainly nothing that a map can go over.

    Example:
        >>> is_mappable(dict[str, int]), is_mappable(range), is_mappable(set[int]), is_mappable(str)
        (True, True, False, False)
    """
    annotation = _plain(annotation)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return all(map(is_mappable, typing.get_args(annotation)))
    if annotation in (str, bytes, bytearray):
        return False
    return fits(annotation, abc.Sequence) or fits(annotation, abc.Mapping)


def map_outputs(over: Any, returned: Any) -> tuple[Any, ...]:
    """Return what the output of a map may be: a list, a dict with the keys of what it goes over, or either.

    Args:
        over: The annotation of what it goes over.
        returned: The annotation of what its step returns.

    Example:
        >>> map_outputs(list[int], str), map_outputs(dict[int, str], float), map_outputs(Any, int)
        ((list[str],), (dict[int, float],), (list[int], dict[typing.Any, int]))
    """
    over = _plain(over)
    value: Any = Any if _is_unknown(_plain(returned)) else _plain(returned)
    if typing.get_origin(over) in (Union, types.UnionType):
        parts = [output for part in typing.get_args(over) for output in map_outputs(part, returned)]
        return tuple(output for place, output in enumerate(parts) if output not in parts[:place])
    outputs: list[Any] = [list[value]] if fits(over, abc.Sequence) else []
    if fits(over, abc.Mapping):
        arguments = typing.get_args(over)
        key = arguments[0] if len(arguments) == 2 else Any  # of a class with other parameters: not known here
        outputs.append(dict[key, value])  # type: ignore[valid-type]
    return tuple(outputs)


def _plain(annotation: Any) -> Any:
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # type X = ..., of Python 3.12 or of typing_extensions
            annotation = annotation.__value__
        else:
            return NoneType if annotation is None else annotation


def _parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return what an annotation is made of: a class, or a form of typing, and its arguments."""
    generic = getattr(annotation, "__pydantic_generic_metadata__", None) or {}
    if generic.get("origin"):
        return generic["origin"], generic["args"]
    return typing.get_origin(annotation) or annotation, typing.get_args(annotation)


def _is_unknown(annotation: Any) -> bool:
    if isinstance(annotation, (str, typing.TypeVar, typing.ForwardRef)):
        return True
    return annotation in _UNKNOWN or typing.get_origin(annotation) in _UNKNOWN


def _is_protocol(cls: type) -> bool:
    return bool(getattr(cls, "_is_protocol", False))


def _is_unpacked(part: Any) -> bool:
    return bool(getattr(part, "__unpacked__", False)) or typing.get_origin(part) is typing.Unpack
