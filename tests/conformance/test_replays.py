"""Runs that begin with what another one made, and runs that are paused."""

from __future__ import annotations

import pytest
from rows import LEASE, NOW, OWNER, completed, end, failed, failure, new_run, start, write

from milepost.errors import RunExists
from milepost.model import Run
from milepost.states import RunStatus, StepStatus
from milepost.store import NewRun, NewTask, NewWait, RunEnd, Store, Write

PAUSED = RunEnd(RunStatus.SUSPENDED, NOW + 9, "step", "DagPause", "wait for me", outcome="pause")


def stand(store: Store, *batch: Write) -> None:
    assert store.apply(batch) == [None] * len(batch)


def get(store: Store, run_id: str = "run") -> Run:
    run = store.get_run(run_id)
    assert run is not None
    return run


def replay_of(source: str, run_id: str = "again") -> NewRun:
    return new_run(run_id, now=NOW + 50, replay_of=source, headers='{"replay":{}}')


def task(run_id: str = "again", **changes: str) -> NewTask:
    return NewTask(
        run_id=run_id, workflow="workflow", kind="dag", queue="q", inputs="{}", now=NOW + 50, replay_of="run", **changes
    )


def claim(store: Store, run: Run) -> Run:
    return store.claim_run(
        run, owner=OWNER, now=NOW + 60, lease_until=NOW + LEASE, attempt=1, target=None, reason=("ProcessDied", "gone")
    )


def original(store: Store) -> None:
    stand(
        store,
        new_run(),
        write(
            ends=[
                failure("a"),
                end("a", attempt=2, seq=3, output="2"),
                end("b", seq=4, output='"b"', input='{"x":{"step":"a"}}'),
                end("many", seq=5, kind="map", storage="elements", output=None, progress_total=2),
                end("many[0]", seq=6, kind="element", parent="many", output="0"),
                end("many[1]", seq=7, kind="element", parent="many", output="1"),
                failure("late", seq=8),
            ],
            end=failed(),
        ),
    )


# --- replays -----------------------------------------------------------------------------------------


def test_a_replay_has_the_last_completed_attempt_of_each_chosen_step_as_a_first_skipped_one(store: Store) -> None:
    original(store)
    assert store.create_replay(replay_of("run"), "run", ["a", "b", "late", "unknown"]).is_new
    steps = store.list_steps("again")
    assert {(s.label, s.attempt, s.status, s.seq) for s in steps} == {
        ("a", 1, StepStatus.SKIPPED, 3),
        ("b", 1, StepStatus.SKIPPED, 4),
    }
    (b,) = store.get_step("again", "b")
    assert (b.input, b.output, b.started_at, b.finished_at) == ('{"x":{"step":"a"}}', '"b"', NOW + 50, NOW + 50)
    assert b.output_hash == store.get_step("run", "b")[0].output_hash
    assert store.get_output("again", "a") == ("2", "inline")


def test_a_replay_copies_a_map_with_the_elements_that_are_named(store: Store) -> None:
    original(store)
    store.create_replay(replay_of("run"), "run", ["many", "many[1]"])
    assert {(s.label, s.parent, s.progress_total) for s in store.list_steps("again")} == {
        ("many", None, 2),
        ("many[1]", "many", None),
    }
    assert list(store.list_element_outputs("again", "many")) == [("many[1]", "1", "inline")]


def test_a_replay_says_what_it_is_a_replay_of_and_where_each_output_came_from(store: Store) -> None:
    original(store)
    store.create_replay(replay_of("run"), "run", ["a"])
    run = get(store, "again")
    assert (run.replay_of, run.status, run.lease_owner, run.lease_epoch) == ("run", RunStatus.RUNNING, OWNER, 1)
    payload = store.get_run_payload("again")
    assert payload is not None
    assert payload.headers == '{"replay":{}}'
    store.create_replay(replay_of("again", "third"), "again", ["a"])
    assert [s.origin_run_id for s in store.list_steps("third")] == ["run"]
    assert [s.origin_run_id for s in store.list_steps("run")] == [None] * 7


def test_a_replay_under_a_used_id_is_refused_and_writes_nothing(store: Store) -> None:
    original(store)
    stand(store, new_run("again", owner="18@there#1-2"))
    with pytest.raises(RunExists):
        store.create_replay(replay_of("run"), "run", ["a"])
    assert store.list_steps("again") == []
    with pytest.raises(RunExists):
        store.create_replay(task(), "run", ["a"])
    assert store.list_steps("again") == []


def test_a_replay_whose_answer_was_lost_is_not_made_twice(store: Store) -> None:
    original(store)
    for _ in range(2):
        assert store.create_replay(replay_of("run"), "run", ["a", "b"]).is_new
    assert [(s.label, s.attempt) for s in store.list_steps("again")] == [("a", 1), ("b", 1)]


def test_a_replay_in_a_queue_is_claimed_with_its_skipped_steps(store: Store) -> None:
    original(store)
    store.create_replay(task(), "run", ["a"])
    assert get(store, "again").status == RunStatus.PENDING
    (claimed,) = store.claim_tasks(["q"], owner=OWNER, now=NOW + 60, lease=LEASE, limit=4)
    assert (claimed.run.run_id, claimed.run.replay_of) == ("again", "run")
    assert [(row.label, row.status, row.run_attempt) for row in store.list_step_rows("again")] == [("a", "skipped", 1)]


def test_what_each_step_was_given_is_told_with_the_claim_that_executed_it(store: Store) -> None:
    original(store)
    assert [tuple(row) for row in store.list_inputs("run")] == [
        ("a", "{}", 1, None),
        ("b", '{"x":{"step":"a"}}', 1, None),
        ("many", "{}", 1, None),
    ]


def test_another_definition_is_noted_with_the_claim_and_outlives_the_cleaning_of_unused_ones(store: Store) -> None:
    stand(store, new_run(), write(end=failed()))
    epoch = claim(store, get(store)).lease_epoch
    store.note_definition("run", epoch, hash_="other", workflow="workflow", document='{"n":1}', now=NOW + 61)
    assert [attempt.hash for attempt in store.list_attempts("run")] == [None, "other"]
    stand(store, new_run("old", now=NOW - 9), write("old", end=completed(NOW - 5)))
    assert store.delete_runs(NOW, 10) == 1
    assert store.get_definition("other") == '{"n":1}'


# --- pauses ------------------------------------------------------------------------------------------


def test_a_paused_run_is_suspended_without_a_lease_and_nothing_is_due(store: Store) -> None:
    stand(store, new_run(), write(ends=[end("step", status="pending", output=None, finished_at=None)], end=PAUSED))
    run = get(store)
    assert (run.status, run.lease_owner, run.available_at, run.finished_at) == (RunStatus.SUSPENDED, None, None, None)
    assert (run.error_type, run.error_message) == ("DagPause", "wait for me")
    assert [(s.status, s.finished_at) for s in store.list_steps("run")] == [(StepStatus.PENDING, None)]
    assert [attempt.status for attempt in store.list_attempts("run")] == ["suspended"]
    assert store.check() == []


def test_a_pause_whose_answer_was_lost_stands(store: Store) -> None:
    stand(store, new_run(), write(end=PAUSED))
    assert store.apply([write(end=PAUSED)]) == [None]


def test_whoever_takes_up_a_paused_run_closes_the_attempt_that_paused_it(store: Store) -> None:
    stand(store, new_run(), write(ends=[end("step", status="pending", output=None, finished_at=None)], end=PAUSED))
    claimed = claim(store, get(store))
    assert (claimed.status, claimed.error_type, claimed.pause_requested_at) == (RunStatus.RUNNING, None, None)
    assert [(s.status, s.finished_at) for s in store.list_steps("run")] == [(StepStatus.CANCELLED, NOW + 60)]


def test_neither_a_time_nor_an_event_wakes_a_paused_run(store: Store) -> None:
    store.submit_tasks([task("run")])
    store.claim_tasks(["q"], owner=OWNER, now=NOW, lease=LEASE, limit=1)
    store.register_waits(
        [NewWait("run", 1, "e", "event", "q", "go", None), NewWait("run", 1, "s", "sleep", None, None, NOW + 70)], NOW
    )
    stand(store, write(end=PAUSED))
    assert store.emit_event("q", "go", "1", NOW + 80)
    assert store.claim_tasks(["q"], owner=OWNER, now=NOW + 90, lease=LEASE, limit=1) == []
    assert get(store).status == RunStatus.SUSPENDED


def test_a_request_to_pause_reaches_the_owner_and_ends_with_the_claim(store: Store) -> None:
    stand(store, new_run("a"), new_run("b"), write("b", end=completed()))
    assert store.request_pause("a", NOW + 5)
    assert not store.request_pause("b", NOW + 5)
    assert not store.request_pause("nothing", NOW + 5)
    assert store.list_stop_requests(OWNER) == [("a", 1, False)]
    store.request_cancel("a", NOW + 6)
    assert store.list_stop_requests(OWNER) == [("a", 1, True)]
    stand(store, write("a", starts=[start()], end=failed()))
    assert claim(store, get(store, "a")).pause_requested_at is None
    assert store.list_stop_requests(OWNER) == []


def test_a_child_says_which_step_of_its_parent_it_belongs_to(store: Store) -> None:
    stand(store, new_run(), new_run("child", parent_run_id="run", parent_step="many[3]", root_run_id="run"))
    assert (get(store, "child").parent_run_id, get(store, "child").parent_step) == ("run", "many[3]")
