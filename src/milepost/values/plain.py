"""Stored values for people: plain JSON, whatever classes are missing."""

from __future__ import annotations

from typing import Any

from milepost.errors import ValueNotRestorable
from milepost.values.scalars import printable
from milepost.values.text import parse
from milepost.values.walk import Shower


def decode_plain(text: str) -> Any:
    """Turn a stored value into plain JSON for display, without looking for any class.

    Times and numbers become text, objects become their fields, tuples and sets become lists, bytes their
    length, and what no terminal could print (lone surrogates) becomes escapes. The way back is `decode`; this one
    loses types.

    Raises:
        ValueNotRestorable: when the text was not written by `encode`.

    Example:
        >>> decode_plain('{"$":"dataclass","class":"shop:Order","fields":{"id":7}}')
        {'id': 7}
    """
    tree = parse(text)
    try:
        shown = Shower().show(tree)
        return _printable(shown) if "\\ud" in text else shown
    except Exception as error:  # damaged data can fail in any of the ways the showers can
        raise ValueNotRestorable(type_name="value", reason="its stored form is damaged") from error


def _printable(shown: Any) -> Any:
    if type(shown) is str:
        return printable(shown)
    if type(shown) is list:
        return [_printable(item) for item in shown]
    if type(shown) is dict:
        return {printable(name): _printable(item) for name, item in shown.items()}
    return shown
