"""The verbs of events and of runs that wait, for every dialect.

Nothing is lost between a look and a sleep: registering a wait and emitting its event hold one lock, and
suspending a run locks its waits before it looks at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from milepost.errors import LeaseLost
from milepost.model import Event, Wait
from milepost.store import NewWait
from milepost.stores.rows import EndRow
from milepost.stores.transaction import TASKS, Transacting, Transaction, repeatable

__all__ = ["WaitingVerbs"]


class WaitingVerbs(Transacting):
    """Emit events, register waits, suspend runs."""

    @repeatable
    def emit_event(self, scope: str, name: str, payload: str, now: int, *, conn: Any = None) -> bool:
        """Record an event and wake who waits for it; return False where it was emitted before.

        The first emit stands, for those who wait and for those who come later.
        """
        with self.transaction(conn) as tx:
            tx.lock(_event_lock(scope, name))
            if not tx.execute("insert_event", scope=scope, name=name, payload=payload, now=now):
                # Emitted before; or by this very call, whose answer was lost.
                first = Event(*tx.rows("get_event", scope=scope, name=name)[0])
                return (first.emitted_at, first.payload) == (now, payload)
            woken = tx.rows("resolve_event_waits", scope=scope, name=name, payload=payload, now=now)
            for (run_id,) in sorted(set(woken)):  # in one order, as all who lock runs
                tx.execute("wake_run", run_id=run_id, now=now)
            if woken:
                tx.notify(TASKS)
        return True

    def get_event(self, scope: str, name: str) -> Event | None:
        """Return an event, or None where it was not emitted."""
        rows = self._rows("get_event", scope=scope, name=name)
        return Event(*rows[0]) if rows else None

    def list_events(self, scope: str, *, prefix: str | None = None, limit: int = 100) -> list[Event]:
        """Return events of a scope, newest first."""
        end = None if prefix is None else prefix + "\U0010ffff"
        rows = self._rows("list_events", scope=scope, prefix=prefix, prefix_end=end, limit=limit)
        return [Event(*row) for row in rows]

    @repeatable
    def register_waits(self, waits: Sequence[NewWait], now: int) -> list[Wait]:
        """Note what a run begins to wait for; what has happened already is resolved at once.

        Raises:
            LeaseLost: The run's lease is stale; nothing was noted.
        """
        with self.transaction() as tx:
            for wait in sorted(waits, key=lambda wait: (wait.scope or "", wait.event or "")):
                if wait.event is not None:
                    tx.lock(_event_lock(wait.scope or "", wait.event))
            return [self._register(tx, wait, now) for wait in waits]

    def _register(self, tx: Transaction, wait: NewWait, now: int) -> Wait:
        tx.execute("insert_wait", **wait._asdict(), now=now)
        rows = tx.rows("get_wait", run_id=wait.run_id, label=wait.label)
        if not rows:
            raise LeaseLost(wait.run_id, wait.lease_epoch)
        found = Wait(*rows[0])
        if found.outcome is None and found.event is not None:
            emitted = tx.rows("get_event", scope=found.scope, name=found.event)
            if emitted:
                tx.execute(
                    "resolve_wait",
                    run_id=wait.run_id,
                    label=wait.label,
                    outcome="emitted",
                    payload=Event(*emitted[0]).payload,
                    now=now,
                )
                rows = tx.rows("get_wait", run_id=wait.run_id, label=wait.label)
        return Wait(*rows[0])

    @repeatable
    def resolve_due_waits(self, run_id: str, now: int) -> list[Wait]:
        """Resolve the waits of a run whose time has come; return all of its waits."""
        with self.transaction() as tx:
            tx.execute("resolve_due_waits", run_id=run_id, now=now)
            return [Wait(*row) for row in tx.rows("list_waits", run_id=run_id)]

    def list_waits(self, run_id: str) -> list[Wait]:
        """Return what a run waits or waited for, oldest first."""
        return [Wait(*row) for row in self._rows("list_waits", run_id=run_id)]

    @repeatable
    def suspend_run(self, run_id: str, lease_epoch: int, *, seen: int, now: int) -> None:
        """Give a run's lease up until one of its waits is resolved.

        Args:
            run_id: The run.
            lease_epoch: The epoch it was claimed under.
            seen: How many of its resolved waits the caller knows of: one more wakes the run at once.
            now: The time.

        Raises:
            LeaseLost: The lease is stale; nothing changed.
        """
        with self.transaction() as tx:
            tx.rows("lock_waits", run_id=run_id)
            if not tx.execute("suspend_run", run_id=run_id, lease_epoch=lease_epoch, seen=seen, now=now):
                attempt = tx.rows("get_attempt", run_id=run_id, lease_epoch=lease_epoch)
                if attempt and attempt[0][:2] == ("suspended", now):
                    return  # this very call, whose answer was lost
                raise LeaseLost(run_id, lease_epoch)
            tx.write_rows("end_attempt", [EndRow(run_id, lease_epoch, "suspended", now, None, None, None)])
            # Of a step that is a run, which waits as well: whoever goes on begins a new attempt of it.
            told = {"error_type": "Suspended", "error_message": "what runs inside it waits, and so does the run"}
            tx.execute("cancel_open_steps", run_id=run_id, now=now, **told)
            tx.notify(TASKS)

    @repeatable
    def delete_events(self, before: int) -> int:
        """Delete events emitted before a time and before the oldest unfinished run began; return how many."""
        with self.transaction() as tx:
            return tx.execute("delete_events", before=before)


def _event_lock(scope: str, name: str) -> str:
    return f"event:{scope}:{name}"
