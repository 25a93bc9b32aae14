"""The verbs of schedules, on every database."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from rows import NOW, OWNER

from milepost.model import UNCHECKED_INPUTS, Schedule
from milepost.store import NewTask, Store

MINUTE = 60_000_000


def schedule(name: str = "s", **changes: Any) -> Schedule:
    fields: dict[str, Any] = {
        "name": name,
        "workflow": "workflow",
        "target": "jobs.py:dag",
        "hash": "hash",
        "queue": "default",
        "priority": 0,
        "cron": None,
        "every": MINUTE,
        "timezone": "UTC",
        "start_at": NOW,
        "catch_up": False,
        "max_active": None,
        "inputs": "{}",
        "next_at": NOW + MINUTE,
        "paused_at": None,
        "created_at": NOW,
    }
    return Schedule(**{**fields, **changes})


def task(run_id: str, key: str | None = None, name: str = "s", **changes: Any) -> NewTask:
    fields: dict[str, Any] = {
        "workflow": "workflow",
        "kind": "dag",
        "queue": "default",
        "inputs": "{}",
        "now": NOW,
        "definition_hash": "hash",
        "created_by": f"schedule:{name}",
        "idempotency_key": key,
    }
    return NewTask(run_id=run_id, **{**fields, **changes})


def add(store: Store, *schedules: Schedule) -> None:
    for one in schedules:
        assert store.insert_schedule(one, "{}")


def claim(store: Store, now: int = NOW) -> Any:
    return store.claim_tasks(["default"], owner=OWNER, now=now, lease=MINUTE, limit=10)


def test_a_schedule_comes_back_as_it_was_put_in(store: Store):
    one = schedule(cron="0 2 * * *", every=None, catch_up=True, max_active=3, priority=-1, next_at=None, hash=None)
    add(store, one)
    assert store.get_schedule("s") == one
    assert store.get_schedule("t") is None


def test_a_name_is_taken_once_and_putting_the_same_in_again_is_no_other(store: Store):
    add(store, schedule())
    assert store.insert_schedule(schedule(), "{}")  # as after a commit whose answer was lost
    assert not store.insert_schedule(schedule(every=2 * MINUTE), "{}")
    assert store.get_schedule("s") == schedule()


def test_the_definition_comes_with_the_schedule_and_stays_as_long_as_it(store: Store):
    add(store, schedule())
    store.delete_runs(NOW + MINUTE, 10)
    assert store.get_definition("hash") == "{}"
    store.fire_schedule(schedule(), None, [task("run", "key")])
    assert store.get_run("run").hash == "hash"  # type: ignore[union-attr]


def test_schedules_are_listed_by_name_and_due_ones_by_their_tick(store: Store):
    add(store, schedule("b"), schedule("a", next_at=NOW + 2 * MINUTE), schedule("c", next_at=None), schedule("d"))
    store.pause_schedule("d", NOW)
    assert [one.name for one in store.list_schedules()] == ["a", "b", "c", "d"]
    assert [one.name for one in store.list_due_schedules(NOW + 2 * MINUTE)] == ["b", "a"]
    assert [one.name for one in store.list_due_schedules(NOW + 2 * MINUTE - 1)] == ["b"]
    assert store.next_schedule_at() == NOW + MINUTE
    for name in "ab":
        store.delete_schedule(name)
    assert store.next_schedule_at() is None


def test_due_schedules_come_in_pages(store: Store):
    add(store, *[schedule(name, next_at=NOW + at) for name, at in (("a", 2), ("b", 1), ("c", 1), ("d", 3))])
    first = store.list_due_schedules(NOW + 9, 2)
    second = store.list_due_schedules(NOW + 9, 2, after=first[-1])
    assert [one.name for one in first + second] == ["b", "c", "a", "d"]
    assert store.list_due_schedules(NOW + 9, 2, after=second[-1]) == []


def test_whoever_moves_a_schedule_on_submits_and_whoever_comes_later_does_not(store: Store):
    add(store, schedule())
    (outcome,) = store.fire_schedule(schedule(), NOW + 2 * MINUTE, [task("first", "key")])
    assert outcome.is_new
    assert store.fire_schedule(schedule(), NOW + 3 * MINUTE, [task("second", "other")]) == []
    assert store.get_schedule("s").next_at == NOW + 2 * MINUTE  # type: ignore[union-attr]
    assert [one.run.run_id for one in claim(store)] == ["first"]


@pytest.mark.parametrize("change", ["paused", "removed", "another"])
def test_a_schedule_that_changed_since_it_was_read_is_not_fired(store: Store, change: str):
    add(store, schedule())
    if change == "paused":
        store.pause_schedule("s", NOW)
    else:
        assert store.delete_schedule("s")
    if change == "another":
        add(store, schedule(created_at=NOW + 1))
    assert store.fire_schedule(schedule(), NOW + 2 * MINUTE, [task("run")]) == []
    assert store.get_run("run") is None


def test_a_tick_that_had_its_run_moves_on_without_a_second_one(store: Store):
    add(store, schedule())
    store.submit_tasks([task("backfilled", "key")])
    (outcome,) = store.fire_schedule(schedule(), None, [task("run", "key")])
    assert (outcome.run_id, outcome.is_new) == ("backfilled", False)
    assert store.get_schedule("s").next_at is None  # type: ignore[union-attr]


def test_firing_that_fails_leaves_the_tick_as_due_as_it_was(store: Store):
    add(store, schedule())
    store.submit_tasks([task("run")])
    with pytest.raises(Exception, match="A run 'run' exists already"):
        store.fire_schedule(schedule(), None, [task("new"), dataclasses.replace(task("run"), now=NOW + 1)])
    assert store.get_schedule("s") == schedule()
    assert store.get_run("new") is None


def test_pausing_and_resuming_say_whether_they_changed_anything(store: Store):
    add(store, schedule())
    assert not store.resume_schedule("s", NOW)
    assert store.pause_schedule("s", NOW + 1)
    assert not store.pause_schedule("s", NOW + 2)
    assert store.get_schedule("s") == schedule(paused_at=NOW + 1)
    assert store.resume_schedule("s", NOW + 5)
    assert store.get_schedule("s") == schedule(next_at=NOW + 5)
    assert store.delete_schedule("s")
    assert not store.delete_schedule("s")


def test_runs_of_a_schedule_are_counted_until_they_end_and_the_newest_is_found(store: Store):
    add(store, schedule())
    store.submit_tasks([task("old"), task("new", now=NOW + 1), task("other", name="t", now=NOW + 2)])
    assert (store.count_active_runs("schedule:s"), store.count_active_runs("schedule:u")) == (2, 0)
    assert store.last_run_of("schedule:s").run_id == "new"  # type: ignore[union-attr]
    assert store.last_run_of("schedule:u") is None
    claim(store)
    assert store.count_active_runs("schedule:s") == 2
    store.release_task("old", 1, now=NOW, available_at=None, reason=("Released", "for this test"))
    run = store.get_run("old")
    assert run is not None
    assert store.cancel_unowned(run, NOW, ("RunCancelled", "for this test"))
    assert store.count_active_runs("schedule:s") == 1


def test_unchecked_inputs_are_replaced_once_by_who_holds_the_lease(store: Store):
    store.submit_tasks([task("run", headers=UNCHECKED_INPUTS, definition="{}")])
    (claimed,) = claim(store)
    assert claimed.payload.has_unchecked_inputs
    assert not store.adopt_inputs("run", claimed.run.lease_epoch + 1, '{"a":1}')
    assert store.adopt_inputs("run", claimed.run.lease_epoch, '{"a":2}')
    payload = store.get_run_payload("run")
    assert payload is not None
    assert (payload.inputs, payload.has_unchecked_inputs) == ('{"a":2}', False)


def test_a_file_s_clock_is_the_caller_s_and_a_server_s_its_own(store: Store):
    assert (store.read_clock(NOW) == NOW) is not store.is_shared
