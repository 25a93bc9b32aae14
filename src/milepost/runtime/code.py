"""A hash of the code of a step: of its function's source, and of the options it runs under.

It tells whether a step that has run would run the same lines today. What the function calls is not looked at:
a helper that changed is named by hand when a run is replayed.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import linecache
import textwrap
import types
from collections.abc import Callable
from typing import Any, Final

from milepost.errors import MilepostError
from milepost.values import encode

__all__ = ["code_hash"]

_KEPT: Final = 4096
_blocks: dict[types.CodeType, tuple[list[str], str]] = {}  # the lines of a file, as they were read last, and a block


def code_hash(fn: Callable[..., Any], options: dict[str, Any]) -> str:
    """Return the hash of a function's source and of options; it is the same in every process.

    Example:
        >>> def double(n): return 2 * n
        >>> code_hash(double, {"timeout": 3}) == code_hash(double, {"timeout": 4})
        False
    """
    told = ";".join(f"{name}={_plain(value)}" for name, value in sorted(options.items()))
    text = f"{source_of(fn)}\0{told}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def source_of(fn: Callable[..., Any]) -> str:
    """Return the source of a function, or where there is none (a builtin, a shell) what stands for it."""
    if isinstance(fn, functools.partial):
        return f"{source_of(fn.func)}\0{_plain(fn.args)}{_plain(fn.keywords)}"
    fn = inspect.unwrap(fn)
    if isinstance(fn, types.MethodType):
        fn = fn.__func__
    code = getattr(fn, "__code__", None)
    if isinstance(code, types.CodeType):
        return _lines_of(code, fn) or _bytecode(code)
    if isinstance(fn, type):
        try:
            return inspect.getsource(fn)
        except (OSError, TypeError):
            return f"{fn.__module__}.{fn.__qualname__}"
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - an object that can be called, not whether it can
    if isinstance(call, types.FunctionType):
        return source_of(call)
    return f"{getattr(fn, '__module__', None)}.{getattr(fn, '__qualname__', type(fn).__qualname__)}"


def _lines_of(code: types.CodeType, fn: Any) -> str:
    # What inspect.getsource does, without looking for the module among all that are loaded.
    lines = linecache.getlines(code.co_filename, getattr(fn, "__globals__", None))
    if not 0 < code.co_firstlineno <= len(lines):
        return ""
    known = _blocks.get(code)
    if known is not None and known[0] is lines:  # a def that makes functions again and again is read once
        return known[1]
    try:
        block = textwrap.dedent("".join(inspect.getblock(lines[code.co_firstlineno - 1 :]))).strip()
    except (SyntaxError, IndentationError):
        block = ""
    if len(_blocks) > _KEPT:
        _blocks.clear()
    _blocks[code] = lines, block
    return block


def _bytecode(code: types.CodeType) -> str:
    parts = [_bytecode(part) if isinstance(part, types.CodeType) else repr(part) for part in code.co_consts]
    return f"{code.co_code.hex()}{code.co_names}{parts}"


def _plain(value: Any) -> str:
    """Return a value as text that is the same in every process: an address in memory is none."""
    try:
        return encode(value)
    except MilepostError:
        pass
    if isinstance(value, tuple):
        return f"({','.join(map(_plain, value))})"
    if isinstance(value, dict):
        return f"({','.join(f'{name}={_plain(part)}' for name, part in value.items())})"
    return getattr(value, "__qualname__", type(value).__qualname__)
