"""What a step can ask of its run: the ``StepContext``."""

from __future__ import annotations

import logging
import operator
from typing import TYPE_CHECKING, Any

from milepost.errors import ConfigurationError, StepCancelled
from milepost.runtime.landing import cut, storable_text
from milepost.store import CheckpointWrite, RunWrite
from milepost.values import decode, encode

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from milepost.ledger import Ledger
    from milepost.runtime.flight import Flight

__all__ = ["DagContext", "StepContext"]

_LOGGER = logging.getLogger("milepost.step")
_LONGEST_MESSAGE = 2000  # characters of a progress message


class StepContext:
    """Handed to a step that has a parameter of this type.

    Attributes:
        run_id: The run.
        label: The step's label in it, such as ``parse[17]``.
        attempt: Which try this is, from 1.
        logger: A standard logger; every record carries ``run_id``, ``step`` and ``attempt``.

    Example:
        >>> def copy(ctx: StepContext, files: list[str]) -> int:
        ...     start = ctx.load("done", 0)
        ...     for n, file in enumerate(files[start:], start + 1):
        ...         ctx.heartbeat()
        ...         ctx.save("done", n)
        ...         ctx.progress(n, len(files), file)
        ...     return len(files)
    """

    def __init__(self, ledger: Ledger, run_id: str, lease_epoch: int, flight: Flight) -> None:
        """Made by the driver."""
        self._ledger = ledger
        self._lease_epoch = lease_epoch
        self._flight = flight
        self._classes: tuple[type, ...] = flight.call.node.body.classes
        self.run_id = run_id
        self.label = flight.call.label
        self.attempt = flight.call.attempt

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry ``run_id``, ``step`` and ``attempt``."""
        return _StepLogger(_LOGGER, {"run_id": self.run_id, "step": self.label, "attempt": self.attempt})

    def heartbeat(self) -> None:
        """Say that the step lives, and stop it here if nobody waits for it any more.

        Raises:
            StepCancelled: The run was cancelled or interrupted, or this attempt timed out.
        """
        reason = self._flight.stop_reason
        if reason is not None:
            raise StepCancelled(self.label, reason)

    def progress(self, done: int | None = None, total: int | None = None, message: str | None = None) -> None:
        """Tell how far the step is: shown live, and kept in the ledger (written at most 10 times a second).

        Args:
            done: Units finished.
            total: Units in all.
            message: A short text: what is longer than 2,000 characters is cut.

        Raises:
            StepCancelled: As :meth:`heartbeat`.
        """
        text = None if message is None else cut(storable_text(str(message)), _LONGEST_MESSAGE)
        self._flight.progress = (_count("done", done), _count("total", total), text)
        self.heartbeat()

    def save(self, name: str, value: Any) -> None:
        """Save a value by name; it is durable when this returns, and later attempts can load it.

        Args:
            name: Names the value inside this step; saving again replaces it.
            value: Anything the ledger can store with its type.

        Raises:
            ValueNotStorable: The value's type cannot be stored.
            StepCancelled: This attempt timed out or was given up: a later one may have saved already.
            LeaseLost: Somebody else took the run over.
        """
        self._ledger.commit(self._checkpoint(name, value))

    async def save_async(self, name: str, value: Any) -> None:
        """Do what :meth:`save` does without blocking the event loop."""
        await self._ledger.commit_async(self._checkpoint(name, value))

    def _checkpoint(self, name: str, value: Any) -> RunWrite:
        if not isinstance(name, str) or not name or not name.isprintable():
            raise ConfigurationError(f"A checkpoint's name must be a text of printable characters, not {name!r}.")
        if self._flight.is_abandoned:
            self.heartbeat()
        write = CheckpointWrite(
            self.run_id, self.label, name, encode(value, self._classes), self._lease_epoch, self._ledger.clock.now()
        )
        return RunWrite(self.run_id, self._lease_epoch, checkpoints=(write,))

    def load(self, name: str, default: Any = None) -> Any:
        """Return the value that this step saved under this name, in this or an earlier attempt.

        Args:
            name: The name it was saved under.
            default: Returned where nothing was saved.
        """
        text = self._ledger.store.get_checkpoint(self.run_id, self.label, name)
        return default if text is None else decode(text, self._classes)


class DagContext(StepContext):
    """A StepContext under the names of DAG provenance; a step gets one where it asks for it, or for a subclass.

    Attributes:
        dag_nsref: What the run is listed under.

    Example:
        >>> def tell(ctx: DagContext, n: int) -> str:
        ...     return f"{ctx.node_label} of {ctx.dag_nsref}, run {ctx.run_id}"
    """

    dag_nsref: str = "unknown"

    @property
    def node_label(self) -> str:
        """The node's label in the run."""
        return self.label


def _count(what: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        count = operator.index(value)
    except TypeError:
        raise ConfigurationError(f"progress({what}=...) must be a whole number, not {value!r}. Round it.") from None
    if not 0 <= count < 2**63:
        raise ConfigurationError(f"progress({what}=...) must be 0 or more and fit 64 bits, not {count}.")
    return count


class _StepLogger(logging.LoggerAdapter[logging.Logger]):
    """Puts the step's identity on each record without hiding what the caller adds."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
