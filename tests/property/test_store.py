"""Any order of a store's verbs, by several processes at once, against a model of a run's state.

The model is the state machine of runs and steps and the fence, written down without a database: who
holds which epoch, and what that lets them change. Each verb goes to one of two stores that are open
on the same ledger, as two processes would have it. What a process read may be out of date when it
acts on it; what it writes may be stale, repeated, poisoned, or share its transaction with others.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule
from postgres import new_schema, server_url
from rows import LEASE, NOW, checkpoint, edge, end, failure, new_run, progress, start, write

from milepost.errors import LeaseLost, RunExists, StoreConflict, StoreError
from milepost.model import Run
from milepost.states import TERMINAL_RUN, RunStatus, StepStatus, next_run_status, next_step_status
from milepost.store import NewRun, RunEnd, RunFilter, RunWrite, Store, Write
from milepost.stores.postgres import PostgresStore
from milepost.stores.sqlite import SQLiteStore

RUN_IDS = ["a", "b", "c", "d"]
LABELS = ["x", "y", "m[0]"]
OWNERS = ["1@here#0-1", "2@here#0-1", "3@there#1-1"]
ENDS = {RunStatus.COMPLETED: "complete", RunStatus.FAILED: "fail", RunStatus.CANCELLED: "cancel"}


@dataclass
class ModelStep:
    """One attempt of a step."""

    status: StepStatus
    epoch: int
    output: str | None = None
    progress: int | None = None

    def move(self, verb: str) -> None:
        after = next_step_status(self.status, verb)
        assert after is not None
        self.status = after


@dataclass
class ModelRun:
    """One run and all that belongs to it."""

    new: NewRun
    status: RunStatus = RunStatus.RUNNING
    epoch: int = 1
    attempt: int = 1
    owner: str | None = None
    lease_until: int | None = None
    finished_at: int | None = None
    cancel_requested_at: int | None = None
    error_type: str | None = None
    claims: list[tuple[int, int, str, str]] = field(default_factory=list)
    steps: dict[tuple[str, int], ModelStep] = field(default_factory=dict)
    edges: set[tuple[str, str]] = field(default_factory=set)
    checkpoints: dict[tuple[str, str], str] = field(default_factory=dict)
    last: RunEnd | None = None

    def move(self, verb: str) -> None:
        after = next_run_status(self.status, verb)
        assert after is not None, (self.status, verb)
        self.status = after

    def close(self, status: str, now: int) -> None:
        """Close the open claim and, unless the run completed, its open steps."""
        self.claims = [(*c[:3], status if c[3] == "running" else c[3]) for c in self.claims]
        if status != "completed":
            for step in self.steps.values():
                if step.status == StepStatus.RUNNING:
                    step.move("cancel")

    def finish(self, status: RunStatus, now: int, error_type: str | None) -> None:
        self.move(ENDS[status])
        self.owner = self.lease_until = None
        self.finished_at = now
        self.error_type = error_type
        self.close(status.value, now)


class Model:
    """Every run of the ledger."""

    def __init__(self) -> None:
        self.runs: dict[str, ModelRun] = {}

    def apply(self, batch: list[Write]) -> list[type[Exception] | None]:
        """Apply what shares a transaction: rows of steps first, then the rest in order.

        Where one write is poisoned, each gets a transaction of its own.
        """
        before = deepcopy(self.runs)
        outcomes = self._apply_together(batch)
        if StoreError in outcomes and len(batch) > 1:
            self.runs = before
            return [self._apply_together([item])[0] for item in batch]
        return outcomes

    def _apply_together(self, batch: list[Write]) -> list[type[Exception] | None]:
        outcomes: list[type[Exception] | None] = []
        accepted: list[tuple[ModelRun, RunWrite]] = []
        ended: set[tuple[str, int]] = set()
        for item in batch:
            if isinstance(item, NewRun):
                outcomes.append(self._begin(item))
                continue
            run = self.runs.get(item.run_id)
            key = item.run_id, item.lease_epoch
            is_repeated = run is not None and item.end is not None and item.end == run.last
            if run is not None and run.epoch == item.lease_epoch and is_repeated:
                outcomes.append(None)  # the write that ended it, once more
            elif run is None or key in ended or run.status != RunStatus.RUNNING or run.epoch != item.lease_epoch:
                outcomes.append(LeaseLost)
            elif any(row.status == "poison" for row in (*item.starts, *item.ends)):
                outcomes.append(StoreError)
            else:
                outcomes.append(None)
                accepted.append((run, item))
                if item.end is not None:
                    ended.add(key)
                    run.last = item.end
        for run, item in accepted:
            for row in item.starts:
                run.steps.setdefault((row.label, row.attempt), ModelStep(StepStatus.RUNNING, row.lease_epoch))
        for run, item in accepted:
            for row in item.ends:
                step = run.steps.setdefault((row.label, row.attempt), ModelStep(StepStatus.RUNNING, row.lease_epoch))
                if step.status == StepStatus.RUNNING and step.epoch == row.lease_epoch:
                    step.move("complete" if row.status == "completed" else "fail")
                    step.output = row.output
        for run, item in accepted:
            self._write_rest(run, item)
        return outcomes

    def _begin(self, new: NewRun) -> type[Exception] | None:
        run = self.runs.get(new.run_id)
        if run is not None:
            untouched = run.new == new and run.epoch == 1 and run.status == RunStatus.RUNNING
            return None if untouched else RunExists
        if new.parent_run_id is not None and new.parent_run_id not in self.runs:
            return StoreError
        claims = [(1, 1, new.owner, "running")]
        self.runs[new.run_id] = ModelRun(new, owner=new.owner, lease_until=new.lease_until, claims=claims)
        return None

    def _write_rest(self, run: ModelRun, item: RunWrite) -> None:
        run.edges |= {(row.upstream, row.downstream) for row in item.edges}
        for said in item.progress:
            step = run.steps.get((said.label, said.attempt), ModelStep(StepStatus.FAILED, 0))
            if step.status == StepStatus.RUNNING and step.epoch == said.lease_epoch:
                step.progress = said.progress_done
        run.checkpoints |= {(row.label, row.name): row.value for row in item.checkpoints}
        if item.end is not None:
            run.finish(item.end.status, item.end.now, item.end.error_type)

    def family(self, run_id: str) -> set[str]:
        """Return a run and all its descendants."""
        found = {run_id}
        while more := {r for r, run in self.runs.items() if run.new.parent_run_id in found} - found:
            found |= more
        return found

    def expired(self, before: int) -> list[str]:
        """Return the tops that may be deleted, oldest first."""
        tops = [
            (run.finished_at, run_id)
            for run_id, run in self.runs.items()
            if run.finished_at is not None
            and run.finished_at < before
            and run.new.parent_run_id is None
            and all(self.runs[one].finished_at is not None for one in self.family(run_id))
        ]
        return [run_id for _, run_id in sorted(tops)]


def _see(store: Store, run_id: str) -> ModelRun | None:
    """Return what the store tells of a run in the shape of the model."""
    run = store.get_run(run_id)
    if run is None:
        return None
    seen = ModelRun(new_run(), run.status, run.lease_epoch, run.attempt, run.lease_owner, run.lease_until)
    seen.finished_at = run.finished_at
    seen.cancel_requested_at = run.cancel_requested_at
    seen.error_type = run.error_type
    seen.claims = [(a.lease_epoch, a.attempt, a.owner, a.status) for a in store.list_attempts(run_id)]
    for label in dict.fromkeys(step.label for step in store.list_steps(run_id)):
        for a in store.get_step(run_id, label):
            seen.steps[label, a.attempt] = ModelStep(a.status, a.lease_epoch, a.output, a.progress_done)
    seen.edges = {(e.upstream, e.downstream) for e in store.list_edges(run_id)}
    seen.checkpoints = {(c.label, c.name): c.value for c in store.list_checkpoints(run_id)}
    return seen


class StoreMachine(RuleBasedStateMachine):
    """Perform verbs on a store and on the model, and compare. A database joins by :meth:`open_stores`."""

    seen = Bundle("seen")
    done = Bundle("done")

    def open_stores(self) -> list[Store]:
        """Return two stores on one new ledger."""
        raise NotImplementedError

    def close_stores(self) -> None:
        """Close what was opened and take the ledger away."""
        for store in self.stores:
            store.close()

    def __init__(self) -> None:
        super().__init__()
        self.stores = self.open_stores()
        self.model = Model()
        self.times = itertools.count(NOW, 1000)
        self.outputs = itertools.count()

    @property
    def now(self) -> int:
        return next(self.times)

    # --- what processes do --------------------------------------------------------------------

    @initialize()
    def begin_first(self) -> None:
        self._apply(self.stores[0], [new_run("a", now=self.now)])

    @rule(
        target=done,
        at=st.integers(0, 1),
        run_id=st.sampled_from(RUN_IDS),
        owner=st.sampled_from(OWNERS),
        parent=st.none() | st.sampled_from(RUN_IDS),
    )
    def begin(self, at: int, run_id: str, owner: str, parent: str | None) -> Any:
        root = self.model.runs[parent].new.root_run_id or parent if parent in self.model.runs else parent
        now = self.now
        new = new_run(
            run_id, owner=owner, now=now, lease_until=now + LEASE, parent_run_id=parent, root_run_id=root or run_id
        )
        self._apply(self.stores[at], [new])
        return [new]

    @rule(target=seen, at=st.integers(0, 1), run_id=st.sampled_from(RUN_IDS))
    def look(self, at: int, run_id: str) -> Any:
        run = self.stores[at].get_run(run_id)
        return multiple() if run is None else run

    @rule(target=seen, at=st.integers(0, 1), run=seen, owner=st.sampled_from(OWNERS))
    def claim(self, at: int, run: Run, owner: str) -> Any:
        model = self.model.runs.get(run.run_id)
        if run.status == RunStatus.COMPLETED:
            return multiple()  # nobody resumes what is completed
        is_stopped = run.status in TERMINAL_RUN
        attempt = run.attempt + is_stopped
        now = self.now
        try:
            claimed = self.stores[at].claim_run(
                run,
                owner=owner,
                now=now,
                lease_until=now + LEASE,
                attempt=attempt,
                target=None,
                reason=("Died", "it is gone"),
            )
        except StoreConflict:
            assert model is None or (model.status, model.epoch) != (run.status, run.lease_epoch)
            return multiple()
        assert model is not None
        assert (model.status, model.epoch) == (run.status, run.lease_epoch)
        model.close("cancelled", now)
        model.move("resume")
        model.epoch += 1
        model.attempt = attempt
        model.owner, model.lease_until = owner, now + LEASE
        model.finished_at = model.cancel_requested_at = model.error_type = None
        model.claims.append((model.epoch, attempt, owner, "running"))
        return claimed

    @rule(
        at=st.integers(0, 1),
        owner=st.sampled_from(OWNERS),
        leases=st.lists(st.tuples(st.sampled_from(RUN_IDS), st.integers(1, 4)), max_size=6, unique=True),
    )
    def heartbeat(self, at: int, owner: str, leases: list[tuple[str, int]]) -> None:
        now = self.now
        expected = set()
        for run_id, epoch in leases:
            run = self.model.runs.get(run_id)
            if run is not None and (run.status, run.epoch, run.owner) == (RunStatus.RUNNING, epoch, owner):
                run.lease_until = now + LEASE
            else:
                expected.add((run_id, epoch))
        assert self.stores[at].heartbeat(owner, leases, now=now, lease=LEASE) == expected

    @rule(at=st.integers(0, 1), run_id=st.sampled_from(RUN_IDS))
    def request_cancel(self, at: int, run_id: str) -> None:
        now = self.now
        run = self.model.runs.get(run_id)
        is_open = run is not None and run.status not in TERMINAL_RUN
        if run is not None and is_open:
            run.cancel_requested_at = run.cancel_requested_at or now
        assert self.stores[at].request_cancel(run_id, now) == is_open

    @rule(at=st.integers(0, 1), run=seen)
    def cancel_unowned(self, at: int, run: Run) -> None:
        now = self.now
        model = self.model.runs.get(run.run_id)
        is_same = model is not None and model.epoch == run.lease_epoch and model.status not in TERMINAL_RUN
        assert self.stores[at].cancel_unowned(run, now, ("RunCancelled", "on request")) == is_same
        if model is not None and is_same:
            model.finish(RunStatus.CANCELLED, now, "RunCancelled")
            model.epoch += 1
            model.cancel_requested_at = model.cancel_requested_at or now

    @rule(at=st.integers(0, 1), age=st.integers(0, 12), limit=st.integers(1, 3))
    def delete_runs(self, at: int, age: int, limit: int) -> None:
        before = self.now - age * 1000
        expired = self.model.expired(before)[:limit]
        assert self.stores[at].delete_runs(before, limit) == len(expired)
        for run_id in expired:
            for member in self.model.family(run_id):
                del self.model.runs[member]

    # --- what drivers write --------------------------------------------------------------------

    @rule(target=done, at=st.integers(0, 1), data=st.data(), size=st.integers(1, 4))
    def write(self, at: int, data: st.DataObject, size: int) -> Any:
        batch: list[Write] = [self._draw_write(data) for _ in range(size)]
        self._apply(self.stores[at], batch)
        return batch

    @rule(at=st.integers(0, 1), batches=st.lists(done, min_size=1, max_size=2))
    def repeat(self, at: int, batches: list[list[Write]]) -> None:
        again = [item for batch in batches for item in batch if self._may_repeat(item)]
        # Whoever writes to a run has seen it begin: no run begins in a batch after writes to it.
        self._apply(self.stores[at], sorted(again, key=lambda item: not isinstance(item, NewRun)))

    def _draw_write(self, data: st.DataObject) -> RunWrite:
        run_id = data.draw(st.sampled_from(RUN_IDS))
        run = self.model.runs.get(run_id)
        current = run.epoch if run is not None else 1
        epoch = data.draw(st.sampled_from([current, current, current, max(1, current - 1), current + 1]))
        last = {label: max((a for la, a in run.steps if la == label), default=0) for label in LABELS} if run else {}
        parts: dict[str, list[Any]] = {"starts": [], "ends": [], "edges": [], "progress": [], "checkpoints": []}
        for _ in range(data.draw(st.integers(0, 3))):
            label = data.draw(st.sampled_from(LABELS))
            attempt = last.get(label, 0) + data.draw(st.integers(0, 1)) or 1
            common: dict[str, Any] = {"run_id": run_id, "attempt": attempt, "lease_epoch": epoch}
            kind = data.draw(st.sampled_from(["starts", "ends", "ends", "fails", "edges", "progress", "checkpoints"]))
            if kind == "starts":
                parts[kind].append(start(label, **common))
            elif kind == "ends":
                parts[kind].append(end(label, output=str(next(self.outputs)), **common))
            elif kind == "fails":
                parts["ends"].append(failure(label, **common))
            elif kind == "edges":
                parts[kind].append(edge(data.draw(st.sampled_from(LABELS)), label, run_id))
            elif kind == "progress":
                parts[kind].append(progress(label, progress_done=next(self.outputs), **common))
            else:
                parts[kind].append(checkpoint("saved", str(next(self.outputs)), run_id, label, epoch))
        ended = None
        if data.draw(st.integers(0, 4)) == 0:
            status = data.draw(st.sampled_from(list(ENDS)))
            error = None if status == RunStatus.COMPLETED else "ValueError"
            ended = RunEnd(status, self.now, None, error, error)
        if data.draw(st.integers(0, 9)) == 0:
            parts["ends"].append(end("poisoned", status="poison", run_id=run_id, lease_epoch=epoch))
        return write(run_id, epoch, **{name: _first_of_each(rows) for name, rows in parts.items()}, end=ended)

    def _may_repeat(self, item: Write) -> bool:
        # A driver repeats what was interrupted, at once: not a write after which others already wrote.
        if isinstance(item, NewRun) or item.end is not None:
            return True
        run = self.model.runs.get(item.run_id)
        return run is None or run.epoch != item.lease_epoch or not item.checkpoints

    def _apply(self, store: Store, batch: list[Write]) -> None:
        expected = self.model.apply(batch)
        outcomes = store.apply(batch)
        assert [None if outcome is None else type(outcome) for outcome in outcomes] == expected, outcomes

    # --- what must hold ------------------------------------------------------------------------

    @rule(at=st.integers(0, 1))
    def compare_lists(self, at: int) -> None:
        store = self.stores[at]
        runs = self.model.runs
        newest = sorted(runs, key=lambda run_id: (runs[run_id].new.now, run_id), reverse=True)
        assert [run.run_id for run in store.list_runs(RunFilter())] == newest
        for status in RunStatus:
            listed = [run.run_id for run in store.list_runs(RunFilter(status=status))]
            assert listed == [run_id for run_id in newest if runs[run_id].status == status]
        running = {run_id for run_id, run in runs.items() if run.status == RunStatus.RUNNING}
        assert {run.run_id for run in store.list_running()} == running
        for owner in OWNERS:
            asked = {
                (run_id, run.epoch, True)
                for run_id, run in runs.items()
                if run_id in running and run.owner == owner and run.cancel_requested_at is not None
            }
            assert set(store.list_stop_requests(owner)) == asked

    @precondition(lambda self: self.stores)
    @invariant()
    def agrees_with_the_model(self) -> None:
        for run_id in RUN_IDS:
            expected = self.model.runs.get(run_id)
            found = _see(self.stores[0], run_id)
            if expected is None or found is None:
                assert found is expected
                continue
            found.new, found.last = expected.new, expected.last
            if self.stores[0].is_shared and found.lease_until is not None:
                found.lease_until = expected.lease_until  # there, leases follow the server's clock
            assert found == expected

    def teardown(self) -> None:
        try:
            problems = [p for p in self.stores[0].check() if p.code not in ("unfinished_step", "loose_edge")]
            # A driver never completes a run with unfinished steps, nor writes edges of steps that are not there.
            assert [p for p in problems if not self._is_expected(p.code)] == []
            assert self.stores[1].list_runs(RunFilter()) == self.stores[0].list_runs(RunFilter())
        finally:
            self.close_stores()

    def _is_expected(self, code: str) -> bool:
        """Return whether random writes, which no driver makes, explain a finding."""
        runs = self.model.runs.values()
        if code == "open_step":
            return any(
                run.status == RunStatus.COMPLETED and step.status == StepStatus.RUNNING
                for run in runs
                for step in run.steps.values()
            )
        if code == "completed_twice":
            return any(_completions(run, label) > 1 for run in runs for label in LABELS)
        return False


def _first_of_each(rows: Iterable[Any]) -> list[Any]:
    """Return the first row of each attempt: a driver writes none twice in one write."""
    return list({(row[1], row[2]) if len(row) > 6 else row[1:3]: row for row in reversed(list(rows))}.values())


def _completions(run: ModelRun, label: str) -> int:
    return sum(la == label and step.status == StepStatus.COMPLETED for (la, _), step in run.steps.items())


class SQLiteFileMachine(StoreMachine):
    """The store in a file, opened twice."""

    def open_stores(self) -> list[Store]:
        self.folder = Path(tempfile.mkdtemp(prefix="milepost-property-"))
        return [SQLiteStore(str(self.folder / "runs.db"), durability="process") for _ in range(2)]

    def close_stores(self) -> None:
        super().close_stores()
        shutil.rmtree(self.folder)


class PostgresMachine(StoreMachine):
    """The store on a server, opened twice."""

    def open_stores(self) -> list[Store]:
        url = new_schema(server_url())
        return [PostgresStore(url) for _ in range(2)]


_SETTINGS = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestSQLiteFile = SQLiteFileMachine.TestCase
TestSQLiteFile.settings = _SETTINGS
TestPostgres = PostgresMachine.TestCase
TestPostgres.settings = settings(_SETTINGS, max_examples=25, stateful_step_count=30)
