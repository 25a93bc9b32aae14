"""Numbers, texts, bytes, identifiers, paths and addresses come back as they were."""

from __future__ import annotations

import ipaddress
import json
import math
import sys
import uuid
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest

from milepost.values import decode, decode_plain, encode
from milepost.values.text import _chunk_maker

NUMBERS = [True, False, 0, -1, 2**53 + 1, 10**599, 10**600, -(10**5000), 1 << 20_000]
FLOATS = [0.0, -0.0, 1.5, 1e308, 5e-324, math.nan, math.inf, -math.inf]
TEXTS = ["", "text", "naïve ☃ 😀", "\x00\x1f\x7f\u2028", '"\\/$', "$", "null"]
BROKEN_TEXTS = ["\ud800", "\udfff", "\udce9.py", "\ud83d\ude00", "é\ud83d\ude00"]
BYTES = [b"", b"\x00\xff", bytearray(b"\x01")]
COMPLEX = [1 + 2j, complex(math.nan, -0.0), complex(-math.inf, 0.0), complex(-0.0, -0.0)]
DECIMALS = [Decimal(text) for text in ("1.10", "-0E+5", "NaN", "-sNaN123", "Infinity", "1E+999999")]
FRACTIONS = [Fraction(1, 3), Fraction(10**5000, 7)]
PATHS = [Path("/a/b"), Path(), Path("\udcff"), PurePosixPath("a/b"), PureWindowsPath("c:\\a")]
ADDRESSES = [
    *map(ipaddress.ip_address, ("1.2.3.4", "fe80::1%eth0")),
    *map(ipaddress.ip_network, ("10.0.0.0/8", "fe80::/10")),
    *map(ipaddress.ip_interface, ("10.1.2.3/8", "fe80::1/10")),
]


@pytest.mark.parametrize(
    "value",
    [
        *(None, *NUMBERS, *FLOATS, *TEXTS, *BROKEN_TEXTS, *BYTES, *COMPLEX),
        *(*DECIMALS, *FRACTIONS, uuid.UUID(int=5), *PATHS, *ADDRESSES),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_single_value_comes_back(value: Any, check_comes_back: Callable[[Any], None]) -> None:
    check_comes_back(value)


def test_what_json_has_is_stored_as_it_is() -> None:
    assert encode({"a": [None, True, 1, -1.5, "é"]}) == '{"a":[null,true,1,-1.5,"é"]}'


@pytest.mark.parametrize("limit", [640, 4300, 0])
def test_large_numbers_are_stored_and_read_whatever_the_limit_on_digits(limit: int, digits_allowed: Any) -> None:
    for value in (10**639, 10**1000, [10**4299], {"a": -(10**6000)}, Fraction(10**900, 7)):
        digits_allowed(limit)
        text = encode(value)
        for reader in (4300, limit, 0):
            digits_allowed(reader)
            assert decode(text) == value


def test_a_number_written_with_more_digits_than_the_reader_allows_is_read_exactly(digits_allowed: Any) -> None:
    digits_allowed(0)
    digits = str(7**6000)
    digits_allowed(640)
    assert decode(f"[{digits}]") == [7**6000]


@pytest.fixture
def digits_allowed() -> Any:
    before = sys.get_int_max_str_digits()
    yield sys.set_int_max_str_digits
    sys.set_int_max_str_digits(before)


def test_decimals_do_not_depend_on_the_reader_s_context() -> None:
    value = Decimal("1.23456789012345678901234567890")
    with localcontext(prec=3):
        assert decode(encode(value)) == value


def test_texts_that_no_terminal_can_print_are_shown_with_escapes() -> None:
    assert decode_plain(encode(Path("caf\udce9.py"))) == "caf\\udce9.py"
    assert decode_plain(encode({"\ud800": ["\udfff", "é"]})) == {"\\ud800": ["\\udfff", "é"]}
    assert decode_plain(encode("\ud83d\ude00")) == "\\ud83d\\ude00"


def test_numbers_that_json_lacks_are_shown_as_text() -> None:
    shown = decode_plain(encode([math.nan, -math.inf, 1 - 2j, Decimal("1.10"), Fraction(1, 3), 1 << 20_000, b"abc"]))
    assert shown == ["nan", "-inf", "(1-2j)", "1.10", "1/3", "<int 20001 bits>", "<bytes 3>"]


def test_an_interpreter_without_the_fast_encoder_writes_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {"a": [1, 2.5, None, "é"], "b": {}}
    monkeypatch.setattr("json.encoder.c_make_encoder", None)
    slow = _chunk_maker(json.encoder.encode_basestring)
    assert "".join(slow(tree, 0)) == encode(tree)
