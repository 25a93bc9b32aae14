"""The statements of the PostgreSQL store, in each of the forms they are sent in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from milepost.stores.dialect import POSTGRES
from milepost.stores.postgres_text import int_array, named, numbered, over_arrays, over_rows, text_array
from milepost.stores.rows import fields_of, is_number
from milepost.stores.sql import PARAMETER, load_statements
from milepost.stores.verbs import STATEMENT_FILES

__all__ = ["OWN_FILES", "Statements", "columns"]

OWN_FILES: Final = ("postgres/at_once.sql", "postgres/tracking_at_once.sql")

Array = Callable[[Sequence[Any]], str | None]


class Statements:
    """The statements by name, for one schema.

    Attributes:
        portable: As they are written, with the tables of the schema.
        named: Bound by name.
        single: Bound from one row of a type.
        batch: Bound from arrays of many rows of a type; None where a statement has no such form.
        at_once: Bound from arrays of rows of several types, which are named beside it.
    """

    def __init__(self, schema: str) -> None:
        """Make every form of every statement."""
        self.portable: dict[str, str] = {}
        self.named: dict[str, str] = {}
        self.single: dict[str, str] = {}
        self.batch: dict[str, tuple[str | None, str]] = {}
        self.at_once: dict[str, tuple[str, list[str]]] = {}
        for name, statement in load_statements(*STATEMENT_FILES, *OWN_FILES).items():
            text = POSTGRES.render(statement.text, schema=schema)
            over_many, row_types = over_rows(text, _shape_of)
            if row_types:
                self.at_once[name] = over_many, row_types
                continue
            self.portable[name] = text
            self.named[name] = named(text)
            if statement.row is not None:
                fields, types = _shape_of(statement.row)
                if set(PARAMETER.findall(text)).issuperset(fields):
                    # Elsewhere the server would ask for the type of the one that is not used.
                    self.single[name] = numbered(text, fields, types)
                self.batch[name] = over_arrays(text, fields, types), statement.row


def columns(row_type: str, rows: Sequence[tuple[Any, ...]]) -> list[str | None]:
    """Return rows of a type as one array for each of their fields."""
    arrays = _arrays_of(row_type)
    if not rows:
        return [None] * len(arrays)
    return [array(column) for array, column in zip(arrays, zip(*rows, strict=True), strict=True)]


@cache
def _arrays_of(row_type: str) -> tuple[Array, ...]:
    return tuple(int_array if is_int else text_array for is_int in is_number(row_type))


def _shape_of(row_type: str) -> tuple[Sequence[str], Sequence[str]]:
    return fields_of(row_type), ["bigint" if is_int else "text" for is_int in is_number(row_type)]
