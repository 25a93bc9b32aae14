"""The id of a claim: that of its task but for the last five digits, which count the task's generations.

A task's id is a UUID whose last 62 bits are drawn at random, so the first 27 of its 32 digits name it; the last five
hold the generation, from 1. An id that somebody chose for a run and that is no UUID has its generation after a ``#``.
"""

from __future__ import annotations

import re
import uuid
from typing import Any, Final, NamedTuple

from milepost.errors import ConfigurationError

__all__ = ["REQUIRED", "ClaimId", "as_id", "claim_id", "read_claim_id", "text_of"]

_DIGITS: Final = 5
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LARGEST: Final = 16**_DIGITS - 1


class _Required:
    def __repr__(self) -> str:
        return "<required>"


REQUIRED: Final[Any] = _Required()
"""The default of an argument that has to be given, after ``conn``, which may be left out."""


class ClaimId(NamedTuple):
    """Between which texts the task's id lies, and the generation."""

    first: str
    last: str
    generation: int


def as_id(text: str) -> Any:
    """Return a ledger's id as a UUID; one that somebody chose and that is none stays a text.

    Example:
        >>> as_id("018bcfe5-6800-7000-8000-000000000001")
        UUID('018bcfe5-6800-7000-8000-000000000001')
    """
    return uuid.UUID(text) if _UUID.fullmatch(text) else text


def text_of(value: Any, name: str) -> str:
    """Return an id as the ledger has it.

    Raises:
        TypeError: It is left out.
        ConfigurationError: It is no UUID, and no text that could be an id.
    """
    if value is REQUIRED:
        raise TypeError(f"the argument {name}= is missing")
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, str) and value.strip() == value and 0 < len(value) <= 160:
        return value.lower() if _UUID.fullmatch(value.lower()) else value
    raise ConfigurationError(f"{name} must be a UUID or its text, not {value!r}.")


def claim_id(task_id: str, generation: int) -> Any:
    """Return the id of a claim.

    Example:
        >>> claim_id("018bcfe5-6800-7000-8000-0000000abcde", 2)
        UUID('018bcfe5-6800-7000-8000-000000000002')
        >>> claim_id("nightly", 2)
        'nightly#2'
    """
    if _UUID.fullmatch(task_id) is None:
        return f"{task_id}#{generation}"
    return uuid.UUID(f"{task_id[:-_DIGITS]}{min(generation, _LARGEST):05x}")


def read_claim_id(value: Any, name: str) -> ClaimId:
    """Return which task a claim's id names, and its generation.

    Raises:
        ConfigurationError: It is no such id.

    Example:
        >>> read_claim_id("nightly#2", "run_id")
        ClaimId(first='nightly', last='nightly', generation=2)
    """
    text = text_of(value, name)
    if _UUID.fullmatch(text):
        kept = text[:-_DIGITS]
        return ClaimId(f"{kept}{'0' * _DIGITS}", f"{kept}{'f' * _DIGITS}", int(text[-_DIGITS:], 16))
    task, _, generation = text.rpartition("#")
    if not task or not generation.isdecimal():
        return ClaimId(text, text, 0)
    return ClaimId(task, task, int(generation))
