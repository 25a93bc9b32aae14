"""Plain data: what a workflow file can hold, and what comes back from it equal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator

from milepost.dsl.times import duration_text, moment_text

__all__ = ["Plain", "PlainDict", "PlainList", "dump", "plain"]

_DEEPEST: Final = 100


def plain(value: Any, depth: int = 0) -> Any:
    """Return a copy of a value made of what JSON knows; moments, durations and members become their text.

    Raises:
        ValueError: Something in it is not plain data.

    Example:
        >>> plain({"days": (1, 2)})
        {'days': [1, 2]}
    """
    if depth > _DEEPEST:
        raise ValueError(f"data may be nested {_DEEPEST} levels deep, and goes on")
    if isinstance(value, Enum):
        return plain(value.value, depth)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value!r} is no number that JSON knows")
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"keys must be text, not {key!r}. Write it in quotes")  # noqa: TRY004 - pydantic's way
        return {key: plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, datetime):
        return moment_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return duration_text(value)
    raise ValueError(
        f"{value!r} is a {type(value).__name__}; a workflow holds texts, numbers, true, false, null, lists and mappings"
    )


Plain = Annotated[Any, BeforeValidator(plain)]
PlainDict = Annotated[dict[str, Any], BeforeValidator(plain)]
PlainList = Annotated[list[Any], BeforeValidator(plain)]


def dump(model: BaseModel, *, keep_none: bool) -> dict[str, Any]:
    """Return a model as plain data; fields that are None are left out unless asked for."""
    data = model.model_dump(mode="json")
    if not keep_none:
        _prune(model, data)
    return data


def _prune(model: BaseModel, data: dict[str, Any]) -> None:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if value is None or (name.startswith("is_internal") and not value):
            del data[name]
        elif isinstance(value, BaseModel):
            _prune(value, data[name])
        elif isinstance(value, list):
            for item, plain_item in zip(value, data[name], strict=True):
                if isinstance(item, BaseModel):
                    _prune(item, plain_item)
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, BaseModel):
                    _prune(item, data[name][key])
