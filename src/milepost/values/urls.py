"""The URLs that pydantic parses, `HttpUrl` and its kin, without importing pydantic; and its secrets, refused."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from milepost.values.classes import class_name, is_secret, is_url
from milepost.values.objects import class_of, must_be_found
from milepost.values.scalars import text_of
from milepost.values.walk import FAMILIES, READERS, SHOWERS, Reader, Refused, Tree, WriteFunction, Writer, show_v


def _url_family(cls: Any, known: Collection[type]) -> tuple[WriteFunction, bool] | None:
    if is_secret(cls):
        raise Refused(cls, "it is a secret, and a ledger can be read", remedy="Hand on a name under which to find it.")
    if not is_url(cls):
        return None
    lasting, name = must_be_found(cls, known), class_name(cls)

    def write_url(_: Writer, value: Any) -> Tree:
        text = str(value)
        if cls(text) != value:
            raise Refused(cls, "its text does not make an equal one")
        return {"$": "url", "class": name, "v": text}

    return write_url, lasting


def _read_url(reader: Reader, tree: dict[str, Tree]) -> Any:
    # The one class of the user's that is called to restore a value: a URL is nothing but its parsed text.
    return class_of(reader, tree["class"], is_url, "pydantic URL")(text_of(tree))


FAMILIES.append(_url_family)
READERS["url"] = _read_url
SHOWERS["url"] = show_v
