"""What a body made or raised: checked, encoded, and told in words that the ledger can keep."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterable
from typing import Any, Final

from milepost.errors import ConfigurationError, DagPause, OutputMismatch, ValueNotStorable
from milepost.runtime.conform import show
from milepost.runtime.flight import Flight
from milepost.values import content_hash, encode

__all__ = ["check_value", "cut", "describe_error", "describe_interrupt", "pause_in", "storable_text", "take_value"]


_LONGEST_MESSAGE: Final = 2**16  # characters of a message that are recorded
_LONGEST_TRACE: Final = 2**18  # ... and of a traceback


def take_value(flight: Flight, value: Any) -> None:
    """Put a body's value on its flight, checked against the annotation and encoded.

    A value that does not pass is the flight's final error: running the body again would only repeat
    its side effects. Never raises, whatever the methods of the value and of the annotation do: nobody would hear of it.
    """
    node = flight.call.node
    try:
        check = node.body.check
        if check is not None:
            check(value)
        if not node.transient:
            text = encode(value, node.body.classes)
            flight.text = text
            flight.hash = content_hash(text)
        flight.value = value
    except Exception as error:
        flight.error = _named(flight.call.label, value, error)
        flight.is_final = True


def check_value(flight: Flight, value: Any) -> None:
    """Put a body's value on its flight, checked against the annotation and not encoded. Never raises, as above."""
    try:
        check = flight.call.node.body.check
        if check is not None:
            check(value)
        flight.value = value
    except Exception as error:
        flight.error = _named(flight.call.label, value, error)
        flight.is_final = True


def _named(label: str, value: Any, error: Exception) -> Exception:
    """Return the error with the step's label in it."""
    if inspect.iscoroutine(value):
        value.close()
        return ConfigurationError(
            f"Step {label!r} returned a coroutine that nobody awaits. Make its function an async def, or await in it."
        )
    if isinstance(error, ValueNotStorable):
        return ValueNotStorable(error.type_name, error.path, error.reason, step=label, remedy=error.remedy)
    if isinstance(error, OutputMismatch):
        return OutputMismatch(label, error.annotation, error.detail)
    return error


def describe_error(error: BaseException) -> tuple[str, str, str]:
    """Return the type, the message and the traceback of an error as text that can be stored.

    Some libraries put a whole document into a message: very long ones are cut, and say so.
    """
    try:
        message = str(error)
    except Exception as second:
        message = f"<no message: {type(second).__name__} in __str__>"
    trace = "".join(traceback.format_exception(error))
    message = cut(storable_text(message), _LONGEST_MESSAGE)
    trace = storable_text(trace)
    if len(trace) > _LONGEST_TRACE:  # its frames stand at the beginning, and of a chain of errors the last at the end
        half = _LONGEST_TRACE // 2
        trace = f"{cut(trace, half)}\n{trace[-half:]}"
    return type(error).__qualname__, message, trace


def describe_interrupt(error: BaseException, flights: Iterable[Flight]) -> str:
    """Return in words what an interrupt is that stops a run: the process's, or a step's own ``sys.exit()``.

    Args:
        error: What the driver caught.
        flights: Those in the air, among them the one whose body raised it, if one did.
    """
    label = next((flight.call.label for flight in flights if flight.error is error), None)
    if label is None or not isinstance(error, SystemExit):
        return "the process was interrupted"
    code = "" if error.code is None else show(error.code)
    return storable_text(f"step {label!r} called sys.exit({code})")


def pause_in(error: BaseException) -> DagPause | None:
    """Return the request to pause that a body raised, also where a TaskGroup wrapped it; None where it is none."""
    if isinstance(error, BaseExceptionGroup):
        alone = len(error.exceptions) == 1 or error.split(DagPause)[1] is None
        return pause_in(error.exceptions[0]) if alone else None
    return error if isinstance(error, DagPause) else None


def cut(text: str, longest: int) -> str:
    """Return a text, or where it is longer than so many characters its beginning and a note.

    Example:
        >>> cut("abcdef", 4)
        'abcd… (cut here: 6 characters in all)'
    """
    return text if len(text) <= longest else f"{text[:longest]}… (cut here: {len(text):,} characters in all)"


def storable_text(text: str) -> str:
    r"""Return text that every database can carry, with what UTF-8 or PostgreSQL cannot spelt out.

    That is half a character, as in undecodable file names, and the character NUL.

    Example:
        >>> storable_text("caf\udce9\0") == r"caf\udce9\x00"
        True
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", r"\x00")
