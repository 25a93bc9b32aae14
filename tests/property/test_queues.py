"""One program on SQLite, on PostgreSQL and on a model: queues, leases, rescues, waits and events.

The model knows no database. It is the meaning of each verb written down once more, in plain Python. Hypothesis
draws what workers, submitters and the clock do; after every verb the two databases and the model must agree on
what the verb answered and on every run: its state, epoch, attempt, rescues, owner and times. Time is the test's
own: SQLite is told it, and the server's clock is shifted to it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from postgres import new_schema, server_url
from rows import completed, end, failed, write
from tasks import DIED, SECOND, Hands, task

from milepost.errors import LeaseLost, RunExists, StoreConflict
from milepost.model import Attempt, Run
from milepost.states import TERMINAL_RUN, RunStatus, next_run_status
from milepost.store import NewTask, NewWait, RunEnd, RunFilter, RunWrite, Store, Submitted
from milepost.stores.postgres import PostgresStore
from milepost.stores.sqlite import SQLiteStore

LEASE = 30 * SECOND
STEP = 12 * SECOND  # leases end 6 seconds from any moment that the clock stops at: no slow machine blurs that
SLACK = 5 * SECOND
MAX_RESCUES = 2
OWNERS = ["1@here#0-1", "2@here#0-1", "3@there#1-1"]
QUEUES = ["default", "mail"]
KEYS = [None, None, None, "k1", "k2"]
EVENTS = ["paid", "sent"]
LABELS = ["x", "y"]
SOME_OWNER = st.sampled_from(OWNERS)
SOME_QUEUES = st.sampled_from([["default"], ["mail"], ["mail", "default"], ["default", "mail"], ["nobody"]])


@dataclass
class ModelWait:
    """What a run waits for."""

    label: str
    event: str | None
    wake_at: int | None
    outcome: str | None = None
    payload: str | None = None


@dataclass
class ModelRun:
    """One run, as the verbs of queues see it."""

    task: NewTask
    status: RunStatus = RunStatus.PENDING
    available_at: int | None = None
    owner: str | None = None
    until: int | None = None
    epoch: int = 0
    attempt: int = 1
    rescues: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    cancel_requested_at: int | None = None
    error_type: str | None = None
    claims: dict[int, tuple[int, str, str, int | None, str | None]] = field(default_factory=dict)
    completed: dict[int, set[str]] = field(default_factory=dict)  # labels by epoch
    waits: dict[str, ModelWait] = field(default_factory=dict)

    def move(self, verb: str) -> None:
        after = next_run_status(self.status, verb)
        assert after is not None, (self.status, verb)
        self.status = after

    def begin(self, owner: str, now: int) -> None:
        self.epoch += 1
        self.owner, self.until, self.started_at = owner, now + LEASE, self.started_at or now
        self.claims[self.epoch] = (self.attempt, owner, "running", None, None)

    def leave(self, status: str, now: int, error_type: str | None = None) -> None:
        """Give the lease up; the claim ends like this."""
        self.owner = self.until = None
        for epoch, claim in self.claims.items():
            if claim[2] == "running":
                self.claims[epoch] = (*claim[:2], status, now, error_type)

    def forget_put_backs(self, error_type: str) -> None:
        self.claims = {
            epoch: claim
            for epoch, claim in self.claims.items()
            if (claim[2], claim[4]) != ("cancelled", error_type) or self.completed.get(epoch)
        }

    @property
    def resolved(self) -> int:
        return sum(one.outcome is not None for one in self.waits.values())

    @property
    def order(self) -> tuple[int, int, str]:
        return self.task.priority, self.task.now, self.task.run_id

    def holds(self, epoch: int) -> bool:
        return self.status == RunStatus.RUNNING and self.epoch == epoch


class QueueMachine(RuleBasedStateMachine):
    """Perform each verb on both databases and on the model."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[str, ModelRun] = {}
        self.events: dict[str, tuple[str, int]] = {}
        self.paused: set[str] = set()
        self.count = 0
        self.last_write: RunWrite | None = None
        self.stores = _open_stores()
        self.hands = Hands(*self.stores)

    @property
    def now(self) -> int:
        """The time, one microsecond later each time that somebody looks."""
        self.hands.now += 1
        return self.hands.now

    def both(self, verb: Callable[[Store], Any]) -> Any:
        """Perform a verb on both; return what they answered, or the type of what they raised."""
        answers = []
        for store in self.stores:
            try:
                answers.append(verb(store))
            except (RunExists, LeaseLost, StoreConflict) as error:
                answers.append(type(error))
        assert answers[0] == answers[1]
        return answers[0]

    def pick(self, data: st.DataObject, *statuses: RunStatus) -> tuple[str, ModelRun] | None:
        """Draw a run, of these states if any is named."""
        found = [run_id for run_id, run in self.runs.items() if not statuses or run.status in statuses]
        if not found:
            return None
        run_id = data.draw(st.sampled_from(sorted(found)))
        return run_id, self.runs[run_id]

    def pick_epoch(self, data: st.DataObject, run: ModelRun) -> int:
        """Draw the epoch under which somebody writes: mostly the current one, at times a zombie's."""
        return data.draw(st.sampled_from([run.epoch, run.epoch, run.epoch, max(1, run.epoch - 1)]))

    # --- submitting and claiming -----------------------------------------------------------------

    @initialize(data=st.data())
    def begin_with_some(self, data: st.DataObject) -> None:
        self._draw_and_submit(data, 6)

    @rule(data=st.data(), size=st.integers(1, 4))
    def submit(self, data: st.DataObject, size: int) -> None:
        self._draw_and_submit(data, size)

    def _draw_and_submit(self, data: st.DataObject, size: int) -> None:
        batch = []
        for _ in range(size):
            run_id = f"t{self.count:03}"
            if data.draw(st.integers(0, 19)) == 0 and not batch:
                run_id = data.draw(st.sampled_from(sorted(self.runs) or [run_id]))
            self.count += 1
            now = self.now
            delay = data.draw(st.sampled_from([None, None, None, 5 * SECOND, 20 * SECOND]))
            batch.append(
                task(
                    run_id,
                    now=now,
                    queue=data.draw(st.sampled_from(QUEUES)),
                    priority=data.draw(st.integers(0, 2)),
                    idempotency_key=data.draw(st.sampled_from(KEYS)),
                    inputs=data.draw(st.sampled_from(['{"n":1}', '{"n":2}'])),
                    available_at=None if delay is None else now + delay,
                    max_attempts=3,
                )
            )
        self._submit(batch)

    def _submit(self, batch: list[NewTask]) -> None:
        added: dict[str, ModelRun] = {}
        expected: Any = []
        for one in batch:
            known = {**self.runs, **added}
            owner_of_key = [
                run
                for run in known.values()
                if one.idempotency_key is not None
                and (run.task.queue, run.task.idempotency_key) == (one.queue, one.idempotency_key)
            ]
            if owner_of_key:
                first = owner_of_key[0].task
                is_same = (first.workflow, first.inputs) == (one.workflow, one.inputs)
                expected.append(Submitted(first.run_id, is_new=False, is_same=is_same))
            elif one.run_id in known:
                expected = RunExists
                added = {}
                break
            else:
                added[one.run_id] = ModelRun(one, available_at=one.available_at)
                expected.append(Submitted(one.run_id, is_new=True))
        self.runs |= added
        assert self.both(lambda store: store.submit_tasks(batch)) == expected

    @rule(queues=SOME_QUEUES, owner=SOME_OWNER, limit=st.integers(1, 4))
    def claim(self, queues: list[str], owner: str, limit: int) -> None:
        self._claim(queues, owner, limit)

    @rule(owner=SOME_OWNER)
    def claim_one(self, owner: str) -> None:
        self._claim(["default", "mail"], owner, 1)

    def _claim(self, queues: list[str], owner: str, limit: int) -> list[str]:
        now = self.now
        for run in self.runs.values():
            is_waiting = run.status in (RunStatus.PENDING, RunStatus.SUSPENDED) and run.available_at is not None
            if is_waiting and run.available_at is not None and run.available_at <= now:
                if run.status == RunStatus.SUSPENDED:
                    run.move("wake")
                run.available_at = None
        expected: list[tuple[str, int, int]] = []
        for queue in queues:
            ready = [
                run
                for run in self.runs.values()
                if (run.status, run.available_at, run.task.queue) == (RunStatus.PENDING, None, queue)
                and queue not in self.paused
            ]
            for run in sorted(ready, key=lambda run: run.order)[: limit - len(expected)]:
                run.move("claim")
                run.begin(owner, now)
                expected.append((run.task.run_id, run.epoch, run.attempt))
        found = self.both(
            lambda store: [
                (one.run.run_id, one.run.lease_epoch, one.run.attempt, one.payload.inputs)
                for one in store.claim_tasks(queues, owner=owner, now=now, lease=LEASE, limit=limit)
            ]
        )
        assert [one[:3] for one in found] == expected
        assert all(one[3] == self.runs[one[0]].task.inputs for one in found)
        return [run_id for run_id, _, _ in expected]

    # --- leases and time -------------------------------------------------------------------------

    @rule(steps=st.integers(1, 4))
    def time_passes(self, steps: int) -> None:
        self.hands.advance(steps * STEP)

    @rule(owner=SOME_OWNER)
    def heartbeat(self, owner: str) -> None:
        now = self.now
        expected = set()
        for run_id, run in self.runs.items():
            if run.status == RunStatus.RUNNING and run.owner == owner:
                run.until = now + LEASE
                expected.add((run_id, run.epoch))
        assert self.both(lambda store: store.heartbeat_owner(owner, now=now, lease=LEASE)) == expected

    @rule(steps=st.integers(0, 3), sparing=st.sampled_from(["", *OWNERS]))
    def leases_expire(self, steps: int, sparing: str) -> None:
        self.hands.advance(steps * STEP)
        now = self.now
        self._rescue(now, None, sparing, lambda run: (run.until or 0) < now and run.owner != sparing)

    @rule(owner=SOME_OWNER, completes=st.none() | st.sampled_from(LABELS))
    def a_worker_crashes(self, owner: str, completes: str | None) -> None:
        """A worker takes one more task, at times completes a step of it, and dies."""
        for run_id in self._claim(["default", "mail"], owner, 1):
            if completes is not None:
                self._complete_step(run_id, self.runs[run_id], self.runs[run_id].epoch, completes)
        self._rescue(self.now, owner, "", lambda run: run.owner == owner)

    def _rescue(self, now: int, owner_gone: str | None, sparing: str, is_meant: Callable[[ModelRun], bool]) -> None:
        expected = set()
        for run_id, run in self.runs.items():
            if run.status != RunStatus.RUNNING or not is_meant(run):
                continue
            run.rescues = 1 if run.completed.get(run.epoch) else run.rescues + 1
            is_over = run.rescues > MAX_RESCUES
            expected.add((run_id, run.owner, is_over))
            run.leave("cancelled", now, "WorkerDied")
            if is_over:
                run.move("fail")
                run.finished_at, run.error_type = now, "RescuesExhausted"
            else:
                run.move("rescue")
                run.available_at = None
        given: dict[str, Any] = {"now": now, "limit": 100, "max_rescues": MAX_RESCUES, "reason": DIED}
        found = self.both(
            lambda store: {tuple(one) for one in store.rescue_tasks(**given, owner_gone=owner_gone, sparing=sparing)}
        )
        assert found == expected

    # --- what the holder of a lease does ---------------------------------------------------------

    def _write(self, run_id: str, run: ModelRun, epoch: int, item: RunWrite) -> bool:
        """Apply a write; return whether it counted."""
        is_held = run.holds(epoch)
        expected = [None if is_held else LeaseLost]
        outcomes = self.both(lambda store: [outcome and type(outcome) for outcome in store.apply([item])])
        assert outcomes == expected
        if is_held:
            self.last_write = item
        return is_held

    @rule(data=st.data(), label=st.sampled_from(LABELS))
    def complete_step(self, data: st.DataObject, label: str) -> None:
        picked = self.pick(data, RunStatus.RUNNING) or self.pick(data)
        if picked is None or picked[1].epoch == 0:
            return
        self._complete_step(*picked, self.pick_epoch(data, picked[1]), label)

    def _complete_step(self, run_id: str, run: ModelRun, epoch: int, label: str) -> None:
        item = write(run_id, epoch, ends=[end(label, run_id, attempt=epoch, lease_epoch=epoch)])
        if self._write(run_id, run, epoch, item):
            run.completed.setdefault(epoch, set()).add(label)

    @rule(data=st.data(), is_good=st.booleans())
    def finish(self, data: st.DataObject, is_good: bool) -> None:
        picked = self.pick(data)
        if picked is None or picked[1].epoch == 0:
            return
        run_id, run = picked
        epoch, now = self.pick_epoch(data, run), self.now
        last = completed(now) if is_good else failed(now)
        if self._write(run_id, run, epoch, write(run_id, epoch, end=last)):
            run.move("complete" if is_good else "fail")
            run.leave(last.status.value, now, last.error_type)
            run.finished_at, run.error_type = now, last.error_type

    @rule(data=st.data(), delay=st.sampled_from([0, 5 * SECOND]))
    def retry(self, data: st.DataObject, delay: int) -> None:
        picked = self.pick(data, RunStatus.RUNNING, RunStatus.PENDING)
        if picked is None or picked[1].epoch == 0:
            return
        run_id, run = picked
        epoch, now = self.pick_epoch(data, run), self.now
        last = RunEnd(RunStatus.PENDING, now, "x", "ValueError", "no", outcome="retry", available_at=now + delay)
        if self._write(run_id, run, epoch, write(run_id, epoch, end=last)):
            run.move("retry")
            run.leave("failed", now, "ValueError")
            run.attempt += 1
            run.available_at, run.error_type = now + delay, "ValueError"

    @precondition(lambda self: self.last_write is not None)
    @rule()
    def repeat_the_last_write(self) -> None:
        """An answer was lost on the way: the same write comes again, whatever happened since."""
        item = self.last_write
        assert item is not None
        run = self.runs.get(item.run_id)
        if run is None:
            return
        if item.end is None:
            is_fine = run.holds(item.lease_epoch)
        else:
            claim = run.claims.get(item.lease_epoch)
            status = {"retry": "failed", "release": "cancelled"}.get(item.end.outcome or "", item.end.status.value)
            is_same = claim is not None and claim[2:] == (status, item.end.now, item.end.error_type)
            is_fine = is_same and run.epoch == item.lease_epoch and run.status == item.end.status
        outcomes = self.both(lambda store: [outcome and type(outcome) for outcome in store.apply([item])])
        assert outcomes == [None if is_fine else LeaseLost]

    @rule(data=st.data(), delay=st.sampled_from([None, 5 * SECOND]))
    def release(self, data: st.DataObject, delay: int | None) -> None:
        picked = self.pick(data, RunStatus.RUNNING)
        if picked is None:
            return
        run_id, run = picked
        epoch, now = self.pick_epoch(data, run), self.now
        is_held = run.holds(epoch)
        at = None if delay is None else now + delay
        given: dict[str, Any] = {"now": now, "available_at": at, "reason": ("Released", "stopped")}
        assert self.both(lambda store: store.release_task(run_id, epoch, **given)) == is_held
        if is_held:
            run.move("release")
            run.forget_put_backs("Released")
            run.leave("cancelled", now, "Released")
            run.available_at = at

    # --- cancelling and resuming -----------------------------------------------------------------

    @rule(data=st.data(), is_asked=st.booleans())
    def stop(self, data: st.DataObject, is_asked: bool) -> None:
        if is_asked:
            self._request_cancel(data)
        else:
            self._cancel(data)

    def _request_cancel(self, data: st.DataObject) -> None:
        picked = self.pick(data)
        if picked is None:
            return
        run_id, run = picked
        now = self.now
        is_open = run.status not in TERMINAL_RUN
        if is_open:
            run.cancel_requested_at = run.cancel_requested_at or now
        assert self.both(lambda store: store.request_cancel(run_id, now)) == is_open

    def _cancel(self, data: st.DataObject) -> None:
        picked = self.pick(data, RunStatus.PENDING, RunStatus.SUSPENDED)
        if picked is None:
            return
        run_id, run = picked
        now = self.now
        assert self.both(lambda store: store.cancel_unowned(_get(store, run_id), now, ("RunCancelled", "asked")))
        run.move("cancel")
        run.epoch += 1
        run.finished_at, run.error_type = now, "RunCancelled"
        run.cancel_requested_at = run.cancel_requested_at or now

    @rule(data=st.data(), owner=SOME_OWNER)
    def resume(self, data: st.DataObject, owner: str) -> None:
        picked = self.pick(data, RunStatus.FAILED, RunStatus.CANCELLED)
        if picked is None:
            return
        run_id, run = picked
        now = self.now
        run.move("resume")
        run.attempt += 1
        run.begin(owner, now)
        run.rescues = 0
        run.finished_at = run.cancel_requested_at = run.error_type = None
        given: dict[str, Any] = {"owner": owner, "now": now, "lease_until": now + LEASE, "target": None}
        found = self.both(
            lambda store: store.claim_run(_get(store, run_id), **given, attempt=run.attempt, reason=DIED).lease_epoch
        )
        assert found == run.epoch

    # --- waiting ---------------------------------------------------------------------------------

    @rule(
        data=st.data(), event=st.sampled_from([None, *EVENTS]), delay=st.sampled_from([None, 5 * SECOND, 40 * SECOND])
    )
    def register_wait(self, data: st.DataObject, event: str | None, delay: int | None) -> None:
        picked = self.pick(data, RunStatus.RUNNING)
        if picked is not None and (event is not None or delay is not None):
            self._register(picked, self.pick_epoch(data, picked[1]), event, delay)

    def _register(self, picked: tuple[str, ModelRun], epoch: int, event: str | None, delay: int | None) -> None:
        run_id, run = picked
        now = self.now
        wake_at = None if delay is None else now + delay
        label = event or "sleep"
        kind = "sleep" if event is None else "event"
        asked = NewWait(run_id, epoch, label, kind, None if event is None else "default", event, wake_at)
        # Who asks under a stale epoch is refused, unless the wait is there: then it is told what it is.
        if run.holds(epoch):
            known = run.waits.setdefault(label, ModelWait(label, event, wake_at))
        else:
            known = run.waits.get(label)  # type: ignore[assignment]
        if known is not None and known.outcome is None and event in self.events:
            known.outcome, known.payload = "emitted", self.events[event][0]
        expected = LeaseLost if known is None else [(known.label, known.wake_at, known.outcome, known.payload)]

        def register(store: Store) -> Any:
            return [(w.label, w.wake_at, w.outcome, w.payload) for w in store.register_waits([asked], now)]

        assert self.both(register) == expected

    @rule(data=st.data(), is_late=st.sampled_from([False, False, True]))
    def suspend(self, data: st.DataObject, is_late: bool) -> None:
        picked = self.pick(data, RunStatus.RUNNING)
        if picked is not None:
            # What it last saw may be out of date.
            self._suspend(picked, self.pick_epoch(data, picked[1]), max(0, picked[1].resolved - is_late))

    def _suspend(self, picked: tuple[str, ModelRun], epoch: int, seen: int) -> None:
        run_id, run = picked
        now = self.now
        is_held = run.holds(epoch)
        assert self.both(lambda store: store.suspend_run(run_id, epoch, seen=seen, now=now)) == (
            None if is_held else LeaseLost
        )
        if is_held:
            run.move("suspend")
            run.leave("suspended", now)
            open_times = [w.wake_at for w in run.waits.values() if w.outcome is None and w.wake_at is not None]
            run.available_at = now if run.resolved > seen else min(open_times, default=None)

    @rule(data=st.data(), event=st.sampled_from([None, *EVENTS]))
    def wait_and_suspend(self, data: st.DataObject, event: str | None) -> None:
        picked = self.pick(data, RunStatus.RUNNING)
        if picked is not None:
            self._register(picked, picked[1].epoch, event, 5 * SECOND if event is None else None)
            self._suspend(picked, picked[1].epoch, picked[1].resolved)

    @rule(event=st.sampled_from(EVENTS), payload=st.sampled_from(["1", "2"]))
    def emit(self, event: str, payload: str) -> None:
        now = self.now
        is_first = event not in self.events
        if is_first:
            self.events[event] = (payload, now)
            for run in self.runs.values():
                for one in run.waits.values():
                    if one.event == event and one.outcome is None:
                        one.outcome, one.payload = "emitted", payload
                        if run.status == RunStatus.SUSPENDED:
                            run.available_at = now
        assert self.both(lambda store: store.emit_event("default", event, payload, now)) == is_first

    @rule(data=st.data())
    def look_at_waits(self, data: st.DataObject) -> None:
        picked = self.pick(data)
        if picked is None:
            return
        run_id, run = picked
        now = self.now
        for one in run.waits.values():
            if one.outcome is None and one.wake_at is not None and one.wake_at <= now:
                one.outcome = "woken" if one.event is None else "timed_out"
        found = self.both(
            lambda store: sorted((w.label, w.outcome or "", w.payload) for w in store.resolve_due_waits(run_id, now))
        )
        assert found == sorted((w.label, w.outcome or "", w.payload) for w in run.waits.values())

    # --- queues and retention --------------------------------------------------------------------

    @rule(queue=st.sampled_from(QUEUES), is_paused=st.sampled_from([True, False, False]))
    def pause_or_go_on(self, queue: str, is_paused: bool) -> None:
        now = self.now
        if is_paused:
            self.paused.add(queue)
            assert self.both(lambda store: store.pause_queue(queue, now)) is None
        else:
            assert self.both(lambda store: store.resume_queue(queue)) == (queue in self.paused)
            self.paused.discard(queue)

    @rule(age=st.integers(0, 3), limit=st.integers(1, 3))
    def collect(self, age: int, limit: int) -> None:
        self._collect_runs(age, limit)
        self._collect_events(age)

    def _collect_runs(self, age: int, limit: int) -> None:
        before = self.now - age * STEP
        old = sorted(
            (run.finished_at, run_id)
            for run_id, run in self.runs.items()
            if run.finished_at is not None and run.finished_at < before
        )[:limit]
        assert self.both(lambda store: store.delete_runs(before, limit)) == len(old)
        for _, run_id in old:
            del self.runs[run_id]

    def _collect_events(self, age: int) -> None:
        before = self.now - age * STEP
        unfinished = [run.task.now for run in self.runs.values() if run.status not in TERMINAL_RUN]
        limit = min([before, *unfinished])
        old = [name for name, (_, at) in self.events.items() if at < limit]
        assert self.both(lambda store: store.delete_events(before)) == len(old)
        for name in old:
            del self.events[name]

    # --- what must hold --------------------------------------------------------------------------

    @invariant()
    def all_three_agree_on_every_run(self) -> None:
        sqlite, postgres = [
            {run.run_id: run for run in store.list_runs(RunFilter(limit=1000))} for store in self.stores
        ]
        assert set(sqlite) == set(postgres) == set(self.runs)
        for run_id, run in self.runs.items():
            expected = _expect(run)
            assert _show(sqlite[run_id]) == _show(postgres[run_id]) == expected
            assert sqlite[run_id].lease_until == run.until
            found = postgres[run_id].lease_until
            assert (found is None) == (run.until is None)
            assert run.until is None or abs((found or 0) - run.until) < SLACK

    @rule()
    def all_three_agree_on_claims_queues_and_what_is_due(self) -> None:
        for run_id, run in self.runs.items():
            claims = self.both(lambda store, run_id=run_id: [_claim(a) for a in store.list_attempts(run_id)])
            assert claims == [(epoch, *claim) for epoch, claim in sorted(run.claims.items())]
        waiting = [
            run.available_at
            for run in self.runs.values()
            if run.status in (RunStatus.PENDING, RunStatus.SUSPENDED) and run.available_at is not None
        ]
        assert self.both(lambda store: store.next_due()) == min(waiting, default=None)
        queues = self.both(lambda store: store.list_queues())
        for queue in queues:
            mine = [run for run in self.runs.values() if run.task.queue == queue.name]
            for status in (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.SUSPENDED):
                assert getattr(queue, status.value) == sum(run.status == status for run in mine)
            assert (queue.paused_at is not None) == (queue.name in self.paused)

    def teardown(self) -> None:
        for store in self.stores:
            problems = {problem.code for problem in store.check()}
            # No driver completes a run whose steps are open, nor a step under two epochs: this program may.
            assert problems <= {"completed_twice", "unfinished_step", "time_runs_back"}


def _get(store: Store, run_id: str) -> Run:
    run = store.get_run(run_id)
    assert run is not None
    return run


def _show(run: Run) -> tuple[Any, ...]:
    return (
        run.status,
        run.queue,
        run.priority,
        run.available_at,
        run.lease_owner,
        run.lease_epoch,
        run.attempt,
        run.rescues,
        run.started_at,
        run.finished_at,
        run.cancel_requested_at,
        run.error_type,
    )


def _expect(run: ModelRun) -> tuple[Any, ...]:
    return (
        run.status,
        run.task.queue,
        run.task.priority,
        run.available_at,
        run.owner,
        run.epoch,
        run.attempt,
        run.rescues,
        run.started_at,
        run.finished_at,
        run.cancel_requested_at,
        run.error_type,
    )


def _claim(attempt: Attempt) -> tuple[Any, ...]:
    return (
        attempt.lease_epoch,
        attempt.attempt,
        attempt.owner,
        attempt.status,
        attempt.finished_at,
        attempt.error_type,
    )


# --- the databases -------------------------------------------------------------------------------

_server: list[PostgresStore] = []


def _open_stores() -> list[Store]:
    """Return an empty ledger in memory, and the one on the server, emptied."""
    if not _server:
        _server.append(PostgresStore(new_schema(server_url())))
    store = _server[0]
    with store._borrow() as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_name <> %s",
            [store._address.schema, "schema_migrations"],
        ).fetchall()
        for (table,) in tables:  # there are few rows: TRUNCATE would take longer
            connection.execute(f'ALTER TABLE "{store._address.schema}"."{table}" DISABLE TRIGGER ALL')
            connection.execute(f'DELETE FROM "{store._address.schema}"."{table}"')
    return [SQLiteStore(":memory:"), store]


@contextlib.contextmanager
def _closing_server() -> Iterator[None]:
    try:
        yield
    finally:
        while _server:
            _server.pop().close()


def test_both_databases_and_the_model_agree_on_every_program() -> None:
    with _closing_server():
        run_state_machine_as_test(
            QueueMachine,
            settings=settings(
                max_examples=60 if os.environ.get("MILEPOST_CHAOS") != "full" else 1500,
                stateful_step_count=80,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
