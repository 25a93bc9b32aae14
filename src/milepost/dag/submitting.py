"""Submit a Dag's runs to a queue instead of running them here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from milepost.dag.face import Face, LedgerLike, options_of
from milepost.model import Retry
from milepost.names import DEFAULT_QUEUE
from milepost.runtime.handle import RunHandle
from milepost.runtime.lifecycle import open_ledger
from milepost.runtime.submission import SubmitOptions, new_task, submit_tasks

__all__ = ["Submitting"]


class Submitting(Face):
    """What a Dag does with queues. Mixed into :class:`milepost.Dag`."""

    def submit(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        ledger: LedgerLike = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        run_at: datetime | None = None,
        delay: float | timedelta | None = None,
        idempotency_key: str | None = None,
        tags: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
        max_attempts: int | None = None,
        retry: Retry | None = None,
        run_id: str | None = None,
        created_by: str | None = None,
        target: str | None = None,
        conn: Any = None,
    ) -> RunHandle:
        """Put a run into a queue, for any worker that knows this Dag, and return its handle.

        Args:
            inputs: The run's inputs by name.
            ledger: An open ledger, a path or a URL; None means ``MILEPOST_LEDGER``, else ``milepost.db``.
            queue: The queue it waits in; queues need no creation.
            priority: A lower number goes first; among equals, the older.
            run_at: Not before this moment (aware).
            delay: Not before so many seconds from now.
            idempotency_key: The same key in the same queue is the same run: the first one stands.
            tags: Plain JSON data kept with the run.
            correlation_id: Groups runs that belong to one job of yours.
            max_attempts: How often the run may be tried (1); completed steps are not repeated.
            retry: How long to wait between attempts, and after which errors.
            run_id: The run's id; a new UUIDv7 if left out.
            created_by: Who submitted it.
            target: Where ``milepost resume`` finds this Dag; found by itself where it is a module's variable.
            conn: An open connection (sqlite3 or psycopg) to the ledger's database: the run joins its
                transaction, and exists if and only if that commits.

        Raises:
            InputError: Inputs are missing, unknown or of the wrong type; nothing was submitted.
            KeyConflict: The key was used before with another workflow or other inputs.
            ConfigurationError: An option cannot work.

        Example:
            >>> from milepost import Dag, Ledger
            >>> dag = Dag("greet")
            >>> _ = dag.node(lambda name: f"hello {name}", label="hello")
            >>> ledger = Ledger.open(":memory:")
            >>> handle = dag.submit({"name": "ada"}, ledger=ledger, idempotency_key="greet-ada")
            >>> handle.status(), dag.submit({"name": "ada"}, ledger=ledger, idempotency_key="greet-ada").is_new
            (<RunStatus.PENDING: 'pending'>, False)
        """
        options = options_of(SubmitOptions, locals(), target=self._locate(target))
        return self._submit([inputs or {}], ledger, options, conn)[0]

    def submit_many(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        ledger: LedgerLike = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        run_at: datetime | None = None,
        delay: float | timedelta | None = None,
        tags: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
        max_attempts: int | None = None,
        retry: Retry | None = None,
        created_by: str | None = None,
        conn: Any = None,
    ) -> list[RunHandle]:
        """Put one run for each of many inputs into a queue, in one transaction, and return their handles.

        The arguments mean what they mean in :meth:`submit`.
        """
        options = options_of(SubmitOptions, locals(), target=self._locate())
        return self._submit(list(inputs), ledger, options, conn)

    async def submit_async(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> RunHandle:
        """Do what :meth:`submit` does, with the same arguments, without blocking the event loop."""
        return await asyncio.to_thread(self.submit, inputs, **options)

    async def submit_many_async(self, inputs: Iterable[Mapping[str, Any]], **options: Any) -> list[RunHandle]:
        """Do what :meth:`submit_many` does, with the same arguments, without blocking the event loop."""
        return await asyncio.to_thread(self.submit_many, inputs, **options)

    def _submit(
        self, inputs: list[Mapping[str, Any]], ledger: LedgerLike, options: SubmitOptions, conn: Any
    ) -> list[RunHandle]:
        built = self._build()
        values = [built.validate(given, self.name) for given in inputs]  # before a ledger is made for nothing
        opened = open_ledger(ledger)
        tasks = [new_task(opened, built.graph, given, self.kind, options) for given in values]
        return submit_tasks(opened, tasks, conn=conn)
