"""The portable SQL text as psycopg takes it, and many values as one parameter."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import psycopg

from milepost.stores.sql import PARAMETER, over_source

__all__ = ["int_array", "named", "numbered", "over_arrays", "over_rows", "text_array"]

_ROW_TYPE: Final = re.compile(r"\{([A-Z]\w+)\}")


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


def over_arrays(text: str, fields: Sequence[str], types: Sequence[str]) -> str | None:
    """Return a statement that takes many rows at once, as one array for each field; None where it cannot."""
    return over_source(text, _unnest(fields, types, 1))


def over_rows(text: str, shape_of: Callable[[str], tuple[Sequence[str], Sequence[str]]]) -> tuple[str, list[str]]:
    """Return a statement with ``{RowType}`` as rows from arrays, and the row types in the order they are given in.

    Args:
        text: The statement.
        shape_of: Returns the fields of a row type, and their types in the database.
    """
    sources: dict[str, str] = {}
    place = 1
    for row_type in dict.fromkeys(_ROW_TYPE.findall(text)):
        fields, types = shape_of(row_type)
        sources[row_type] = _unnest(fields, types, place)
        place += len(fields)
    return _ROW_TYPE.sub(lambda match: sources[match[1]], text), list(sources)


def _unnest(fields: Sequence[str], types: Sequence[str], first: int) -> str:
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(types, first))
    return f"unnest({arrays}) AS given({', '.join(fields)})"


def text_array(values: Sequence[Any]) -> str | None:
    r"""Return texts as one array in the server's own notation; None where all of them are.

    The driver's own way looks at one value after the other, which costs more than the server's work on a row.

    Example:
        >>> print(text_array(["a", 'say "b"', "c\\d"]), text_array([None, "NULL"]), text_array([None, None]))
        {"a","say \"b\"","c\\d"} {NULL,"NULL"} None

    Raises:
        psycopg.DataError: A text has a NUL in it, as no text of PostgreSQL can.
        psycopg.ProgrammingError: A value is no text at all.
    """
    nothing = values.count(None)
    if nothing == len(values):
        return None
    # No text may hold a NUL, so that it can stand between them while the marks of all are doubled at once.
    try:
        joined = "\0".join(values if not nothing else [value for value in values if value is not None])
    except TypeError as error:
        raise psycopg.ProgrammingError(f"a value that is no text was given as one ({error})") from error
    if joined.count("\0") != len(values) - nothing - 1:
        raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    if "\\" in joined:
        joined = joined.replace("\\", "\\\\")
    if '"' in joined:
        joined = joined.replace('"', '\\"')
    if not nothing:
        return '{"' + joined.replace("\0", '","') + '"}'
    given = iter(joined.split("\0"))
    return "{" + ",".join(["NULL" if value is None else f'"{next(given)}"' for value in values]) + "}"


def int_array(values: Sequence[int | None]) -> str | None:
    """Return whole numbers as one array in the server's own notation; None where all of them are.

    Example:
        >>> int_array([1, None, -3]), int_array([None])
        ('{1,NULL,-3}', None)
    """
    nothing = values.count(None)
    if nothing == len(values):
        return None
    if not nothing:
        return "{" + ",".join(map(str, values)) + "}"
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"
