"""Put runs into queues: what every face's ``submit`` calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from milepost.clock import to_micros
from milepost.engine.policies import retry_document
from milepost.errors import ConfigurationError, KeyConflict
from milepost.graph import Graph
from milepost.ledger import Ledger
from milepost.model import Retry, check_run_id, new_run_id
from milepost.names import DEFAULT_QUEUE, check_name
from milepost.runtime.handle import RunHandle
from milepost.runtime.lifecycle import tags_text
from milepost.store import NewTask, Submitted
from milepost.values import encode

__all__ = ["SubmitOptions", "new_task", "submit_tasks"]

_LONGEST_DELAY: Final = 1e11  # seconds: what it leads to still has a date


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """Where and when a submitted run is executed, and what is kept with it.

    Args:
        queue: The queue it waits in; queues need no creation.
        priority: A lower number goes first; among equals, the older.
        run_at: Not before this moment (aware).
        delay: Not before so many seconds from now.
        idempotency_key: The same key in the same queue is the same run: the first one stands.
        tags: Plain JSON data kept with the run.
        correlation_id: Groups runs that belong to one job of yours.
        max_attempts: How often the run may be tried; completed steps are not repeated.
        retry: How long to wait between attempts, and after which errors; its ``max_retries`` counts
            where ``max_attempts`` is left out.
        run_id: The run's id; a new UUIDv7 if left out.
        created_by: Who submitted it.
        version: The version of the workflow.
        target: Where the workflow is found again.

    Raises:
        ConfigurationError: A value cannot work; the message says which and why.
    """

    queue: str = DEFAULT_QUEUE
    priority: int = 0
    run_at: datetime | None = None
    delay: float | timedelta | None = None
    idempotency_key: str | None = None
    tags: Mapping[str, Any] | None = None
    correlation_id: str | None = None
    max_attempts: int | None = None
    retry: Retry | None = None
    run_id: str | None = None
    created_by: str | None = None
    version: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        """Refuse what could never work, before anything is written."""
        check_name("queue", self.queue)
        if isinstance(self.priority, bool) or not isinstance(self.priority, int):
            raise ConfigurationError(f"priority must be a whole number (lower goes first), not {self.priority!r}.")
        if self.run_at is not None and self.delay is not None:
            raise ConfigurationError("Give run_at= or delay=, not both.")
        if self.run_at is not None and (not isinstance(self.run_at, datetime) or self.run_at.tzinfo is None):
            raise ConfigurationError(
                f"run_at must be an aware datetime, such as datetime.now(UTC), not {self.run_at!r}."
            )
        if self.delay is not None and not 0 <= self.delay_seconds < _LONGEST_DELAY:
            raise ConfigurationError(f"delay must be 0 seconds or more, and less than 3000 years, not {self.delay!r}.")
        attempts = self.max_attempts
        if attempts is not None and (isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1):
            raise ConfigurationError(f"max_attempts must be a whole number of 1 or more, not {attempts!r}.")
        if self.idempotency_key is not None and not (isinstance(self.idempotency_key, str) and self.idempotency_key):
            raise ConfigurationError(f"idempotency_key must be a text that is not empty, not {self.idempotency_key!r}.")
        if self.run_id is not None:
            check_run_id(self.run_id)

    @property
    def delay_seconds(self) -> float:
        """The delay in seconds."""
        if isinstance(self.delay, timedelta):
            return self.delay.total_seconds()
        return float(self.delay or 0.0)

    @property
    def attempts(self) -> int:
        """How often the run may be tried."""
        if self.max_attempts is not None:
            return self.max_attempts
        return 1 if self.retry is None else self.retry.max_retries + 1

    def available_at(self, now: int) -> int | None:
        """Return when it becomes due in ledger time, None for now."""
        due = to_micros(self.run_at) if self.run_at is not None else now + int(self.delay_seconds * 1e6)
        return due if due > now else None


def new_task(ledger: Ledger, graph: Graph, inputs: Mapping[str, Any], kind: str, options: SubmitOptions) -> NewTask:
    """Return the write that puts a run of a graph into its queue.

    Raises:
        ConfigurationError: The run id breaks the rule, or the tags are not plain data.
        ValueNotStorable: An input cannot be stored.
    """
    now = ledger.shared_now()
    return NewTask(
        run_id=options.run_id or new_run_id(now),
        workflow=graph.name,
        kind=kind,
        queue=options.queue,
        inputs=encode(dict(inputs)),
        now=now,
        definition_hash=graph.fingerprint,
        definition=graph.definition,
        priority=options.priority,
        available_at=options.available_at(now),
        max_attempts=options.attempts,
        idempotency_key=options.idempotency_key,
        version=options.version or graph.version,
        target=options.target,
        tags=tags_text(options.tags),
        policies=json.dumps(retry_document(options.retry)),
        correlation_id=options.correlation_id,
        created_by=options.created_by,
    )


def submit_tasks(ledger: Ledger, tasks: Sequence[NewTask], *, conn: Any = None) -> list[RunHandle]:
    """Put tasks into their queues in one transaction, and return their handles in the same order.

    Raises:
        KeyConflict: An idempotency key was used before with another workflow or other inputs; nothing
            was submitted where the ledger's own transaction was used.
        RunExists: A run id is taken.
    """
    outcomes = ledger.store.submit_tasks(tasks, conn=conn)
    return [_handle(ledger, task, outcome) for task, outcome in zip(tasks, outcomes, strict=True)]


def _handle(ledger: Ledger, task: NewTask, outcome: Submitted) -> RunHandle:
    if not outcome.is_same:
        assert task.idempotency_key is not None
        raise KeyConflict(task.idempotency_key, task.queue, outcome.run_id)
    return RunHandle(ledger, outcome.run_id, is_new=outcome.is_new)
