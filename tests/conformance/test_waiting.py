"""Events and runs that wait: the first emit wins, and nothing falls between a look and a sleep."""

from __future__ import annotations

import time

import pytest
from rows import LEASE, NOW, OWNER, completed, end, new_run, write
from tasks import (
    DIED,
    OTHER,
    SECOND,
    claim,
    claimed_ids,
    get,
    in_parallel,
    sleep,
    started,
    submit,
    task,
    wait,
    worker,
)

from milepost.errors import LeaseLost
from milepost.model import Event, QueueInfo, Wait
from milepost.states import RunStatus
from milepost.store import Store


def suspended(store: Store, run_id: str = "task", *waits: object) -> None:
    """Let a task wait, for the event ``paid`` where nothing else is said."""
    started(store, run_id)
    store.register_waits(list(waits) or [wait(run_id=run_id)], NOW)  # type: ignore[arg-type]
    store.suspend_run(run_id, 1, seen=0, now=NOW)


def due_ids(store: Store, now: int) -> list[str]:
    return claimed_ids(store, now=now, owner=OTHER)


# --- events ------------------------------------------------------------------------------------


def test_the_first_emit_stands(store: Store) -> None:
    assert store.emit_event("default", "paid", '{"n":1}', NOW)
    assert not store.emit_event("default", "paid", '{"n":2}', NOW + 1)
    assert store.get_event("default", "paid") == Event("default", "paid", '{"n":1}', NOW)
    assert store.get_event("default", "sent") is None
    assert store.get_event("other", "paid") is None


def test_an_emit_whose_answer_was_lost_is_the_first_one_when_it_comes_again(store: Store) -> None:
    assert store.emit_event("default", "paid", "1", NOW)
    assert store.emit_event("default", "paid", "1", NOW)
    assert not store.emit_event("default", "paid", "1", NOW + 1)


def test_events_of_a_scope_are_listed_newest_first_and_by_their_beginning(store: Store) -> None:
    for n, name in enumerate(["order-1", "order-2", "mail-1", "order-10", "orde", "ördér"]):
        store.emit_event("default", name, str(n), NOW + n)
    store.emit_event("other", "order-3", "9", NOW)
    assert [event.name for event in store.list_events("default")] == [
        "ördér",
        "orde",
        "order-10",
        "mail-1",
        "order-2",
        "order-1",
    ]
    assert [event.name for event in store.list_events("default", prefix="order-1")] == ["order-10", "order-1"]
    assert [event.name for event in store.list_events("default", prefix="order", limit=2)] == ["order-10", "order-2"]
    assert store.list_events("nobody") == []


def test_of_many_who_emit_one_event_one_is_first_and_all_who_wait_get_its_payload(
    two_stores: tuple[Store, Store],
) -> None:
    for n in range(6):
        suspended(two_stores[n % 2], f"t{n}")
    outcomes = in_parallel(
        *[lambda n=n: two_stores[n % 2].emit_event("default", "paid", f"{n}", NOW + n) for n in range(8)]
    )
    assert sorted(outcomes) == [False] * 7 + [True]
    payloads = {waiting.payload for n in range(6) for waiting in two_stores[0].list_waits(f"t{n}")}
    assert payloads == {str(outcomes.index(True))}
    assert due_ids(two_stores[0], NOW + 99) == [f"t{n}" for n in range(6)]


# --- waiting -----------------------------------------------------------------------------------


def test_a_wait_is_noted_once_with_its_first_deadline(store: Store) -> None:
    started(store)
    asked = [wait(wake_at=NOW + 5), sleep(wake_at=NOW + 9)]
    noted = [
        Wait("task", "wait", "event", "default", "paid", NOW + 5, NOW, None, None, None),
        Wait("task", "sleep", "sleep", None, None, NOW + 9, NOW, None, None, None),
    ]
    assert store.register_waits(asked, NOW) == noted
    later = [wait(wake_at=NOW + 500), sleep(wake_at=NOW + 900)]
    assert store.register_waits(later, NOW + 3) == noted
    assert sorted(store.list_waits("task"), key=lambda one: one.label) == sorted(noted, key=lambda one: one.label)
    assert store.list_waits("nobody") == []


def test_an_event_that_was_emitted_before_resolves_the_wait_at_once(store: Store) -> None:
    store.emit_event("default", "paid", "7", NOW - 5)
    started(store)
    (found,) = store.register_waits([wait(wake_at=NOW + 5)], NOW)
    assert (found.outcome, found.payload, found.resolved_at) == ("emitted", "7", NOW)
    assert store.resolve_due_waits("task", NOW + 9) == [found]


def test_an_event_wakes_whoever_waits_for_it_and_nobody_else(store: Store) -> None:
    suspended(store, "a")
    suspended(store, "b", wait(run_id="b", event="sent"))
    suspended(store, "c", wait(run_id="c", scope="other"))
    assert [get(store, run_id).status for run_id in "abc"] == [RunStatus.SUSPENDED] * 3
    assert due_ids(store, NOW) == []
    assert store.emit_event("default", "paid", "7", NOW + 3)
    assert store.next_due() == NOW + 3
    assert due_ids(store, NOW + 3) == ["a"]
    (resolved,) = store.list_waits("a")
    assert (resolved.outcome, resolved.payload, resolved.resolved_at) == ("emitted", "7", NOW + 3)
    assert store.check() == []


def test_a_sleeper_is_claimed_when_its_time_has_come(store: Store) -> None:
    suspended(store, "task", sleep("long", wake_at=NOW + 90), sleep("short", wake_at=NOW + 10))
    assert store.next_due() == NOW + 10
    assert due_ids(store, NOW + 9) == []
    assert due_ids(store, NOW + 10) == ["task"]
    found = {one.label: (one.outcome, one.resolved_at) for one in store.resolve_due_waits("task", NOW + 11)}
    assert found == {"long": (None, None), "short": ("woken", NOW + 11)}
    found = {one.label: (one.outcome, one.resolved_at) for one in store.resolve_due_waits("task", NOW + 95)}
    assert found == {"long": ("woken", NOW + 95), "short": ("woken", NOW + 11)}


def test_an_event_that_does_not_come_in_time_stays_timed_out(store: Store) -> None:
    suspended(store, "task", wait(wake_at=NOW + 10))
    assert due_ids(store, NOW + 10) == ["task"]
    (found,) = store.resolve_due_waits("task", NOW + 10)
    assert (found.outcome, found.payload) == ("timed_out", None)
    assert store.emit_event("default", "paid", "7", NOW + 11)
    assert store.list_waits("task") == [found]
    assert store.register_waits([wait(lease_epoch=2, wake_at=NOW + 99)], NOW + 12) == [found]


def test_an_event_that_comes_in_time_is_never_timed_out(store: Store) -> None:
    suspended(store, "task", wait(wake_at=NOW + 10))
    store.emit_event("default", "paid", "7", NOW + 9)
    (found,) = store.resolve_due_waits("task", NOW + 99)
    assert found.outcome == "emitted"


# --- suspending --------------------------------------------------------------------------------


def test_a_suspended_run_holds_no_lease_and_its_claim_has_ended_well(store: Store) -> None:
    started(store)
    assert store.apply([write("task", 1, ends=[end("done", "task")])]) == [None]
    store.register_waits([wait(wake_at=NOW + 50)], NOW)
    store.suspend_run("task", 1, seen=0, now=NOW + 2)
    run = get(store)
    assert (run.status, run.lease_owner, run.lease_until, run.available_at) == (
        RunStatus.SUSPENDED,
        None,
        None,
        NOW + 50,
    )
    assert (run.attempt, run.rescues, run.lease_epoch) == (1, 0, 1)
    (attempt,) = store.list_attempts("task")
    assert (attempt.status, attempt.finished_at, attempt.error_type) == ("suspended", NOW + 2, None)
    assert store.list_owners() == []
    assert store.heartbeat_owner(OWNER, now=NOW, lease=LEASE) == set()
    store.emit_event("default", "paid", "1", NOW + 3)
    (one,) = claim(store, owner=OTHER, now=NOW + 3)
    assert (one.run.lease_epoch, one.run.attempt) == (2, 1)
    assert store.apply([write("task", 2, end=completed())]) == [None]
    assert store.check() == []


def test_what_was_resolved_since_the_run_looked_wakes_it_at_once(store: Store) -> None:
    started(store)
    store.register_waits([wait("a"), wait("b", event="sent")], NOW)
    store.emit_event("default", "paid", "1", NOW + 1)
    store.suspend_run("task", 1, seen=0, now=NOW + 2)  # it looked before the event came
    assert due_ids(store, NOW + 2) == ["task"]
    store.suspend_run("task", 2, seen=1, now=NOW + 3)  # now it knows of that one
    assert due_ids(store, NOW + 99) == []
    store.emit_event("default", "sent", "1", NOW + 100)
    assert due_ids(store, NOW + 100) == ["task"]


def test_a_run_that_is_suspended_once_more_is_the_same_call_when_the_answer_was_lost(store: Store) -> None:
    suspended(store)
    before = get(store)
    store.suspend_run("task", 1, seen=0, now=NOW)
    assert get(store) == before
    with pytest.raises(LeaseLost):
        store.suspend_run("task", 1, seen=0, now=NOW + 1)


def test_a_suspended_run_can_be_cancelled(store: Store) -> None:
    suspended(store)
    assert store.cancel_unowned(get(store), NOW + 5, ("RunCancelled", "on request"))
    store.emit_event("default", "paid", "1", NOW + 6)
    assert due_ids(store, NOW + 99) == []
    assert get(store).status == RunStatus.CANCELLED
    assert store.check() == []


def test_a_deleted_run_takes_its_waits_with_it(store: Store) -> None:
    suspended(store)
    store.cancel_unowned(get(store), NOW + 5, ("RunCancelled", "on request"))
    assert store.delete_runs(NOW + 9, 10) == 1
    assert store.list_waits("task") == []
    started(store, now=NOW + 20)
    assert store.register_waits([wait()], NOW + 20)[0].created_at == NOW + 20


@pytest.mark.parametrize("turn", range(4))
def test_no_event_is_lost_between_registering_suspending_and_emitting(
    two_stores: tuple[Store, Store], turn: int
) -> None:
    runs = [f"t{turn}-{n:02}" for n in range(12)]
    submit(two_stores[0], *[task(run_id) for run_id in runs])
    claim(two_stores[0])

    def go(run_id: str) -> str:
        (found,) = two_stores[0].register_waits([wait(run_id=run_id, event=run_id)], NOW)
        if found.outcome is not None:
            return "found"
        (found,) = two_stores[0].resolve_due_waits(run_id, NOW)
        if found.outcome is not None:
            return "seen"
        two_stores[0].suspend_run(run_id, 1, seen=0, now=NOW)
        return "slept"

    works = []
    for run_id in runs:
        works += [
            lambda run_id=run_id: go(run_id),
            lambda run_id=run_id: two_stores[1].emit_event("default", run_id, "1", NOW),
        ]
    outcomes = in_parallel(*works)
    assert all(outcome is True for outcome in outcomes[1::2])
    slept = [run_id for run_id, outcome in zip(runs, outcomes[::2], strict=True) if outcome == "slept"]
    assert all(outcome in ("found", "seen", "slept") for outcome in outcomes[::2])
    assert sorted(due_ids(two_stores[0], NOW)) == slept
    assert {two_stores[0].list_waits(run_id)[0].outcome for run_id in runs} == {"emitted"}


def test_events_that_wake_the_same_runs_at_the_same_time_wait_in_no_circle(two_stores: tuple[Store, Store]) -> None:
    runs = [f"t{n:02}" for n in range(20)]
    events = [f"e{n}" for n in range(8)]
    for run_id in runs:
        suspended(two_stores[0], run_id, *[wait(event, run_id, event=event) for event in events])
    emits = [lambda n=n: two_stores[n % 2].emit_event("default", events[n], "1", NOW) for n in range(8)]
    assert in_parallel(*emits) == [True] * 8
    assert sorted(due_ids(two_stores[1], NOW)) == runs
    for run_id in runs:
        assert {one.outcome for one in two_stores[0].list_waits(run_id)} == {"emitted"}


# --- forgetting --------------------------------------------------------------------------------


def test_old_events_are_deleted_and_may_be_emitted_again(store: Store) -> None:
    store.emit_event("default", "old", "1", NOW)
    store.emit_event("default", "new", "1", NOW + 5)
    assert store.delete_events(NOW + 5) == 1
    assert store.get_event("default", "old") is None
    assert store.emit_event("default", "old", "2", NOW + 6)


@pytest.mark.parametrize("queue", ["default", "mail"])
@pytest.mark.parametrize("state", ["waiting", "running", "suspended"])
def test_an_event_stays_while_a_run_that_began_before_it_may_still_ask_for_it(
    store: Store, state: str, queue: str
) -> None:
    submit(store, task(queue=queue))
    if state != "waiting":
        claim(store, queue)
    if state == "suspended":
        store.register_waits([sleep(wake_at=NOW + SECOND)], NOW)
        store.suspend_run("task", 1, seen=0, now=NOW)
    store.emit_event("default", "paid", "1", NOW + 1)
    assert store.delete_events(NOW + 9) == 0
    assert store.cancel_unowned(get(store), NOW + 9, ("RunCancelled", "on request"))
    assert store.delete_events(NOW + 9) == 1


def test_an_event_stays_for_a_run_that_was_started_directly(store: Store) -> None:
    assert store.apply([new_run("direct")]) == [None]
    store.emit_event("default", "paid", "1", NOW + 1)
    assert store.delete_events(NOW + 9) == 0
    assert store.apply([write("direct", 1, end=completed())]) == [None]
    assert store.delete_events(NOW + 9) == 1


# --- workers -----------------------------------------------------------------------------------


def test_a_worker_is_entered_lives_and_stops(store: Store) -> None:
    assert store.get_worker("w") is None
    assert store.register_worker(worker(), owner_gone=None) is None
    assert store.get_worker("w") == worker()
    assert store.heartbeat_worker("w", OWNER, NOW + 5)
    found = store.get_worker("w")
    assert found is not None
    assert (found.heartbeat_at, found.stopped_at) == (NOW + 5, None)
    assert not store.heartbeat_worker("w", OTHER, NOW + 6)
    store.stop_worker("w", OTHER, NOW + 7)  # none of its business
    store.stop_worker("w", OWNER, NOW + 8)
    (found,) = store.list_workers()
    assert (found.heartbeat_at, found.stopped_at) == (NOW + 5, NOW + 8)
    assert not store.heartbeat_worker("w", OWNER, NOW + 9)


def test_workers_are_listed_oldest_first_and_forgotten_long_after_they_stopped_or_fell_silent(store: Store) -> None:
    for n, worker_id in enumerate("dcab"):
        store.register_worker(worker(worker_id, started_at=NOW + n, heartbeat_at=NOW + n), owner_gone=None)
    assert [one.worker_id for one in store.list_workers()] == ["d", "c", "a", "b"]
    store.heartbeat_worker("c", OWNER, NOW + 2 * LEASE)
    store.stop_worker("b", OWNER, NOW + 9)
    assert store.delete_workers(NOW + 9) == 0
    assert store.delete_workers(NOW + 10) == 1
    assert [one.worker_id for one in store.list_workers()] == ["d", "c", "a"]
    assert store.delete_workers(NOW + LEASE + 1) == 1
    assert store.delete_workers(NOW + 3 * LEASE) == 1
    assert [one.worker_id for one in store.list_workers()] == ["c"]


def test_an_id_that_a_live_worker_has_is_not_given_away(store: Store) -> None:
    store.register_worker(worker(), owner_gone=None)
    late = worker(owner=OTHER, started_at=NOW + LEASE, heartbeat_at=NOW + LEASE)
    found = store.register_worker(late, owner_gone=None)
    assert found == worker()
    assert store.register_worker(late, owner_gone="somebody else") == worker()
    assert store.get_worker("w") == worker()


@pytest.mark.parametrize("how", ["stopped", "gone", "silent"])
def test_an_id_is_free_when_its_worker_stopped_died_or_fell_silent(store: Store, how: str) -> None:
    store.register_worker(worker(), owner_gone=None)
    moment = NOW + (LEASE + 1 if how == "silent" else 1)
    if how == "stopped":
        store.stop_worker("w", OWNER, NOW)
    new = worker(owner=OTHER, started_at=moment, heartbeat_at=moment, concurrency=9, queues=("a",), workflows=())
    assert store.register_worker(new, owner_gone=OWNER if how == "gone" else None) is None
    assert store.get_worker("w") == new
    assert not store.heartbeat_worker("w", OWNER, NOW)


def test_a_registration_whose_answer_was_lost_stands_when_it_comes_again(store: Store) -> None:
    assert store.register_worker(worker(), owner_gone=None) is None
    assert store.register_worker(worker(), owner_gone=None) is None


def test_a_second_worker_of_one_process_needs_an_id_of_its_own(store: Store) -> None:
    store.register_worker(worker(), owner_gone=None)
    second = worker(started_at=NOW + 1, heartbeat_at=NOW + 1)
    assert store.register_worker(second, owner_gone=None) == worker()
    store.stop_worker("w", OWNER, NOW + 2)
    assert store.register_worker(second, owner_gone=None) is None


def test_of_many_who_register_one_id_one_gets_it(two_stores: tuple[Store, Store]) -> None:
    outcomes = in_parallel(
        *[lambda n=n: two_stores[n % 2].register_worker(worker(owner=f"{n}@x#0-1"), owner_gone=None) for n in range(8)]
    )
    assert outcomes.count(None) == 1
    assert {outcome.owner for outcome in outcomes if outcome is not None} == {f"{outcomes.index(None)}@x#0-1"}


# --- queues ------------------------------------------------------------------------------------


def test_nothing_is_claimed_from_a_paused_queue_until_it_goes_on(store: Store) -> None:
    submit(store, task("a"), task("b", queue="mail"), task("c", available_at=NOW + 5))
    store.pause_queue("default", NOW + 1)
    store.pause_queue("default", NOW + 2)  # once more: it stays paused since the first time
    assert claimed_ids(store, "default", "mail", now=NOW + 9) == ["b"]
    submit(store, task("d", now=NOW + 3))
    assert claimed_ids(store, now=NOW + 9) == []
    assert [(queue.name, queue.paused_at) for queue in store.list_queues()] == [
        ("default", NOW + 1),
        ("mail", None),
    ]
    assert store.resume_queue("default")
    assert not store.resume_queue("default")
    assert not store.resume_queue("nobody")
    assert claimed_ids(store, now=NOW + 9) == ["a", "c", "d"]


def test_a_paused_queue_goes_on_with_what_is_running_and_takes_back_what_is_rescued(store: Store) -> None:
    started(store)
    store.pause_queue("default", NOW)
    assert store.heartbeat_owner(OWNER, now=NOW, lease=LEASE) == {("task", 1)}
    store.rescue_tasks(now=NOW, limit=9, max_rescues=5, owner_gone=OWNER, reason=DIED)
    assert claimed_ids(store) == []
    store.resume_queue("default")
    assert claimed_ids(store) == ["task"]


def test_queues_tell_how_deep_they_are_and_since_when_the_oldest_waits(store: Store) -> None:
    assert store.list_queues() == []
    submit(store, *[task(f"t{n}", now=NOW + n) for n in range(5)], task("m", queue="mail", now=NOW + 9))
    claim(store, limit=2)
    store.register_waits([wait(run_id="t0")], NOW)
    store.suspend_run("t0", 1, seen=0, now=NOW)
    store.pause_queue("empty", NOW + 3)
    (one,) = claim(store, "mail")
    assert store.apply([write(one.run.run_id, 1, end=completed())]) == [None]
    assert store.list_queues() == [
        QueueInfo("default", pending=3, running=1, suspended=1, oldest_at=NOW + 2, paused_at=None),
        QueueInfo("empty", pending=0, running=0, suspended=0, oldest_at=None, paused_at=NOW + 3),
    ]


def test_news_are_heard_of_in_another_store_too(two_stores: tuple[Store, Store]) -> None:
    listener, speaker = two_stores
    changes = [
        lambda: submit(speaker, task("a")),
        lambda: speaker.emit_event("default", "paid", "1", NOW),
        lambda: claim(speaker) and speaker.release_task("a", 1, now=NOW, available_at=None, reason=DIED),
        lambda: speaker.pause_queue("default", NOW) or speaker.resume_queue("default"),
    ]
    suspended(speaker, "waiting")
    heard = listener.await_news(None, 0)
    while (news := listener.await_news(heard, 0.3)) != heard:  # whatever came before
        heard = news
    for change in changes:
        change()
        deadline = time.monotonic() + 10
        while (news := listener.await_news(heard, 1.0)) == heard:
            assert time.monotonic() < deadline
        while (news := listener.await_news(heard, 0.1)) != heard:
            heard = news
