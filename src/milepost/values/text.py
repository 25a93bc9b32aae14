"""Values as text: the entry points, and the fast path that most values take.

`encode` runs once per step, thousands of times a second, and most steps return something small and plain.
Such values are recognised by exact type, without a walk; everything else goes through `walk.Writer`.
"""

from __future__ import annotations

import hashlib
import json.encoder
from collections.abc import Callable, Iterable
from decimal import Decimal
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, NoReturn

from milepost.errors import ValueNotRestorable, ValueNotStorable
from milepost.values import containers, models, objects, scalars, times, urls  # noqa: F401 - they fill the tables
from milepost.values.walk import PLAIN, SURROGATE_PAIR, TAG, TEXT, Reader, Refused, Tree, Unreadable, Writer

LARGEST_TEXT = 2**29
"""Bytes of UTF-8. No database takes texts of any size: SQLite's limit for a whole row is a billion bytes."""

_SMALL = 10**600
"""Integers below it are written in decimal at once: every setting of Python's limit on digits allows them."""

_int_text = int.__repr__
_float_text = float.__repr__


def encode(value: Any, known: Iterable[type] = ()) -> str:
    """Encode a value as JSON text that `decode` turns back into an equal value of the same type.

    The same value gives the same text in every process: sets are ordered, dicts keep the order that is part of
    them. Parts that a value holds twice become equal copies.

    Args:
        value: what to store.
        known: classes that the reader will pass to `decode`. A class that its own name does not lead to, such
            as one defined inside a function, can be stored only when it is among them.

    Raises:
        ValueNotStorable: names the type that has no stored form and the path to it, or the size of a value
            that is too big (512 MiB as text).

    Example:
        >>> encode({"id": 7, "at": (1, 2.0)})
        '{"id":7,"at":{"$":"tuple","v":[1,2.0]}}'
    """
    if value is None:
        return "null"
    kind = type(value)
    if kind is str:
        text = encode_basestring(value)
        if text.isascii() and len(text) <= LARGEST_TEXT:
            return text
    elif kind is int:
        if -_SMALL < value < _SMALL:
            return _int_text(value)
    elif kind is bool:
        return "true" if value else "false"
    elif kind is float:
        if value - value == 0.0:  # neither infinite nor nan
            return _float_text(value)
    else:
        if kind is dict:
            is_flat = PLAIN.issuperset(map(type, value.values())) and TEXT.issuperset(map(type, value))
            is_flat = is_flat and TAG not in value
        else:
            is_flat = kind is list and PLAIN.issuperset(map(type, value))
        if is_flat:
            try:
                text = "".join(_chunks(value, 0))
            except ValueError:  # a number that JSON cannot take
                return _encode_any(value, known)
            if text.isascii() and len(text) <= LARGEST_TEXT:
                return text
    return _encode_any(value, known)


def decode(text: str, known: Iterable[type] = ()) -> Any:
    """Restore the value that `encode` stored, with its type.

    Nothing is imported, and objects are restored without `__init__` and without validation, as they were when
    they were stored. Pydantic's URLs alone are made anew, from their text.

    Args:
        text: what `encode` returned.
        known: classes to try first for stored class names, for example `classes_in` of a step's annotation.

    Raises:
        ValueNotRestorable: when the text is damaged, or a class is missing, has changed, or is not what it
            was.

    Example:
        >>> decode('{"$":"tuple","v":[1,2.0]}')
        (1, 2.0)
    """
    tree = parse(text)
    if '"$"' not in text:  # no tag anywhere: `encode` never escapes a dollar sign
        return tree
    try:
        return Reader(tuple(known)).read(tree)
    except Unreadable as unreadable:
        path = "$" + "".join(reversed(unreadable.trail))
        remedy = None if unreadable.remedy is None else _one_line(unreadable.remedy)
        raise ValueNotRestorable(
            type_name=_one_line(unreadable.type_name), path=path, reason=_one_line(unreadable.reason), remedy=remedy
        ) from unreadable.__cause__
    except RecursionError as error:
        raise _damaged("it is nested too deep to read from here") from error


def content_hash(text: str) -> str:
    """Return the hash of a stored text: 32 hexadecimal digits of BLAKE2b.

    Example:
        >>> content_hash("null")
        '941dffce4e4308ceb33e87326003257d'
    """
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def parse(text: str) -> Tree:
    """Parse stored text into a tree of plain JSON.

    Raises:
        ValueNotRestorable: when it is not JSON.
    """
    try:
        try:
            return _parse(text)
        except json.JSONDecodeError:
            raise
        except ValueError:  # it may be a number with more digits than this process allows, but its writer did
            return _parse_long(text)
    except (ValueError, TypeError) as error:
        raise _damaged("its text is not JSON") from error
    except RecursionError as error:
        raise _damaged("it is nested too deep to read from here") from error


def _encode_any(value: Any, known: Iterable[type]) -> str:
    classes, remedy = tuple(known), None
    try:
        try:
            text = _dump(Writer(classes).write(value))
        except ValueError:  # a number or a text that JSON cannot take
            text = _dump(Writer(classes, careful=True).write(value))
    except Refused as refused:
        type_name, path, reason, remedy = refused.facts()
    except RecursionError:
        # The caller's own stack was nearly full. Reading happens on such a stack too, so this is not retried.
        type_name, path, reason = _type_name(value), "$", "it is nested too deep to store from here"
    except Exception as error:  # a property of the value is somebody's code, and fails in any way
        reason = f"reading it failed with {type(error).__qualname__}: {_one_line(str(error))}"
        raise ValueNotStorable(type_name=_type_name(value), reason=reason) from error
    else:
        if len(text) > LARGEST_TEXT // 4:  # a character takes up to four bytes
            _check_size(value, text)
        return text
    raise ValueNotStorable(type_name=type_name, path=path, reason=reason, remedy=remedy)


def _check_size(value: Any, text: str) -> None:
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size > LARGEST_TEXT:
        raise ValueNotStorable(
            type_name=_type_name(value),
            reason=f"it takes {size / 1e6:,.0f} MB as text, and the most is {LARGEST_TEXT / 1e6:,.0f} MB",
            remedy="Write it to a file and hand on the file's path.",
        )


def _dump(tree: Tree) -> str:
    text = "".join(_chunks(tree, 0))
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates, as in file names that are not UTF-8, survive only as escapes
        if SURROGATE_PAIR.search(text):
            raise ValueError("surrogates that escapes would join") from None
        return "".join(_ascii_chunks(tree, 0))
    return text


def _chunk_maker(quote: Callable[[str], str]) -> Callable[[Tree, int], Iterable[str]]:
    encoder = json.encoder.JSONEncoder(
        ensure_ascii=quote is encode_basestring_ascii,
        separators=(",", ":"),
        allow_nan=False,
        check_circular=False,
    )
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without the C accelerator
        return lambda tree, _: encoder.iterencode(tree)
    # JSONEncoder.encode builds this object anew at each call, which costs more than writing a small value.
    chunks: Callable[[Tree, int], Iterable[str]] = make(
        None, encoder.default, quote, None, ":", ",", False, False, False
    )
    return chunks


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _one_line(words: str) -> str:
    """Make what was read from the ledger fit for a terminal, since anything may stand there."""
    line = words if words.isprintable() else words.encode("unicode_escape", "surrogatepass").decode("ascii")
    return line if len(line) <= 200 else line[:197] + "..."


def _damaged(reason: str) -> ValueNotRestorable:
    return ValueNotRestorable(type_name="value", reason=reason)


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


_chunks = _chunk_maker(encode_basestring)
_ascii_chunks = _chunk_maker(encode_basestring_ascii)
_parse = json.JSONDecoder(parse_constant=_refuse_constant).decode
_parse_long = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=lambda digits: int(Decimal(digits))).decode
