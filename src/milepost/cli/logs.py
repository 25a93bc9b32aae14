"""What is logged, as plain lines on stderr."""

from __future__ import annotations

import logging
import sys
from typing import Final

from milepost.draw.looks import clip, plain

__all__ = ["log_to_stderr"]

_LOG: Final = logging.getLogger("milepost")
_LONGEST: Final = 2000  # columns of one line


def log_to_stderr(worker_id: str | None) -> None:
    """Let what Milepost logs appear on stderr.

    Where the user's own module has set logging up, the lines go where that says.

    Args:
        worker_id: Begins each line, where several workers share a terminal.
    """
    if _LOG.level == logging.NOTSET:
        _LOG.setLevel(logging.INFO)
    if not (logging.getLogger().handlers or _LOG.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Lines(f"%(asctime)s {f'[{worker_id}] ' if worker_id else ''}%(message)s", "%H:%M:%S"))
        _LOG.addHandler(handler)
        _LOG.propagate = False


class _Lines(logging.Formatter):
    """One line for each record, and one for each line of a traceback; nothing that steers a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        told = record.getMessage()
        if (step := getattr(record, "step", None)) is not None:  # what a step itself logs says whose it is
            told = f"run {getattr(record, 'run_id', '?')} step {step!r}: {told}"
        message = clip(plain(told), _LONGEST)
        given = logging.makeLogRecord(
            {**vars(record), "msg": message, "args": (), "exc_info": None, "exc_text": None, "stack_info": None}
        )
        lines = [super().format(given)]
        if record.exc_info:
            lines += [plain(line) for line in self.formatException(record.exc_info).splitlines()]
        return "\n".join(lines)
