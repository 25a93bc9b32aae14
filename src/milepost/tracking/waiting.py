"""Checkpoints, events and sleeps of claimed tasks.

A wait is one atomic step: look, register, suspend. Where the caller's own transaction is rolled back, by the very
exception that says that the task waits, nothing of it stands; :meth:`Waiting.set_run_sleeping` then does it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from milepost.clock import to_datetime
from milepost.errors import ConfigurationError, EventTimedOut, TaskNotFound, TaskSuspended
from milepost.ledger import Ledger
from milepost.model import Run, Wait
from milepost.names import check_event
from milepost.store import NewWait
from milepost.tracking.desk import Desk
from milepost.tracking.ids import REQUIRED, as_id, claim_id, read_claim_id
from milepost.tracking.plain import load, name_of, seconds, store
from milepost.tracking.shapes import CheckpointRow

__all__ = ["Waiting"]


class Waiting(Desk):
    """Mixed into :class:`milepost.tracking.Client`."""

    # --- checkpoints -------------------------------------------------------------------------

    def set_checkpoint(
        self,
        conn: Any = None,
        task_id: Any = REQUIRED,
        step_name: str = REQUIRED,
        state: Any = REQUIRED,
        owner_run: Any = REQUIRED,
        extend_claim_by: float | None = None,
    ) -> None:
        """Save a value under a step's name; a later one replaces it. Later claims of the task find it.

        Args:
            conn: A connection whose open transaction is joined; None commits at once.
            task_id: The task.
            step_name: The name.
            state: Any plain JSON.
            owner_run: The claim that saves it, which must hold the task.
            extend_claim_by: Seconds from now at which the claim's lease ends.

        Raises:
            LeaseLost: Somebody else has the task by now.
            TaskCancelled: Somebody asked to cancel it.
            InvalidTransition: It is not running.
        """
        self._own_task(self._ledger(conn), conn, task_id, owner_run, "owner_run")
        self._save(conn, owner_run, step_name, state, extend_claim_by)

    def save_checkpoint_for_run(
        self,
        conn: Any = None,
        run_id: Any = REQUIRED,
        step_name: str = REQUIRED,
        data: Any = REQUIRED,
        task_id: Any = None,
    ) -> None:
        """Save a value under a step's name for a claim; its task is looked up where it is not given.

        Raises:
            TaskNotFound: There is no such claim.
            LeaseLost: Somebody else has the task by now.
        """
        if task_id is not None:
            self._own_task(self._ledger(conn), conn, task_id, run_id, "run_id")
        self._save(conn, run_id, step_name, data, None)

    def _save(self, conn: Any, run_id: Any, step_name: str, state: Any, extend_by: float | None) -> None:
        name, text = name_of(step_name, "step_name"), store(state, "state")
        lease = None if extend_by is None else seconds(extend_by, "extend_claim_by")

        def write(ledger: Ledger, task_id: str, generation: int) -> Any:
            now = ledger.shared_now()
            return ledger.store.save_by_hand(task_id, generation, name, text, now=now, lease=lease, conn=conn)

        self._guarded(conn, run_id, "save a checkpoint", write)

    def get_checkpoint(
        self, conn: Any = None, task_id: Any = REQUIRED, step_name: str = REQUIRED, include_pending: bool = False
    ) -> CheckpointRow | None:
        """Return a checkpoint of a task, or None. ``include_pending`` is accepted: a checkpoint is never pending."""
        ledger = self._ledger(conn)
        run = self._find_task(ledger, conn, task_id)
        name = name_of(step_name, "step_name")
        return None if run is None else self._checkpoints(ledger, conn, run, run.generation).get(name)

    def get_all_checkpoints(
        self, conn: Any = None, task_id: Any = REQUIRED, run_id: Any = REQUIRED
    ) -> list[CheckpointRow]:
        """Return every checkpoint that a claim may build on, oldest first.

        Raises:
            TaskNotFound: There is no such claim.
            ConfigurationError: It is a claim of another task.
        """
        ledger = self._ledger(conn)
        self._own_task(ledger, conn, task_id, run_id, "run_id")
        return list(self._visible(ledger, conn, run_id).values())

    def get_checkpoints_for_run(self, conn: Any = None, run_id: Any = REQUIRED) -> dict[str, Any]:
        """Return every value that a claim may build on, by step name: also what earlier claims of its task saved."""
        ledger = self._ledger(conn)
        return {name: row["state"] for name, row in self._visible(ledger, conn, run_id).items()}

    def get_run_checkpoint(self, conn: Any = None, run_id: Any = REQUIRED, step_name: str = REQUIRED) -> Any:
        """Return one value that a claim may build on, or None."""
        return self.get_checkpoints_for_run(conn, run_id).get(name_of(step_name, "step_name"))

    def _visible(self, ledger: Ledger, conn: Any, run_id: Any) -> dict[str, CheckpointRow]:
        named = read_claim_id(run_id, "run_id")
        run = self._find(ledger, conn, named)
        return {} if run is None else self._checkpoints(ledger, conn, run, named.generation)

    def _checkpoints(self, ledger: Ledger, conn: Any, run: Run, generation: int) -> dict[str, CheckpointRow]:
        """Return what a generation of a task may see by name: steps of the engine, events that came, what was saved."""
        claims = ledger.store.look("list_claims", conn=conn, run_id=run.run_id)
        generations = {row[1]: row[10] for row in claims}
        found = []
        for name, text, epoch, at in self._saved(ledger, conn, run):
            owner = generations.get(epoch, run.generation)
            if owner <= generation:
                found.append((at, name, text, owner))
        found.sort(key=lambda one: one[:2])
        return {
            name: {
                "checkpoint_name": name,
                "state": load(text),
                "status": "committed",
                "owner_run_id": claim_id(run.run_id, owner),
                "updated_at": to_datetime(at),
            }
            for at, name, text, owner in found
        }

    def _saved(self, ledger: Ledger, conn: Any, run: Run) -> Iterator[tuple[str, str, int, int]]:
        look = ledger.store.look
        saved = look("list_hand_checkpoints", conn=conn, run_id=run.run_id)
        names = {name for name, *_ in saved}
        for label, output, epoch, at in look("list_completed_steps", conn=conn, run_id=run.run_id):
            if label not in names:
                yield label, "null" if output is None else output, epoch, at
        for wait in (Wait(*row) for row in look("list_waits", conn=conn, run_id=run.run_id)):
            if wait.outcome == "emitted" and wait.label not in names:
                yield wait.label, wait.payload or "null", 1, wait.resolved_at or 0
        yield from saved

    # --- events ------------------------------------------------------------------------------

    def emit_event(self, conn: Any = None, event_name: str = REQUIRED, payload: Any = None) -> None:
        """Emit an event in the queue and wake every task that waits for it; the first emit of a name stands.

        Args:
            conn: A connection whose open transaction is joined; None commits at once.
            event_name: 1 to 255 printable characters.
            payload: Plain JSON; None is kept as ``{}``.

        Example:
            >>> from milepost.tracking import Client
            >>> client = Client(ledger=":memory:")
            >>> client.emit_event(event_name="paid", payload={"amount": 10})
            >>> client.ledger.get_event("paid").payload
            '{"amount":10}'
        """
        if event_name is REQUIRED:
            raise TypeError("the argument event_name= is missing")
        text = store({} if payload is None else payload, "payload")
        ledger = self._ledger(conn)
        ledger.store.emit_event(self.queue_name, check_event(event_name), text, ledger.shared_now(), conn=conn)

    def await_event(
        self,
        conn: Any = None,
        task_id: Any = REQUIRED,
        run_id: Any = REQUIRED,
        step_name: str = REQUIRED,
        event_name: str = REQUIRED,
        timeout: float | None = None,
    ) -> tuple[bool, Any]:
        """Wait for an event: ``(False, payload)`` where it came, ``(True, None)`` where the task now sleeps.

        In the second case the lease is given up, and the caller must stop; the task is claimed again when the event
        comes or the time is up. Asked again under the same step name, the answer is the same.

        Args:
            conn: A connection whose open transaction is joined; None commits at once.
            task_id: The task.
            run_id: Its claim.
            step_name: The name of this wait.
            event_name: The event, of the task's own queue.
            timeout: Seconds from the first call; None has no limit, 0 only looks.

        Raises:
            EventTimedOut: It did not come in time, which is a ``TimeoutError``.
            LeaseLost: Somebody else has the task by now.
        """
        self._own_task(self._ledger(conn), conn, task_id, run_id, "run_id")
        wait = self._wait(conn, run_id, name_of(step_name, "step_name"), check_event(event_name), timeout)
        return (True, None) if wait.outcome is None else (False, load(wait.payload))

    def wait_for_event(
        self,
        conn: Any = None,
        run_id: Any = REQUIRED,
        event_name: str = REQUIRED,
        timeout_seconds: float | None = None,
        task_id: Any = None,
        step_name: str | None = None,
    ) -> Any:
        """Return an event's payload; where it has not come, suspend the task and raise :class:`TaskSuspended`.

        Leave the transaction of ``conn`` with a commit, or call :meth:`set_run_sleeping` in one of its own: an
        exception that leaves ``with conn:`` rolls the wait back.

        Args:
            conn: A connection whose open transaction is joined; None commits at once.
            run_id: The claim.
            event_name: The event, of the task's own queue.
            timeout_seconds: Seconds from the first call; None has no limit, 0 only looks.
            task_id: The claim's task, to be checked; it is looked up where it is not given.
            step_name: The name of this wait; the event's own if left out.

        Raises:
            TaskSuspended: It now waits; with ``run_id``, ``event_name`` and ``wake_at``.
            EventTimedOut: It did not come in time, which is a ``TimeoutError``.
        """
        if task_id is not None:
            self._own_task(self._ledger(conn), conn, task_id, run_id, "run_id")
        event = check_event(event_name)
        label = event if step_name is None else name_of(step_name, "step_name")
        wait = self._wait(conn, run_id, label, event, timeout_seconds)
        if wait.outcome is None:
            raise self._suspended(run_id, wait)
        return load(wait.payload)

    def _wait(
        self, conn: Any, run_id: Any, label: str, event: str | None, timeout: float | None, kind: str = "event"
    ) -> Wait:
        micros = None if timeout is None else seconds(timeout, "timeout")
        until: int | None = None

        def write(ledger: Ledger, task_id: str, generation: int) -> Any:
            nonlocal until
            now = ledger.shared_now()
            until = None if micros is None else now + micros
            scope = self._scope(ledger, conn, task_id) if event is not None else None
            wait = NewWait(task_id, 0, label, kind, scope, event, until)
            is_look = event is not None and micros == 0
            return ledger.store.wait_by_hand(task_id, generation, wait, now=now, is_look=is_look, conn=conn)

        found: Wait | None = self._guarded(conn, run_id, "wait", write)
        assert found is not None
        if found.outcome == "timed_out":
            raise EventTimedOut(label, event or "")
        if found.outcome is None:
            self._beats.forget(str(run_id))
            if len(self._asked) > 1000:
                self._asked.clear()
            self._asked[str(run_id), event] = (label, found.wake_at)
        return found

    def _scope(self, ledger: Ledger, conn: Any, task_id: str) -> str:
        run = ledger.store.find_task(task_id, task_id, conn=conn)
        return self.queue_name if run is None or run.queue is None else run.queue

    def _suspended(self, run_id: Any, wait: Wait) -> TaskSuspended:
        wake_at = None if wait.wake_at is None else to_datetime(wait.wake_at)
        what = "sleeps" if wait.event is None else f"waits for the event {wait.event!r}"
        until = "" if wake_at is None else f" until {wake_at.isoformat(timespec='seconds')} at the latest"
        told = f"Task {wait.run_id} {what}{until}. Stop here; it is claimed again when its time has come."
        return TaskSuspended(told, run_id, wait.event, wake_at)

    def set_run_sleeping(self, conn: Any = None, run_id: Any = REQUIRED, event_name: str | None = None) -> None:
        """Make sure that a task sleeps after :class:`TaskSuspended`, also where its transaction was rolled back.

        Args:
            conn: A connection whose open transaction is joined; None commits at once.
            run_id: The claim.
            event_name: What it waits for; None for a sleep.

        Raises:
            TaskNotFound: There is no such claim.
            ConfigurationError: The claim has asked for no such wait.
        """
        ledger = self._ledger(conn)
        task_id, generation = self._claim_of(ledger, conn, run_id)
        run = ledger.store.find_task(task_id, task_id, conn=conn)
        if run is None:
            raise TaskNotFound(run_id)
        if run.status == "suspended" and run.generation == generation:
            return
        asked = self._asked.get((str(run_id), event_name))
        if asked is None and event_name is None:
            raise ConfigurationError(f"event_name is missing: claim {run_id} has asked for no sleep.")
        label, wake_at = asked or (str(event_name), None)
        left = None if wake_at is None else max(0.001, (wake_at - ledger.shared_now()) / 1e6)
        self._wait(conn, run_id, label, event_name, left, "sleep" if event_name is None else "event")

    # --- sleeping ----------------------------------------------------------------------------

    def sleep(
        self,
        conn: Any = None,
        run_id: Any = REQUIRED,
        duration_seconds: float = REQUIRED,
        step_name: str | None = None,
    ) -> None:
        """Sleep durably: the task is suspended and :class:`TaskSuspended` raised; once it is over, return.

        Args:
            conn: A connection whose open transaction is joined; None commits at once.
            run_id: The claim.
            duration_seconds: Seconds from the first call.
            step_name: The name of this sleep; the first of a claim is ``sleep``, the next ``sleep#2``, and so on.

        Raises:
            TaskSuspended: It now sleeps; with ``run_id`` and ``wake_at``.
        """
        label = self._sleep_label(conn, run_id) if step_name is None else name_of(step_name, "step_name")
        seconds(duration_seconds, "duration_seconds")
        wait = self._wait(conn, run_id, label, None, duration_seconds, "sleep")
        if wait.outcome is None:
            raise self._suspended(run_id, wait)

    def _sleep_label(self, conn: Any, run_id: Any) -> str:
        # Counted afresh in each claim: the n-th sleep of a replay is the n-th that was slept before.
        ledger = self._ledger(conn)
        task_id, _ = self._claim_of(ledger, conn, run_id)
        run = ledger.store.find_task(task_id, task_id, conn=conn)
        if run is None:
            raise TaskNotFound(as_id(task_id))
        epoch, count = self._sleeps.get(task_id, (run.lease_epoch, 0))
        count = count + 1 if epoch == run.lease_epoch else 1
        if len(self._sleeps) > 1000:
            self._sleeps.clear()
        self._sleeps[task_id] = (run.lease_epoch, count)
        return "sleep" if count == 1 else f"sleep#{count}"
