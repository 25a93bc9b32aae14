"""Batches of records inside a stage: each processed once, and a restart goes on at the first unprocessed one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from milepost.errors import ConfigurationError, LeaseLost, NonRetryable, StepCancelled, StoreError
from milepost.ledger import Ledger
from milepost.runtime import StepContext
from milepost.stages.models import RecordStatus, SimpleRecordsResult
from milepost.values import decode

__all__ = [
    "PREFIX",
    "FailedRecord",
    "RecordBatch",
    "TooManyErrors",
    "count_processed",
    "list_failed_records",
    "record_status",
]

PREFIX: Final = "records:"  # of the names under which batches are saved
_PAUSE: Final = 0.5  # seconds after which a batch saves how far it came
_LONGEST: Final = 500  # characters of an error's message that are kept

T = TypeVar("T")


class TooManyErrors(NonRetryable):
    """More records failed than the batch allows; ``result`` says what became of all of them."""

    def __init__(self, result: SimpleRecordsResult, limit: int) -> None:
        """Build the sentence from the counts."""
        self.result = result
        self.limit = limit
        super().__init__(
            f"{result.fail_count} records failed, more than max_errors={limit} allows; {result.unprocessed_count} are "
            "not processed. Mend the cause, then run the task again."
        )


@dataclass(frozen=True, slots=True)
class FailedRecord:
    """A record for which the function raised. ``key`` is its position where the batch has no key."""

    position: int
    key: Any
    error: str


class RecordBatch:
    """Processes records in order and saves, now and then, how far it came.

    What is saved is one small value: the number of records done, of failed ones, and the key of the
    last. Failed records are kept with their errors in values of their own, one for each stretch that
    had any, so that memory stays flat. Records since the last save are processed again after a crash:
    at most ``batch`` of them, or half a second's worth.
    """

    def __init__(
        self,
        context: StepContext,
        name: str,
        *,
        batch: int,
        max_errors: int | None = None,
        on_save: Callable[[], object] | None = None,
    ) -> None:
        """Begin where an earlier attempt of the stage stopped."""
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise ConfigurationError(f"batch must be a whole number of 1 or more, not {batch!r}.")
        if ":" in name:
            raise ConfigurationError(f"A batch's name must not contain ':', as {name!r} does. Use another character.")
        self._context = context
        self._name = PREFIX + name
        self._batch = batch
        self._max_errors = max_errors
        self._on_save = on_save
        found = context.load(self._name) or {}
        self._done: int = found.get("done", 0)
        self._failed: int = found.get("failed", 0)
        self._last: Any = found.get("last")
        self._saved = self._done  # how many the last save says
        self._errors: list[tuple[int, Any, str]] = []  # since then
        self._total: int | None = None

    def process(
        self, items: Iterable[T], fn: Callable[[T], object], key: Callable[[T], Hashable] | None
    ) -> SimpleRecordsResult:
        """Process every record that is not processed yet, and return what became of all of them."""
        self._total = len(items) if isinstance(items, Sized) else None
        records = iter(items)
        self._skip(records, key)
        while True:
            before = self._done
            try:
                self._run(records, fn, key)
            finally:
                if self._done > self._saved:
                    self._save()
            if self._done == before:
                break
            self._context.progress(self._done, self._total, f"{self._failed} failed" if self._failed else None)
        return self.result()

    def result(self) -> SimpleRecordsResult:
        """Return what became of the records so far; those not seen yet are known only of a sized collection."""
        return SimpleRecordsResult(
            total_count=max(self._done, self._total or 0),
            success_count=self._done - self._failed,
            fail_count=self._failed,
            unprocessed_count=max(0, (self._total or 0) - self._done),
            message=f"{self._failed} of {self._done} records failed" if self._failed else None,
        )

    def _skip(self, records: Iterator[T], key: Callable[[T], Hashable] | None) -> None:
        """Pass over what is done, and see that it is what was done."""
        if not self._done:
            return
        passed = skipped = None
        for skipped in enumerate(itertools.islice(records, self._done), 1):  # noqa: B007 - the last one is wanted
            pass
        if skipped is None or skipped[0] < self._done:
            raise ConfigurationError(
                f"{self._done} records were processed, but now there are only {skipped[0] if skipped else 0}. "
                "Give the records that the batch began with, in the same order."
            )
        passed = self._done - 1 if key is None else key(skipped[1])
        if self._last != passed:
            raise ConfigurationError(
                f"Record {self._done - 1} was {self._last!r} and is now {passed!r}. "
                "Give the records that the batch began with, in the same order."
            )

    def _run(self, records: Iterator[T], fn: Callable[[T], object], key: Callable[[T], Hashable] | None) -> None:
        """Process one stretch of records."""
        clock = time.monotonic
        due = clock() + _PAUSE
        count = 0
        last: Any = None
        # A million records go through this loop: local names only, and one call beside the user's.
        try:
            for record in itertools.islice(records, self._batch):
                try:
                    fn(record)
                except (StepCancelled, LeaseLost, StoreError):
                    raise  # says nothing of the record
                except Exception as error:
                    self._note(
                        self._done + count, record if key is None else key(record), error, has_key=key is not None
                    )
                count += 1
                last = record
                if clock() >= due:
                    break
        finally:
            if count:
                self._done += count
                self._last = self._done - 1 if key is None else key(last)
        if self._max_errors is not None and self._failed > self._max_errors:
            raise TooManyErrors(self.result(), self._max_errors)

    def _note(self, position: int, key: Any, error: Exception, *, has_key: bool) -> None:
        self._failed += 1
        told = f"{type(error).__qualname__}: {error}"[:_LONGEST]
        self._errors.append((position, key if has_key else position, told))

    def _save(self) -> None:
        if self._on_save is not None:
            self._on_save()
        if self._errors:  # first: a crash in between repeats the stretch, and writes them again
            self._context.save(f"{self._name}:errors:{self._saved}", self._errors)
            self._errors = []
        self._context.save(self._name, {"done": self._done, "failed": self._failed, "last": self._last})
        self._saved = self._done


def count_processed(context: StepContext, name: str) -> int:
    """Return how many records of a batch the stage has processed, as far as was saved."""
    found = context.load(PREFIX + name)
    return 0 if found is None else int(found["done"])


def list_failed_records(ledger: Ledger, task_id: str, stage_name: str, name: str = "records") -> list[FailedRecord]:
    """Return the failed records of a batch in their order, with their errors.

    Example:
        >>> list_failed_records(Ledger.open(":memory:"), "none", "load")
        []
    """
    failed = [
        FailedRecord(*found)
        for saved in ledger.list_checkpoints(task_id)
        if saved.label == stage_name and saved.name.startswith(f"{PREFIX}{name}:errors:")
        for found in decode(saved.value) or ()
    ]
    return sorted(failed, key=lambda record: record.position)


def record_status(ledger: Ledger, task_id: str, stage_name: str, position: int, name: str = "records") -> RecordStatus:
    """Return what became of the record at a position, as far as the batch has saved.

    Example:
        >>> record_status(Ledger.open(":memory:"), "none", "load", 0)
        <RecordStatus.UNPROCESSED: 'unprocessed'>
    """
    text = ledger.store.get_checkpoint(task_id, stage_name, PREFIX + name)
    done = 0 if text is None else (decode(text) or {}).get("done", 0)
    if position >= done:
        return RecordStatus.UNPROCESSED
    failed = list_failed_records(ledger, task_id, stage_name, name)
    return RecordStatus.ERROR if any(record.position == position for record in failed) else RecordStatus.SUCCESS
