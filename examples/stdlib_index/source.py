"""From a folder to its Python files, and from a file to what it holds."""

from __future__ import annotations

import ast
import os
import threading
import tokenize
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Installed packages are no part of the tree they lie in, and folders with a dot in front belong to
# tools. All else counts, even the files that CPython's own tests keep because nobody can parse them.
PASSED_OVER = {"site-packages", "dist-packages", "__pycache__"}

# What a file can raise: gone or forbidden, no Python, bytes that are not of its encoding, an encoding
# that is none, NUL bytes, code nested too deep for the parser.
UNUSABLE = (OSError, SyntaxError, ValueError, LookupError, RecursionError, MemoryError)


@dataclass(frozen=True)
class SourceFile:
    """A file to parse: ``path`` is relative to ``root``, ``name`` is dotted as in an import."""

    root: Path
    path: Path
    name: str
    is_package: bool


@dataclass
class Module:
    """What one file holds; ``error`` says why there is nothing."""

    name: str
    path: str
    lines: int = 0
    classes: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)  # of what runs when the module is loaded
    late_imports: list[str] = field(default_factory=list)  # of functions, type checking and scripts
    documentable: int = 0  # the module itself, its public classes and functions
    documented: int = 0
    error: str | None = None


def list_files(source: Path, on_error: Callable[[OSError], None]) -> list[SourceFile]:
    """Return the Python files under a folder, in an order that does not depend on the file system."""
    # Inside a package, names begin at the top of the package.
    top = next(folder for folder in (source, *source.parents) if not (folder / "__init__.py").exists())
    found = []
    for folder, folders, files in os.walk(source, onerror=on_error):
        folders[:] = sorted(name for name in folders if name not in PASSED_OVER and not name.startswith("."))
        for path in (Path(folder, file) for file in sorted(files) if file.endswith(".py")):
            if path.is_file():  # a pipe of this name would keep its reader waiting for ever
                is_package = path.name == "__init__.py"
                module = path.parent if is_package else path.with_suffix("")
                name = ".".join(module.relative_to(top).parts)
                found.append(SourceFile(source, path.relative_to(source), name, is_package))
    return found


def read_module(file: SourceFile) -> Module:
    """Return what a file holds, or why it cannot be read or parsed."""
    module = Module(file.name, file.path.as_posix())
    try:
        with tokenize.open(file.root / file.path) as stream:  # decodes as the file itself says
            text = stream.read()
        module.lines = text.count("\n") + (text[-1:] not in ("\n", ""))
        tree = _parse_quietly(text, module.path)
    except UNUSABLE as error:
        module.error = f"{type(error).__name__}: {error}".removesuffix(": ")  # a MemoryError says nothing
    else:
        _describe(tree, file, module)
    return module


_one_at_a_time = threading.Lock()


def _parse_quietly(text: str, path: str) -> ast.Module:
    # The warnings of other people's code are not ours. Which ones are shown is one setting of the whole
    # process, so one thread at a time may change it; they would take turns at the parser anyway.
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text, path)


def _describe(tree: ast.Module, file: SourceFile, module: Module) -> None:
    documented = {"": _has_docstring(tree)} if tree.body else {}
    classes: dict[str, None] = {}
    functions: dict[str, None] = {}
    for node, scope, is_late in _walk_statements(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            (module.late_imports if is_late else module.imports).extend(_imported_names(node, file))
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and scope is not None:
            name = f"{scope}{node.name}"  # a getter and its setter, or overloads: one name is one thing
            (classes if isinstance(node, ast.ClassDef) else functions)[name] = None
            if not any(part.startswith("_") for part in name.split(".")):
                documented[name] = _has_docstring(node) or documented.get(name, False)
    module.classes, module.functions = list(classes), list(functions)
    module.documentable, module.documented = len(documented), sum(documented.values())


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return ast.get_docstring(node, clean=False) is not None


def _walk_statements(tree: ast.Module) -> Iterator[tuple[ast.AST, str | None, bool]]:
    """Yield every statement with its scope, and whether loading the module passes it by.

    The scope is "", "Class." or, inside a function, None. No recursion: code may nest deeper than calls.
    """
    waiting: list[tuple[ast.AST, str | None, bool]] = [(tree, "", False)]
    while waiting:
        node, scope, is_late = waiting.pop()
        yield node, scope, is_late
        if isinstance(node, ast.ClassDef) and scope is not None:
            scope = f"{scope}{node.name}."
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            scope, is_late = None, True
        for block in ("finalbody", "cases", "orelse", "handlers", "body"):  # last one first: it is a stack
            is_passed_by = is_late or (block == "body" and isinstance(node, ast.If) and _is_for_others(node.test))
            waiting.extend((child, scope, is_passed_by) for child in reversed(getattr(node, block, ())))


def _is_for_others(test: ast.expr) -> bool:
    """Tell ``if TYPE_CHECKING:`` and ``if __name__ == ...:`` from other conditions."""
    match test:
        case ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case ast.Compare(ast.Name("__name__"), [ast.Eq()]):
            return True
    return False


def _imported_names(node: ast.Import | ast.ImportFrom, file: SourceFile) -> list[str]:
    """Return the absolute names that an import names, be they modules or things inside of modules."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base: list[str] = []
    if node.level:
        parts = file.name.split(".")
        kept = len(parts) - node.level + file.is_package
        if kept < 0:
            return []  # beyond the top: Python refuses it as well
        base = parts[:kept]
    if node.module:
        base += node.module.split(".")
    names = [".".join(base if alias.name == "*" else [*base, alias.name]) for alias in node.names]
    return [name for name in names if name]
