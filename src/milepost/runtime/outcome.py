"""What a run hands back when it has ended."""

from __future__ import annotations

import html
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from milepost.clock import to_datetime
from milepost.errors import MilepostError, RunCancelled, RunFailed, RunPaused, StepNotFound
from milepost.ledger import Ledger, default_ledger
from milepost.model import Run
from milepost.runtime.lazy import lazy
from milepost.states import RunStatus
from milepost.store import RunEnd

__all__ = ["FinishedRun", "Outputs"]


class Outputs(Mapping[str, Any]):
    """The outputs of a run's final steps by label, in the order of the graph.

    Values that this process made are at hand; others are read from the ledger when asked for.
    Final steps that did not complete are not in it.
    """

    def __init__(
        self,
        ledger: Ledger,
        run_id: str,
        labels: tuple[str, ...],
        at_hand: dict[str, Any],
        known: Callable[[], tuple[type, ...]],
    ) -> None:
        """Made by the runtime; ``known`` returns the classes that the outputs may be made of."""
        self._known = known
        self._ledger = ledger
        self._run_id = run_id
        self._labels = labels
        self._at_hand = at_hand

    def __getitem__(self, label: str) -> Any:
        """Return one output.

        Raises:
            KeyError: No final step of this label completed.
            ValueNotRestorable: It was not kept, or needs a class that is not loaded.
        """
        if label not in self._labels:
            raise KeyError(label)
        if label not in self._at_hand:
            try:
                self._at_hand[label] = self.read(label)
            except StepNotFound:
                raise KeyError(label) from None
        return self._at_hand[label]

    def read(self, label: str) -> Any:
        """Return from the ledger what any completed step of the run made."""
        return self._ledger.get_output(self._run_id, label, known=self._known())

    def __iter__(self) -> Iterator[str]:
        """Iterate over the labels."""
        return iter(self._labels)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._labels)

    def __repr__(self) -> str:
        """Return the labels; values may be large."""
        return f"<outputs {', '.join(self._labels)}>"


class FinishedRun:
    """A run that has ended, whatever its status.

    Attributes:
        run_id: Its id in the ledger.
        outputs: The outputs of the final steps by label.
        changes: Of a run that was taken up again, what was no longer as the run had started: code that changed,
            and differences of the graph that were allowed.

    Example:
        >>> from milepost import Dag
        >>> dag = Dag("sum")
        >>> _ = dag.node(sum, label="total", iterable=[1, 2, 3])
        >>> run = dag.run(ledger=":memory:")
        >>> run.status, run.result()
        (<RunStatus.COMPLETED: 'completed'>, 6)
    """

    def __init__(
        self,
        ledger: Ledger,
        run_id: str,
        end: RunEnd,
        outputs: Outputs,
        cause: BaseException | None = None,
        changes: tuple[str, ...] = (),
    ) -> None:
        """Made by the runtime."""
        self.ledger = ledger
        self.run_id = run_id
        self.outputs = outputs
        self.changes = changes
        self._end = end
        self._cause = cause

    @lazy
    def record(self) -> Run:
        """The run's row in the ledger, read when first asked for."""
        return self.ledger.require_run(self.run_id)

    @property
    def status(self) -> RunStatus:
        """How it ended."""
        return self._end.status

    @property
    def failed_step(self) -> str | None:
        """The label of the first step that failed, or None."""
        return self._end.error_step

    @property
    def error(self) -> str | None:
        """The first failure as ``Type: message`` (the type alone where there is no message), or None."""
        kind, message = self._end.error_type, self._end.error_message
        return f"{kind}: {message}" if kind and message else kind

    @property
    def error_message(self) -> str | None:
        """The message of the first failure, or why the run is paused; None where there is neither."""
        return self._end.error_message

    @property
    def exception(self) -> BaseException | None:
        """The failed step's own exception, where this process saw it."""
        return self._cause

    @property
    def started_at(self) -> datetime | None:
        """When it first started, in UTC."""
        return None if self.record.started_at is None else to_datetime(self.record.started_at)

    @property
    def finished_at(self) -> datetime:
        """When it ended, in UTC."""
        return to_datetime(self._end.now)

    def output(self, label: str) -> Any:
        """Return what any completed step of the run made.

        Raises:
            StepNotFound: No completed step has this label.
        """
        return self.outputs[label] if label in self.outputs else self.outputs.read(label)

    def result(self) -> Any:
        """Return the run's result: the final step's output, or a dict by label where there are several.

        Raises:
            RunFailed: The run failed; ``__cause__`` is the step's own exception.
            RunCancelled: The run was cancelled.
            RunPaused: The run is paused.
        """
        end = self._end
        if end.status == RunStatus.FAILED:
            failed = RunFailed(
                self.run_id,
                end.error_step,
                end.error_type,
                end.error_message,
                end.error_traceback or "",
                again=self._again(),
            )
            raise failed from self._cause
        if end.status == RunStatus.SUSPENDED:
            raise RunPaused(self.run_id, end.error_message, again=self._again())
        if end.status != RunStatus.COMPLETED:
            raise RunCancelled(self.run_id, end.error_message, again=self._again())
        outputs = dict(self.outputs)
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def _repr_html_(self) -> str:
        """Return the run's picture as SVG, coloured by status, as notebooks show it."""
        from milepost.draw import picture_of_run, svg  # late: most programs draw nothing

        if self.ledger.get_run(self.run_id) is None:  # nothing was recorded
            return f"<pre>{html.escape(repr(self))}</pre>"
        return svg(picture_of_run(self.ledger, self.run_id))

    def _again(self) -> str:
        """Return the line that goes on with the run: on the command line, or in Python for a ledger in memory."""
        url = self.ledger.url
        if url == ":memory:":
            return f"dag.resume({self.run_id!r}, ledger=...)"
        words = ["milepost", "resume", self.run_id]
        try:
            is_found = self.ledger.get_payload(self.run_id).target is not None
        except MilepostError:  # the ledger is closed
            is_found = True
        if not is_found:
            words += ["--target", "file.py:dag"]
        if os.path.realpath(self.ledger.full_url) != os.path.realpath(default_ledger().removeprefix("sqlite:///")):
            words += ["--ledger", url]
        return shlex.join(words)

    def __repr__(self) -> str:
        """Return id and status."""
        return f"<run {self.run_id} {self.status.value}>"
