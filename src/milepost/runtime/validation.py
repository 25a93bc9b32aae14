"""The inputs of a run against their annotations: pydantic converts them, and says what it cannot convert."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["complaints_of", "validator_of"]

_COMPLAINTS: Final = 3  # about one value that are told


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


def complaints_of(error: ValidationError, value: Any) -> str:
    """Return what is wrong with a value, part by part, in one line.

    Args:
        error: What pydantic said of the value.
        value: The value.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = []
    for one in found[:_COMPLAINTS]:
        path = _path_in(value, one["loc"], is_missing=one["type"] == "missing")
        told.append(f"{path}: {one['msg']}" if path else one["msg"])
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
