"""What a ledger knows of queues, workers, events and waits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from milepost.clock import Clock, SystemClock
from milepost.ledger.gate import Gate
from milepost.ledger.why import explain
from milepost.model import Event, QueueInfo, Run, Wait, WorkerInfo
from milepost.names import DEFAULT_QUEUE, check_event, check_name
from milepost.store import Store
from milepost.values import encode

__all__ = ["Sharing"]

_CLOCK_TRUST: Final = 10.0  # seconds that the server's time is counted on from here before it is asked again


class Sharing:
    """Mixed into :class:`milepost.Ledger`."""

    store: Store
    clock: Clock
    lease: float
    _server_time: tuple[float | None, int] = (None, 0)  # when it was looked at (monotonic), and what it was

    def require_run(self, run_id: str) -> Run:
        """Return the run of this id."""
        raise NotImplementedError(run_id)

    # --- events ------------------------------------------------------------------------------

    def emit_event(self, name: str, payload: Any = None, *, scope: str = DEFAULT_QUEUE, conn: Any = None) -> bool:
        """Emit an event and wake the runs that wait for it; return False where it was emitted before.

        The first emit of a name stands: for those who wait now and for those who come later.

        Args:
            name: The event's name, 1 to 255 printable characters.
            payload: What the waiting steps return: any value that a step may return.
            scope: Where it is emitted: the name of a queue, as ``Dag.wait_event`` has it.
            conn: An open connection (sqlite3 or psycopg) to the ledger's database: the event joins its
                transaction, and exists if and only if that commits.

        Raises:
            ConfigurationError: The name or the scope breaks the rule.
            ValueNotStorable: The payload has a type that the ledger cannot keep.

        Example:
            >>> from milepost import Ledger
            >>> ledger = Ledger.open(":memory:")
            >>> ledger.emit_event("order-42-paid", {"amount": 10}), ledger.emit_event("order-42-paid")
            (True, False)
        """
        check_event(name)
        check_name("scope", scope)
        return self.store.emit_event(scope, name, encode(payload), self.shared_now(), conn=conn)

    def get_event(self, name: str, *, scope: str = DEFAULT_QUEUE) -> Event | None:
        """Return an event with its payload as JSON text, or None where it was not emitted.

        Example:
            >>> from milepost import Ledger
            >>> ledger = Ledger.open(":memory:")
            >>> ledger.get_event("order-42-paid") is None
            True
        """
        return self.store.get_event(scope, name)

    def list_events(self, *, scope: str = DEFAULT_QUEUE, prefix: str | None = None, limit: int = 100) -> list[Event]:
        """Return events of a scope, newest first.

        Args:
            scope: Where they were emitted.
            prefix: Only events whose names begin so.
            limit: At most this many.

        Example:
            >>> from milepost import Ledger
            >>> ledger = Ledger.open(":memory:")
            >>> _ = ledger.emit_event("order-42-paid"), ledger.emit_event("noon")
            >>> [event.name for event in ledger.list_events(prefix="order-")]
            ['order-42-paid']
        """
        return self.store.list_events(scope, prefix=prefix, limit=limit)

    def list_waits(self, run_id: str) -> list[Wait]:
        """Return what a run waits or waited for, oldest first.

        Example:
            >>> from milepost import Dag, Ledger
            >>> dag = Dag("nap")
            >>> _ = dag.sleep(0)
            >>> ledger = Ledger.open(":memory:")
            >>> run = dag.run(ledger=ledger)
            >>> [(wait.kind, wait.outcome) for wait in ledger.list_waits(run.run_id)]
            [('sleep', 'woken')]
        """
        return self.store.list_waits(run_id)

    # --- queues ------------------------------------------------------------------------------

    def pause_queue(self, name: str) -> None:
        """Let nothing be claimed from a queue until it is resumed; runs under way go on.

        Raises:
            ConfigurationError: The name breaks the rule.

        Example:
            >>> from milepost import Ledger
            >>> ledger = Ledger.open(":memory:")
            >>> ledger.pause_queue("mail")
            >>> [(queue.name, queue.paused_at is not None) for queue in ledger.list_queues()]
            [('mail', True)]
        """
        self.store.pause_queue(check_name("queue", name), self.clock.now())

    def resume_queue(self, name: str) -> bool:
        """Let a queue's tasks be claimed again; return whether it was paused.

        Raises:
            ConfigurationError: The name breaks the rule.

        Example:
            >>> from milepost import Ledger
            >>> Ledger.open(":memory:").resume_queue("mail")
            False
        """
        return self.store.resume_queue(check_name("queue", name))

    def list_queues(self) -> list[QueueInfo]:
        """Return every queue that holds unfinished tasks or is paused, by name.

        Example:
            >>> from milepost import Dag, Ledger
            >>> dag = Dag("greet")
            >>> _ = dag.node(lambda: "hello", label="hello")
            >>> ledger = Ledger.open(":memory:")
            >>> _ = dag.submit(ledger=ledger, queue="mail")
            >>> [(queue.name, queue.pending) for queue in ledger.list_queues()]
            [('mail', 1)]
        """
        return self.store.list_queues()

    # --- workers -----------------------------------------------------------------------------

    def list_workers(self) -> list[WorkerInfo]:
        """Return every worker that is remembered, oldest first: live ones, and those that stopped or died.

        Example:
            >>> from milepost import Dag, Ledger, Worker
            >>> dag = Dag("greet")
            >>> _ = dag.node(lambda: "hello", label="hello")
            >>> ledger = Ledger.open(":memory:")
            >>> Worker([dag], ledger=ledger, worker_id="w1").run_until_idle()
            0
            >>> [(worker.worker_id, worker.workflows) for worker in ledger.list_workers()]
            [('w1', ('greet',))]
        """
        return self.store.list_workers()

    # --- time --------------------------------------------------------------------------------

    def shared_now(self) -> int:
        """Return the time that all who share the ledger agree on, in microseconds since 1970.

        It is the server's clock where the ledger has a server, so that a machine whose own clock is wrong takes
        no live worker for dead and no lease for over; a clock that was handed in goes before it.

        Example:
            >>> from milepost import Ledger
            >>> Ledger.open(":memory:").shared_now() > 1_700_000_000_000_000
            True
        """
        now = self.clock.now()
        if not (self.store.is_shared and isinstance(self.clock, SystemClock)):
            return now
        looked_at, found = self._server_time
        if looked_at is None or not 0 <= self.clock.monotonic() - looked_at < _CLOCK_TRUST:
            found = self.store.read_clock(now)
            looked_at = self.clock.monotonic()
            self._server_time = looked_at, found
        return found + int((self.clock.monotonic() - looked_at) * 1e6)

    # --- why ---------------------------------------------------------------------------------

    def why(self, run_id: str) -> Gate:
        """Return the exact gate that a run waits at: what ``milepost why`` prints.

        Raises:
            RunNotFound: There is no such run.

        Example:
            >>> from milepost import Dag, Ledger
            >>> dag = Dag("greet")
            >>> _ = dag.node(lambda: "hello", label="hello")
            >>> ledger = Ledger.open(":memory:")
            >>> gate = ledger.why(dag.submit(ledger=ledger).run_id)
            >>> gate.code, gate.message
            ('no_worker', "No live worker takes from queue 'default': no worker lives at all.")
        """
        run = self.require_run(run_id)
        return explain(self.store, run, now=self.shared_now(), lease=int(self.lease * 1e6))

    # --- keeping it in order -----------------------------------------------------------------

    def delete_events(self, *, older_than: timedelta) -> int:
        """Delete events emitted longer ago than this; return how many.

        Those that came while a run was open that is not finished yet stay: it may still ask for them.

        Example:
            >>> from datetime import timedelta
            >>> from milepost import Ledger
            >>> Ledger.open(":memory:").delete_events(older_than=timedelta(days=30))
            0
        """
        return self.store.delete_events(self.clock.now() - older_than // timedelta(microseconds=1))

    def delete_workers(self, *, older_than: timedelta) -> int:
        """Forget workers that stopped or died longer ago than this; return how many. Live ones stay.

        Example:
            >>> from datetime import timedelta
            >>> from milepost import Ledger
            >>> Ledger.open(":memory:").delete_workers(older_than=timedelta(days=30))
            0
        """
        return self.store.delete_workers(self.clock.now() - older_than // timedelta(microseconds=1))
