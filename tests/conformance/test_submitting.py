"""Runs are put into queues: what a key, an id and a time mean, and what a repeated submission does."""

from __future__ import annotations

from typing import Any

import pytest
from rows import NOW, completed, end, new_run, write
from tasks import SECOND, claim, claimed_ids, get, in_parallel, started, submit, task

from milepost.errors import MilepostError, RunExists
from milepost.model import Run, RunPayload
from milepost.states import RunStatus
from milepost.store import Store, Submitted


def test_a_submitted_task_waits_and_belongs_to_nobody(store: Store) -> None:
    outcome = submit(
        store,
        task(
            workflow="flow",
            version="2",
            queue="mail",
            priority=-3,
            available_at=NOW + 5,
            inputs='{"n":1}',
            max_attempts=4,
            idempotency_key="key",
            target="file.py:dag",
            tags='{"a":"b"}',
            headers='{"h":1}',
            policies='{"retry":{}}',
            correlation_id="order 7",
            replay_of="old",
            created_by="me",
        ),
    )
    assert outcome == [Submitted("task", is_new=True)]
    assert get(store) == Run(
        run_id="task",
        workflow="flow",
        version="2",
        hash="hash",
        kind="dag",
        status=RunStatus.PENDING,
        queue="mail",
        priority=-3,
        available_at=NOW + 5,
        lease_owner=None,
        lease_until=None,
        lease_epoch=0,
        attempt=1,
        max_attempts=4,
        idempotency_key="key",
        correlation_id="order 7",
        parent_run_id=None,
        root_run_id="task",
        replay_of="old",
        created_by="me",
        created_at=NOW,
        started_at=None,
        finished_at=None,
        cancel_requested_at=None,
    )
    assert store.get_run_payload("task") == RunPayload(
        "task", '{"n":1}', None, None, "file.py:dag", '{"a":"b"}', '{"h":1}', '{"retry":{}}'
    )
    assert store.list_attempts("task") == []
    assert store.get_definition("hash") == "{}"


def test_a_batch_answers_in_its_order_and_stores_each_definition_once(store: Store) -> None:
    batch = [task(f"t{n}", definition_hash=f"h{n % 2}", definition=f'{{"n":{n % 2}}}') for n in range(20)]
    assert submit(store, *batch) == [Submitted(f"t{n}", is_new=True) for n in range(20)]
    assert {run.run_id for run in store.list_running()} == set()
    assert (store.get_definition("h0"), store.get_definition("h1")) == ('{"n":0}', '{"n":1}')


def test_nothing_to_submit_is_nothing(store: Store) -> None:
    assert store.submit_tasks([]) == []


def test_a_task_may_come_without_a_definition_or_name_one_that_is_stored(store: Store) -> None:
    submit(store, task("none", definition_hash=None, definition=None), task("first"))
    submit(store, task("named", definition=None))
    assert get(store, "none").hash is None
    assert get(store, "named").hash == "hash"
    assert store.get_definition("hash") == "{}"


def test_a_batch_with_an_id_that_is_taken_is_refused_as_a_whole(store: Store) -> None:
    submit(store, task("taken"))
    with pytest.raises(RunExists, match="'taken'"):
        submit(store, task("before"), task("taken", workflow="another", now=NOW + 1), task("after"))
    assert store.get_run("before") is None
    assert store.get_run("after") is None
    assert get(store, "taken").workflow == "workflow"


def test_the_id_of_a_run_that_was_started_directly_is_taken(store: Store) -> None:
    assert store.apply([new_run("direct")]) == [None]
    with pytest.raises(RunExists):
        submit(store, task("direct", now=NOW + 1))


# --- idempotency keys --------------------------------------------------------------------------


def test_a_key_that_was_used_gives_the_first_run_and_says_whether_it_is_the_same(store: Store) -> None:
    submit(store, task("first", idempotency_key="key", inputs='{"n":1}'))
    again = submit(store, task("second", idempotency_key="key", inputs='{"n":1}', now=NOW + 1))
    assert again == [Submitted("first", is_new=False, is_same=True)]
    other_inputs = submit(store, task("third", idempotency_key="key", inputs='{"n":2}', now=NOW + 1))
    assert other_inputs == [Submitted("first", is_new=False, is_same=False)]
    other_workflow = submit(store, task("fourth", idempotency_key="key", inputs='{"n":1}', workflow="w", now=NOW + 1))
    assert other_workflow == [Submitted("first", is_new=False, is_same=False)]
    assert [store.get_run(run_id) for run_id in ("second", "third", "fourth")] == [None] * 3


def test_a_key_belongs_to_its_queue(store: Store) -> None:
    submit(store, task("first", idempotency_key="key"))
    assert submit(store, task("second", idempotency_key="key", queue="mail")) == [Submitted("second", is_new=True)]


def test_a_key_that_comes_twice_in_one_batch_is_one_run(store: Store) -> None:
    batch = [task("a", idempotency_key="key"), task("b"), task("c", idempotency_key="key", now=NOW + 1)]
    assert submit(store, *batch) == [
        Submitted("a", is_new=True),
        Submitted("b", is_new=True),
        Submitted("a", is_new=False),
    ]


def test_a_taken_id_is_refused_also_where_a_later_task_of_the_batch_has_its_key(store: Store) -> None:
    submit(store, task("taken"))
    with pytest.raises(RunExists, match="'taken'"):
        submit(store, task("taken", idempotency_key="key", now=NOW + 1), task("later", idempotency_key="key"))
    assert store.get_run("later") is None


def test_a_key_stands_for_its_run_until_that_is_deleted(store: Store) -> None:
    run = started(store, "first", idempotency_key="key")
    assert store.apply([write("first", run.lease_epoch, ends=[end(run_id="first")], end=completed())]) == [None]
    again = task("second", idempotency_key="key", now=NOW + SECOND)
    assert submit(store, again) == [Submitted("first", is_new=False)]
    assert store.delete_runs(NOW + SECOND, 10) == 1
    assert submit(store, again) == [Submitted("second", is_new=True)]


@pytest.mark.parametrize("key", [None, "key"])
@pytest.mark.parametrize("moment", ["waiting", "running", "finished"])
def test_a_submission_whose_answer_was_lost_is_the_same_run_when_it_comes_again(
    store: Store, key: str | None, moment: str
) -> None:
    sent = task(idempotency_key=key, inputs='{"n":1}')
    submit(store, sent)
    if moment != "waiting":
        (one,) = claim(store)
        if moment == "finished":
            assert store.apply([write("task", one.run.lease_epoch, end=completed())]) == [None]
    before = get(store)
    assert submit(store, sent) == [Submitted("task", is_new=True)]
    assert get(store) == before


def test_another_submission_of_the_same_moment_under_the_same_id_is_refused(store: Store) -> None:
    submit(store, task(inputs='{"n":1}'))
    with pytest.raises(RunExists):
        submit(store, task(inputs='{"n":2}'))


def test_of_many_who_submit_one_key_one_makes_the_run(two_stores: tuple[Store, Store]) -> None:
    def send(n: int) -> Submitted:
        return two_stores[n % 2].submit_tasks([task(f"t{n}", idempotency_key="key", now=NOW + n)])[0]

    outcomes = in_parallel(*[lambda n=n: send(n) for n in range(12)])
    assert sum(outcome.is_new for outcome in outcomes) == 1
    assert len({outcome.run_id for outcome in outcomes}) == 1
    assert all(outcome.is_same for outcome in outcomes)
    assert claimed_ids(two_stores[0]) == [outcomes[0].run_id]


def test_batches_that_name_the_same_keys_in_opposite_order_all_go_through(two_stores: tuple[Store, Store]) -> None:
    keys = [f"k{n}" for n in range(30)]

    def send(n: int) -> set[str]:
        named = keys if n % 2 else list(reversed(keys))
        batch = [task(f"{key}-{n}", idempotency_key=key, now=NOW + n) for key in named]
        return {outcome.run_id for outcome in two_stores[n % 2].submit_tasks(batch)}

    outcomes = in_parallel(*[lambda n=n: send(n) for n in range(6)])
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert len(claimed_ids(two_stores[1])) == len(keys)


# --- times -------------------------------------------------------------------------------------


def test_a_delayed_task_is_claimed_when_its_time_has_come_and_not_before(store: Store) -> None:
    submit(store, task("later", available_at=NOW + 10), task("sooner", available_at=NOW + 5), task("now"))
    assert store.next_due() == NOW + 5
    assert claimed_ids(store, now=NOW + 4) == ["now"]
    assert claimed_ids(store, now=NOW + 5) == ["sooner"]
    assert store.next_due() == NOW + 10
    assert claimed_ids(store, now=NOW + 9) == []
    assert claimed_ids(store, now=NOW + 10) == ["later"]
    assert store.next_due() is None


def test_nothing_is_due_where_nothing_waits(store: Store) -> None:
    assert store.next_due() is None
    submit(store, task())
    assert store.next_due() is None  # it waits for no time


@pytest.mark.parametrize("changes", [{"priority": 2**63}, {"inputs": "\ud800"}, {"tags": "\ud800"}])
def test_a_task_that_the_database_cannot_hold_is_refused_by_an_error_of_ours(
    store: Store, changes: dict[str, Any]
) -> None:
    with pytest.raises(MilepostError):
        submit(store, task("before"), task(**changes))
    assert store.get_run("before") is None
    submit(store, task("after"))
    assert claimed_ids(store) == ["after"]
