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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, TypeVar

from milepost.errors import LeaseLost, RunExists, StoreConflict, StoreError
from milepost.model import Problem, Run
from milepost.states import RunStatus
from milepost.store import (
    CheckpointWrite,
    EdgeWrite,
    FaultHook,
    NewRun,
    ProgressWrite,
    RunWrite,
    StepWrite,
    Write,
)
from milepost.stores.checks import check_ledger
from milepost.stores.reading import ReadingVerbs, to_run
from milepost.stores.sql import Statement, load_statements
from milepost.stores.sqlite_connection import connect, migrate, patiently
from milepost.stores.sqlite_errors import translate

__all__ = ["SQLiteStore"]

_ROW_TYPES: Final[dict[str, tuple[str, ...]]] = {
    row.__name__: row._fields for row in (StepWrite, EdgeWrite, ProgressWrite, CheckpointWrite)
}
_FRAGMENTS: Final = {
    "run_columns": ", ".join(Run.__dataclass_fields__),
    "output_bytes": "CAST(output AS BLOB)",
}

T = TypeVar("T")


def _load_sql() -> dict[str, str]:
    statements = load_statements("writes.sql", "leases.sql", "reads.sql", "maintenance.sql")
    return {name: _prepare(s) for name, s in statements.items()}


def _prepare(statement: Statement) -> str:
    text = statement.numbered(_ROW_TYPES[statement.row]) if statement.row else statement.text
    for fragment, sql in _FRAGMENTS.items():
        text = text.replace(f"{{{fragment}}}", sql)
    return text


class SQLiteStore(ReadingVerbs):
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

    def _rows(self, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        return self._read(lambda reader: reader.execute(self._sql[statement], parameters).fetchall())

    # --- writing -----------------------------------------------------------------------------

    def apply(self, batch: Sequence[Write]) -> list[Exception | None]:
        """Commit a batch in one transaction; return each write's error, or None where it stands."""
        if len(batch) == 1 and self._end_one_step(batch[0]):
            return [None]
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

    def _end_one_step(self, write: Write) -> bool:
        """Write the one row of a completed step by one statement; return whether it now stands.

        This is what a run mostly does. A statement outside any transaction is a transaction of its own: it
        takes the write lock as BEGIN IMMEDIATE does, and there is no BEGIN and no COMMIT to pay for. Whatever
        is out of the ordinary (a refused row, a lock held for long, a full disk) goes the long way.
        """
        if type(write) is not RunWrite or len(write.ends) != 1 or not write.is_plain:
            return False
        fault = self.fault
        try:
            with self._write_lock:
                if fault is not None:
                    fault("before_commit")
                written = self._writer.execute(self._sql["end_step"], write.ends[0]).rowcount
                if fault is not None and written:
                    fault("after_commit")
        except sqlite3.Error:
            return False
        return written == 1

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
            writer.execute(sql["save_run_traceback"], {"run_id": write.run_id, "error_traceback": end.error_traceback})
        return None

    def _find_stale(self, writes: Sequence[tuple[int, RunWrite]]) -> set[int]:
        stale = set()
        for position, write in writes:
            fence = self._writer.execute(self._sql["get_fence"], {"run_id": write.run_id}).fetchone()
            if (
                fence is None
                or fence[1] != write.lease_epoch
                or (fence[0] != RunStatus.RUNNING.value and not _is_repeat(write, fence))
            ):
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
        return to_run(row)

    def heartbeat(self, owner: str, leases: Sequence[tuple[str, int]], lease_until: int) -> set[tuple[str, int]]:
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

    # --- health ------------------------------------------------------------------------------

    def check(self) -> list[Problem]:
        """Check the database's own integrity and the ledger's invariants."""
        complaints = self._read(_complain)
        return list(check_ledger(self.url, complaints, self._rows))

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


def _complain(connection: sqlite3.Connection) -> list[str]:
    complaints: list[str] = []
    try:
        for (text,) in connection.execute("PRAGMA integrity_check").fetchall():
            complaints += [line for line in text.splitlines() if line != "ok" and not line.startswith("***")]
        for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall():
            complaints.append(f"a row of {table} belongs to no row of {parent}")
    except sqlite3.OperationalError:
        raise  # a lock or a failing disk says nothing about the file's content
    except sqlite3.DatabaseError as error:
        complaints.append(str(error))
    return complaints


def _is_repeat(write: RunWrite, fence: tuple[Any, ...]) -> bool:
    # The run ended under this very epoch: only a repeat of the write that ended it may pass.
    return write.end is not None and (fence[0], fence[3]) == (write.end.status.value, write.end.now)
