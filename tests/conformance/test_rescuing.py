"""A lease runs out, or its owner is gone: the run goes back to its queue, and its holder writes nothing more."""

from __future__ import annotations

from typing import Any

import pytest
from rows import LEASE, NOW, OWNER, checkpoint, completed, edge, end, failed, new_run, progress, start, write
from tasks import DIED, OTHER, SECOND, Hands, claim, claimed_ids, get, ids, in_parallel, started, submit, task, wait

from milepost.errors import LeaseLost
from milepost.model import Attempt
from milepost.states import RunStatus
from milepost.store import Rescued, Store


def rescue(store: Store, **changes: Any) -> list[Rescued]:
    options: dict[str, Any] = {"now": NOW, "limit": 100, "max_rescues": 5, "owner_gone": None, "reason": DIED}
    return store.rescue_tasks(**{**options, **changes})


def test_a_run_whose_lease_ran_out_goes_back_to_its_queue_and_uses_up_no_attempt(store: Store) -> None:
    hands = Hands(store)
    started(store, max_attempts=3)
    assert store.apply([write("task", 1, starts=[start("open", "task")], ends=[end("done", "task")])]) == [None]
    now = hands.advance(LEASE - SECOND)
    assert rescue(store, now=now) == []
    now = hands.advance(2 * SECOND)
    assert rescue(store, now=now) == [Rescued("task", OWNER, is_over=False)]
    run = get(store)
    assert (run.status, run.lease_owner, run.lease_until, run.lease_epoch) == (RunStatus.PENDING, None, None, 1)
    assert (run.attempt, run.rescues, run.available_at) == (1, 1, None)
    assert store.list_attempts("task") == [Attempt("task", 1, 1, OWNER, "cancelled", NOW, now, *DIED)]
    (opened,) = store.get_step("task", "open")
    assert (opened.status, opened.error_type, opened.finished_at) == ("cancelled", "WorkerDied", now)
    (done,) = store.get_step("task", "done")
    assert done.status == "completed"
    (one,) = claim(store, owner=OTHER, now=now)
    assert (one.run.lease_epoch, one.run.attempt) == (2, 1)
    assert rescue(store, now=now) == []
    assert store.check() == []


def test_a_heartbeat_puts_the_end_of_the_lease_off(store: Store) -> None:
    hands = Hands(store)
    started(store)
    for _ in range(3):
        now = hands.advance(LEASE - SECOND)
        assert rescue(store, now=now) == []
        assert store.heartbeat_owner(OWNER, now=now, lease=LEASE) == {("task", 1)}
    now = hands.advance(LEASE + SECOND)
    assert ids(rescue(store, now=now)) == ["task"]
    assert store.heartbeat_owner(OWNER, now=now, lease=LEASE) == set()
    assert store.heartbeat(OWNER, [("task", 1)], now=now, lease=LEASE) == {("task", 1)}


def test_an_owner_that_is_known_to_be_gone_is_not_waited_for(store: Store) -> None:
    submit(store, task("mine"), task("theirs"))
    claim(store, limit=1)
    claim(store, owner=OTHER)
    (theirs,) = ids(store.list_owned(OTHER))
    assert rescue(store, owner_gone="nobody") == []
    assert rescue(store, owner_gone=OTHER) == [Rescued(theirs, OTHER, is_over=False)]
    assert claimed_ids(store, owner=OWNER) == [theirs]
    assert store.list_owners() == [OWNER]


def test_whoever_rescues_may_spare_its_own_leases(store: Store) -> None:
    hands = Hands(store)
    submit(store, task("mine"), task("theirs"))
    claim(store, limit=1)
    claim(store, owner=OTHER)
    (theirs,) = ids(store.list_owned(OTHER))
    now = hands.advance(2 * LEASE)
    assert ids(rescue(store, now=now, sparing=OWNER)) == [theirs]
    assert len(rescue(store, now=now)) == 1


def test_a_run_that_was_started_directly_is_nobodys_to_rescue(store: Store) -> None:
    hands = Hands(store)
    assert store.apply([new_run("direct")]) == [None]
    assert rescue(store, now=hands.advance(2 * LEASE)) == []
    assert rescue(store, owner_gone=OWNER) == []
    assert get(store, "direct").status == RunStatus.RUNNING


def test_a_suspended_or_finished_run_is_not_rescued(store: Store) -> None:
    hands = Hands(store)
    submit(store, task("sleeper"), task("done"))
    claim(store)
    store.register_waits([wait(run_id="sleeper")], NOW)
    store.suspend_run("sleeper", 1, seen=0, now=NOW)
    assert store.apply([write("done", 1, end=completed())]) == [None]
    assert rescue(store, now=hands.advance(9 * LEASE), owner_gone=OWNER) == []


def test_a_rescue_takes_no_more_than_its_limit_and_the_longest_silent_first(store: Store) -> None:
    hands = Hands(store)
    submit(store, *[task(f"t{n}") for n in range(5)])
    for n in range(5):
        claim(store, now=hands.advance(SECOND), limit=1, owner=f"{n}@x#0-1")
    now = hands.advance(2 * LEASE)
    assert ids(rescue(store, now=now, limit=2)) == ["t0", "t1"]
    assert ids(rescue(store, now=now, limit=9)) == ["t2", "t3", "t4"]


def test_of_many_who_rescue_at_once_each_run_has_one_rescuer(two_stores: tuple[Store, Store]) -> None:
    hands = Hands(*two_stores)
    submit(two_stores[0], *[task(f"t{n:02}") for n in range(40)])
    claim(two_stores[0])
    now = hands.advance(2 * LEASE)
    outcomes = in_parallel(*[lambda n=n: ids(rescue(two_stores[n % 2], now=now, limit=15)) for n in range(8)])
    found = [run_id for outcome in outcomes for run_id in outcome]
    while more := ids(rescue(two_stores[0], now=now)):  # what was locked by somebody who then had enough
        found += more
    assert sorted(found) == [f"t{n:02}" for n in range(40)]
    assert {get(two_stores[0], run_id).rescues for run_id in found} == {1}


# --- giving up ---------------------------------------------------------------------------------


def die(store: Store, now: int, *, completes: str | None = None, max_rescues: int = 3) -> list[Rescued]:
    (one,) = claim(store, now=now)
    if completes is not None:
        row = end(completes, "task", lease_epoch=one.run.lease_epoch, seq=one.run.lease_epoch)
        assert store.apply([write("task", one.run.lease_epoch, ends=[row])]) == [None]
    return rescue(store, now=now, owner_gone=OWNER, max_rescues=max_rescues)


def test_a_run_that_kills_its_workers_without_getting_on_ends_failed_with_that_reason(store: Store) -> None:
    submit(store, task())
    for n in range(3):
        assert die(store, NOW + n) == [Rescued("task", OWNER, is_over=False)]
        assert get(store).rescues == n + 1
    assert die(store, NOW + 9) == [Rescued("task", OWNER, is_over=True)]
    run = get(store)
    assert (run.status, run.finished_at, run.lease_owner, run.lease_until) == (RunStatus.FAILED, NOW + 9, None, None)
    assert run.error_type == "RescuesExhausted"
    assert "4 times in a row without completing a step" in (run.error_message or "")
    assert "milepost resume task" in (run.error_message or "")
    assert claimed_ids(store, now=NOW + 99) == []
    assert [attempt.status for attempt in store.list_attempts("task")] == ["cancelled"] * 4
    assert store.check() == []


def test_a_newly_completed_step_lets_the_count_begin_again(store: Store) -> None:
    submit(store, task())
    for n in range(3):
        die(store, NOW + n)
    assert die(store, NOW + 5, completes="a") == [Rescued("task", OWNER, is_over=False)]
    assert get(store).rescues == 1
    for n in range(2):
        assert die(store, NOW + 6 + n) == [Rescued("task", OWNER, is_over=False)]
    assert die(store, NOW + 9) == [Rescued("task", OWNER, is_over=True)]


def test_only_what_this_claim_completed_counts_as_getting_on(store: Store) -> None:
    submit(store, task())
    assert die(store, NOW, completes="a", max_rescues=1) == [Rescued("task", OWNER, is_over=False)]
    assert die(store, NOW + 1, max_rescues=1) == [Rescued("task", OWNER, is_over=True)]


def test_a_failed_step_is_no_progress(store: Store) -> None:
    submit(store, task())
    for n in range(2):
        (one,) = claim(store)
        row = end("a", "task", attempt=n + 1, lease_epoch=one.run.lease_epoch, status="failed", output=None)
        assert store.apply([write("task", one.run.lease_epoch, ends=[row])]) == [None]
        (rescued,) = rescue(store, owner_gone=OWNER, max_rescues=1)
    assert rescued.is_over


def test_somebody_who_resumes_a_run_that_was_given_up_gives_it_as_many_rescues_again(store: Store) -> None:
    submit(store, task())
    for n in range(4):
        die(store, NOW + n)
    resumed = store.claim_run(
        get(store), owner=OTHER, now=NOW, lease_until=NOW + LEASE, attempt=2, target=None, reason=DIED
    )
    assert resumed.rescues == 0
    assert rescue(store, owner_gone=OTHER, max_rescues=3) == [Rescued("task", OTHER, is_over=False)]


# --- what the former holder still writes -------------------------------------------------------

LATE = {
    "a completed step": {"ends": [end("late", "task", seq=9)]},
    "the end of an open step": {"ends": [end("open", "task")]},
    "a start": {"starts": [start("late", "task", seq=9)]},
    "an edge with a step": {"ends": [end("late", "task", seq=9)], "edges": [edge("done", "late", "task")]},
    "an edge alone": {"edges": [edge("done", "open", "task")]},
    "progress": {"progress": [progress("open", "task")]},
    "a checkpoint": {"checkpoints": [checkpoint("name", "2", "task", "open")]},
    "completion": {"end": completed(NOW + 50)},
    "failure": {"end": failed(NOW + 50)},
}


@pytest.mark.parametrize("moment", ["rescued", "claimed", "finished", "cancelled"])
@pytest.mark.parametrize("kind", LATE)
def test_everything_that_a_zombie_writes_is_refused_and_changes_nothing(store: Store, kind: str, moment: str) -> None:
    started(store)
    first = write(
        "task",
        1,
        starts=[start("open", "task", seq=2)],
        ends=[end("done", "task")],
        checkpoints=[checkpoint("name", "1", "task", "open")],
    )
    assert store.apply([first]) == [None]
    if moment == "cancelled":
        assert store.cancel_unowned(get(store), NOW + 5, ("RunCancelled", "on request"))
    else:
        rescue(store, owner_gone=OWNER)
    if moment in ("claimed", "finished"):
        claim(store, owner=OTHER)
    if moment == "finished":
        assert store.apply([write("task", 2, end=completed(NOW + 20))]) == [None]

    def everything() -> Any:
        steps = [store.get_step("task", label) for label in ("done", "open", "late")]
        found = (store.list_edges("task"), store.list_checkpoints("task"), store.list_attempts("task"))
        return get(store), steps, found, store.get_run_payload("task")

    before = everything()
    (error,) = store.apply([write("task", 1, **LATE[kind])])
    assert isinstance(error, LeaseLost)
    assert everything() == before


@pytest.mark.parametrize("moment", ["rescued", "claimed"])
def test_a_zombie_neither_waits_nor_sleeps_nor_keeps_a_lease(store: Store, moment: str) -> None:
    started(store)
    rescue(store, owner_gone=OWNER)
    if moment == "claimed":
        claim(store, owner=OTHER)
    before = get(store)
    with pytest.raises(LeaseLost):
        store.register_waits([wait()], NOW)
    with pytest.raises(LeaseLost):
        store.suspend_run("task", 1, seen=0, now=NOW)
    assert store.heartbeat(OWNER, [("task", 1)], now=NOW, lease=9 * LEASE) == {("task", 1)}
    assert store.heartbeat_owner(OWNER, now=NOW, lease=9 * LEASE) == set()
    assert not store.release_task("task", 1, now=NOW, available_at=None, reason=DIED)
    assert (get(store), store.list_waits("task")) == (before, [])


def test_a_zombie_in_a_shared_commit_spoils_nobody_elses_write(store: Store) -> None:
    submit(store, *[task(f"t{n}") for n in range(6)])
    claim(store, limit=3)
    rescue(store, owner_gone=OWNER)
    live = ids(one.run for one in claim(store, owner=OTHER))
    epochs = {run_id: get(store, run_id).lease_epoch for run_id in live}
    stale = [run_id for run_id in live if epochs[run_id] == 2]
    batch = [
        write(run_id, epoch, ends=[end("a", run_id, lease_epoch=epoch)], end=completed())
        for run_id, real in epochs.items()
        for epoch in ({real, 1})
    ]
    outcomes = dict(zip([(w.run_id, w.lease_epoch) for w in batch], store.apply(batch), strict=True))
    assert len(stale) == 3
    for run_id, real in epochs.items():
        assert outcomes[run_id, real] is None
        assert get(store, run_id).status == RunStatus.COMPLETED
        if real == 2:
            assert isinstance(outcomes[run_id, 1], LeaseLost)
        assert [row.lease_epoch for row in store.get_step(run_id, "a")] == [real]
    assert store.check() == []


def test_a_cancel_request_survives_a_rescue(store: Store) -> None:
    started(store)
    assert store.request_cancel("task", NOW + 1)
    rescue(store, owner_gone=OWNER)
    claim(store, owner=OTHER)
    assert store.list_stop_requests(OTHER) == [("task", 2, True)]
    assert store.list_stop_requests(OWNER) == []
