"""Whether a returned value keeps the promise of the step's return annotation."""

from __future__ import annotations

import typing
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from milepost.errors import OutputMismatch

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["annotation_name", "complaints_of", "return_check", "show", "validator_of"]

Check = Callable[[Any], None]

_COMPLAINTS: Final = 3  # about one value that are told

_TOWER: Final[dict[type, tuple[type, ...]]] = {float: (float, int), complex: (complex, float, int)}
# Looking into these would consume the value, or there is nothing inside to look at.
_OPAQUE: Final = (
    abc.Iterator,
    abc.Iterable,
    abc.Generator,
    abc.AsyncIterator,
    abc.AsyncGenerator,
    abc.Callable,
    abc.Awaitable,
    abc.Coroutine,
)


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
    return str(annotation).replace("typing.", "")


def return_check(step: str, annotation: Any) -> Check | None:
    """Return a function that raises OutputMismatch for a value the annotation denies.

    None means that the annotation promises nothing that can be checked. Plain classes cost one
    isinstance; everything else is validated strictly by pydantic, which is loaded on first use.
    """
    if annotation in (Any, object) or isinstance(annotation, (str, typing.TypeVar)):
        return None
    name = annotation_name(annotation)
    if annotation is None:
        annotation = NoneType
    origin = typing.get_origin(annotation)
    if origin in _OPAQUE or annotation in _OPAQUE:
        return None
    if origin is None and isinstance(annotation, type):
        return _class_check(step, name, annotation)
    return _PydanticCheck(step, name, annotation)


def _class_check(step: str, name: str, cls: type) -> Check | None:
    if getattr(cls, "_is_protocol", False):
        return None
    if typing.is_typeddict(cls):
        return _PydanticCheck(step, name, cls)
    allowed = _TOWER.get(cls, cls)

    def check(value: Any) -> None:
        if type(value) is not cls and not isinstance(value, allowed):
            raise OutputMismatch(step, name, _told(value))

    return check


class _PydanticCheck:
    """A check that builds its validator when first used."""

    __slots__ = ("_annotation", "_name", "_step", "_validate")

    def __init__(self, step: str, name: str, annotation: Any) -> None:
        self._step = step
        self._name = name
        self._annotation = annotation
        self._validate: Callable[..., Any] | None = None

    def __call__(self, value: Any) -> None:
        if self._validate is None:
            self._validate = self._compile()
        from pydantic import ValidationError

        try:
            self._validate(value, strict=True)
        except ValidationError as error:
            detail = complaints_of(error, value, whole="value: ")
            raise OutputMismatch(self._step, self._name, f"{_told(value)} ({detail})") from None

    def _compile(self) -> Callable[..., Any]:
        return validator_of(self._annotation) or (lambda value, strict: value)


def validator_of(annotation: Any) -> Callable[..., Any] | None:
    """Return pydantic's validation against an annotation.

    None means that pydantic cannot read it, or that it names what is not defined: it promises nothing.
    """
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation

    if annotation is None:
        annotation = NoneType
    for config in (ConfigDict(arbitrary_types_allowed=True), None):  # a model brings a configuration of its own
        try:
            adapter = TypeAdapter(annotation, config=config)
            adapter.validator.validate_python  # noqa: B018 - raises where a name is not defined yet
        except (PydanticUserError, PydanticSchemaGenerationError, PydanticUndefinedAnnotation, TypeError, NameError):
            continue
        return adapter.validate_python
    return None


def complaints_of(error: ValidationError, value: Any, *, whole: str = "") -> str:
    """Return what is wrong with a value, part by part, in one line.

    Args:
        error: What pydantic said of the value.
        value: The value.
        whole: Stands before a complaint about the value as a whole.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = []
    for one in found[:_COMPLAINTS]:
        path = _path_in(value, one["loc"], is_missing=one["type"] == "missing")
        told.append(f"{path}: {one['msg']}" if path else f"{whole}{one['msg']}")
    more = f"; and {len(found) - _COMPLAINTS} more" if len(found) > _COMPLAINTS else ""
    return "; ".join(dict.fromkeys(told)) + more


def _path_in(value: Any, location: Sequence[int | str], *, is_missing: bool) -> str:
    """Return the place of a complaint as Python would write it: pydantic's also names the branches of a union."""
    path = ""
    for place, part in enumerate(location):
        inside = _parts_of(value)
        if part not in inside and not (is_missing and place == len(location) - 1):
            continue
        path += f".{part}" if isinstance(part, str) and part.isidentifier() else f"[{part!r}]"
        value = inside.get(part)
    return path.removeprefix(".")


def _parts_of(value: Any) -> Mapping[int | str, Any]:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    return getattr(value, "__dict__", {})


def show(value: Any) -> str:
    """Return a value's repr in one short line, whatever its ``__repr__`` does.

    Example:
        >>> show([1, 2]), len(show("x" * 100))
        ('[1, 2]', 60)
    """
    try:
        text = " ".join(repr(value).split())
    except Exception as error:
        return f"<no repr: {type(error).__name__} in __repr__>"
    return text if len(text) <= 60 else text[:57] + "..."


def _told(value: Any) -> str:
    return f"{type(value).__qualname__} {show(value)}" if value is not None else "None"
