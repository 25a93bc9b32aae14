"""The line breaks between a commit and its answer: what was done is found again, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flows import counts, three_steps
from postgres import new_schema, server_url
from proxy import Proxy, proxy
from rows import LEASE, NOW, OWNER, completed, edge, end, failed, new_run, start, write
from tasks import DIED, OTHER, SECOND, claim, claimed_ids, get, sleep, started, submit, task, wait, worker

from milepost import Ledger, RunStatus, Worker
from milepost.model import MANUAL, Schedule
from milepost.store import RunEnd, Store, Submitted
from milepost.stores.postgres import PostgresStore
from milepost.stores.postgres_writer import Writer

# What commits: the end of a transaction, a statement that is one, the end of several that were sent as one.
COMMIT = (b"COMMIT", b"\0milepost_write_at_once\0")
SYNC = b"S\0\0\0\4"


@pytest.fixture
def url() -> str:
    return new_schema(server_url())


@pytest.fixture
def line(url: str) -> Iterator[Proxy]:
    with proxy(url) as opened:
        yield opened


@pytest.fixture
def store(line: Proxy) -> Iterator[Store]:
    opened = PostgresStore(line.url)
    yield opened
    opened.close()


@pytest.fixture
def near(url: str) -> Iterator[Store]:
    """A store that has a line of its own."""
    opened = PostgresStore(url)
    yield opened
    opened.close()


def scheduled(name: str = "s") -> Schedule:
    return Schedule(
        name=name,
        workflow="workflow",
        target=None,
        hash=None,
        queue="default",
        priority=0,
        cron=None,
        every=SECOND,
        timezone="UTC",
        start_at=NOW,
        catch_up=True,
        max_active=None,
        inputs="{}",
        next_at=NOW,
        paused_at=None,
        created_at=NOW,
    )


def retried() -> RunEnd:
    return RunEnd(
        RunStatus.PENDING, NOW + 9, "step", "ValueError", "no", "", outcome="retry", available_at=NOW + SECOND
    )


def released() -> RunEnd:
    return RunEnd(RunStatus.PENDING, NOW + 9, None, "Released", "stopped", outcome="release")


def suspending(store: Store) -> None:
    started(store)
    store.register_waits([wait()], NOW)


def by_hand(store: Store) -> None:
    store.apply([new_run("task", kind=MANUAL)])
    begin_by_hand(store, "a")


def begin_by_hand(store: Store, label: str) -> bool:
    given = {"seq": 1, "kind": "step", "status": "running", "input_text": "{}", "output": None, "output_hash": None}
    return store.hand_begin_step("task", label, now=NOW, **given)


def over(store: Store) -> None:
    started(store)
    store.apply([write("task", 1, end=completed())])


Verb = tuple[Callable[[Store], Any], Callable[[Store], Any], Any]

# What comes before, the verb, and what it answers whether or not its first answer is lost.
VERBS: dict[str, Verb] = {
    "submit_tasks": (
        lambda _: None,
        lambda s: submit(s, task("a"), task("b", idempotency_key="key")),
        [Submitted("a", is_new=True), Submitted("b", is_new=True)],
    ),
    "submit_tasks, a used key": (
        lambda s: submit(s, task("a", idempotency_key="key")),
        lambda s: submit(s, task("b", idempotency_key="key", now=NOW + 1)),
        [Submitted("a", is_new=False)],
    ),
    "claim_run": (
        lambda s: s.apply([new_run("task")]),
        lambda s: (
            s.claim_run(
                get(s), owner=OTHER, now=NOW + 5, lease_until=NOW + LEASE, attempt=1, target=None, reason=DIED
            ).lease_epoch
        ),
        2,
    ),
    "release_task": (
        started,
        lambda s: s.release_task("task", 1, now=NOW, available_at=None, reason=DIED) or True,
        True,
    ),
    "heartbeat_owner": (started, lambda s: s.heartbeat_owner(OWNER, now=NOW, lease=LEASE), {("task", 1)}),
    "rescue_tasks": (
        started,
        lambda s: [s.rescue_tasks(now=NOW, limit=9, max_rescues=5, owner_gone=OWNER, reason=DIED)] and get(s).rescues,
        1,
    ),
    "register_worker": (lambda _: None, lambda s: s.register_worker(worker(), owner_gone=None), None),
    "emit_event": (lambda _: None, lambda s: s.emit_event("default", "paid", "1", NOW), True),
    "register_waits": (
        started,
        lambda s: [one.label for one in s.register_waits([wait(), sleep(wake_at=NOW + 5)], NOW)],
        ["wait", "sleep"],
    ),
    "suspend_run": (suspending, lambda s: s.suspend_run("task", 1, seen=0, now=NOW), None),
    "insert_schedule": (lambda _: None, lambda s: s.insert_schedule(scheduled(), None), True),
    "fire_schedule": (
        lambda s: s.insert_schedule(scheduled(), None),
        lambda s: [s.fire_schedule(scheduled(), NOW + SECOND, [task("tick")])] and get(s, "tick").status,
        RunStatus.PENDING,
    ),
    "request_cancel": (started, lambda s: s.request_cancel("task", NOW), True),
    "new run": (lambda _: None, lambda s: s.apply([new_run("task")]), [None]),
    "a completed step and its edge": (
        lambda s: (started(s), s.apply([write("task", 1, ends=[end("a", "task")])])),
        lambda s: s.apply([write("task", 1, ends=[end("b", "task", seq=2)], edges=[edge("a", "b", "task")])]),
        [None],
    ),
    "completion": (
        started,
        lambda s: s.apply([write("task", 1, ends=[end("a", "task")], end=completed())]),
        [None],
    ),
    "failure": (started, lambda s: s.apply([write("task", 1, starts=[start("a", "task")], end=failed())]), [None]),
    "retry": (started, lambda s: s.apply([write("task", 1, end=retried())]), [None]),
    "release": (started, lambda s: s.apply([write("task", 1, end=released())]), [None]),
    "hand_begin_step": (by_hand, lambda s: begin_by_hand(s, "b"), True),
    "hand_complete_step": (by_hand, lambda s: s.hand_complete_step("task", "a", "1", "h", NOW), True),
    "hand_complete_step, with edges": (
        by_hand,
        lambda s: s.hand_complete_step("task", "a", "1", "h", NOW, edges=(("x", "a"),)),
        True,
    ),
    "hand_fail_step": (by_hand, lambda s: s.hand_fail_step("task", "a", "no", NOW), True),
    "hand_fail_step, with its run": (
        by_hand,
        lambda s: s.hand_fail_step("task", "a", "no", NOW, run=(RunStatus.FAILED, OWNER)),
        True,
    ),
    "hand_set_status": (
        by_hand,
        lambda s: s.hand_set_status("task", RunStatus.COMPLETED, is_end=True, owner=OWNER, now=NOW, result="1"),
        True,
    ),
    "hand_set_status, of a run that was over": (
        over,
        lambda s: s.hand_set_status("task", RunStatus.RUNNING, is_end=False, owner=OWNER, now=NOW + 9),
        True,
    ),
    "hand_save": (by_hand, lambda s: s.hand_save("task", "a", "name", "1", NOW), True),
    "many at once": (
        lambda s: (submit(s, *[task(f"t{n}") for n in range(5)]), claim(s)),
        lambda s: s.apply([write(f"t{n}", 1, ends=[end("a", f"t{n}")], end=completed()) for n in range(5)]),
        [None] * 5,
    ),
}


def everything(store: Store) -> Any:
    """Return all rows but what the server's clock says of leases."""
    with store._borrow() as connection:  # type: ignore[attr-defined]
        schema = store._address.schema  # type: ignore[attr-defined]
        tables = [
            "runs",
            "run_payloads",
            "attempts",
            "steps",
            "edges",
            "events",
            "waits",
            "schedules",
            "workers",
            "checkpoints",
        ]
        found = {}
        for table in tables:
            columns = [
                name
                for (name,) in connection.execute(
                    "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
                    " AND column_name <> 'lease_until' ORDER BY 1",
                    [schema, table],
                ).fetchall()
            ]
            rows = connection.execute(f'SELECT {", ".join(columns)} FROM "{schema}".{table}').fetchall()
            found[table] = sorted(map(repr, rows))
        return found


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_whose_commit_is_not_answered_does_its_work_once_and_answers_as_ever(
    url: str, line: Proxy, store: Store, near: Store, name: str
) -> None:
    prepare, verb, answer = VERBS[name]
    with_no_cut = PostgresStore(new_schema(server_url()))
    prepare(with_no_cut)
    assert verb(with_no_cut) == answer
    expected = everything(with_no_cut)
    with_no_cut.close()

    prepare(store)
    line.cut_after(*COMMIT)
    assert verb(store) == answer
    assert line.cuts == 1
    assert everything(near) == expected
    assert near.check() == []


def test_a_single_step_whose_statement_is_not_answered_stands_once(line: Proxy, store: Store, near: Store) -> None:
    started(store)
    store.apply([write("task", 1, ends=[end("a", "task")])])
    line.cut_after(b"")
    assert store.apply([write("task", 1, ends=[end("b", "task", seq=2)])]) == [None]
    assert line.cuts == 1
    assert [row.label for row in near.list_steps("task")] == ["a", "b"]


@pytest.mark.parametrize("count", [1, 3], ids=["one step", "many"])
@pytest.mark.parametrize("fetches", [1, 2], ids=["preparing", "executing"])
@pytest.mark.parametrize("is_answered", [True, False])
def test_an_interruption_in_the_middle_of_a_commit_spoils_none_that_follows(
    store: Store, near: Store, monkeypatch: pytest.MonkeyPatch, count: int, fetches: int, is_answered: bool
) -> None:
    started(store)
    steps = [write("task", 1, ends=[end(f"s{n}", "task", seq=n)]) for n in range(count)]
    fetch, left = Writer._fetch, [fetches]

    def interrupted(writer: Writer) -> Any:
        left[0] -= 1
        if left[0] or is_answered:
            result = fetch(writer)
        if not left[0]:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(Writer, "_fetch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.apply(steps)
    monkeypatch.undo()
    for _ in range(2):
        assert store.apply(steps) == [None] * count
    assert len(near.list_steps("task")) == count


def test_a_run_that_somebody_took_meanwhile_is_not_written_to_again(line: Proxy, store: Store, near: Store) -> None:
    started(store)
    near.rescue_tasks(now=NOW, limit=9, max_rescues=5, owner_gone=OWNER, reason=DIED)
    claim(near, owner=OTHER)
    line.cut_after(*COMMIT)
    (error,) = store.apply([write("task", 1, ends=[end("a", "task")], end=completed())])
    assert error is not None
    assert (get(near).status, get(near).lease_owner) == (RunStatus.RUNNING, OTHER)
    assert near.list_steps("task") == []


def test_a_claim_that_is_not_answered_leaves_its_tasks_to_the_heartbeat_and_takes_no_other_twice(
    line: Proxy, store: Store, near: Store
) -> None:
    submit(near, *[task(f"t{n}", now=NOW + n) for n in range(4)])
    line.cut_after(SYNC)
    assert claimed_ids(store, limit=2) == ["t2", "t3"]  # the first two are leased, and nobody knows
    assert line.cuts == 1
    assert claimed_ids(near, owner=OTHER) == []
    assert store.heartbeat_owner(OWNER, now=NOW, lease=LEASE) == {(f"t{n}", 1) for n in range(4)}


def test_a_worker_whose_line_is_cut_again_and_again_executes_each_run_once(
    line: Proxy, url: str, tmp_path: Any
) -> None:
    with Ledger.open(url) as ledger:
        inputs = [{"folder": str(tmp_path), "n": n} for n in range(12)]
        handles = three_steps.submit_many(inputs, ledger=ledger)
        line.cut_after(*COMMIT, times=6)
        with Ledger.open(line.url, lease=0.6) as own:
            worker = Worker([three_steps], ledger=own, concurrency=4, heartbeat_process=False)
            while any(handle.record.finished_at is None for handle in handles):
                worker.run_until_idle()
        for n, handle in enumerate(handles):
            assert handle.result(0).startswith(f"{n}.")
        assert line.cuts == 6
        assert counts(tmp_path) == {"begin": 12, "go_on": 12, "end": 12}
        assert {run.attempt for run in ledger.list_runs()} == {1}
        assert list(ledger.check()) == []
