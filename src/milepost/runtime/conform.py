"""Whether a returned value keeps the promise of the step's return annotation.

The rule is that of a type checker, applied to one value: instances of subclasses pass, `int` passes for `float`,
`bool` for `int`, a `range` for `Sequence[int]`. Only a certain breach counts. What cannot be resolved, or looked
into without consuming it or running somebody's code (an iterator, a sequence of the user's own, a protocol that is
not runtime-checkable), passes: a wrong refusal would fail a step whose work is done and right.

Validation by pydantic answers another question (what a value can be turned into), so that even strict it refuses
`[True]` for `list[int]` and a `range` for `Sequence[int]`, and copies what it looks at. It serves here only for the
constraints in `Annotated`, such as those of `PositiveInt`.
"""

from __future__ import annotations

import functools
import re
import reprlib
import sys
import types
import typing
from collections import Counter, OrderedDict, abc, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import NoneType
from typing import IO, Annotated, Any, BinaryIO, Final, Literal, TextIO, Union

from milepost.errors import OutputMismatch

__all__ = ["Check", "annotation_name", "return_check", "show"]

Check = Callable[[Any], None]

_TOWER: Final[dict[type, tuple[type, ...]]] = {float: (float, int), complex: (complex, float, int)}
_WRAPPERS: Final = (typing.Required, typing.NotRequired, typing.ClassVar, typing.Final)
# Generic types whose one argument says what iterating yields, and those with a key and a value.
_ITEMS: Final = frozenset(
    {list, set, frozenset, deque, Counter, abc.Iterable, abc.Collection, abc.Container, abc.Reversible, abc.Sequence}
    | {abc.MutableSequence, abc.Set, abc.MutableSet, abc.KeysView, abc.ValuesView}
)
_MAPPINGS: Final = frozenset({dict, defaultdict, OrderedDict, abc.Mapping, abc.MutableMapping})
# What can be iterated a second time, and what one item tells all about.
_VIEWS: Final[tuple[type, ...]] = (type({}.keys()), type({}.values()))
_AGAIN: Final[tuple[type, ...]] = (list, tuple, set, frozenset, deque, dict, *_VIEWS)
_UNIFORM: Final = (str, bytes, bytearray, range)
# Types for which pydantic has its own words when a constraint is broken.
_WORDED: Final = frozenset({str, bytes, int, float, list, tuple, set, frozenset, dict})

_words = reprlib.Repr()
_words.maxstring = _words.maxother = _words.maxlong = 60


def annotation_name(annotation: Any) -> str:
    """Return an annotation as a person writes it.

    Example:
        >>> annotation_name(int), annotation_name(list[int] | None)
        ('int', 'list[int] | None')
    """
    if annotation is None or annotation is NoneType:
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    try:
        text = str(annotation)
    except Exception:  # what stands in an Annotated is somebody's code
        text = object.__repr__(annotation)
    return re.sub(r"\btyping\.", "", text).replace("NoneType", "None")


def show(value: Any) -> str:
    """Return a value's repr in one short line, whatever its ``__repr__`` does.

    Example:
        >>> show([1, 2]), show(list(range(1000))), len(show("x" * 1000))
        ('[1, 2]', '[0, 1, 2, 3, 4, 5, ...]', 60)
    """
    try:
        text = " ".join(_words.repr(value).split())
    except Exception:  # a repr is somebody's code
        text = object.__repr__(value)
    return text if len(text) <= 60 else text[:57] + "..."


def return_check(step: str, annotation: Any) -> Check | None:
    """Return a function that raises OutputMismatch for a value the annotation denies.

    None means that the annotation promises nothing that can be checked. A plain class costs one
    isinstance; a container of plain classes costs a set of its items' types.
    """
    try:
        look = _look(annotation)
    except Exception:  # what cannot be asked for its meaning promises nothing
        return None
    if look is None:
        return None
    name = annotation_name(annotation)
    if isinstance(look, _IsInstance):
        return _class_check(step, name, look.allowed)

    def check(value: Any) -> None:
        try:
            breach = look(value)
        except RecursionError:  # a value that contains itself; storing it says so better
            return
        if breach is not None:
            raise OutputMismatch(step, name, breach.tell(value))

    return check


def _class_check(step: str, name: str, allowed: tuple[type, ...]) -> Check:
    first = allowed[0]

    def check(value: Any) -> None:
        if type(value) is not first and not isinstance(value, allowed):
            raise OutputMismatch(step, name, _told(value))

    return check


@dataclass(frozen=True, slots=True)
class _Breach:
    """Where a value breaks the promise, what stands there, and what should."""

    value: Any
    wanted: str
    rule: str = ""  # the broken rule, where the type is right
    path: str = ""

    def inside(self, segment: str) -> _Breach:
        return replace(self, path=segment + self.path)

    def tell(self, whole: Any) -> str:
        if not self.path:
            return f"{_told(whole)}: {self.rule}" if self.rule else _told(whole)
        why = f": {self.rule}" if self.rule else f", not {self.wanted}"
        return f"{_told(whole)}, where {self.path} is {_told(self.value)}{why}"


_Look = Callable[[Any], "_Breach | None"]


@dataclass(frozen=True, slots=True)
class _IsInstance:
    """Looks at the type. The one look that others may look into, to judge many values by their types."""

    allowed: tuple[type, ...]
    wanted: str

    def __call__(self, value: Any) -> _Breach | None:
        return None if isinstance(value, self.allowed) else _Breach(value, self.wanted)


def _look(annotation: Any) -> _Look | None:
    """Return what looks at a value for an annotation, None where there is nothing to see."""
    if annotation is None:
        return _IsInstance((NoneType,), "None")
    if isinstance(annotation, typing.NewType):
        return _look(annotation.__supertype__)
    if type(annotation).__name__ == "TypeAliasType":  # type X = ..., of Python 3.12 or of typing_extensions
        return _later(lambda: _look(annotation.__value__))
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        return _look_at_class(annotation) if isinstance(annotation, type) else None
    if origin is Annotated:
        return _constrained(_look(arguments[0]), arguments[1:])
    if origin in _WRAPPERS:
        return _look(arguments[0])
    if origin in (Union, types.UnionType):
        return _any_of([_look(part) for part in arguments], annotation_name(annotation))
    if origin is Literal:
        return _one_of(arguments, annotation_name(annotation))
    if origin is type and arguments:
        return _subclass(_look(arguments[0]), annotation_name(annotation))
    return _look_at_generic(annotation, origin, arguments) if isinstance(origin, type) else None


def _look_at_class(cls: Any) -> _Look | None:
    if cls in (Any, object, IO, TextIO, BinaryIO):  # what open() returns is no subclass of the last three
        return None
    if hasattr(cls, "__required_keys__"):
        return _typed_dict(cls)
    if getattr(cls, "_is_protocol", False):
        return _members(cls) if getattr(cls, "_is_runtime_protocol", False) else None
    # Box(x=1) is a Box[int] to a type checker, and no instance of it.
    generic = getattr(cls, "__pydantic_generic_metadata__", None) or {}
    allowed = _TOWER.get(cls, (generic.get("origin") or cls,))
    isinstance(None, allowed)  # a class that answers no such question raises here, and not for a step's output
    return _IsInstance(allowed, annotation_name(cls))


def _look_at_generic(annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> _Look | None:
    outer = _look_at_class(origin)
    if outer is None:
        return None
    if origin is tuple and annotation is not typing.Tuple:  # noqa: UP006 - the bare alias has no arguments either
        return _tuple(outer, arguments)
    if origin in _ITEMS and len(arguments) == 1:
        return _items(outer, _look(arguments[0]))
    if origin in _MAPPINGS and len(arguments) == 2:
        return _mapping(outer, _look(arguments[0]), _look(arguments[1]))
    return outer


def _later(make: Callable[[], _Look | None]) -> _Look:
    """Look at what may speak of itself when a value comes."""
    made: list[_Look | None] = []

    def look(value: Any) -> _Breach | None:
        if not made:
            made.append(make())
        return None if made[0] is None else made[0](value)

    return look


def _members(protocol: type) -> _Look:
    def look(value: Any) -> _Breach | None:
        try:
            has_them = isinstance(value, protocol)
        except Exception:  # a member may be a property, which is somebody's code
            return None
        return None if has_them else _Breach(value, protocol.__qualname__)

    return look


def _one_of(values: tuple[Any, ...], wanted: str) -> _Look:
    def look(value: Any) -> _Breach | None:
        # True equals 1 and is none of Literal[1]; a member of a text enumeration is one of its text.
        for one in values:
            if isinstance(value, type(one)) and isinstance(value, bool) == isinstance(one, bool) and value == one:
                return None
        return _Breach(value, wanted)

    return look


def _subclass(of: _Look | None, wanted: str) -> _Look:
    allowed = of.allowed if isinstance(of, _IsInstance) else (object,)

    def look(value: Any) -> _Breach | None:
        return None if isinstance(value, type) and issubclass(value, allowed) else _Breach(value, wanted)

    return look


def _items(outer: _Look, item: _Look | None) -> _Look:
    if item is None:
        return outer

    def look(value: Any) -> _Breach | None:
        breach = outer(value)
        if breach is not None:
            return breach
        looked_at = value if issubclass(type(value), _AGAIN) else value[:1] if isinstance(value, _UNIFORM) else ()
        return _first_breach(item, looked_at)

    return look


def _mapping(outer: _Look, key_look: _Look | None, value_look: _Look | None) -> _Look:
    def look(value: Any) -> _Breach | None:
        breach = outer(value)
        if breach is not None or not isinstance(value, dict):
            return breach
        if key_look is not None and not _all_pass(key_look, value):
            for key in value:
                if breach := key_look(key):
                    return breach.inside(f"<key {show(key)}>")
        if value_look is not None and not _all_pass(value_look, value.values()):
            for key, item in value.items():
                if breach := value_look(item):
                    return breach.inside(f"[{show(key)}]")
        return None

    return look


def _tuple(outer: _Look, arguments: tuple[Any, ...]) -> _Look:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return _items(outer, _look(arguments[0]))
    if any(getattr(part, "__unpacked__", False) or typing.get_origin(part) is typing.Unpack for part in arguments):
        return outer
    looks = [_look(part) for part in arguments]

    def look(value: Any) -> _Breach | None:
        breach = outer(value)
        if breach is not None:
            return breach
        if len(value) != len(looks):
            return _Breach(value, "", f"its length is {len(value)}, not {len(looks)}")
        for index, part in enumerate(looks):
            if part is not None and (breach := part(value[index])):
                return breach.inside(f"[{index}]")
        return None

    return look


@functools.lru_cache(maxsize=256)
def _typed_dict(cls: Any) -> _Look:
    """Look at the keys of a typed dict; further keys are allowed."""

    def make() -> _Look:
        try:
            hints = typing.get_type_hints(cls, include_extras=True)
        except RecursionError:
            raise
        except Exception:  # a hint is any expression, and may fail in any way
            hints = {}
        looks = {key: part for key, hint in hints.items() if (part := _look(hint)) is not None}
        # Where annotations are text (`from __future__ import annotations`), the class itself saw no NotRequired.
        required = {key for key in cls.__required_keys__ & hints.keys() if not _is_not_required(hints[key])}

        def look(value: Any) -> _Breach | None:
            if not isinstance(value, dict):
                return _Breach(value, cls.__qualname__)
            missing = min(required - value.keys(), default=None)
            if missing is not None:
                return _Breach(value, "", f"it lacks the key {missing!r}")
            for key, part in looks.items():
                if key in value and (breach := part(value[key])):
                    return breach.inside(f"[{key!r}]")
            return None

        return look

    return _later(make)  # since it may contain itself, and is then found in the cache


def _is_not_required(hint: Any) -> bool:
    while typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    return typing.get_origin(hint) is typing.NotRequired


def _any_of(looks: list[_Look | None], wanted: str) -> _Look | None:
    if all(isinstance(part, _IsInstance) for part in looks):
        return _IsInstance(
            tuple(cls for part in looks if isinstance(part, _IsInstance) for cls in part.allowed), wanted
        )
    known = [part for part in looks if part is not None]
    if len(known) < len(looks):
        return None

    def look(value: Any) -> _Breach | None:
        deepest = _Breach(value, wanted)
        for part in known:
            breach = part(value)
            if breach is None:
                return None
            if len(breach.path) > len(deepest.path):
                deepest = breach
        return deepest

    return look


def _constrained(inner: _Look | None, metadata: Iterable[Any]) -> _Look | None:
    """Look at the constraints of an `Annotated`, such as `Gt(0)`, once the type is right."""
    # Nobody can hold a constraint while its module is not imported. Validators and the like are no constraints:
    # they may change a value, and expect to be called once.
    homes = {"annotated_types": ("BaseMetadata", "GroupedMetadata"), "pydantic.fields": ("FieldInfo",)}
    found = (getattr(sys.modules.get(module), name, None) for module, names in homes.items() for name in names)
    kinds = tuple(kind for kind in found if kind is not None)
    constraints = [one for one in metadata if isinstance(one, kinds)]
    if not constraints:
        return inner
    adapters: dict[Any, Any] = {}

    def look(value: Any) -> _Breach | None:
        from pydantic import TypeAdapter, ValidationError  # late: it is slow to import

        breach = None if inner is None else inner(value)
        if breach is not None:
            return breach
        kind = type(value) if type(value) in _WORDED else Any
        try:
            if kind not in adapters:
                constrained: Any = Annotated[(kind, *constraints)]
                adapters[kind] = TypeAdapter(constrained)
            adapters[kind].validate_python(value)
        except ValidationError as error:
            rule = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
            return _Breach(value, "", rule[:1].lower() + rule[1:])
        except Exception:  # a constraint that means nothing by itself, or not for such a value
            return None
        return None

    return look


def _all_pass(look: _Look, values: Iterable[Any]) -> bool:
    """Tell quickly, by their types alone, that all values pass; False says nothing."""
    return isinstance(look, _IsInstance) and all(issubclass(kind, look.allowed) for kind in set(map(type, values)))


def _first_breach(look: _Look, values: Iterable[Any]) -> _Breach | None:
    if _all_pass(look, values):
        return None
    for index, item in enumerate(values):
        if breach := look(item):
            return breach.inside(f"[{index}]")
    return None


def _told(value: Any) -> str:
    return "None" if value is None else f"{type(value).__qualname__} {show(value)}"
