"""What a driver writes of its steps: each write counts once, whole, and only under the current lease."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from rows import (
    LEASE,
    NOW,
    checkpoint,
    completed,
    edge,
    end,
    failed,
    failure,
    new_run,
    progress,
    start,
    write,
)

from milepost.errors import LeaseLost, StoreError
from milepost.model import Checkpoint, Edge, StepAttempt
from milepost.states import StepStatus
from milepost.store import RunWrite, Store, Write

OTHER = "18@there#1-2"


def kinds(store: Store, *batch: Write) -> list[type[Exception] | None]:
    return [None if outcome is None else type(outcome) for outcome in store.apply(batch)]


def stand(store: Store, *batch: Write) -> None:
    assert store.apply(batch) == [None] * len(batch)


def take_over(store: Store, run_id: str = "run") -> int:
    """Claim a run for somebody else and return the new epoch."""
    run = store.get_run(run_id)
    assert run is not None
    claimed = store.claim_run(
        run,
        owner=OTHER,
        now=NOW + 100,
        lease_until=NOW + LEASE,
        attempt=1,
        target=None,
        reason=("ProcessDied", "gone"),
    )
    return claimed.lease_epoch


def everything(store: Store, run_id: str = "run") -> tuple[Any, ...]:
    """Return all that the store tells of a run."""
    steps = [attempt for step in store.list_steps(run_id) for attempt in store.get_step(run_id, step.label)]
    return (
        store.get_run(run_id),
        store.get_run_payload(run_id),
        store.list_attempts(run_id),
        steps,
        store.list_edges(run_id),
        store.list_checkpoints(run_id),
    )


# --- starts and ends ---------------------------------------------------------------------------


def test_a_start_and_its_end_become_one_row(store: Store) -> None:
    stand(store, new_run(), write(starts=[start(input='{"a":1}', seq=3)]))
    (running,) = store.get_step("run", "step")
    assert (running.status, running.finished_at, running.output) == (StepStatus.RUNNING, None, None)
    stand(store, write(ends=[end(input="ignored", seq=9, output='{"b":2}')]))
    (done,) = store.get_step("run", "step")
    assert done == StepAttempt(
        run_id="run",
        label="step",
        attempt=1,
        seq=3,
        lease_epoch=1,
        kind="step",
        parent=None,
        status=StepStatus.COMPLETED,
        input='{"a":1}',
        output='{"b":2}',
        storage="inline",
        output_hash=done.output_hash,
        error_type=None,
        error_message=None,
        error_traceback=None,
        progress_done=None,
        progress_total=None,
        progress_message=None,
        started_at=NOW + 1,
        finished_at=NOW + 2,
    )


def test_an_end_without_a_start_carries_both(store: Store) -> None:
    stand(store, new_run(), write(ends=[failure(input='{"a":1}', seq=4)]))
    (attempt,) = store.get_step("run", "step")
    assert (attempt.status, attempt.input, attempt.seq, attempt.started_at, attempt.finished_at) == (
        StepStatus.FAILED,
        '{"a":1}',
        4,
        NOW + 1,
        NOW + 2,
    )
    assert (attempt.error_type, attempt.error_message, attempt.error_traceback) == ("ValueError", "no", "Traceback ...")


@pytest.mark.parametrize("together", [True, False])
def test_a_start_that_arrives_after_its_end_changes_nothing(store: Store, together: bool) -> None:
    late = start(input="late", seq=9)
    stand(store, new_run())
    if together:
        stand(store, write(ends=[end()]), write(starts=[late]))
    else:
        stand(store, write(ends=[end()]))
        stand(store, write(starts=[late]))
    (attempt,) = store.get_step("run", "step")
    assert (attempt.status, attempt.finished_at) == (StepStatus.COMPLETED, NOW + 2)


def test_an_end_that_stands_is_never_written_over(store: Store) -> None:
    stand(store, new_run(), write(ends=[end(output='"first"')]))
    before = everything(store)
    stand(store, write(ends=[end(output='"second"')]))
    stand(store, write(ends=[failure()]))
    assert everything(store) == before


def test_every_attempt_keeps_its_row(store: Store) -> None:
    stand(store, new_run(), write(ends=[failure()]), write(ends=[failure(attempt=2)]), write(ends=[end(attempt=3)]))
    assert [(a.attempt, a.status) for a in store.get_step("run", "step")] == [
        (1, "failed"),
        (2, "failed"),
        (3, "completed"),
    ]


def test_texts_come_back_as_they_went(store: Store) -> None:
    text = "'\"\\ ünï 🎉 \r\n\t ; -- :name ?1 %s {run_columns} \x7f"
    stand(store, new_run(), write(ends=[end(text, output=text, error_message=text, input=text)]))
    (attempt,) = store.get_step("run", text)
    assert (attempt.label, attempt.output, attempt.error_message, attempt.input) == (text,) * 4
    assert store.get_output("run", text) == (text, "inline")


def test_large_outputs_are_kept_whole(store: Store) -> None:
    text = "x" * 3_000_000
    stand(store, new_run(), write(ends=[end(output=text)]))
    assert store.get_output("run", "step") == (text, "inline")


# --- the fence ---------------------------------------------------------------------------------

STALE: dict[str, RunWrite] = {
    "start": write(starts=[start("new")]),
    "end": write(ends=[end("new")]),
    "end of an open step": write(ends=[end("open")]),
    "several ends": write(ends=[end("new"), end("newer"), end("open")]),
    "edge alone": write(edges=[edge("done", "open")]),
    "edge with an end": write(ends=[end("new")], edges=[edge("done", "new")]),
    "progress": write(progress=[progress("open")]),
    "checkpoint": write(checkpoints=[checkpoint("x", '"stale"')]),
    "end of the run": write(end=completed()),
    "end of the run with edges": write(edges=[edge("done", "open")], end=failed()),
    "everything": write(
        starts=[start("new")],
        ends=[end("open")],
        edges=[edge("done", "open")],
        progress=[progress("open")],
        checkpoints=[checkpoint("x", '"stale"')],
        end=failed(),
    ),
}


def _prepare(store: Store) -> None:
    stand(
        store,
        new_run(),
        write(starts=[start("open", seq=2)], ends=[end("done")], checkpoints=[checkpoint("x", '"kept"')]),
    )


@pytest.mark.parametrize("what", STALE)
def test_whoever_lost_the_lease_writes_nothing_and_is_told(store: Store, what: str) -> None:
    _prepare(store)
    take_over(store)
    before = everything(store)
    assert kinds(store, STALE[what]) == [LeaseLost]
    assert everything(store) == before


@pytest.mark.parametrize("what", STALE)
def test_nobody_writes_to_a_run_that_has_ended(store: Store, what: str) -> None:
    _prepare(store)
    stand(store, write(end=failed(NOW + 8)))
    before = everything(store)
    assert kinds(store, STALE[what]) == [LeaseLost]
    assert everything(store) == before


@pytest.mark.parametrize("what", STALE)
def test_an_epoch_that_was_never_granted_writes_nothing(store: Store, what: str) -> None:
    _prepare(store)
    before = everything(store)
    late = dataclasses.replace(
        STALE[what],
        lease_epoch=5,
        starts=[row._replace(lease_epoch=5) for row in STALE[what].starts],
        ends=[row._replace(lease_epoch=5) for row in STALE[what].ends],
        progress=[row._replace(lease_epoch=5) for row in STALE[what].progress],
        checkpoints=[row._replace(lease_epoch=5) for row in STALE[what].checkpoints],
    )
    assert kinds(store, late) == [LeaseLost]
    assert everything(store) == before


@pytest.mark.parametrize("what", STALE)
def test_a_stale_write_does_not_spoil_a_fresh_one_of_the_same_run_in_its_batch(store: Store, what: str) -> None:
    _prepare(store)
    epoch = take_over(store)
    fresh = [
        write(epoch=epoch, ends=[end("new", lease_epoch=epoch, output='"fresh"')], edges=[edge("done", "new")]),
        write(epoch=epoch, checkpoints=[checkpoint("x", '"fresh"', epoch=epoch)]),
    ]
    assert kinds(store, fresh[0], STALE[what], fresh[1]) == [None, LeaseLost, None]
    assert store.get_output("run", "new") == ('"fresh"', "inline")
    assert store.list_edges("run") == [Edge("run", "done", "new", NOW + 2)]
    assert store.get_checkpoint("run", "step", "x") == '"fresh"'
    run = store.get_run("run")
    assert run is not None
    assert run.status == "running"
    assert store.check() == []


def test_a_new_owner_numbers_its_attempts_after_those_that_were_cut_short(store: Store) -> None:
    _prepare(store)
    epoch = take_over(store)
    stand(store, write(epoch=epoch, ends=[end("open", attempt=2, lease_epoch=epoch)]))
    assert [(a.attempt, a.status, a.lease_epoch) for a in store.get_step("run", "open")] == [
        (1, "cancelled", 1),
        (2, "completed", 2),
    ]


# --- batches -----------------------------------------------------------------------------------


def test_a_poisoned_write_does_not_spoil_the_others(store: Store) -> None:
    stand(store, new_run("a"), new_run("b"))
    poison: list[RunWrite] = [
        write("a", ends=[end("x", "a", status="no such state")]),
        write("a", ends=[end("x", "a", storage="nowhere")]),
        write("a", ends=[end("x", "a", seq=None)]),
        write("a", ends=[end("x", "a", finished_at=2**64)]),
        write("a", ends=[end("x", "a", error_message="half a pair: \ud800")]),
        write("a", ends=[end("good", "a"), end("x", "a", input=object())]),
        write("a", progress=[progress("y", "a", progress_done="many")], starts=[start("y", "a")]),
    ]
    good = [write("b", ends=[end(f"step{n}", "b", seq=n)], edges=[edge("x", f"step{n}", "b")]) for n in range(8)]
    batch = [item for pair in itertools.zip_longest(good, poison) for item in pair if item is not None]
    outcomes = store.apply(batch)
    assert [type(outcome) for outcome in outcomes] == [StoreError if w.run_id == "a" else type(None) for w in batch]
    assert store.list_steps("a") == []  # nor does half of a poisoned write stand
    assert [step.label for step in store.list_steps("b")] == [f"step{n}" for n in range(8)]
    for outcome in outcomes:
        assert outcome is None or ("\n" not in str(outcome) and outcome.__cause__ is not None)


def test_a_poisoned_write_alone_is_an_answer_and_not_a_crash(store: Store) -> None:
    stand(store, new_run())
    for row in (end(status="no such state"), end(finished_at=2**64), end(error_message="\ud800"), end(input=object())):
        assert kinds(store, write(ends=[row])) == [StoreError]
        assert kinds(store, write(ends=[row], edges=[edge("a", "b")])) == [StoreError]
    assert (store.list_steps("run"), store.list_edges("run")) == ([], [])


def test_a_refused_batch_leaves_the_next_ones_what_they_need(store: Store) -> None:
    stand(store, new_run())
    # Of several statements, which a driver may have prepared and lets go of when it rolls back.
    poison = write(starts=[start("x")], ends=[end("y", status="no such state")])
    for number in range(3):
        stand(store, write(ends=[end(f"a{number}"), end(f"b{number}")]))
        for more in range(4):
            stand(store, write(starts=[start(f"c{number}{more}")]))
        assert kinds(store, poison) == [StoreError]


def test_a_run_and_its_first_steps_may_share_a_batch(store: Store) -> None:
    stand(store, new_run(), write(starts=[start()]), write(ends=[end()]), write(ends=[end("last")], end=completed()))
    assert [(s.label, s.status) for s in store.list_steps("run")] == [("last", "completed"), ("step", "completed")]


def test_what_comes_after_the_end_of_a_run_in_one_batch_is_refused(store: Store) -> None:
    last = write(ends=[end()], end=completed())
    late: list[RunWrite] = [
        write(starts=[start("late")]),
        write(ends=[end("late")]),
        write(checkpoints=[checkpoint("late", "1")]),
        write(edges=[edge("step", "late")]),
        write(end=failed()),
    ]
    stand(store, new_run())
    assert kinds(store, last, *late, last) == [None, *[LeaseLost] * len(late), None]
    assert [step.label for step in store.list_steps("run")] == ["step"]
    assert (store.list_edges("run"), store.list_checkpoints("run")) == ([], [])
    assert store.check() == []


def test_a_stale_end_that_is_repeated_in_one_batch_is_refused_each_time(store: Store) -> None:
    stand(store, new_run())
    take_over(store)
    last = write(ends=[end()], end=completed())
    assert kinds(store, last, last) == [LeaseLost, LeaseLost]
    assert store.list_steps("run") == []


def test_an_end_that_stands_is_known_again_behind_a_stale_one(store: Store) -> None:
    stood = write(ends=[end()], end=completed(NOW + 9))
    stand(store, new_run(), stood)
    assert kinds(store, write(end=failed(NOW + 8)), stood, write(end=completed(NOW + 10)), stood) == [
        LeaseLost,
        None,
        LeaseLost,
        None,
    ]


def test_progress_that_comes_with_a_stale_end_is_refused_with_it(store: Store) -> None:
    stand(store, new_run(), write(starts=[start()], end=completed(NOW + 9)))
    assert kinds(store, write(progress=[progress()], end=failed(NOW + 8))) == [LeaseLost]
    (attempt,) = store.get_step("run", "step")
    assert attempt.progress_done is None


def test_an_empty_batch_and_an_empty_write_change_nothing(store: Store) -> None:
    assert store.apply([]) == []
    stand(store, new_run())
    before = everything(store)
    stand(store, write())
    assert everything(store) == before
    assert kinds(store, write(epoch=2)) == [LeaseLost]


@pytest.mark.parametrize(
    "parts",
    [
        {"starts": [start("a")]},
        {"ends": [end("a"), failure("b")], "edges": [edge("a", "b")]},
        {"starts": [start("a", seq=2)], "ends": [end("b")], "progress": [progress("a")]},
        {"checkpoints": [checkpoint("x", "1")]},
        {"starts": [start("a")], "ends": [failure("b")], "edges": [edge("a", "b")], "end": failed()},
        {"ends": [end("a")], "checkpoints": [checkpoint("x", "1")], "end": completed()},
    ],
    ids="+".join,
)
def test_a_write_that_is_applied_again_changes_nothing_and_succeeds(store: Store, parts: dict[str, Any]) -> None:
    stand(store, new_run())
    again = write(**parts)
    stand(store, again)
    before = everything(store)
    stand(store, again)
    stand(store, again, again)
    assert everything(store) == before


def test_many_rows_are_written_at_once(store: Store) -> None:
    ends = [end(f"map[{n}]", kind="element", parent="map", seq=n) for n in range(5000)]
    stand(store, new_run(), write(starts=[start("map", kind="map", storage="elements")], ends=ends))
    assert store.count_steps("run") == {"completed": 5000}
    assert store.max_seq("run") == 4999


# --- edges, progress, checkpoints --------------------------------------------------------------


def test_an_edge_keeps_the_time_of_its_first_traversal(store: Store) -> None:
    stand(store, new_run(), write(ends=[end("a"), end("b")], edges=[edge("a", "b", at=NOW + 5)]))
    stand(store, write(edges=[edge("a", "b", at=NOW + 9), edge("b", "c", at=NOW + 4)]))
    assert store.list_edges("run") == [Edge("run", "b", "c", NOW + 4), Edge("run", "a", "b", NOW + 5)]


def test_progress_belongs_to_a_running_attempt(store: Store) -> None:
    stand(store, new_run(), write(starts=[start()]), write(progress=[progress()]))
    (attempt,) = store.get_step("run", "step")
    assert (attempt.progress_done, attempt.progress_total, attempt.progress_message) == (1, 2, "half")
    stand(store, write(progress=[progress(progress_done=2, progress_message="done")]))
    stand(store, write(ends=[end()]))
    stand(store, write(progress=[progress(progress_done=9), progress("nothing")]))  # too late, and no harm
    (attempt,) = store.get_step("run", "step")
    assert (attempt.status, attempt.progress_done, attempt.progress_message) == ("completed", 2, "done")


def test_a_checkpoint_is_replaced_by_the_next_of_its_name(store: Store) -> None:
    stand(store, new_run(), write(checkpoints=[checkpoint("x", "1"), checkpoint("y", "2")]))
    stand(store, write(checkpoints=[checkpoint("x", "3"), checkpoint("x", "4", label="other")]))
    assert store.list_checkpoints("run") == [
        Checkpoint("run", "other", "x", "4", NOW + 3),
        Checkpoint("run", "step", "x", "3", NOW + 3),
        Checkpoint("run", "step", "y", "2", NOW + 3),
    ]
    assert store.get_checkpoint("run", "step", "x") == "3"
    assert store.get_checkpoint("run", "step", "z") is None
    epoch = take_over(store)
    stand(store, write(epoch=epoch, checkpoints=[checkpoint("x", "5", epoch=epoch)]))
    assert store.get_checkpoint("run", "step", "x") == "5"
