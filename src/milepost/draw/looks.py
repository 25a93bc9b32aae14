"""How a status looks, in colour and without, and how a duration reads: the same in every drawing."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from milepost.states import StepStatus

__all__ = [
    "ASCII_SYMBOLS",
    "LOOKS",
    "NO_STATUS",
    "SYMBOLS",
    "Look",
    "brief",
    "clip",
    "display_width",
    "duration_text",
    "plain",
]


@dataclass(frozen=True, slots=True)
class Look:
    """Colours of a box: light fill, darker edge, dark ink (contrast of at least 7 to 1 on the fill)."""

    fill: str
    edge: str
    ink: str


LOOKS: Final[dict[StepStatus, Look]] = {
    StepStatus.PENDING: Look("#f6f8fa", "#8c959f", "#424a53"),
    StepStatus.RUNNING: Look("#ddf4ff", "#0969da", "#0a3069"),
    StepStatus.COMPLETED: Look("#dafbe1", "#1a7f37", "#044f1e"),
    StepStatus.FAILED: Look("#ffebe9", "#cf222e", "#82071e"),
    StepStatus.CANCELLED: Look("#fff8c5", "#9a6700", "#4d2d00"),
    StepStatus.SKIPPED: Look("#eaeef2", "#6e7781", "#32383f"),
}
NO_STATUS: Final = Look("#ffffff", "#57606a", "#24292f")

SYMBOLS: Final[dict[StepStatus, str]] = {
    StepStatus.PENDING: "·",
    StepStatus.RUNNING: "▶",
    StepStatus.COMPLETED: "✓",
    StepStatus.FAILED: "✗",
    StepStatus.CANCELLED: "■",
    StepStatus.SKIPPED: "»",
}
ASCII_SYMBOLS: Final[dict[StepStatus, str]] = {
    StepStatus.PENDING: ".",
    StepStatus.RUNNING: ">",
    StepStatus.COMPLETED: "+",
    StepStatus.FAILED: "x",
    StepStatus.CANCELLED: "#",
    StepStatus.SKIPPED: "~",
}

_BREAKS: Final = re.compile(r"[^\S ]+")  # white space of every kind but the plain one
_JOINERS: Final = "\u200c\u200d"  # parts of words in many scripts, and of emoji


def duration_text(seconds: float) -> str:
    """Return a duration as people read it.

    Example:
        >>> [duration_text(s) for s in (0.0004, 0.0421, 1.31, 75, 3725, 90000)]
        ['0.4 ms', '42 ms', '1.3 s', '1 min 15 s', '1 h 2 min', '1 d 1 h']
    """
    if seconds < 0.00995:
        return f"{max(seconds, 0) * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def plain(text: str) -> str:
    r"""Return a text as one line without control characters, so that no label can steer a terminal.

    Example:
        >>> plain("two\nlines\x1b[31m")
        'two lines�[31m'
    """
    if text.isprintable():
        return text
    return "".join("\ufffd" if _is_unsafe(c) else c for c in _BREAKS.sub(" ", text))


def _is_unsafe(character: str) -> bool:
    # Cc and Cf: controls, and marks that reorder text; Cs: halves of characters that no file can hold.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in _JOINERS


def display_width(text: str) -> int:
    """Return how many terminal columns a text takes: East Asian characters take two, combining ones none."""
    return len(text) if text.isascii() else sum(map(_width_of, text))


def _width_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clip(text: str, width: int, mark: str = "…") -> str:
    """Return a text that takes at most ``width`` columns, with a mark where something was cut.

    Example:
        >>> clip("find_modules", 8)
        'find_mo…'
    """
    room = max(0, width - len(mark))
    if text.isascii():
        return text if len(text) <= width else text[:room] + mark
    kept = taken = 0
    for place, character in enumerate(text):  # no further than needed: a message may be very long
        taken += _width_of(character)
        if taken <= room:
            kept = place + 1
        elif taken > width:
            return text[:kept] + mark
    return text


def brief(text: str, width: int) -> str:
    r"""Return a text of any length as one plain line of at most ``width`` columns.

    Example:
        >>> brief("first line\nsecond line", 13)
        'first line s…'
    """
    head = text[: 4 * width]  # more than fits, as some characters take no column
    line = clip(plain(head), width)
    return line if len(head) == len(text) or line.endswith("…") else f"{line}…"
