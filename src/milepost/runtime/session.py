"""One run in this process: turns what happens into rows, and rows into what happens next.

A session joins the pure :class:`~milepost.engine.Execution` to the ledger's rows. It does no I/O:
a driver takes the :class:`~milepost.store.RunWrite` it makes and commits it.

Invariants:

- :meth:`RunSession.settle` changes the execution's state *before* the commit, so that a map's own
  end and the run's end share the last step's commit; the driver hands out no call until that
  commit is durable.
- Starts are lazy: a flight's start row is written by :meth:`RunSession.flush` only if the flight
  outlives a tick of the keeper; otherwise its end row carries both.
- ``pure`` completions and traversed edges wait in ``_riding`` for a commit that happens anyway, or
  for the keeper. The keeper leaves them there until its own commit is durable: a driver that
  commits meanwhile writes them as well, which changes nothing (every write is idempotent). So
  neither ever waits for the other, and a run cannot end without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final

from milepost.engine import Call, Execution, History, MapMark
from milepost.errors import (
    AtMostOnceInterrupted,
    DagPause,
    EventTimedOut,
    LeaseLost,
    MilepostError,
    StepCancelled,
    ValueNotStorable,
)
from milepost.graph import Graph
from milepost.ledger import Ledger
from milepost.model import Run, Wait, progress_text
from milepost.observe import active_observer
from milepost.records import RunContext
from milepost.runtime.companion import Companion
from milepost.runtime.flight import Flight
from milepost.runtime.landing import describe_error, pause_in, storable_text, take_value
from milepost.runtime.progress import Progress
from milepost.runtime.riding import Riding, Waiting
from milepost.runtime.rows import Rows
from milepost.runtime.telling import Telling
from milepost.states import RunStatus, StepStatus
from milepost.store import CheckpointWrite, EdgeWrite, ProgressWrite, RunEnd, RunWrite, StepWrite
from milepost.values import decode

__all__ = ["RIDING_LIMIT", "RunSession"]

RIDING_LIMIT: Final = 512  # pure completions that may wait for a commit
_EDGE_LIMIT: Final = 64  # edges that may wait while steps commit one row each
_QUICK: Final = 50_000  # microseconds; a step younger than this is not worth a start row of its own

_UNRECORDED: Final = "its run can no longer be recorded here"

_RUNNING: Final = StepStatus.RUNNING.value
_COMPLETED: Final = StepStatus.COMPLETED.value
_FAILED: Final = StepStatus.FAILED.value
_CANCELLED: Final = StepStatus.CANCELLED.value


class RunSession:
    """The state of one run while this process holds its lease."""

    is_recorded = True

    def __init__(
        self,
        ledger: Ledger,
        run_id: str,
        lease_epoch: int,
        graph: Graph,
        inputs: Mapping[str, Any],
        *,
        history: History | None = None,
        seq: int = 0,
        retry: Callable[[BaseException], float | None] | None = None,
        may_suspend: bool = False,
        companion: Companion | None = None,
    ) -> None:
        """Begin with a claimed run.

        Args:
            ledger: Where it is recorded.
            run_id: The run.
            lease_epoch: The epoch it was claimed under.
            graph: What it executes.
            inputs: Its inputs by name.
            history: What a restart reuses.
            seq: The last sequence number its steps used.
            retry: Says after how many seconds a failed run is tried again, None for never.
            may_suspend: Give the lease up while nothing is left but waiting.
            companion: Says what else is committed with the ends of its steps.
        """
        self.ledger = ledger
        self.run_id = run_id
        self.lease_epoch = lease_epoch
        self.graph = graph = graph.with_inputs(inputs)
        self.progress = Progress(run_id, graph.name, graph)
        self.stop_reason: tuple[str, str] | None = None  # (error type, message): why the run must stop
        self.pause_reason: tuple[str | None, str] | None = None  # (step or None, message): why it pauses
        self.wake: Callable[[], None] = _do_nothing  # makes its driver look at what was asked of it
        self.lost: MilepostError | None = None  # nothing can be written any more
        self.error: BaseException | None = None  # the first failure, as the step raised it
        self.end: RunEnd | None = None  # how the run ends, once that is decided
        self.is_over = False  # ... and once it is durable
        self.is_handed_on = False  # the graph has ended, and whoever drives the session goes on with the run
        self.may_suspend = may_suspend
        self.waits: dict[str, Flight] = {}  # flights of steps that wait, by label
        self.inner_waits: dict[str, set[str]] = {}  # of those that are runs, the waits that stand for what is inside
        self.workflow = graph.name  # what the run is listed under
        self.changes: tuple[str, ...] = ()  # what is no longer as the run started, in words
        self.family: tuple[str, str | None] = (
            run_id,
            None,
        )  # its root run, and who created it: runs inside it inherit both
        self.executor: Executor | None = None  # where its bodies run, and those of runs inside it
        self.limit = 32  # how many at once, of each of these runs
        self.children: list[RunSession] = []  # runs inside this one that are executed now
        self.grace: float | None = None  # seconds that bodies get when the run is stopped; None: the driver's own
        self._retry = retry
        self._companion = companion
        self._is_handed_back = False
        self._stop_message: str | None = None  # what bodies hear when they ask whether to go on
        self._seq = seq
        self._now = ledger.clock.now
        self._open: dict[str, Flight] = {}
        self._riding = Riding()
        self._rows = Rows(run_id, lease_epoch, graph)
        self._map_seq: dict[int, tuple[int, int]] = {}
        self._undone = {} if history is None else history.undone
        self.void_attempts = {} if history is None else history.void  # of steps that are runs; see History
        if history is not None:
            self._show_history(history)
        observer = active_observer()
        self.telling = None if observer is None else Telling(observer, graph, self.progress, RunContext(run_id))
        self._inputs = inputs
        own = graph.begin(inputs, history, run_id)
        self.execution: Execution = Execution(graph, inputs, history) if own is None else own

    # --- a flight ----------------------------------------------------------------------------

    def begin(self, call: Call) -> Flight:
        """Start an attempt: from here on the keeper may write that it runs."""
        self._seq += 1
        flight = Flight(call, self._seq, self._now())
        self._open[call.label] = flight
        flight.stop_reason = self._stop_message  # read after the line above: a stop in between is missed by neither
        node = self.progress.node(call.node.index)
        node.running += 1
        if node.started_at is None:
            node.started_at = flight.started_at
            node.status = StepStatus.RUNNING
        if self.telling is not None:
            self.telling.began(flight)
        return flight

    def belongs_to(self, run: Run) -> None:
        """Take over what observers are told of the run: its attempt, and the job that it is part of."""
        if self.telling is not None:
            self.telling.ctx = RunContext(
                run.run_id, run.correlation_id, run.attempt, last_attempt=run.attempt >= run.max_attempts
            )

    def open(self) -> None:
        """Tell observers that the run begins here."""
        if self.telling is not None:
            self.telling.opened(self._inputs, self._now())

    def close(self) -> None:
        """Tell observers how it has ended here: an end that could not be recorded is none."""
        if self.telling is None:
            return
        now = self._now()
        if not self.is_over:
            self.telling.unrecorded()
            for flight in self.open_flights:
                self.telling.cut_off(flight, LeaseLost.__name__, _UNRECORDED, now)
        self.telling.closed(self.end if self.is_over else None, now)

    def refuse_second_start(self, flight: Flight) -> bool:
        """Fail an ``at_most_once`` flight that an earlier attempt may have run; return whether it was."""
        if flight.attempt == 1 or flight.attempt == self._undone.get(flight.call.label, -1) + 1:
            return False  # none began, or the one that did was undone
        self.fail(flight, AtMostOnceInterrupted(flight.call.label, self.run_id))
        flight.is_final = True
        return True

    def start_write(self, flight: Flight) -> RunWrite:
        """Return the write that makes a start durable before the body runs."""
        flight.is_written = True
        return RunWrite(self.run_id, self.lease_epoch, starts=(self._rows.start(flight),))

    def end_wait(self, flight: Flight, wait: Wait) -> None:
        """Take what a wait ended with: an event's payload, nothing for a sleep, or the time that ran out."""
        flight.started_at = min(flight.started_at, wait.created_at)
        if wait.outcome == "timed_out":
            self.fail(flight, EventTimedOut(wait.label, wait.event or ""))
            flight.is_final = True  # the outcome stands: asking again would give the same
            return
        self.accept(flight, None if wait.payload is None else decode(wait.payload))

    @property
    def is_waiting(self) -> bool:
        """Whether nothing is left to do but to wait for times and events."""
        execution = self.execution
        return (
            bool(self.waits)
            and execution.running == len(self.waits)
            and not execution.has_ready
            and execution.next_due() is None
        )

    def accept(self, flight: Flight, value: Any) -> None:
        """Take a body's value: check it against the annotation and encode it."""
        take_value(flight, value)
        flight.finished_at = self._now()

    def fail(self, flight: Flight, error: BaseException) -> None:
        """Take what a body raised; a value that it could not save will not be storable next time either."""
        flight.error = error
        flight.is_final = flight.is_final or isinstance(error, ValueNotStorable)
        flight.finished_at = self._now()

    # --- what the driver commits -------------------------------------------------------------

    def settle(self, flights: Sequence[Flight], now: float, draw: float = 0.0) -> RunWrite | None:
        """Take in finished flights; return what to commit, or None when nothing needs a commit yet.

        Args:
            flights: Flights that came back, in the order they did.
            now: The driver's monotonic clock, for retries.
            draw: A number from 0 to 1 for the jitter of retries.
        """
        execution = self.execution
        rows: list[StepWrite] = []
        edges: list[EdgeWrite] = []
        is_pure = True
        companion = self._companion
        for flight in flights:
            call = flight.call
            node = call.node
            self._open.pop(call.label, None)
            shown = self.progress.node(node.index)
            shown.running -= 1
            if call.map is None:
                for ref in node.upstream:
                    edges.append(EdgeWrite(self.run_id, self.graph.nodes[ref].label, node.label, flight.started_at))
            error = flight.error
            if error is None:
                rows.append(self._end_row(flight, _COMPLETED))
                is_pure = is_pure and node.pure
                execution.succeeded(call, flight.value)
                shown.done += 1
                if call.map is None:
                    shown.status = StepStatus.COMPLETED
                    shown.finished_at = flight.finished_at
                if companion is not None:
                    flight.saves = companion.ended(flight, StepStatus.COMPLETED, None)
            elif (pause := pause_in(error)) is not None:
                is_pure = False
                rows.append(self._rows.paused(flight))
                execution.abandoned(call)
                shown.status = StepStatus.PENDING
                self.ask_to_pause(str(pause) or f"step {call.label!r} asked for it", call.label)
            else:
                is_pure = False
                rows.append(self._end_row(flight, _FAILED))
                if companion is not None and companion.gives_up(flight):
                    flight.is_final = True
                delay = execution.failed(call, error, final=flight.is_final, now=now, draw=draw)
                if self._is_cancelled(error):
                    shown.status = StepStatus.CANCELLED
                elif delay is None and execution.failure is None:
                    shown.failed += 1  # an element that its map can do without
                elif delay is None:
                    self._note_failure(error, shown, flight.finished_at)
                else:
                    shown.retries += 1
                if companion is not None:
                    flight.saves = companion.ended(flight, StepStatus(rows[-1].status), delay)
            if self.telling is not None:
                self.telling.ended(flight, rows[-1].status, error)
        if execution.dropped:
            self._drop_waits(execution.dropped)
        if companion is not None:
            return self._settle_with(companion, [save for flight in flights for save in flight.saves], rows, edges)
        if execution.marks:
            is_pure = self._take_marks(rows, edges) and is_pure
        if self._is_decided:
            return self._final_write(rows, edges)
        riding = self._riding
        if is_pure:
            riding.add(rows, edges)
            return self._write_riding() if riding.count >= RIDING_LIMIT else None
        if riding.has_ends or riding.count >= _EDGE_LIMIT:
            return self._write_riding(rows, edges)
        if edges:  # they wait, so that the step's commit is a single row
            riding.add((), edges)
        return RunWrite(self.run_id, self.lease_epoch, ends=rows)

    def _drop_waits(self, dropped: list[Call]) -> None:
        """Let go of waits that the run goes on without: whatever resolves them later changes nothing."""
        for call in dropped:
            flight = self.waits.pop(call.label, None) or self._open.get(call.label)
            self._open.pop(call.label, None)
            if flight is not None:
                flight.is_abandoned = True
                self.progress.node(call.node.index).running -= 1
        dropped.clear()

    def _settle_with(
        self, companion: Companion, saves: list[CheckpointWrite], rows: list[StepWrite], edges: list[EdgeWrite]
    ) -> RunWrite:
        """Return the write of ends and of what the companion keeps with them: of these, only edges may wait."""
        self._take_marks(rows, edges)
        if not self._is_decided:
            self._riding.add((), edges)
            is_full = self._riding.has_ends or self._riding.count >= _EDGE_LIMIT
            write = self._write_riding(rows) if is_full else RunWrite(self.run_id, self.lease_epoch, ends=rows)
        elif companion.holds_on():
            write = self._write_riding(rows, edges)
            self.is_handed_on = True
        else:
            write = self._final_write(rows, edges)
        write.checkpoints = saves
        return write

    def record(self, flights: Sequence[Flight]) -> RunWrite:
        """Return the write of these outcomes alone, for a driver that was interrupted while it settled them."""
        rows = [self._end_row(flight, _COMPLETED if flight.error is None else _FAILED) for flight in flights]
        saves: list[CheckpointWrite] = []
        for flight, row in zip(flights, rows, strict=True):
            if self._companion is not None and not flight.saves:
                flight.saves = self._companion.ended(flight, StepStatus(row.status), None)
            saves += flight.saves
        return RunWrite(self.run_id, self.lease_epoch, ends=rows, checkpoints=saves)

    def restore_edges(self, edges: Sequence[EdgeWrite]) -> None:
        """Write edges again that were waiting when an earlier process died."""
        self._riding.add((), edges)

    def opening_write(self) -> RunWrite | None:
        """Return what a run has to write before its first call: maps that start, or the end of it."""
        rows: list[StepWrite] = []
        edges: list[EdgeWrite] = []
        self._take_marks(rows, edges)
        if self._is_decided:
            return self._final_write(rows, edges)
        return RunWrite(self.run_id, self.lease_epoch, ends=rows, edges=edges) if rows else None

    def flush(self) -> tuple[RunWrite, Waiting] | None:
        """Return starts, progress and riding rows that have waited for a tick of the keeper.

        The keeper commits the write and then calls :meth:`flushed`.
        """
        limit = self._now() - _QUICK
        starts, progress = [], []
        for flight in list(self._open.values()):
            if not flight.is_written and flight.started_at <= limit:
                flight.is_written = True
                starts.append(self._rows.start(flight))
            if flight.is_written and flight.progress is not flight.progress_sent and flight.progress is not None:
                flight.progress_sent = flight.progress
                done, total, message = flight.progress
                call = flight.call
                progress.append(
                    ProgressWrite(self.run_id, call.label, flight.attempt, self.lease_epoch, done, total, message)
                )
                self.progress.node(call.node.index).message = progress_text(done, total, message)
        waiting = self._riding.look()
        if not (starts or progress or waiting.ends or waiting.edges):
            return None
        write = RunWrite(
            self.run_id,
            self.lease_epoch,
            starts=starts,
            ends=waiting.ends,
            edges=waiting.edges,
            progress=progress,
        )
        return write, waiting

    def last_write(self) -> RunWrite | None:
        """Return what still waits for a commit, before the lease is given up."""
        return self._write_riding() if self._riding.count else None

    def flushed(self, waiting: Waiting) -> None:
        """Note that what :meth:`flush` returned is durable."""
        self._riding.drop(waiting)

    def interrupt(self, status: RunStatus, error_type: str, message: str) -> RunWrite:
        """Return the write that ends the run now; whatever is in the air is recorded as cancelled."""
        execution = self.execution
        execution.halt()
        now = self._now()
        # All of them, also those the keeper says it wrote: its commit may still be under way.
        starts = [self._rows.start(flight) for flight in self._open.values()]
        saves = () if self._companion is None else self._companion.stopped(self.open_flights, message)
        for flight in self._open.values():
            flight.is_abandoned = True
            flight.stop_reason = message
            execution.abandoned(flight.call)
            if self.telling is not None:
                self.telling.cut_off(flight, error_type, message, now)
        self._open.clear()
        ends, edges = self._riding.take()
        self.waits.clear()
        if self._is_handed_back:
            self.end = RunEnd(RunStatus.PENDING, now, None, error_type, message, outcome="release")
        else:
            self.end = RunEnd(status, now, None, error_type, message)
        return RunWrite(
            self.run_id, self.lease_epoch, starts=starts, ends=ends, edges=edges, checkpoints=saves, end=self.end
        )

    def end_early(self, write: RunWrite) -> None:
        """Commit what :meth:`interrupt` made, unless the run had just ended by itself.

        An interrupt may strike between a commit and the line that takes note of it.
        """
        try:
            self.ledger.commit(write)
        except LeaseLost:
            run = self.ledger.get_run(self.run_id)
            if run is None or run.lease_epoch != self.lease_epoch or run.finished_at is None:
                raise
            self.end = RunEnd(run.status, run.finished_at, run.error_step, run.error_type, run.error_message)
        self.is_over = True

    def ask_to_hand_back(self, message: str, *, at_once: bool) -> None:
        """Note that the run goes back to its queue unfinished, and tell the bodies that listen."""
        self._is_handed_back = True
        if at_once:
            self.grace = 0.0
        self.ask_to_stop("Released", message)

    def ask_to_stop(self, error_type: str, message: str) -> None:
        """Note that the run must end early, and tell the bodies that listen."""
        if self.stop_reason is None:
            self.stop_reason = (error_type, message)
        self.execution.halt()
        self._tell_bodies(message)
        for child in list(self.children):
            child.grace = self.grace if child.grace is None else child.grace
            child.ask_to_stop(error_type, message)

    def ask_to_pause(self, message: str, label: str | None = None) -> None:
        """Let the run go no further: what runs already ends by itself, nothing new starts.

        Args:
            message: Why.
            label: The step that asked for it, None for a request from outside.
        """
        if self.pause_reason is None:
            self.pause_reason = (label, storable_text(message))
        self.execution.halt()
        for child in list(self.children):
            child.ask_to_pause(message)
            child.wake()

    def pause_write(self) -> RunWrite | None:
        """Return the write that leaves a run paused which was asked to pause, or None while bodies still run."""
        return self._final_write([], []) if self._is_decided else None

    def lose(self, error: MilepostError) -> None:
        """Note that nothing can be written any more, and tell the bodies that listen."""
        self.lost = error
        self._tell_bodies(_UNRECORDED)

    def abandon(self) -> None:
        """Leave behind what is still in the air: nobody takes its outcome any more."""
        self._tell_bodies(_UNRECORDED)
        for flight in self.open_flights:
            flight.is_abandoned = True
            if flight.handle is not None:
                flight.handle.cancel()

    def _tell_bodies(self, message: str) -> None:
        if self._stop_message is None:
            self._stop_message = message
        for flight in self.open_flights:
            flight.stop_reason = flight.stop_reason or message

    @property
    def open_flights(self) -> list[Flight]:
        """The flights in the air."""
        return list(self._open.values())

    # --- rows --------------------------------------------------------------------------------

    def _end_row(self, flight: Flight, status: str) -> StepWrite:
        error = flight.error
        return self._rows.end(flight, status if error is None or not self._is_cancelled(error) else _CANCELLED)

    def _take_marks(self, rows: list[StepWrite], edges: list[EdgeWrite]) -> bool:
        """Turn what maps did into rows; return whether all of it may ride with a later commit."""
        execution = self.execution
        marks, execution.marks = execution.marks, []
        is_pure = True
        for mark in marks:
            is_pure = is_pure and mark.node.pure and mark.verb != "fail"
            rows.append(self._map_row(mark))
            if mark.verb == "start":
                for ref in mark.node.upstream:
                    upstream = self.graph.nodes[ref].label
                    edges.append(EdgeWrite(self.run_id, upstream, mark.node.label, self._map_seq[mark.node.index][1]))
        return is_pure

    def _map_row(self, mark: MapMark) -> StepWrite:
        index = mark.node.index
        now = self._now()
        shown = self.progress.node(index)
        finished_at: int | None = now
        if mark.verb == "complete":
            status = _COMPLETED
            shown.status, shown.finished_at = StepStatus.COMPLETED, now
        elif mark.verb == "start":
            status, finished_at = _RUNNING, None
            shown.status, shown.total = StepStatus.RUNNING, mark.total
            shown.started_at = shown.started_at or now
        else:
            assert mark.error is not None
            status = _CANCELLED if self._is_cancelled(mark.error) else _FAILED
            if status == _FAILED:
                self._note_failure(mark.error, shown, now, elements=0)  # the element that failed is counted
        if index not in self._map_seq:
            self._seq += 1
            self._map_seq[index] = (self._seq, now)
        return self._rows.of_map(mark, status, self._map_seq[index], finished_at)

    # --- the end -----------------------------------------------------------------------------

    @property
    def _is_decided(self) -> bool:
        """Whether the run has come to its own end: everything completed, or a failure with nothing left in the air."""
        execution = self.execution
        if execution.is_completed:
            return True
        if self.stop_reason is not None:
            return False
        # Of a run that pauses, steps that wait for a time or an event are no reason to stay.
        return execution.is_finished or (self.pause_reason is not None and execution.running == len(self.waits))

    def _is_cancelled(self, error: BaseException) -> bool:
        return isinstance(error, StepCancelled) and self._stop_message is not None

    def _note_failure(self, error: BaseException, shown: Any, now: int, *, elements: int = 1) -> None:
        shown.failed += elements
        shown.status = StepStatus.FAILED
        shown.finished_at = now
        if self.error is None:
            self.error = error

    def _final_write(self, rows: list[StepWrite], edges: list[EdgeWrite]) -> RunWrite:
        write = self._write_riding(rows, edges)
        now = self._now()
        failure = self.execution.failure
        if self.execution.is_completed:
            end = None if self._companion is None else self._companion.ending(now)
            self.end = end or RunEnd(RunStatus.COMPLETED, now)
        elif failure is None:
            label, message = self.pause_reason or (None, "")
            self.end = RunEnd(RunStatus.SUSPENDED, now, label, DagPause.__name__, message, outcome="pause")
            self.waits.clear()
        else:
            error_type, message, trace = describe_error(failure.error)
            delay = None if self._retry is None or self.stop_reason is not None else self._retry(failure.error)
            if failure.is_cancel:
                self.end = RunEnd(RunStatus.CANCELLED, now, failure.label, error_type, message)
            elif delay is None:
                self.end = RunEnd(RunStatus.FAILED, now, failure.label, error_type, message, trace)
            else:
                due = now + int(delay * 1e6)
                self.end = RunEnd(
                    RunStatus.PENDING, now, failure.label, error_type, message, trace, outcome="retry", available_at=due
                )
        write.end = self.end
        return write

    def _write_riding(self, rows: Sequence[StepWrite] = (), edges: Sequence[EdgeWrite] = ()) -> RunWrite:
        """Return a write of everything that waits, and of these."""
        ends, waiting_edges = self._riding.take()
        ends += rows
        waiting_edges += edges
        return RunWrite(self.run_id, self.lease_epoch, ends=ends, edges=waiting_edges)

    def _show_history(self, history: History) -> None:
        for index in history.done:
            shown = self.progress.node(index)
            shown.status = StepStatus.COMPLETED
            shown.done = shown.total
        for index, elements in history.elements.items():
            self.progress.node(index).done = len(elements)


def _do_nothing() -> None:
    pass
