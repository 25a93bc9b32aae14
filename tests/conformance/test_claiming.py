"""Tasks are claimed, kept, given back, tried again: in which order, by whom, and under which epoch."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Callable

import pytest
from rows import LEASE, NOW, OWNER, completed, edge, end, failure, lease_end, new_run, start, write
from tasks import DIED, OTHER, SECOND, claim, claimed_ids, get, ids, in_parallel, started, submit, task

from milepost.errors import LeaseLost
from milepost.model import Attempt
from milepost.states import RunStatus
from milepost.store import ClaimedTask, RunEnd, Store

RELEASED = ("Released", "the worker was stopped")


def released(now: int = NOW + 9, at: int | None = None) -> RunEnd:
    return RunEnd(RunStatus.PENDING, now, None, *RELEASED, outcome="release", available_at=at)


def retried(now: int = NOW + 9, at: int | None = NOW + SECOND) -> RunEnd:
    return RunEnd(RunStatus.PENDING, now, "step", "ValueError", "no", "Traceback", outcome="retry", available_at=at)


# --- claiming ----------------------------------------------------------------------------------


def test_a_claim_leases_the_run_and_brings_what_it_takes_to_execute_it(store: Store) -> None:
    submit(store, task(inputs='{"n":1}', target="file.py:dag", max_attempts=3))
    (one,) = claim(store, now=NOW + 5)
    assert isinstance(one, ClaimedTask)
    assert one.run == get(store)
    assert one.payload == store.get_run_payload("task")
    assert dataclasses.replace(one.run, lease_until=lease_end(store, one.run.lease_until, LEASE)).lease_until in (
        NOW + LEASE,
        NOW + 5 + LEASE,
    )
    run = one.run
    assert (run.status, run.lease_owner, run.lease_epoch, run.attempt) == (RunStatus.RUNNING, OWNER, 1, 1)
    assert (run.started_at, run.available_at, run.rescues) == (NOW + 5, None, 0)
    assert store.list_attempts("task") == [Attempt("task", 1, 1, OWNER, "running", NOW + 5, None, None, None)]
    assert store.list_owned(OWNER) == [run]
    assert store.list_owners() == [OWNER]
    assert store.check() == []


def test_the_lower_priority_goes_first_and_among_equals_the_older(store: Store) -> None:
    order = [("e", 5, 0), ("z", 0, 1), ("b", 0, 2), ("a", 0, 3), ("d", 1, 0), ("c", -1, 9), ("y", 0, 0)]
    for run_id, priority, age in order:
        submit(store, task(run_id, priority=priority, now=NOW + age))
    assert claimed_ids(store, now=NOW + 9) == ["c", "y", "z", "b", "a", "d", "e"]


def test_claims_one_by_one_come_in_the_same_order(store: Store) -> None:
    submit(store, *[task(f"t{n}", priority=n % 3, now=NOW + n) for n in range(9)])
    order = [run_id for _ in range(10) for run_id in claimed_ids(store, limit=1)]
    assert order == ["t0", "t3", "t6", "t1", "t4", "t7", "t2", "t5", "t8"]


def test_a_claim_takes_no_more_than_its_limit_and_earlier_queues_go_first(store: Store) -> None:
    submit(store, *[task(f"a{n}", queue="a") for n in range(3)], *[task(f"b{n}", queue="b") for n in range(3)])
    assert claimed_ids(store, "b", "a", limit=4) == ["b0", "b1", "b2", "a0"]
    assert claimed_ids(store, "b", "a", limit=4) == ["a1", "a2"]


def test_a_queue_that_nobody_used_gives_nothing_and_is_not_made_by_asking(store: Store) -> None:
    submit(store, task())
    assert claimed_ids(store, "nobody", "used-this") == []
    assert ids(claimed.run for claimed in claim(store, "nobody", "default")) == ["task"]
    assert [queue.name for queue in store.list_queues()] == ["default"]


def test_a_run_that_was_started_directly_is_no_task(store: Store) -> None:
    assert store.apply([new_run("direct")]) == [None]
    assert claimed_ids(store) == []
    assert store.list_owners() == []
    assert ids(store.list_owned(OWNER)) == ["direct"]


def test_a_finished_or_cancelled_task_is_not_claimed(store: Store) -> None:
    submit(store, task("done"), task("cancelled"))
    for one in claim(store, limit=1):
        assert store.apply([write(one.run.run_id, 1, end=completed())]) == [None]
    other = "cancelled" if get(store, "done").finished_at else "done"
    assert store.cancel_unowned(get(store, other), NOW, ("RunCancelled", "on request"))
    assert claimed_ids(store, now=NOW + 99) == []


def test_of_a_flood_of_due_tasks_each_is_claimed_in_time(store: Store) -> None:
    submit(store, *[task(f"t{n:04}", available_at=NOW + 1 + n % 7) for n in range(1200)])
    found: list[str] = []
    while more := claimed_ids(store, now=NOW + 10, limit=500):
        found += more
    assert sorted(found) == [f"t{n:04}" for n in range(1200)]


def test_threads_of_two_stores_claim_each_task_once(two_stores: tuple[Store, Store]) -> None:
    submit(two_stores[0], *[task(f"t{n:03}") for n in range(200)])

    def work(n: int) -> list[str]:
        found: list[str] = []
        misses = 0
        while misses < 3:
            more = claimed_ids(two_stores[n % 2], owner=f"{n}@x#0-1", limit=7)
            found += more
            misses += not more
        return found

    outcomes = in_parallel(*[lambda n=n: work(n) for n in range(8)])
    assert Counter(run_id for outcome in outcomes for run_id in outcome) == Counter(f"t{n:03}" for n in range(200))
    assert {run.lease_epoch for run in two_stores[0].list_running()} == {1}
    for n, outcome in enumerate(outcomes):
        assert sorted(ids(two_stores[1].list_owned(f"{n}@x#0-1"))) == sorted(outcome)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_processes_claim_each_task_once(shared_backend: object) -> None:
    open_store: Callable[[], Store] = shared_backend.open_store  # type: ignore[attr-defined]
    store = open_store()
    submit(store, *[task(f"t{n:03}") for n in range(120)])
    store.close()
    children = []
    for n in range(4):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                own = open_store()
                while found := claimed_ids(own, owner=f"{n}@x#0-1", limit=5):
                    os.write(writer, "".join(f"{run_id}\n" for run_id in found).encode())
                own.close()
                code = 0
            finally:
                os._exit(code)
        os.close(writer)
        children.append((pid, reader))
    found = Counter[str]()
    for pid, reader in children:
        with os.fdopen(reader) as said:
            found.update(said.read().split())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert found == Counter(f"t{n:03}" for n in range(120))


# --- keeping -----------------------------------------------------------------------------------


def test_one_heartbeat_extends_every_lease_of_its_owner_and_no_other(store: Store) -> None:
    submit(store, task("a"), task("b"), task("c"), task("d", queue="mail"))
    claim(store, limit=2)
    claim(store, "mail", owner=OTHER)
    claim(store, owner=OTHER)
    before = get(store, "d").lease_until
    assert store.heartbeat_owner(OWNER, now=NOW + 7, lease=2 * LEASE) == {("a", 1), ("b", 1)}
    for run_id in ("a", "b"):
        assert lease_end(store, get(store, run_id).lease_until, 2 * LEASE) in (NOW + 2 * LEASE, NOW + 7 + 2 * LEASE)
    assert get(store, "d").lease_until == before
    assert store.heartbeat_owner("nobody", now=NOW, lease=LEASE) == set()
    assert store.apply([new_run("direct")]) == [None]  # its own driver looks after it
    assert store.heartbeat_owner(OWNER, now=NOW, lease=LEASE) == {("a", 1), ("b", 1)}


def test_a_heartbeat_brings_back_nothing_that_was_given_up_or_has_ended(store: Store) -> None:
    submit(store, task("a"), task("b"), task("c"))
    claim(store)
    assert store.apply([write("a", 1, end=completed())]) == [None]
    assert store.release_task("b", 1, now=NOW, available_at=None, reason=RELEASED)
    assert store.heartbeat_owner(OWNER, now=NOW, lease=LEASE) == {("c", 1)}
    assert claimed_ids(store, owner=OTHER) == ["b"]
    assert store.heartbeat_owner(OWNER, now=NOW, lease=LEASE) == {("c", 1)}


def test_heartbeats_and_completions_of_many_runs_at_once_wait_in_no_circle(two_stores: tuple[Store, Store]) -> None:
    submit(two_stores[0], *[task(f"t{n:03}") for n in range(60)])
    names = claimed_ids(two_stores[0])
    backwards = [(run_id, 1) for run_id in reversed(names)]

    def beat(n: int) -> int:
        for _ in range(25):
            two_stores[n % 2].heartbeat_owner(OWNER, now=NOW, lease=LEASE)
            two_stores[n % 2].heartbeat(OWNER, backwards, now=NOW, lease=LEASE)
        return 0

    def finish() -> int:
        errors = []
        for begin in range(0, 60, 10):
            batch = [
                write(run_id, 1, ends=[end(run_id=run_id)], end=completed())
                for run_id in reversed(names[begin : begin + 10])
            ]
            errors += two_stores[1].apply(batch)
        return sum(error is not None for error in errors)

    assert in_parallel(lambda: beat(0), lambda: beat(1), lambda: beat(0), finish) == [0, 0, 0, 0]
    assert {get(two_stores[0], run_id).status for run_id in names} == {RunStatus.COMPLETED}


# --- giving back -------------------------------------------------------------------------------


def test_a_released_task_is_claimed_by_somebody_else_and_nothing_counts_against_it(store: Store) -> None:
    run = started(store)
    assert store.apply([write("task", 1, starts=[start("open", "task")], ends=[end("done", "task")])]) == [None]
    assert store.release_task("task", run.lease_epoch, now=NOW + 3, available_at=None, reason=RELEASED)
    waiting = get(store)
    assert (waiting.status, waiting.lease_owner, waiting.lease_until) == (RunStatus.PENDING, None, None)
    assert (waiting.attempt, waiting.rescues, waiting.started_at) == (1, 0, NOW)
    (opened,) = store.get_step("task", "open")
    assert (opened.status, opened.error_type, opened.finished_at) == ("cancelled", "Released", NOW + 3)
    (one,) = claim(store, owner=OTHER, now=NOW + 4)
    assert (one.run.lease_epoch, one.run.attempt, one.run.lease_owner) == (2, 1, OTHER)
    assert [(a.lease_epoch, a.attempt, a.owner, a.status, a.error_type) for a in store.list_attempts("task")] == [
        (1, 1, OWNER, "cancelled", "Released"),
        (2, 1, OTHER, "running", None),
    ]
    assert [row.status for row in store.list_step_rows("task") if row.label == "done"] == ["completed"]
    assert store.check() == []


def test_only_the_holder_of_the_lease_gives_a_task_back(store: Store) -> None:
    run = started(store)
    assert store.release_task("task", run.lease_epoch, now=NOW, available_at=None, reason=RELEASED)
    assert not store.release_task("task", run.lease_epoch, now=NOW, available_at=None, reason=RELEASED)
    claim(store, owner=OTHER)
    assert not store.release_task("task", run.lease_epoch, now=NOW, available_at=None, reason=RELEASED)
    assert get(store).lease_owner == OTHER
    assert not store.release_task("nobody", 1, now=NOW, available_at=None, reason=RELEASED)


def test_a_task_that_was_given_back_for_later_is_claimed_later(store: Store) -> None:
    run = started(store)
    assert store.release_task("task", run.lease_epoch, now=NOW, available_at=NOW + SECOND, reason=RELEASED)
    assert claimed_ids(store, now=NOW + SECOND - 1) == []
    assert claimed_ids(store, now=NOW + SECOND) == ["task"]


def test_a_task_that_goes_from_hand_to_hand_keeps_the_claims_that_did_something(store: Store) -> None:
    submit(store, task())
    for epoch in range(1, 31):
        claim(store)
        if epoch == 7:
            assert store.apply([write("task", epoch, ends=[end("done", "task", lease_epoch=epoch)])]) == [None]
        assert store.release_task("task", epoch, now=NOW, available_at=None, reason=RELEASED)
    claimed = [attempt.lease_epoch for attempt in store.list_attempts("task")]
    assert 7 in claimed
    assert claimed[-1] == 30
    assert len(claimed) < 10
    assert store.check() == []


def test_what_a_driver_writes_last_gives_the_task_back(store: Store) -> None:
    started(store)
    last = write("task", 1, ends=[end("done", "task")], end=released(at=NOW + SECOND))
    assert store.apply([last]) == [None]
    assert (get(store).status, get(store).available_at) == (RunStatus.PENDING, NOW + SECOND)
    assert store.apply([last]) == [None]  # its answer was lost
    (attempt,) = store.list_attempts("task")
    assert (attempt.status, attempt.error_type, attempt.finished_at) == ("cancelled", "Released", NOW + 9)
    assert [type(error) for error in store.apply([write("task", 1, ends=[end("late", "task")])])] == [LeaseLost]
    assert claimed_ids(store, now=NOW + SECOND) == ["task"]
    assert [type(error) for error in store.apply([last])] == [LeaseLost]
    assert (get(store).lease_epoch, get(store).status) == (2, RunStatus.RUNNING)


def test_a_failed_attempt_that_is_tried_again_waits_for_its_time_and_is_counted(store: Store) -> None:
    started(store, max_attempts=3)
    last = write("task", 1, ends=[failure("step", "task")], end=retried())
    assert store.apply([last]) == [None]
    waiting = get(store)
    assert (waiting.status, waiting.attempt, waiting.available_at) == (RunStatus.PENDING, 2, NOW + SECOND)
    assert (waiting.error_step, waiting.error_type, waiting.error_message) == ("step", "ValueError", "no")
    assert waiting.finished_at is None
    assert claimed_ids(store, now=NOW + SECOND - 1) == []
    (one,) = claim(store, now=NOW + SECOND, owner=OTHER)
    assert (one.run.attempt, one.run.lease_epoch) == (2, 2)
    assert [(a.lease_epoch, a.attempt, a.status, a.error_type) for a in store.list_attempts("task")] == [
        (1, 1, "failed", "ValueError"),
        (2, 2, "running", None),
    ]
    assert store.apply([write("task", 2, ends=[end("step", "task", attempt=2, lease_epoch=2)], end=completed())]) == [
        None
    ]
    done = get(store)
    assert (done.status, done.error_step, done.error_type, done.error_message) == (
        RunStatus.COMPLETED,
        None,
        None,
        None,
    )
    assert store.check() == []


def test_a_retry_that_is_written_again_counts_once(store: Store) -> None:
    started(store, max_attempts=3)
    last = write("task", 1, ends=[failure("step", "task")], end=retried())
    assert store.apply([last, last]) == [None, None]
    assert store.apply([last]) == [None]
    assert get(store).attempt == 2


def test_an_attempt_is_tried_again_by_its_holder_alone(store: Store) -> None:
    started(store)
    store.rescue_tasks(now=NOW, limit=9, max_rescues=5, owner_gone=OWNER, reason=DIED)
    (error,) = store.apply([write("task", 1, end=retried())])
    assert isinstance(error, LeaseLost)
    assert (get(store).attempt, get(store).available_at) == (1, None)


@pytest.mark.parametrize("last", [retried(), released(), completed()], ids=["retry", "release", "completion"])
def test_a_rescued_run_takes_nothing_of_the_last_write_of_its_former_holder(store: Store, last: RunEnd) -> None:
    started(store)
    assert store.apply([write("task", 1, ends=[end("a", "task")])]) == [None]
    store.rescue_tasks(now=NOW, limit=9, max_rescues=5, owner_gone=OWNER, reason=DIED)
    late = write("task", 1, ends=[end("b", "task", seq=2)], edges=[edge("a", "b", "task")], end=last)
    before = (get(store), store.list_attempts("task"))
    assert [type(error) for error in store.apply([late])] == [LeaseLost]
    others = write("other", 1, end=completed())
    assert [type(error) for error in store.apply([late, others])] == [LeaseLost, LeaseLost]
    assert (get(store), store.list_attempts("task")) == before
    assert (store.get_step("task", "b"), store.list_edges("task")) == ([], [])
    assert store.check() == []


def test_the_definition_that_a_claimed_run_takes_is_noted_under_its_lease(store: Store) -> None:
    started(store)
    given = {"hash_": "new", "workflow": "workflow", "document": '{"v":2}', "now": NOW}
    store.adopt_definition("task", 1, **given)  # type: ignore[arg-type]
    assert (get(store).hash, store.get_definition("new")) == ("new", '{"v":2}')
    store.adopt_definition("task", 9, **{**given, "hash_": "stale"})  # type: ignore[arg-type]
    assert get(store).hash == "new"
