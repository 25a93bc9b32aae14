"""How a command ends: exit codes, and every error as one line on stderr.

=====  =====================================================================================
code   meaning
=====  =====================================================================================
0      what was asked for is done; a run: completed
1      the run failed or was cancelled; ``doctor`` found something; the ledger is busy or full
2      usage: options, inputs, a target that cannot be loaded, a ledger that cannot be used or reached
3      not found: the run, the step, the workflow, the target or the ledger
4      the run was paused, and can go on
130    interrupted by Ctrl-C; the run is recorded as cancelled
143    the same by SIGTERM
=====  =====================================================================================
"""

from __future__ import annotations

import os
import sys
from typing import Final

from milepost.draw.looks import brief
from milepost.errors import (
    ConfigurationError,
    GraphChanged,
    InputError,
    InvalidTransition,
    KeyConflict,
    LedgerBusy,
    LedgerReadOnly,
    LedgerUnreadable,
    MilepostError,
    NotALedger,
    RunExists,
    RunNotFound,
    ScheduleExists,
    ScheduleNotFound,
    SchemaNewer,
    SchemaOutdated,
    StepNotFound,
    StoreUnavailable,
    TargetNotFound,
    ValueNotStorable,
    WorkerExists,
)

__all__ = ["DEBUG", "FAILED", "INTERRUPTED", "NOT_FOUND", "PAUSED", "TERMINATED", "USAGE", "NothingThere", "report"]

DEBUG: Final = "MILEPOST_DEBUG"

_LONGEST: Final = 4000  # columns: one line, but not a book

FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
PAUSED: Final = 4
INTERRUPTED: Final = 130
TERMINATED: Final = 143

_NOT_FOUND: Final = (RunNotFound, ScheduleNotFound, StepNotFound, TargetNotFound)
_USAGE: Final = (
    ConfigurationError,
    GraphChanged,
    InputError,
    InvalidTransition,
    KeyConflict,
    LedgerReadOnly,
    LedgerUnreadable,
    NotALedger,
    RunExists,
    ScheduleExists,
    SchemaNewer,
    SchemaOutdated,
    StoreUnavailable,
    ValueNotStorable,
    WorkerExists,
)


class NothingThere(MilepostError, LookupError):
    """What a command was pointed at does not exist."""


def report(error: BaseException) -> int:
    """Print an error as one line on stderr and return the exit code it stands for.

    The whole traceback goes before it where ``MILEPOST_DEBUG`` is set, as ``--debug`` does.

    Args:
        error: One of ours, one of the option parser's, or one that nobody expected.
    """
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
    message, code = _explained(error)
    if code == USAGE and (context := getattr(error, "ctx", None)) is not None:
        message += f" See `{context.command_path} --help`."
    print(f"Error: {brief(message, _LONGEST)}", file=sys.stderr)
    return code


def _explained(error: BaseException) -> tuple[str, int]:
    if isinstance(error, (NothingThere, *_NOT_FOUND)):
        return str(error), NOT_FOUND
    if isinstance(error, _USAGE) and not isinstance(error, LedgerBusy):
        return str(error), USAGE
    if isinstance(error, MilepostError):
        return str(error), FAILED
    told = getattr(error, "format_message", None)
    if told is not None:  # the option parser's own
        return _usage(error, told()), USAGE
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}.", FAILED
    return f"Unexpected {type(error).__qualname__}: {error} (--debug shows where; please report it).", FAILED


def _usage(error: BaseException, message: str) -> str:
    option = getattr(error, "option_name", None)
    near = getattr(error, "possibilities", None)
    if option and near:
        return f"No such option: {option}. Did you mean {' or '.join(sorted(near)[:2])}?"
    message = message.rstrip()
    return message if message.endswith((".", "?", "!")) else f"{message}."
