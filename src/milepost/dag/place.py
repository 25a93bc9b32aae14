"""Where a Dag stands in the user's code, as the target by which another process finds it again."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Final

__all__ = ["find_target", "lasting_target"]

_MAIN: Final = "__main__"


def find_target(dag: object, module_name: str) -> str | None:
    """Return ``file.py:name`` where a Dag is a variable of the module that made it, else None.

    None also where only a run as a script makes the variable: importing the file would not.
    """
    module = sys.modules.get(module_name)
    file = getattr(module, "__file__", None)
    if not isinstance(module, ModuleType) or not file or not os.path.isfile(file):
        return None  # made in a shell, or read from stdin, whose __file__ is "<stdin>"
    path = os.path.abspath(file)
    for name, value in list(vars(module).items()):
        if value is dag and name.isidentifier() and not (module_name == _MAIN and name in _names_of_script(path)):
            return f"{path}:{name}"
    return None


def lasting_target(target: str | None) -> str | None:
    """Return a target as it can be found again from any folder: a file that is there, by its whole path."""
    if not isinstance(target, str):
        return target
    file, colon, name = target.rpartition(":")
    return f"{os.path.abspath(file)}:{name}" if colon and os.path.isfile(file) else target


@lru_cache(maxsize=8)
def _names_of_script(path: str) -> frozenset[str]:
    """Return the variables that a file has only when it is run as a script."""
    try:
        with open(path, "rb") as source:
            body = ast.parse(source.read()).body
    except (OSError, SyntaxError, ValueError, RecursionError):
        return frozenset()  # no Python source: a zipped or compiled program
    guarded, imported = set[str](), set[str]()
    for node, is_guarded in _statements(body, is_guarded=False):
        (guarded if is_guarded else imported).update(_bound_names(node))
    return frozenset(guarded - imported)


def _statements(body: Sequence[ast.stmt], *, is_guarded: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield the statements that run when the file does, and whether only a script gets there."""
    for node in body:
        if isinstance(node, ast.If) and _is_guard(node.test):
            yield from _statements(node.body, is_guarded=True)
            yield from _statements(node.orelse, is_guarded=is_guarded)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node, is_guarded
            for field in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, field, ()), is_guarded=is_guarded)
            for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
                yield from _statements(part.body, is_guarded=is_guarded)


def _is_guard(test: ast.expr) -> bool:
    sides = [test.left, *test.comparators] if isinstance(test, ast.Compare) else []
    names = {side.id for side in sides if isinstance(side, ast.Name)}
    values = {side.value for side in sides if isinstance(side, ast.Constant)}
    return "__name__" in names and _MAIN in values


def _bound_names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Assign | ast.AnnAssign) and (node.value is None or isinstance(node.value, ast.Constant)):
        return  # `dag = None`: no Dag yet
    parts = [node] if not hasattr(node, "body") else [getattr(node, "target", None), *getattr(node, "items", ())]
    for part in parts:
        for name in ast.walk(part) if isinstance(part, ast.AST) else ():
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                yield name.id
            elif isinstance(name, ast.alias):
                yield (name.asname or name.name).partition(".")[0]
