"""Named SQL statements from files, prepared for a dialect.

A statement begins with ``-- name: verb_noun``; ``-> one`` and ``-> many`` say what it returns. A
name followed by a row type in parentheses is bound from a tuple of that type: its parameters are
numbered by the type's fields, which spares the hot path a dictionary per row. A line that ends in
``-- if :name`` counts only where that parameter is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

__all__ = ["PARAMETER", "Statement", "keep_given", "load_migrations", "load_statements", "numbered", "over_source"]

_HEAD: Final = re.compile(r"^-- name: (?P<name>\w+)(?: \((?P<row>\w+)\))?(?: -> (?P<returns>one|many))?$", re.MULTILINE)
_WHERE: Final = re.compile(r"\nWHERE ")
PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_]+)")
_COMMENT: Final = re.compile(r"^\s*--.*\n?", re.MULTILINE)
_OPTIONAL: Final = re.compile(r"^(?P<line>.*?)\s*-- if :(?P<name>\w+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: its name, its text with ``:name`` parameters, and its row type if it has one."""

    name: str
    text: str
    row: str | None
    returns: str | None
    file: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters' names, in order of first appearance."""
        return tuple(dict.fromkeys(PARAMETER.findall(self.text)))


def numbered(text: str, fields: tuple[str, ...]) -> str:
    """Return a statement's text with each ``:name`` as ``?N``, N being its place among the fields (from 1).

    Example:
        >>> numbered("SELECT :b, :a, :b", ("a", "b"))
        'SELECT ?2, ?1, ?2'

    Raises:
        ValueError: The statement names a parameter that is not a field.
    """
    return PARAMETER.sub(lambda match: f"?{fields.index(match[1]) + 1}", text)


@cache
def keep_given(text: str, given: frozenset[str]) -> str:
    r"""Return a statement's text without the optional lines whose parameter is not given.

    Example:
        >>> keep_given("WHERE 1 = 1\n  AND a = :a -- if :a\n  AND b = :b -- if :b\n", frozenset({"b"}))
        'WHERE 1 = 1\n  AND b = :b\n'
    """
    return _OPTIONAL.sub(lambda match: f"{match['line']}\n" if match["name"] in given else "", text)


def over_source(text: str, source: str) -> str | None:
    r"""Return a statement that takes its parameters from the rows of a source named ``given``.

    Only what has a WHERE of its own line can be turned so (an INSERT ... SELECT, an UPDATE); of anything else
    there is no such form, and it runs once for each row.

    Example:
        >>> print(over_source("UPDATE a SET b = :b\nWHERE a.c = :c", "(SELECT 1 AS b, 2 AS c) AS given"))
        UPDATE a SET b = given.b
        FROM (SELECT 1 AS b, 2 AS c) AS given
        WHERE a.c = given.c
    """
    if _WHERE.search(text) is None:
        return None
    return _WHERE.sub(lambda _: f"\nFROM {source}\nWHERE ", PARAMETER.sub(r"given.\1", text), count=1)


@cache
def load_statements(*files: str) -> Mapping[str, Statement]:
    """Return the statements of these files in ``queries/`` by name.

    Raises:
        ValueError: A name is used twice.
    """
    found: dict[str, Statement] = {}
    folder = resources.files("milepost.stores") / "queries"
    for file in files:
        text = (folder / file).read_text(encoding="utf-8")
        heads = list(_HEAD.finditer(text))
        for head, after in zip(heads, [*heads[1:], None], strict=True):
            body = text[head.end() : after.start() if after else len(text)]
            statement = Statement(
                name=head["name"],
                text=_COMMENT.sub("", body).strip().removesuffix(";"),
                row=head["row"],
                returns=head["returns"],
                file=file,
            )
            if statement.name in found:
                message = f"{file}: the statement {statement.name!r} is defined twice"
                raise ValueError(message)
            found[statement.name] = statement
    return found


@cache
def load_migrations(dialect: str) -> tuple[tuple[int, str, str], ...]:
    """Return the dialect's migrations as (number, name, SQL text), in order."""
    folder = resources.files("milepost.stores") / "migrations" / dialect
    files = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple(
        (int(name.split("_")[0]), name.removesuffix(".sql"), (folder / name).read_text(encoding="utf-8"))
        for name in files
    )
