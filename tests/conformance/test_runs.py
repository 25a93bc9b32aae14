"""Runs begin, change hands and end: who may write, and what everybody else is told."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
from rows import LEASE, NOW, OWNER, completed, end, failed, failure, lease_end, new_run, start, write

from milepost.errors import LeaseLost, RunExists, StoreConflict, StoreError
from milepost.model import Attempt, Run
from milepost.states import RunStatus
from milepost.store import RunEnd, Store, Write

OTHER = "18@there#1-2"
DIED = ("ProcessDied", "the process is gone")


def apply(store: Store, *batch: Write) -> list[type[Exception] | None]:
    return [None if outcome is None else type(outcome) for outcome in store.apply(batch)]


def stand(store: Store, *batch: Write) -> None:
    assert store.apply(batch) == [None] * len(batch)


def get(store: Store, run_id: str = "run") -> Run:
    run = store.get_run(run_id)
    assert run is not None
    return run


def claim(store: Store, run: Run, **changes: Any) -> Run:
    arguments: dict[str, Any] = {
        "owner": OTHER,
        "now": NOW + 100,
        "lease_until": NOW + 100 + LEASE,
        "attempt": run.attempt,
        "target": None,
        "reason": DIED,
    }
    return store.claim_run(run, **{**arguments, **changes})


# --- beginning ---------------------------------------------------------------------------------


def test_a_new_run_is_born_running_and_claimed(store: Store) -> None:
    stand(
        store,
        new_run(
            "child",
            workflow="flow",
            version="2",
            inputs='{"n":1}',
            target="file.py:dag",
            tags='{"a":"b"}',
            correlation_id="order 7",
            replay_of="old",
            created_by="me",
        ),
    )
    run = get(store, "child")
    assert dataclasses.replace(run, lease_until=lease_end(store, run.lease_until, LEASE)) == Run(
        run_id="child",
        workflow="flow",
        version="2",
        hash="hash",
        kind="dag",
        status=RunStatus.RUNNING,
        queue=None,
        priority=0,
        available_at=None,
        lease_owner=OWNER,
        lease_until=NOW + LEASE,
        lease_epoch=1,
        attempt=1,
        max_attempts=1,
        idempotency_key=None,
        correlation_id="order 7",
        parent_run_id=None,
        root_run_id="child",
        replay_of="old",
        created_by="me",
        created_at=NOW,
        started_at=NOW,
        finished_at=None,
        cancel_requested_at=None,
    )
    payload = store.get_run_payload("child")
    assert payload is not None
    assert (payload.inputs, payload.target, payload.tags) == ('{"n":1}', "file.py:dag", '{"a":"b"}')
    assert (payload.result, payload.error_traceback, payload.headers, payload.policies) == (None, None, "{}", "{}")
    assert store.list_attempts("child") == [Attempt("child", 1, 1, OWNER, "running", NOW, None, None, None)]


def test_a_definition_is_stored_once_for_all_its_runs(store: Store) -> None:
    stand(store, new_run("a", definition='{"v":1}'), new_run("b", definition='{"v":1}'))
    stand(store, new_run("c", definition_hash="other", definition='{"v":2}'))
    assert store.get_definition("hash") == '{"v":1}'
    assert store.get_definition("other") == '{"v":2}'
    assert store.get_definition("none") is None


def test_a_new_run_that_is_written_again_stands_once(store: Store) -> None:
    new = new_run()
    stand(store, new)
    stand(store, new, new)
    assert len(store.list_attempts("run")) == 1


@pytest.mark.parametrize("changes", [{"owner": OTHER}, {"now": NOW + 1}])
def test_a_run_id_that_is_taken_is_refused(store: Store, changes: dict[str, Any]) -> None:
    stand(store, new_run())
    before = get(store)
    assert apply(store, new_run(**changes, workflow="another")) == [RunExists]
    assert get(store) == before


def test_a_run_id_stays_taken_when_its_run_has_ended_or_changed_hands(store: Store) -> None:
    new = new_run()
    stand(store, new)
    claimed = claim(store, get(store))
    assert apply(store, new) == [RunExists]
    stand(store, write(epoch=claimed.lease_epoch, end=completed()))
    assert apply(store, new) == [RunExists]


def test_a_new_run_under_the_id_of_one_that_this_process_left_running_is_refused(store: Store) -> None:
    stand(store, new_run(), write(ends=[end()]))
    assert apply(store, new_run(now=NOW + 5_000_000, lease_until=NOW + 9_000_000)) == [RunExists]


def test_a_child_belongs_to_its_parent_and_to_the_root(store: Store) -> None:
    stand(store, new_run("root"), new_run("child", parent_run_id="root", root_run_id="root"))
    assert (get(store, "child").parent_run_id, get(store, "child").root_run_id) == ("root", "root")


def test_a_child_of_no_run_is_refused_and_leaves_nothing_behind(store: Store) -> None:
    outcomes = apply(store, new_run("a"), new_run("orphan", parent_run_id="nobody"), new_run("b"))
    assert outcomes == [None, StoreError, None]
    assert store.get_run("orphan") is None
    assert store.get_run_payload("orphan") is None
    assert store.check() == []


def test_a_run_is_not_its_own_parent(store: Store) -> None:
    assert apply(store, new_run("a", parent_run_id="a")) == [StoreError]
    assert store.get_run("a") is None


def test_of_many_who_start_one_run_id_one_wins(two_stores: tuple[Store, Store]) -> None:
    outcomes: list[list[Exception | None]] = []
    barrier = threading.Barrier(8)

    def begin(n: int) -> None:
        barrier.wait(20)
        outcomes.append(two_stores[n % 2].apply([new_run(owner=f"{n}@here#0-1")]))

    threads = [threading.Thread(target=begin, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(str(type(outcome)) for (outcome,) in outcomes) == sorted(
        [str(type(None)), *[str(RunExists)] * 7],
    )
    assert len(two_stores[0].list_attempts("run")) == 1


# --- claiming ----------------------------------------------------------------------------------


def test_a_claim_takes_the_lease_closes_what_was_open_and_counts_the_epoch(store: Store) -> None:
    stand(store, new_run(target="old.py:dag"), write(starts=[start("open")], ends=[end("done")]))
    claimed = claim(store, get(store), target="new.py:dag")
    assert claimed == get(store)
    assert (claimed.lease_epoch, claimed.lease_owner) == (2, OTHER)
    assert lease_end(store, claimed.lease_until, LEASE) in (NOW + LEASE, NOW + 100 + LEASE)
    assert (claimed.status, claimed.attempt, claimed.started_at) == (RunStatus.RUNNING, 1, NOW)
    assert [(a.lease_epoch, a.owner, a.status, a.error_type) for a in store.list_attempts("run")] == [
        (1, OWNER, "cancelled", "ProcessDied"),
        (2, OTHER, "running", None),
    ]
    (opened,) = store.get_step("run", "open")
    assert (opened.status, opened.error_type, opened.error_message, opened.finished_at) == (
        "cancelled",
        *DIED,
        NOW + 100,
    )
    (done,) = store.get_step("run", "done")
    assert (done.status, done.finished_at) == ("completed", NOW + 2)
    payload = store.get_run_payload("run")
    assert payload is not None
    assert payload.target == "new.py:dag"


def test_a_claim_without_a_target_keeps_the_old_one(store: Store) -> None:
    stand(store, new_run(target="old.py:dag"))
    claim(store, get(store), target=None)
    payload = store.get_run_payload("run")
    assert payload is not None
    assert payload.target == "old.py:dag"


def test_a_failed_run_that_is_claimed_again_forgets_its_failure(store: Store) -> None:
    stand(store, new_run(), write(ends=[failure()], end=failed()))
    assert get(store).error_type == "ValueError"
    claimed = claim(store, get(store), attempt=2)
    assert (claimed.status, claimed.attempt, claimed.finished_at) == (RunStatus.RUNNING, 2, None)
    assert (claimed.error_step, claimed.error_type, claimed.error_message) == (None, None, None)
    payload = store.get_run_payload("run")
    assert payload is not None
    assert payload.error_traceback is None
    assert [(a.lease_epoch, a.attempt, a.status) for a in store.list_attempts("run")] == [
        (1, 1, "failed"),
        (2, 2, "running"),
    ]


def test_a_claim_of_a_run_that_changed_since_it_was_read_is_refused(store: Store) -> None:
    stand(store, new_run())
    seen = get(store)
    claim(store, seen)
    with pytest.raises(StoreConflict, match="Run run was taken by somebody else"):
        claim(store, seen, owner="a third")
    stand(store, write(epoch=2, end=completed()))
    with pytest.raises(StoreConflict):
        claim(store, seen)
    assert get(store).status == RunStatus.COMPLETED
    assert len(store.list_attempts("run")) == 2


def test_the_same_claim_once_more_is_the_claim_that_stands(store: Store) -> None:
    stand(store, new_run())
    seen = get(store)
    first = claim(store, seen)
    assert claim(store, seen) == first  # its answer was lost on the way
    with pytest.raises(StoreConflict):
        claim(store, seen, now=NOW + 101, lease_until=NOW + 101 + LEASE)  # another claim by the same owner
    assert len(store.list_attempts("run")) == 2


def test_of_many_who_claim_a_run_at_once_one_wins(two_stores: tuple[Store, Store]) -> None:
    stand(two_stores[0], new_run())
    for round_ in range(1, 6):
        seen = get(two_stores[0])
        barrier = threading.Barrier(6)
        won: list[str] = []
        lost: list[str] = []

        def take(n: int, seen: Run = seen, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(20)
            owner = f"{n}@here#0-1"
            try:
                claim(two_stores[n % 2], seen, owner=owner)
            except StoreConflict:
                lost.append(owner)  # noqa: B023 - joined in this turn
            else:
                won.append(owner)  # noqa: B023 - joined in this turn

        threads = [threading.Thread(target=take, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert (len(won), len(lost)) == (1, 5)
        assert (get(two_stores[1]).lease_owner, get(two_stores[1]).lease_epoch) == (won[0], round_ + 1)


# --- heartbeats --------------------------------------------------------------------------------


def test_a_heartbeat_extends_the_leases_it_holds_and_names_those_it_lost(store: Store) -> None:
    stand(store, new_run("mine"), new_run("taken"), new_run("ended"), new_run("others", owner=OTHER))
    claim(store, get(store, "taken"))
    stand(store, write("ended", end=completed()))
    leases = [("mine", 1), ("taken", 1), ("ended", 1), ("others", 1), ("nothing", 1), ("mine", 2)]
    lost = store.heartbeat(OWNER, leases, now=NOW, lease=7 * LEASE)
    assert lost == {("taken", 1), ("ended", 1), ("others", 1), ("nothing", 1), ("mine", 2)}
    assert lease_end(store, get(store, "mine").lease_until, 7 * LEASE) == NOW + 7 * LEASE
    assert lease_end(store, get(store, "taken").lease_until, LEASE) in (NOW + LEASE, NOW + 100 + LEASE)
    assert lease_end(store, get(store, "others").lease_until, LEASE) == NOW + LEASE
    assert store.heartbeat(OWNER, [], now=NOW, lease=LEASE) == set()


# --- cancelling --------------------------------------------------------------------------------


def test_a_request_to_cancel_reaches_the_owner_and_keeps_its_first_time(store: Store) -> None:
    stand(store, new_run("a"), new_run("b"), new_run("others", owner=OTHER))
    assert store.request_cancel("a", NOW + 5)
    assert store.request_cancel("a", NOW + 6)
    assert store.request_cancel("others", NOW + 5)
    assert store.list_stop_requests(OWNER) == [("a", 1, True)]
    assert get(store, "a").cancel_requested_at == NOW + 5
    assert get(store, "a").status == RunStatus.RUNNING


def test_a_run_that_has_ended_cannot_be_asked_to_stop(store: Store) -> None:
    stand(store, new_run("a"), write("a", end=completed()))
    assert not store.request_cancel("a", NOW)
    assert not store.request_cancel("nothing", NOW)
    assert store.list_stop_requests(OWNER) == []


def test_a_request_to_cancel_ends_with_the_claim_it_was_meant_for(store: Store) -> None:
    stand(store, new_run())
    store.request_cancel("run", NOW + 5)
    assert claim(store, get(store)).cancel_requested_at is None
    assert store.list_stop_requests(OTHER) == []


def test_a_run_that_nobody_executes_is_cancelled_where_it_stands(store: Store) -> None:
    stand(store, new_run(), write(starts=[start("open")], ends=[end("done")]))
    assert store.cancel_unowned(get(store), NOW + 50, ("RunCancelled", "on request"))
    run = get(store)
    assert (run.status, run.finished_at, run.lease_owner, run.lease_until) == (
        RunStatus.CANCELLED,
        NOW + 50,
        None,
        None,
    )
    assert (run.error_type, run.error_message) == ("RunCancelled", "on request")
    assert [a.status for a in store.list_attempts("run")] == ["cancelled"]
    assert {s.label: s.status for s in store.list_steps("run")} == {"open": "cancelled", "done": "completed"}
    assert apply(store, write(ends=[end("late")])) == [LeaseLost]  # whoever still works for it writes no more
    assert store.check() == []


def test_a_run_that_changed_since_it_was_read_is_not_cancelled(store: Store) -> None:
    stand(store, new_run())
    seen = get(store)
    claim(store, seen)
    assert not store.cancel_unowned(seen, NOW + 50, ("RunCancelled", "on request"))
    assert get(store).status == RunStatus.RUNNING
    stand(store, write(epoch=2, end=completed()))
    assert not store.cancel_unowned(get(store), NOW + 60, ("RunCancelled", "on request"))
    assert get(store).status == RunStatus.COMPLETED


# --- ending ------------------------------------------------------------------------------------


def test_a_run_that_completes_gives_up_its_lease(store: Store) -> None:
    stand(store, new_run(), write(ends=[end()], end=completed(NOW + 9)))
    run = get(store)
    assert (run.status, run.finished_at, run.lease_owner, run.lease_until) == (
        RunStatus.COMPLETED,
        NOW + 9,
        None,
        None,
    )
    assert [(a.status, a.finished_at) for a in store.list_attempts("run")] == [("completed", NOW + 9)]


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.CANCELLED])
def test_a_run_that_stops_early_says_why_and_closes_what_was_open(store: Store, status: RunStatus) -> None:
    why = RunEnd(status, NOW + 9, "bad", "ValueError", "no", "Traceback ...")
    stand(store, new_run(), write(starts=[start("open")], ends=[failure("bad")], end=why))
    run = get(store)
    assert (run.status, run.error_step, run.error_type, run.error_message) == (status, "bad", "ValueError", "no")
    payload = store.get_run_payload("run")
    assert payload is not None
    assert payload.error_traceback == "Traceback ..."
    assert [(a.status, a.error_type) for a in store.list_attempts("run")] == [(status.value, "ValueError")]
    (opened,) = store.get_step("run", "open")
    assert (opened.status, opened.error_type) == ("cancelled", "ValueError")
    assert store.check() == []


def test_an_end_that_is_written_again_stands_once_with_all_that_came_with_it(store: Store) -> None:
    last = write(starts=[start("open")], ends=[failure("bad")], end=failed())
    stand(store, new_run(), last)
    before = get(store), store.list_steps("run"), store.list_attempts("run")
    stand(store, last)
    stand(store, last, last)
    assert (get(store), store.list_steps("run"), store.list_attempts("run")) == before


@pytest.mark.parametrize("another", [completed(NOW + 10), failed(NOW + 9)])
def test_a_run_ends_once(store: Store, another: RunEnd) -> None:
    stand(store, new_run(), write(ends=[end()], end=completed(NOW + 9)))
    before = get(store)
    assert apply(store, write(ends=[end("more")], end=another)) == [LeaseLost]
    assert apply(store, write(end=another)) == [LeaseLost]
    assert get(store) == before
    assert store.get_step("run", "more") == []


def test_nothing_is_written_to_a_run_that_is_not_there(store: Store) -> None:
    assert apply(store, write("nothing", ends=[end(run_id="nothing")])) == [LeaseLost]
    assert apply(store, write("nothing", end=completed())) == [LeaseLost]
    assert store.get_run("nothing") is None
