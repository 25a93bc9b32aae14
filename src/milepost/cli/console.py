"""Printing: colours on a terminal, plain lines elsewhere, and never a label that steers the terminal."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from milepost.draw.looks import ASCII_SYMBOLS, SYMBOLS, plain
from milepost.states import RunStatus, StepStatus

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = [
    "STYLES",
    "command",
    "command_lines",
    "console",
    "is_live",
    "is_unicode",
    "own_words",
    "print_columns",
    "print_json",
    "say",
    "styled",
    "symbol",
]

_WIDE: Final = 100_000  # columns where nobody watches: a pipe gets whole values, not what fits a screen

_COMMAND: Final = re.compile(r"`milepost ([^`]*)`")

_LEAST: Final = 12  # columns that the last cell of a row gets in any case

STYLES: Final[dict[str, str]] = {
    "pending": "dim",
    "running": "blue",
    "suspended": "magenta",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "skipped": "dim",
}


def console(stream: TextIO | None = None) -> Console:
    """Return a rich console for a stream; stdout if left out."""
    from rich.console import Console  # late: `milepost --version` and --json need none of it

    stream = stream or sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else _WIDE,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def is_live() -> bool:
    """Return whether stdout is a terminal that lines can be drawn over."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb"


def is_unicode() -> bool:
    """Return whether stdout can show more than ASCII."""
    # While a live display is up, rich stands between print and the terminal.
    stream = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    return (stream.encoding or "").lower().replace("-", "").startswith("utf")


def symbol(status: StepStatus | RunStatus) -> str:
    """Return the sign that stands for a status here."""
    symbols = SYMBOLS if is_unicode() else ASCII_SYMBOLS
    name = status.value
    return symbols[StepStatus(name)] if name in StepStatus.__members__.values() else symbols[StepStatus.PENDING]


def styled(text: str, style: str = "") -> Text:
    """Return a text in a style, without what could steer the terminal."""
    from rich.text import Text

    return Text(plain(text), style)


def say(text: str, style: str = "", *, is_error: bool = False) -> None:
    """Print a line of a run's story, to stderr if it is about an error.

    Whoever read it may be gone (``milepost run ... | head``): that must neither end the run nor change
    its exit code, so from then on the stream leads nowhere.
    """
    stream = sys.stderr if is_error else sys.stdout
    try:
        console(stream).print(styled(text, style), soft_wrap=True)
        stream.flush()
    except (OSError, ValueError, SystemExit):  # SystemExit is rich's answer to a closed pipe
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass


def print_columns(rows: Iterable[Sequence[Text]], heading: Sequence[str] = ()) -> None:
    """Print rows in aligned columns; on a terminal the last column takes what room is left."""
    lines = [[styled(title, "bold") for title in heading], *rows] if heading else list(rows)
    if not lines:
        return
    out = console()
    widths = [max(row[place].cell_len for row in lines) for place in range(len(lines[0]) - 1)]
    left = max(_LEAST, out.width - sum(width + 2 for width in widths))
    for row in lines:
        line = styled("")
        for cell, width in zip(row, widths, strict=False):
            line.append_text(cell).append(" " * (width - cell.cell_len + 2))
        last = row[-1]
        last.truncate(left, overflow="ellipsis")
        line.append_text(last)
        line.rstrip()
        out.print(line, soft_wrap=True)


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document."""
    print(json.dumps(document, indent=2, ensure_ascii=not is_unicode()))


def own_words() -> list[str]:
    """Return the words that start this command line again, as it was started: its hints then read the same."""
    program = sys.argv[0]
    if os.path.basename(program) == "milepost" and os.path.isfile(program):
        return [sys.executable, program]
    return [sys.executable, "-m", "milepost"]


def command(*words: str) -> str:
    """Return a command line that works here when it is copied: with the path to this very ``milepost``."""
    program, found = sys.argv[0], shutil.which("milepost")
    if os.path.basename(program) == "__main__.py":
        program = f"{shlex.quote(sys.executable)} -m milepost"
    elif os.path.splitext(os.path.basename(program))[0] != "milepost" or (
        found is not None and os.path.realpath(found) == os.path.realpath(program)
    ):
        program = "milepost"
    else:
        near = os.path.relpath(program)
        program = shlex.quote(near if len(near) < len(program) else program)
    return " ".join([program, *map(shlex.quote, words)])


def command_lines(text: str, words: Sequence[str]) -> str:
    """Return a text whose command lines, written `milepost ...`, work here when they are copied.

    Args:
        text: What to say.
        words: The words that name the ledger.
    """
    return _COMMAND.sub(lambda found: f"`{command(*shlex.split(found[1]), *words)}`", text)
