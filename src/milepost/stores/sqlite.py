"""The ledger in one SQLite file.

One connection writes, guarded by a lock; one reads beside it (WAL lets both go on at once). Writers
in other processes are waited for, so "database is locked" never leaves this room. In memory, one
connection does both.

Invariants: every transaction that writes begins IMMEDIATE; a batch is committed whole or not at
all; a stale writer's rows are refused by the fence inside each statement.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, TypeVar

from milepost.errors import LeaseLost, RunExists, StoreConflict, StoreError
from milepost.model import Attempt, Checkpoint, Edge, Problem, Run, RunPayload, StepAttempt
from milepost.states import RunStatus, StepStatus
from milepost.store import (
    CheckpointWrite,
    EdgeWrite,
    FaultHook,
    NewRun,
    ProgressWrite,
    RunFilter,
    RunWrite,
    StepRow,
    StepWrite,
    Write,
)
from milepost.stores.checks import check_ledger
from milepost.stores.sql import load_statements
from milepost.stores.sqlite_connection import connect, migrate, patiently
from milepost.stores.sqlite_errors import translate

__all__ = ["SQLiteStore"]

_ROW_TYPES: Final[dict[str, tuple[str, ...]]] = {
    row.__name__: row._fields for row in (StepWrite, EdgeWrite, ProgressWrite, CheckpointWrite)
}
_RUN_COLUMNS: Final = ", ".join(Run.__dataclass_fields__)
_PAGE: Final = 500  # rows fetched at a time by the iterators

T = TypeVar("T")


def _load_sql() -> dict[str, str]:
    statements = load_statements("writes.sql", "leases.sql", "reads.sql", "maintenance.sql")
    return {
        name: (s.numbered(_ROW_TYPES[s.row]) if s.row else s.text).replace("{run_columns}", _RUN_COLUMNS)
        for name, s in statements.items()
    }


class SQLiteStore:
    """A :class:`milepost.store.Store` in a file, or in memory.

    Args:
        path: The file, or ``":memory:"``.
        durability: ``"power"`` (synchronous=FULL: survives power loss) or ``"process"``
            (synchronous=NORMAL: survives kill -9).
        read_only: Open for reading only; nothing is created or migrated.
        fault: Called at named points of a commit; for crash tests.

    Raises:
        StoreError: The file cannot be opened, is something else, or has a newer schema.
    """

    def __init__(
        self,
        path: str,
        *,
        durability: str = "power",
        read_only: bool = False,
        fault: FaultHook | None = None,
    ) -> None:
        """Open the file, bring its schema up to date, prepare both connections."""
        self.url = path
        self.is_read_only = read_only
        self.fault = fault
        self._is_memory = path == ":memory:"
        self._sql = _load_sql()
        self._write_lock = threading.Lock()
        self._read_lock = self._write_lock if self._is_memory else threading.Lock()
        options: dict[str, Any] = {"durability": durability, "is_memory": self._is_memory}
        self._writer = connect(path, path, read_only=read_only, **options)
        try:
            migrate(self._writer, path, read_only=read_only)
            is_shared = self._is_memory or read_only
            self._reader = self._writer if is_shared else connect(path, path, read_only=True, **options)
        except BaseException:
            self._writer.close()
            raise
        if self._reader is self._writer:
            self._read_lock = self._write_lock

    # --- transactions ------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        writer = self._writer
        with self._write_lock:
            try:
                self._begin()
                yield writer
                self._commit()
            except BaseException as error:
                self._roll_back()
                if isinstance(error, sqlite3.Error):
                    raise translate(error, self.url) from error
                raise

    def _begin(self) -> None:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            patiently(lambda: self._writer.execute("BEGIN IMMEDIATE"), self.url)

    def _commit(self) -> None:
        fault = self.fault
        if fault is not None:
            fault("before_commit")
        self._writer.execute("COMMIT")
        if fault is not None:
            fault("after_commit")

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _read(self, action: Callable[[sqlite3.Connection], T]) -> T:
        with self._read_lock:
            try:
                return patiently(lambda: action(self._reader), self.url)
            except sqlite3.Error as error:
                raise translate(error, self.url) from error

    def _rows(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return self._read(lambda reader: reader.execute(self._sql[name], parameters).fetchall())

    def _row(self, name: str, **parameters: Any) -> tuple[Any, ...] | None:
        found = self._rows(name, **parameters)
        return found[0] if found else None

    # --- writing -----------------------------------------------------------------------------

    def apply(self, batch: Sequence[Write]) -> list[Exception | None]:
        """Commit a batch in one transaction; return each write's error, or None where it stands."""
        try:
            with self._write_lock:
                try:
                    self._begin()
                    outcomes = self._write(batch)
                    self._commit()
                except BaseException:
                    self._roll_back()
                    raise
                else:
                    return outcomes
        except sqlite3.Error as error:
            if len(batch) > 1:
                # One write poisoned the transaction it shared: give each its own.
                return list(chain.from_iterable(self.apply([write]) for write in batch))
            return [self._explain(error, batch[0])]
        except StoreError as error:
            return [error] * len(batch)

    def _explain(self, error: sqlite3.Error, write: Write) -> Exception:
        explained: Exception = translate(error, self.url)
        if isinstance(write, NewRun) and isinstance(error, sqlite3.IntegrityError):
            run = self.get_run(write.run_id)
            if run is not None:
                explained = RunExists(write.run_id)
        explained.__cause__ = error
        return explained

    def _write(self, batch: Sequence[Write]) -> list[Exception | None]:
        writer, sql = self._writer, self._sql
        outcomes: list[Exception | None] = [None] * len(batch)
        writes: list[tuple[int, RunWrite]] = []
        starts: list[StepWrite] = []
        ends: list[StepWrite] = []
        edges: list[EdgeWrite] = []
        for position, write in enumerate(batch):
            if isinstance(write, NewRun):
                outcomes[position] = self._insert_run(write)
                continue
            writes.append((position, write))
            starts += write.starts
            ends += write.ends
            edges += write.edges
        written = _execute(writer, sql["start_step"], starts) if starts else 0
        if ends:
            written += _execute(writer, sql["end_step"], ends)
        if written < len(starts) + len(ends):
            # The rare path. A row was refused: either it stands already (an idempotent repeat), or
            # its writer is stale, and then nothing of it may count.
            stale = self._find_stale(writes)
            for position in stale:
                write = batch[position]
                outcomes[position] = LeaseLost(write.run_id, write.lease_epoch)  # type: ignore[union-attr]
            edges = list(chain.from_iterable(w.edges for position, w in writes if position not in stale))
        if edges:
            _execute(writer, sql["insert_edge"], edges)
        for position, write in writes:
            if outcomes[position] is None and (write.end or write.progress or write.checkpoints):
                outcomes[position] = self._write_rest(write)
        return outcomes

    def _write_rest(self, write: RunWrite) -> Exception | None:
        writer, sql = self._writer, self._sql
        if write.progress:
            writer.executemany(sql["save_progress"], write.progress)
        if write.checkpoints:
            saved = writer.executemany(sql["save_checkpoint"], write.checkpoints).rowcount
            if saved < len(write.checkpoints):
                return LeaseLost(write.run_id, write.lease_epoch)
        end = write.end
        if end is None:
            return None
        parameters = {
            "run_id": write.run_id,
            "lease_epoch": write.lease_epoch,
            "status": end.status.value,
            "now": end.now,
            "error_step": end.error_step,
            "error_type": end.error_type,
            "error_message": end.error_message,
        }
        if not writer.execute(sql["end_run"], parameters).rowcount:
            fence = writer.execute(sql["get_fence"], parameters).fetchone()
            if fence is None or fence[:2] != (end.status.value, write.lease_epoch) or fence[3] != end.now:
                return LeaseLost(write.run_id, write.lease_epoch)
        writer.execute(sql["end_attempt"], parameters)
        if end.status != RunStatus.COMPLETED:
            writer.execute(sql["cancel_open_steps"], parameters)
            writer.execute(
                sql["save_run_traceback"], {"run_id": write.run_id, "error_traceback": end.error_traceback}
            )
        return None

    def _find_stale(self, writes: Sequence[tuple[int, RunWrite]]) -> set[int]:
        stale = set()
        for position, write in writes:
            fence = self._writer.execute(self._sql["get_fence"], {"run_id": write.run_id}).fetchone()
            if fence is None or fence[1] != write.lease_epoch:
                stale.add(position)
            elif fence[0] != RunStatus.RUNNING.value:
                # Ended under this very epoch: only a repeat of the write that ended it may pass.
                if write.end is None or fence[0] != write.end.status.value or fence[3] != write.end.now:
                    stale.add(position)
        return stale

    def _insert_run(self, new: NewRun) -> Exception | None:
        writer, sql = self._writer, self._sql
        existing = writer.execute(sql["get_fence"], {"run_id": new.run_id}).fetchone()
        if existing is not None:
            is_repeat = existing[1:3] == (1, new.owner) and existing[0] == RunStatus.RUNNING.value
            return None if is_repeat else RunExists(new.run_id)
        parameters: dict[str, Any] = {
            "run_id": new.run_id,
            "workflow": new.workflow,
            "version": new.version,
            "hash": new.definition_hash,
            "document": new.definition,
            "kind": new.kind,
            "owner": new.owner,
            "now": new.now,
            "lease_until": new.lease_until,
            "lease_epoch": 1,
            "attempt": 1,
            "correlation_id": new.correlation_id,
            "parent_run_id": new.parent_run_id,
            "root_run_id": new.root_run_id or new.run_id,
            "replay_of": new.replay_of,
            "created_by": new.created_by,
            "inputs": new.inputs,
            "target": new.target,
            "tags": new.tags,
        }
        for name in ("insert_definition", "insert_run", "insert_run_payload", "insert_attempt"):
            writer.execute(sql[name], parameters)
        return None

    def claim_run(
        self,
        run: Run,
        *,
        owner: str,
        now: int,
        lease_until: int,
        attempt: int,
        target: str | None,
        reason: tuple[str, str],
    ) -> Run:
        """Take a run over from the state that was read."""
        parameters = {
            "run_id": run.run_id,
            "owner": owner,
            "now": now,
            "lease_until": lease_until,
            "lease_epoch": run.lease_epoch + 1,
            "attempt": attempt,
            "target": target,
            "error_type": reason[0],
            "error_message": reason[1],
            "expected_status": run.status.value,
            "expected_epoch": run.lease_epoch,
        }
        with self._transaction() as writer:
            if not writer.execute(self._sql["claim_run"], parameters).rowcount:
                raise StoreConflict(
                    f"Run {run.run_id} was taken by somebody else at the same moment. "
                    f"See who holds it: `milepost show {run.run_id}`."
                )
            for name in ("close_attempts", "cancel_open_steps", "insert_attempt", "set_target"):
                writer.execute(self._sql[name], parameters)
            row = writer.execute(self._sql["get_run"], parameters).fetchone()
        return _run(row)

    def heartbeat(
        self, owner: str, leases: Sequence[tuple[str, int]], lease_until: int
    ) -> set[tuple[str, int]]:
        """Extend leases given as (run_id, lease_epoch); return those that were lost."""
        lost = set()
        with self._transaction() as writer:
            for run_id, epoch in leases:
                parameters = {"run_id": run_id, "lease_epoch": epoch, "owner": owner, "lease_until": lease_until}
                if not writer.execute(self._sql["heartbeat"], parameters).rowcount:
                    lost.add((run_id, epoch))
        return lost

    def list_cancel_requests(self, owner: str) -> list[tuple[str, int]]:
        """Return (run_id, lease_epoch) of this owner's runs that somebody asked to cancel."""
        return [(run_id, epoch) for run_id, epoch in self._rows("list_cancel_requests", owner=owner)]

    def request_cancel(self, run_id: str, now: int) -> bool:
        """Note that a run should stop; return whether it was still open."""
        with self._transaction() as writer:
            return bool(writer.execute(self._sql["request_cancel"], {"run_id": run_id, "now": now}).rowcount)

    def cancel_unowned(self, run: Run, now: int, reason: tuple[str, str]) -> bool:
        """End a run that nobody executes; return whether it was still as it was read."""
        parameters = {
            "run_id": run.run_id,
            "expected_epoch": run.lease_epoch,
            "now": now,
            "error_type": reason[0],
            "error_message": reason[1],
        }
        with self._transaction() as writer:
            is_ended = bool(writer.execute(self._sql["cancel_unowned"], parameters).rowcount)
            if is_ended:
                writer.execute(self._sql["close_attempts"], parameters)
                writer.execute(self._sql["cancel_open_steps"], parameters)
        return is_ended

    def delete_runs(self, before: int, limit: int) -> int:
        """Delete up to ``limit`` runs that finished before a time, each with all that belongs to it."""
        with self._transaction() as writer:
            found = writer.execute(self._sql["list_expired_runs"], {"before": before, "limit": limit}).fetchall()
            for (run_id,) in found:
                writer.execute(self._sql["delete_run"], {"run_id": run_id})
            if found:
                writer.execute(self._sql["delete_unused_definitions"])
        return len(found)

    # --- reading -----------------------------------------------------------------------------

    def get_run(self, run_id: str) -> Run | None:
        """Return the run, or None."""
        row = self._row("get_run", run_id=run_id)
        return _run(row) if row else None

    def get_run_payload(self, run_id: str) -> RunPayload | None:
        """Return inputs, target and tags of a run, or None."""
        row = self._row("get_run_payload", run_id=run_id)
        return RunPayload(*row) if row else None

    def get_definition(self, definition_hash: str) -> str | None:
        """Return a stored definition, or None."""
        row = self._row("get_definition", hash=definition_hash)
        return row[0] if row else None

    def list_runs(self, filter_: RunFilter) -> list[Run]:
        """Return a page of runs, newest first."""
        before_at, before_id = filter_.before or (None, None)
        rows = self._rows(
            "list_runs",
            status=filter_.status.value if filter_.status else None,
            workflow=filter_.workflow,
            since=filter_.since,
            parent_run_id=filter_.parent_run_id,
            before_at=before_at,
            before_id=before_id,
            limit=filter_.limit,
        )
        return [_run(row) for row in rows]

    def list_running(self) -> list[Run]:
        """Return every run that is marked running."""
        return [_run(row) for row in self._rows("list_running")]

    def find_run_ids(self, prefix: str, limit: int) -> list[str]:
        """Return run ids that begin with a text."""
        rows = self._rows("find_run_ids", prefix=prefix, prefix_end=prefix + "\U0010ffff", limit=limit)
        return [run_id for (run_id,) in rows]

    def list_workflows(self) -> list[str]:
        """Return the names of all workflows that have runs."""
        return [name for (name,) in self._rows("list_workflows")]

    def list_attempts(self, run_id: str) -> list[Attempt]:
        """Return the claims of a run, oldest first."""
        return [Attempt(*row) for row in self._rows("list_attempts", run_id=run_id)]

    def list_steps(self, run_id: str) -> list[StepAttempt]:
        """Return every attempt of every step in order of start, without payloads."""
        return [_step(row) for row in self._rows("list_steps", run_id=run_id)]

    def get_step(self, run_id: str, label: str) -> list[StepAttempt]:
        """Return every attempt of one step with its payloads, oldest first."""
        return [_step(row) for row in self._rows("get_step", run_id=run_id, label=label)]

    def list_step_rows(self, run_id: str) -> list[StepRow]:
        """Return what a restart needs to know of every attempt."""
        return [StepRow(*row) for row in self._rows("list_step_summaries", run_id=run_id)]

    def get_output(self, run_id: str, label: str) -> tuple[str | None, str] | None:
        """Return (output text, storage) of a completed step, or None where it has not completed."""
        row = self._row("get_output", run_id=run_id, label=label)
        return (row[0], row[1]) if row else None

    def list_element_outputs(self, run_id: str, map_label: str) -> Iterable[tuple[str, str | None, str]]:
        """Return (label, output text, storage) of a map's completed elements."""
        rows = self._rows(
            "list_element_outputs",
            run_id=run_id,
            parent=map_label,
            first=f"{map_label}[",
            last=f"{map_label}\\",  # the character after "["
        )
        return [(label, output, storage) for label, output, storage in rows]

    def max_seq(self, run_id: str) -> int:
        """Return the highest sequence number among a run's steps, or 0."""
        row = self._row("max_seq", run_id=run_id)
        return int(row[0]) if row else 0

    def list_edges(self, run_id: str) -> list[Edge]:
        """Return the traversed edges of a run."""
        return [Edge(*row) for row in self._rows("list_edges", run_id=run_id)]

    def get_checkpoint(self, run_id: str, label: str, name: str) -> str | None:
        """Return a saved value's text, or None."""
        row = self._row("get_checkpoint", run_id=run_id, label=label, name=name)
        return row[0] if row else None

    def list_checkpoints(self, run_id: str) -> list[Checkpoint]:
        """Return everything that user code saved in a run."""
        return [Checkpoint(*row) for row in self._rows("list_checkpoints", run_id=run_id)]

    def count_steps(self, run_id: str) -> dict[str, int]:
        """Return how many attempts of a run's steps are in each state, maps themselves left out."""
        return {status: count for status, count in self._rows("count_steps", run_id=run_id)}

    # --- health ------------------------------------------------------------------------------

    def check(self) -> list[Problem]:
        """Check the database's own integrity and the ledger's invariants."""
        complaints = [row[0] for row in self._read(lambda r: r.execute("PRAGMA integrity_check").fetchall())]
        orphans = self._read(lambda r: r.execute("PRAGMA foreign_key_check").fetchall())
        complaints = [c for c in complaints if c != "ok"] + [f"row of {o[0]} without its {o[2]}" for o in orphans]
        return check_ledger(self.url, complaints, self._rows)

    def list_outputs(self) -> Iterator[tuple[str, str, int, str, str | None]]:
        """Yield (run_id, label, attempt, output, output_hash) of every stored output."""
        key: tuple[str, str, int] = ("", "", 0)
        while True:
            rows = self._rows("list_outputs_after", run_id=key[0], label=key[1], attempt=key[2], limit=_PAGE)
            for row in rows:
                yield row[0], row[1], row[2], row[3], row[4]
            if len(rows) < _PAGE:
                return
            key = rows[-1][:3]  # type: ignore[assignment]

    def close(self) -> None:
        """Close both connections; a second call does nothing."""
        with self._write_lock:
            if self._reader is not self._writer:
                self._reader.close()
            self._writer.close()


def _execute(connection: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
    if len(rows) == 1:
        return connection.execute(sql, rows[0]).rowcount
    return connection.executemany(sql, rows).rowcount


def _run(row: tuple[Any, ...]) -> Run:
    # Positional, in the order of Run's fields: status is the sixth.
    return Run(*row[:5], RunStatus(row[5]), *row[6:])


def _step(row: tuple[Any, ...]) -> StepAttempt:
    return StepAttempt(*row[:7], StepStatus(row[7]), *row[8:])
