"""Many rows at once: what one statement carries must stand as if each row had come alone."""

from __future__ import annotations

import pytest
from rows import LEASE, NOW, OWNER, completed, end, failed, new_run, progress, start, write

from milepost.errors import LeaseLost, RunExists, StoreError
from milepost.states import RunStatus
from milepost.store import NewTask, RunEnd, Store
from milepost.values import content_hash

RUNS = ("a", "b", "c", "d")
TEXTS = ["plain", 'a "quoted" word', "back\\slash", "{1,2}", "NULL", "", "line\nbreak", "ä€😀", "tab\t,", "'", '\\"']


def _task(run_id: str, **changes: object) -> NewTask:
    fields = {"workflow": "w", "kind": "dag", "queue": "q", "inputs": "{}", "now": NOW}
    return NewTask(run_id=run_id, **{**fields, **changes})  # type: ignore[arg-type]


def _claim(store: Store, limit: int = 100) -> list[str]:
    return [task.run.run_id for task in store.claim_tasks(["q"], owner=OWNER, now=NOW, lease=LEASE, limit=limit)]


# --- runs and steps ----------------------------------------------------------------------------


def test_texts_of_every_kind_come_back_from_a_batch_as_they_went_in(store: Store) -> None:
    store.apply([new_run()])
    ends = [end(f"s{n}", output=text, seq=n) for n, text in enumerate(TEXTS)]
    assert store.apply([write(ends=ends)]) == [None]
    for n, text in enumerate(TEXTS):
        (step,) = store.get_step("run", f"s{n}")
        assert (step.output, step.output_hash) == (text, content_hash(text))


def test_missing_values_stand_between_given_ones(store: Store) -> None:
    store.apply([new_run()])
    ends = [
        end("a", output=None, output_hash=None, error_message="NULL"),
        end("b", output='"', error_message=None),
        end("c", output=None, output_hash=None, progress_total=3),
    ]
    assert store.apply([write(ends=ends)]) == [None]
    found = [store.get_step("run", label)[0] for label in "abc"]
    assert [(step.output, step.error_message, step.progress_total) for step in found] == [
        (None, "NULL", None),
        ('"', None, None),
        (None, None, 3),
    ]


def test_many_runs_begin_in_one_batch_and_one_with_a_used_id_is_told_so(store: Store) -> None:
    store.apply([new_run("b", owner="somebody else")])
    outcomes = store.apply([new_run(run_id, inputs=f'"{run_id}"') for run_id in RUNS])
    assert [type(outcome) for outcome in outcomes] == [type(None), RunExists, type(None), type(None)]
    for run_id in RUNS:
        payload = store.get_run_payload(run_id)
        assert payload is not None
        assert payload.inputs == ("{}" if run_id == "b" else f'"{run_id}"')
        assert len(store.list_attempts(run_id)) == 1


def test_an_id_that_waits_in_a_queue_begins_nowhere_else(store: Store) -> None:
    store.submit_tasks([_task("a")])
    outcomes = store.apply([new_run("a"), new_run("b")])
    assert [type(outcome) for outcome in outcomes] == [RunExists, type(None)]
    assert store.list_attempts("a") == []


def test_runs_end_in_one_batch_each_in_its_own_way(store: Store) -> None:
    store.apply([new_run(run_id) for run_id in RUNS])
    retry = RunEnd(RunStatus.PENDING, NOW + 9, "step", "ValueError", "no", outcome="retry", available_at=NOW + 99)
    back = RunEnd(RunStatus.PENDING, NOW + 9, None, "Released", "stopped", outcome="release")
    ends = dict(zip(RUNS, (completed(), failed(), retry, back), strict=True))
    writes = [write(run_id, starts=[start("open", run_id)], end=ends[run_id]) for run_id in RUNS]
    writes[0].starts = ()
    assert store.apply(writes) == [None] * 4
    runs = [store.get_run(run_id) for run_id in RUNS]
    assert [(run.status.value, run.attempt, run.available_at, run.error_type) for run in runs if run] == [
        ("completed", 1, None, None),
        ("failed", 1, None, "ValueError"),
        ("pending", 2, NOW + 99, "ValueError"),
        ("pending", 1, None, None),
    ]
    claims = [store.list_attempts(run_id)[0].status for run_id in RUNS]
    assert claims == ["completed", "failed", "failed", "cancelled"]
    assert [[step.status.value for step in store.list_steps(run_id)] for run_id in RUNS] == [
        [],
        ["cancelled"],
        ["cancelled"],
        ["cancelled"],
    ]


def test_a_stale_end_changes_nothing_and_spoils_no_other(store: Store) -> None:
    store.apply([new_run(run_id) for run_id in RUNS])
    store.apply([write("b", end=failed())])
    outcomes = store.apply([write(run_id, epoch=2 if run_id == "c" else 1, end=completed()) for run_id in RUNS])
    assert [type(outcome) for outcome in outcomes] == [type(None), LeaseLost, LeaseLost, type(None)]
    statuses = [run.status.value for run_id in RUNS if (run := store.get_run(run_id))]
    assert statuses == ["completed", "failed", "running", "completed"]
    claims = [store.list_attempts(run_id)[0].status for run_id in RUNS]
    assert claims == ["completed", "failed", "running", "completed"]


def test_ends_that_are_applied_again_change_nothing_and_succeed(store: Store) -> None:
    store.apply([new_run(run_id) for run_id in RUNS])
    writes = [write(run_id, ends=[end("s", run_id)], end=completed()) for run_id in RUNS]
    assert store.apply(writes) == [None] * 4
    before = [(store.get_run(run_id), store.list_attempts(run_id), store.list_steps(run_id)) for run_id in RUNS]
    assert store.apply(writes) == [None] * 4
    assert before == [(store.get_run(run_id), store.list_attempts(run_id), store.list_steps(run_id)) for run_id in RUNS]


def test_progress_of_many_steps_reaches_each_of_them(store: Store) -> None:
    store.apply([new_run()])
    store.apply([write(starts=[start(label) for label in "abc"])])
    told = [progress(label, progress_done=n, progress_message=None) for n, label in enumerate("abc")]
    assert store.apply([write(progress=told)]) == [None]
    assert [store.get_step("run", label)[0].progress_done for label in "abc"] == [0, 1, 2]


# --- tasks -------------------------------------------------------------------------------------


def test_tasks_submitted_together_are_claimed_with_their_payloads(store: Store) -> None:
    inputs = {f"r{n}": f"[{n}]" for n in range(20)}
    outcomes = store.submit_tasks([_task(run_id, inputs=text) for run_id, text in inputs.items()])
    assert [outcome.run_id for outcome in outcomes if outcome.is_new] == list(inputs)
    claimed = store.claim_tasks(["q"], owner=OWNER, now=NOW, lease=LEASE, limit=20)
    assert {task.run.run_id: task.payload.inputs for task in claimed} == inputs
    assert all(store.list_attempts(run_id)[0].owner == OWNER for run_id in inputs)


def test_used_keys_among_new_ones_lead_to_the_runs_that_have_them(store: Store) -> None:
    store.submit_tasks([_task("first", idempotency_key="k")])
    outcomes = store.submit_tasks(
        [
            _task("a"),
            _task("b", idempotency_key="k"),
            _task("d", idempotency_key="l"),
            _task("c", idempotency_key="l", inputs="[1]"),
            _task("e", idempotency_key="k", queue="other"),
        ]
    )
    assert [tuple(outcome) for outcome in outcomes] == [
        ("a", True, True),
        ("first", False, True),
        ("d", True, True),
        ("d", False, False),
        ("e", True, True),
    ]
    assert _claim(store) == ["a", "d", "first"]
    assert store.get_run("b") is None
    assert store.get_run_payload("c") is None


@pytest.mark.parametrize("taken", ["queued", "running"])
def test_a_used_run_id_among_new_tasks_is_refused_with_all_of_them(store: Store, taken: str) -> None:
    if taken == "queued":
        store.submit_tasks([_task("b", now=NOW - 1)])
    else:
        store.apply([new_run("b")])
    with pytest.raises(RunExists):
        store.submit_tasks([_task("a"), _task("b"), _task("c")])
    assert store.get_run("a") is None
    assert store.get_run_payload("c") is None


def test_a_text_that_the_database_cannot_hold_is_refused_with_its_batch(store: Store) -> None:
    tasks = [_task("a"), _task("b", correlation_id="half \ud800 a pair")]
    with pytest.raises((StoreError, UnicodeEncodeError)):
        store.submit_tasks(tasks)
    assert store.get_run("a") is None
