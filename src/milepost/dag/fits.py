"""Whether a value of one annotation may be handed to a parameter of another.

Only a certain misfit counts: wherever an annotation is missing, or says something this module does
not understand, the answer is that it fits. A wrong "no" would refuse a graph that works.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections import abc
from functools import lru_cache
from types import NoneType
from typing import Annotated, Any, Final, Literal, Union

__all__ = ["element_of", "fits", "is_mappable", "map_outputs"]

_UNKNOWN: Final = (Any, object, inspect.Parameter.empty)
_ALIAS: Final[Any] = getattr(typing, "TypeAliasType", None)
_TOWER: Final[dict[Any, tuple[type, ...]]] = {float: (int,), complex: (int, float)}


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


@lru_cache(maxsize=4096)
def _fits_cached(offered: Any, wanted: Any) -> bool:
    return _fits(offered, wanted)


def _fits(offered: Any, wanted: Any) -> bool:
    offered, wanted = _plain(offered), _plain(wanted)
    if _is_unknown(offered) or _is_unknown(wanted) or offered == wanted:
        return True
    if typing.get_origin(offered) in (Union, types.UnionType):
        return all(_fits(part, wanted) for part in typing.get_args(offered))
    if typing.get_origin(wanted) in (Union, types.UnionType):
        return any(_fits(offered, part) for part in typing.get_args(wanted))
    if typing.get_origin(offered) is Literal:
        return all(_fits(type(value), wanted) for value in typing.get_args(offered))
    if typing.get_origin(wanted) is Literal:
        return any(_fits(offered, type(value)) for value in typing.get_args(wanted))
    return _classes_fit(offered, wanted)


def _classes_fit(offered: Any, wanted: Any) -> bool:
    have = typing.get_origin(offered) or offered
    want = typing.get_origin(wanted) or wanted
    if not isinstance(have, type) or not isinstance(want, type) or getattr(want, "_is_protocol", False):
        return True
    if have in _TOWER.get(want, ()):
        return True
    try:
        if not issubclass(have, want):
            return False
    except TypeError:
        return True
    return _arguments_fit(offered, wanted, have, want)


def _arguments_fit(offered: Any, wanted: Any, have: type, want: type) -> bool:
    given, asked = typing.get_args(offered), typing.get_args(wanted)
    if not given or not asked:
        return True
    if have is tuple and want is tuple:
        return _tuples_fit(given, asked)
    if have is tuple and len(asked) == 1:  # tuple[int, int] to Sequence[int]
        return all(_fits(part, asked[0]) for part in given if part is not Ellipsis)
    if len(given) != len(asked):
        return True  # parameters of different classes: their meaning is not known here
    return all(_fits(one, other) for one, other in zip(given, asked, strict=True))


def _tuples_fit(given: tuple[Any, ...], asked: tuple[Any, ...]) -> bool:
    if asked[-1:] == (Ellipsis,):
        return all(_fits(part, asked[0]) for part in given if part is not Ellipsis)
    if given[-1:] == (Ellipsis,):
        return True  # its length is known only at run time
    return len(given) == len(asked) and all(_fits(one, other) for one, other in zip(given, asked, strict=True))


def element_of(annotation: Any) -> Any:
    """Return the annotation of one element of a sequence or of one value of a dict, Any where unknown.

    Example:
        >>> element_of(list[int]), element_of(dict[str, float])
        (<class 'int'>, <class 'float'>)
    """
    annotation = _plain(annotation)
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if not isinstance(origin, type) or not arguments:
        return Any
    if issubclass(origin, abc.Mapping):
        return arguments[-1] if len(arguments) == 2 else Any  # key and value
    if origin is tuple:
        parts = [part for part in arguments if part is not Ellipsis]
        return parts[0] if len(set(parts)) == 1 else Any
    return arguments[0] if len(arguments) == 1 else Any


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
        elif _ALIAS is not None and isinstance(annotation, _ALIAS):  # type X = ..., from Python 3.12 on
            annotation = annotation.__value__
        else:
            return NoneType if annotation is None else annotation


def _is_unknown(annotation: Any) -> bool:
    return annotation in _UNKNOWN or isinstance(annotation, (str, typing.TypeVar, typing.ForwardRef))
