"""The portable SQL text as psycopg takes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

from milepost.stores.sql import PARAMETER

__all__ = ["named", "numbered", "over_arrays"]

_WHERE: Final = re.compile(r"\nWHERE ")


@cache
def named(text: str) -> str:
    """Return a statement with ``:name`` as ``%(name)s``, for parameters by name.

    Example:
        >>> named("SELECT 1 WHERE a LIKE '%' AND b = :b")
        "SELECT 1 WHERE a LIKE '%%' AND b = %(b)s"
    """
    return PARAMETER.sub(r"%(\1)s", text.replace("%", "%%"))


def numbered(text: str, fields: Sequence[str], types: Sequence[str]) -> str:
    """Return a statement with ``:name`` as ``$1::type``, for the fields of a row in their order.

    The type is named because in a SELECT the server would take an unknown parameter for a text.
    """
    places = {field: f"${place}::{kind}" for place, (field, kind) in enumerate(zip(fields, types, strict=True), 1)}
    return PARAMETER.sub(lambda match: places[match[1]], text)


def over_arrays(text: str, fields: Sequence[str], types: Sequence[str]) -> str:
    """Return a statement that takes many rows at once, as one array for each field.

    Only INSERT ... SELECT ... WHERE can be turned so; any other statement is returned as :func:`numbered`
    does, and runs once for each row.
    """
    if not text.startswith("INSERT") or _WHERE.search(text) is None:
        return numbered(text, fields, types)
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(types, 1))
    source = f"\nFROM unnest({arrays}) AS given({', '.join(fields)})\nWHERE "
    return _WHERE.sub(lambda _: source, PARAMETER.sub(r"given.\1", text), count=1)
