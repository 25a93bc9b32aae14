"""Somebody takes a run at the very moment that another one writes to it by hand: who comes second writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from postgres import new_schema, server_url
from rows import LEASE, NOW, OWNER, end, failed, write
from tasks import DIED, OTHER, get, started, submit, task, until, wait

from milepost import RunStatus
from milepost.store import HandEnd, Refused, Store
from milepost.stores.postgres import PostgresStore
from milepost.stores.postgres_address import Address


@pytest.fixture
def url() -> str:
    return new_schema(server_url())


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = PostgresStore(url)
    yield opened
    opened.close()


def while_it_is_taken(url: str, verb: Callable[[], Any]) -> Any:
    """Return what a verb answers that begins when the run has been taken, and that is not committed yet."""
    address = Address(url)
    with psycopg.connect(address.conninfo) as taker, psycopg.connect(address.conninfo, autocommit=True) as watcher:
        taker.execute(
            f"UPDATE \"{address.schema}\".runs SET status = 'running', lease_owner = %s, lease_until = %s,"
            " lease_epoch = lease_epoch + 1, generation = generation + 1, finished_at = NULL, error_step = NULL,"
            " error_type = NULL, error_message = NULL",
            [OTHER, NOW + LEASE],
        )
        blocked = "SELECT 1 FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(verb)
            until(lambda: answer.done() or watcher.execute(blocked, [taker.info.backend_pid]).fetchone())
            taker.commit()
            return answer.result(30)


BY_HAND: dict[str, Callable[[Store], bool]] = {
    "begin": lambda s: s.hand_begin_step(
        "task", "b", seq=2, kind="step", status="running", input_text="{}", output=None, output_hash=None, now=NOW
    ),
    "complete": lambda s: s.hand_complete_step("task", "a", "2", "h", NOW),
    "complete, with edges": lambda s: s.hand_complete_step("task", "a", "2", "h", NOW, edges=(("a", "b"),)),
    "fail": lambda s: s.hand_fail_step("task", "a", "no", NOW),
    "fail, with its run": lambda s: s.hand_fail_step("task", "a", "no", NOW, run=(RunStatus.FAILED, OWNER)),
    "edge": lambda s: s.hand_insert_edge("task", "a", "b", NOW),
    "status": lambda s: s.hand_set_status("task", RunStatus.COMPLETED, is_end=True, owner=OWNER, now=NOW),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_run_that_the_engine_takes_meanwhile_is_not_written_to_by_hand(url: str, store: Store, name: str) -> None:
    started(store)
    store.apply([write("task", 1, ends=[end("a", "task")], end=failed())])
    before = store.list_steps("task")
    assert while_it_is_taken(url, lambda: BY_HAND[name](store)) is False
    assert store.list_steps("task") == before
    assert store.list_edges("task") == []
    assert (get(store).status, get(store).lease_owner) == (RunStatus.RUNNING, OTHER)


def test_a_suspended_task_that_a_worker_takes_meanwhile_is_not_failed_by_hand(url: str, store: Store) -> None:
    submit(store, task(kind="task_by_hand", definition_hash=None, definition=None))
    given: dict[str, Any] = {"owner": "hand:me", "now": NOW, "lease": LEASE, "limit": 1}
    (claim,) = store.claim_by_hand("default", max_rescues=5, reason=DIED, **given)
    store.wait_by_hand("task", claim.run.generation, wait(), now=NOW, is_look=False)
    assert get(store).status is RunStatus.SUSPENDED
    how = HandEnd(reason="{}", error_type="ValueError", error_message="no", is_retried=False, available_at=None)
    refused = while_it_is_taken(url, lambda: store.fail_by_hand("task", claim.run.generation, how, now=NOW + 1))
    assert isinstance(refused, Refused)
    assert (get(store).status, get(store).lease_owner) == (RunStatus.RUNNING, OTHER)
