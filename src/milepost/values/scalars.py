"""Single values: numbers and texts that JSON lacks, bytes, identifiers, paths and addresses."""

from __future__ import annotations

import ipaddress
import math
import pathlib
from base64 import b64decode, b64encode
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from milepost.values.walk import SURROGATE_PAIR, Reader, Shower, Tree, Writer, name_standard, register

_MOST_BITS = 2_000
"""Integers of more bits are stored in hexadecimal: Python limits the digits of decimal text, to 640 at the least."""

_PATHS: dict[str, type[pathlib.PurePath]] = {
    cls.__name__: cls
    for cls in (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath)
}
_ADDRESSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        ipaddress.IPv4Address,
        ipaddress.IPv4Interface,
        ipaddress.IPv4Network,
        ipaddress.IPv6Address,
        ipaddress.IPv6Interface,
        ipaddress.IPv6Network,
    )
}


def text_of(tree: dict[str, Tree], key: str = "v") -> str:
    """Return a part that must be text."""
    text = tree[key]
    if type(text) is not str:
        raise TypeError(f"{key} is not text")
    return text


def int_of(reader: Reader, tree: Tree) -> int:
    """Read a part that must be an integer."""
    number = reader.read(tree)
    if type(number) is not int:
        raise TypeError("not an integer")
    return number


def printable(text: str) -> str:
    """Escape what UTF-8 cannot carry: lone surrogates, as in file names that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _write_int(_: Writer, value: int) -> Tree:
    return value if value.bit_length() <= _MOST_BITS else {"$": "int", "v": hex(value)}


def _read_int(_: Reader, tree: dict[str, Tree]) -> int:
    return int(text_of(tree), 16)


def _show_int(_: Shower, tree: dict[str, Tree]) -> Tree:
    return f"<int {int(text_of(tree), 16).bit_length()} bits>"


def _write_float(_: Writer, value: float) -> Tree:
    return value if math.isfinite(value) else {"$": "float", "v": float.__repr__(value)}


def _read_float(_: Reader, tree: dict[str, Tree]) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[tree["v"]]


def _write_str(_: Writer, value: str) -> Tree:
    if SURROGATE_PAIR.search(value) is None:
        return value
    return {"$": "str", "v": _base64(value.encode("utf-8", "surrogatepass"))}


def _read_str(_: Reader, tree: dict[str, Tree]) -> str:
    return _bytes(tree).decode("utf-8", "surrogatepass")


def _show_str(_: Shower, tree: dict[str, Tree]) -> Tree:
    return printable(_read_str(Reader(), tree))


def _write_bytes(_: Writer, value: bytes) -> Tree:
    return {"$": "bytes", "v": _base64(value)}


def _write_bytearray(_: Writer, value: bytearray) -> Tree:
    return {"$": "bytearray", "v": _base64(value)}


def _show_bytes(_: Shower, tree: dict[str, Tree]) -> Tree:
    return f"<{tree['$']} {len(_bytes(tree))}>"


def _write_complex(_: Writer, value: complex) -> Tree:
    # As text, because JSON has neither nan nor infinity and each part must keep the sign of its zero.
    return {"$": "complex", "v": [float.__repr__(value.real), float.__repr__(value.imag)]}


def _read_complex(_: Reader, tree: dict[str, Tree]) -> complex:
    real, imaginary = tree["v"]
    return complex(float(real), float(imaginary))


def _show_complex(reader: Shower, tree: dict[str, Tree]) -> Tree:
    return str(_read_complex(Reader(), tree))


def _write_decimal(_: Writer, value: Decimal) -> Tree:
    return {"$": "decimal", "v": str(value)}


def _write_fraction(writer: Writer, value: Fraction) -> Tree:
    return {
        "$": "fraction",
        "v": [_write_int(writer, value.numerator), _write_int(writer, value.denominator)],
    }


def _read_fraction(reader: Reader, tree: dict[str, Tree]) -> Fraction:
    numerator, denominator = tree["v"]
    return Fraction(int_of(reader, numerator), int_of(reader, denominator))


def _show_fraction(shower: Shower, tree: dict[str, Tree]) -> Tree:
    return "/".join(str(shower.show(part)) for part in tree["v"])


def _write_uuid(_: Writer, value: UUID) -> Tree:
    return {"$": "uuid", "v": str(value)}


def _write_path(_: Writer, value: pathlib.PurePath) -> Tree:
    return {"$": "path", "kind": type(value).__name__, "v": str(value)}


def _read_path(_: Reader, tree: dict[str, Tree]) -> pathlib.PurePath:
    return _PATHS[tree["kind"]](text_of(tree))


def _write_address(_: Writer, value: Any) -> Tree:
    return {"$": "ip", "kind": type(value).__name__, "v": str(value)}


def _read_address(_: Reader, tree: dict[str, Tree]) -> Any:
    return _ADDRESSES[tree["kind"]](text_of(tree))


def _base64(value: bytes | bytearray) -> str:
    return b64encode(value).decode("ascii")


def _bytes(tree: dict[str, Tree]) -> bytes:
    return b64decode(text_of(tree), validate=True)


register("int", [int], _write_int, _read_int, _show_int)
register("float", [float], _write_float, _read_float)
register("str", [str], _write_str, _read_str, _show_str)
register("bytes", [bytes], _write_bytes, lambda _, tree: _bytes(tree), _show_bytes)
register("bytearray", [bytearray], _write_bytearray, lambda _, tree: bytearray(_bytes(tree)), _show_bytes)
register("complex", [complex], _write_complex, _read_complex, _show_complex)
register("decimal", [Decimal], _write_decimal, lambda _, tree: Decimal(text_of(tree)))
register("fraction", [Fraction], _write_fraction, _read_fraction, _show_fraction)
register("uuid", [UUID], _write_uuid, lambda _, tree: UUID(text_of(tree)))
register("path", _PATHS.values(), _write_path, _read_path)
for _path in (pathlib.Path, pathlib.PurePath):  # no object is one, but an annotation names them
    name_standard(_path, f"pathlib:{_path.__name__}")
register("ip", _ADDRESSES.values(), _write_address, _read_address)
