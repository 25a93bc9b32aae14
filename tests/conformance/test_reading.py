"""What a store tells: lists and pages, outputs, what a restart needs, deletion and health."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from rows import LEASE, NOW, checkpoint, completed, edge, end, failed, failure, new_run, start, write

from milepost.model import Attempt
from milepost.states import RunStatus, StepStatus
from milepost.store import RunEnd, RunFilter, Store, Write


def stand(store: Store, *batch: Write) -> None:
    assert store.apply(batch) == [None] * len(batch)


def ids(store: Store, **filters: Any) -> list[str]:
    return [run.run_id for run in store.list_runs(RunFilter(**filters))]


# --- lists of runs -----------------------------------------------------------------------------

ENDS = {"completed": completed(), "failed": failed(), "cancelled": RunEnd(RunStatus.CANCELLED, NOW + 9)}


@pytest.fixture
def many(store: Store) -> Store:
    """Return a store with 36 runs of three workflows, in four states, two and two in one microsecond."""
    stand(store, new_run("root", now=NOW - 1))
    states = itertools.cycle(["completed", "running", "failed", "cancelled"])
    for n, state in zip(range(36), states, strict=False):
        run_id = f"run{n:02}"
        parent = {"parent_run_id": "root", "root_run_id": "root"} if n % 5 == 0 else {}
        who = "ada" if n % 2 else None
        stand(store, new_run(run_id, workflow=f"flow{n % 3}", now=NOW + n // 2, created_by=who, **parent))
        if state in ENDS:
            stand(store, write(run_id, end=ENDS[state]))
    return store


def _expected(store: Store, **filters: Any) -> list[str]:
    runs = [store.get_run(f"run{n:02}") for n in range(36)] + [store.get_run("root")]
    kept = [
        run
        for run in runs
        if run is not None
        and filters.get("status") in (None, run.status)
        and filters.get("workflow") in (None, run.workflow)
        and filters.get("parent_run_id") in (None, run.parent_run_id)
        and filters.get("created_by") in (None, run.created_by)
        and (filters.get("since") is None or run.created_at >= filters["since"])
    ]
    return [run.run_id for run in sorted(kept, key=lambda run: (run.created_at, run.run_id), reverse=True)]


_CHOICES: dict[str, list[Any]] = {
    "status": [None, RunStatus.FAILED, RunStatus.RUNNING, RunStatus.PENDING],
    "workflow": [None, "flow1", "no such flow"],
    "since": [None, NOW + 8],
    "parent_run_id": [None, "root"],
    "created_by": [None, "ada", "nobody"],
}


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_pages_put_together_are_the_whole_list_newest_first_whatever_the_filter(many: Store, limit: int) -> None:
    for values in itertools.product(*_CHOICES.values()):
        filters = dict(zip(_CHOICES, values, strict=True))
        found: list[str] = []
        before: tuple[int, str] | None = None
        while page := many.list_runs(RunFilter(**filters, before=before, limit=limit)):
            assert len(page) <= limit
            found += [run.run_id for run in page]
            before = page[-1].created_at, page[-1].run_id
        assert found == _expected(many, **filters), filters


def test_a_list_has_fifty_runs_unless_told_otherwise(store: Store) -> None:
    stand(store, *(new_run(f"run{n:02}", now=NOW + n) for n in range(60)))
    assert ids(store) == [f"run{n:02}" for n in range(59, 9, -1)]
    assert len(ids(store, limit=100)) == 60


def test_running_runs_are_listed_whoever_executes_them(many: Store) -> None:
    running = many.list_running()
    assert {run.run_id for run in running} == {"root", *(f"run{n:02}" for n in range(36) if n % 4 == 1)}
    assert all(run.status == RunStatus.RUNNING for run in running)


def test_running_runs_come_with_the_shortest_lease_first(store: Store) -> None:
    stand(
        store,
        *(new_run(name, lease_until=NOW + n) for name, n in (("b", 5_000_000), ("a", 9_000_000), ("c", 1_000_000))),
    )
    assert [run.run_id for run in store.list_running()] == ["c", "b", "a"]


def test_workflows_are_named_once_in_order(many: Store) -> None:
    assert many.list_workflows() == ["flow0", "flow1", "flow2", "workflow"]


def test_run_ids_are_found_by_their_beginning_taken_literally(store: Store) -> None:
    names = ["a", "a-1", "a-2", "a.3", "a_b", "b", "A-1"]
    stand(store, *(new_run(name) for name in names))
    assert store.find_run_ids("a-", 10) == ["a-1", "a-2"]
    assert store.find_run_ids("a_", 10) == ["a_b"]
    assert store.find_run_ids("a", 2) == ["a", "a-1"]
    assert store.find_run_ids("%", 10) == []
    assert sorted(store.find_run_ids("", 10)) == sorted(names)


# --- steps and outputs -------------------------------------------------------------------------


@pytest.fixture
def run(store: Store) -> Iterator[Store]:
    """Return a store with one run: a retried step, a map with a failed and a missing element, an open step."""
    stand(store, new_run())
    stand(store, write(ends=[failure("load", seq=1)]))
    stand(store, write(ends=[end("load", attempt=2, seq=2, output="[1,2,3]", started_at=NOW + 5)]))
    stand(
        store,
        write(
            starts=[start("map", kind="map", storage="elements", seq=3, started_at=NOW + 6, progress_total=4)],
            ends=[
                end("map[0]", kind="element", parent="map", seq=4, output='"a"', started_at=NOW + 7),
                failure("map[1]", kind="element", parent="map", seq=5, started_at=NOW + 8),
                end("map[1]", kind="element", parent="map", attempt=2, seq=6, output='"b"', started_at=NOW + 9),
                failure("map[2]", kind="element", parent="map", seq=7, started_at=NOW + 10),
                end("mapper", seq=8, output='"no element"', started_at=NOW + 11),
                end("map2[0]", kind="element", parent="map2", seq=9, output='"of another"', started_at=NOW + 12),
                end("gone", seq=10, storage="none", output=None, started_at=NOW + 13),
            ],
            edges=[edge("load", "map")],
        ),
    )
    stand(store, write(starts=[start("open", seq=11, started_at=NOW + 14)]))
    return store


def test_steps_are_listed_in_the_order_of_their_start_without_payloads(run: Store) -> None:
    steps = run.list_steps("run")
    assert [(s.label, s.attempt) for s in steps] == [
        ("load", 1),
        ("load", 2),
        ("map", 1),
        ("map[0]", 1),
        ("map[1]", 1),
        ("map[1]", 2),
        ("map[2]", 1),
        ("mapper", 1),
        ("map2[0]", 1),
        ("gone", 1),
        ("open", 1),
    ]
    assert all(s.input is None and s.output is None for s in steps)
    assert steps[1].output_hash is not None
    assert steps[0].error_traceback == "Traceback ..."
    assert steps[2].progress_total == 4


def test_one_step_is_given_with_all_its_attempts_and_payloads(run: Store) -> None:
    assert [(a.attempt, a.status, a.input, a.output) for a in run.get_step("run", "load")] == [
        (1, StepStatus.FAILED, "{}", None),
        (2, StepStatus.COMPLETED, "{}", "[1,2,3]"),
    ]
    assert run.get_step("run", "nothing") == []


def test_only_a_completed_step_has_an_output(run: Store) -> None:
    assert run.get_output("run", "load") == ("[1,2,3]", "inline")
    assert run.get_output("run", "gone") == (None, "none")
    for label in ("map", "map[2]", "open", "nothing"):
        assert run.get_output("run", label) is None


def test_the_elements_of_a_map_are_its_own_completed_ones(run: Store) -> None:
    assert list(run.list_element_outputs("run", "map")) == [("map[0]", '"a"', "inline"), ("map[1]", '"b"', "inline")]
    assert list(run.list_element_outputs("run", "load")) == []


def test_elements_are_found_under_labels_of_every_kind(store: Store) -> None:
    maps = ["m", "m m", "ünï", "m%", "m_", "m\\", "m'"]
    stand(store, new_run())
    for label in maps:
        stand(store, write(ends=[end(f"{label}['k']", kind="element", parent=label, output=f'"{label}"')]))
    for label in maps:
        assert list(store.list_element_outputs("run", label)) == [(f"{label}['k']", f'"{label}"', "inline")]


def test_a_restart_is_told_of_every_attempt_and_the_runs_attempt_it_counts_for(run: Store) -> None:
    seen = run.get_run("run")
    assert seen is not None
    claimed = run.claim_run(
        seen, owner="x", now=NOW + 99, lease_until=NOW + LEASE, attempt=2, target=None, reason=("Died", "gone")
    )
    stand(run, write(epoch=claimed.lease_epoch, ends=[failure("map[2]", attempt=2, lease_epoch=claimed.lease_epoch)]))
    rows = [row for row in run.list_step_rows("run") if row.label in ("load", "map[2]", "open")]
    assert [row[:-1] for row in rows] == [
        ("load", None, 1, "failed", "inline", 1, NOW + 1, "step"),
        ("load", None, 2, "completed", "inline", 1, NOW + 5, "step"),
        ("map[2]", "map", 1, "failed", "inline", 1, NOW + 10, "element"),
        ("map[2]", None, 2, "failed", "inline", 2, NOW + 1, "step"),
        ("open", None, 1, "cancelled", "inline", 1, NOW + 14, "step"),
    ]
    kept = {(step.label, step.attempt): step.seq for step in run.list_steps("run")}
    assert all(kept[row.label, row.attempt] == row.seq for row in rows)


def test_attempts_are_counted_by_state_and_maps_left_out(run: Store) -> None:
    assert run.count_steps("run") == {"completed": 6, "failed": 3, "running": 1}
    assert run.max_seq("run") == 11
    assert (run.count_steps("nothing"), run.max_seq("nothing")) == ({}, 0)


def test_claims_are_listed_oldest_first(run: Store) -> None:
    for epoch in (1, 2):
        seen = run.get_run("run")
        assert seen is not None
        run.claim_run(
            seen,
            owner=f"o{epoch}",
            now=NOW + epoch,
            lease_until=NOW + LEASE,
            attempt=1,
            target=None,
            reason=("Died", "gone"),
        )
    attempts = run.list_attempts("run")
    assert [a.lease_epoch for a in attempts] == [1, 2, 3]
    assert attempts[1] == Attempt("run", 2, 1, "o1", "cancelled", NOW + 1, NOW + 2, "Died", "gone")


def test_what_is_not_there_is_none_or_empty(store: Store) -> None:
    assert store.get_run("nothing") is None
    assert store.get_run_payload("nothing") is None
    assert store.get_output("nothing", "step") is None
    assert store.get_checkpoint("nothing", "step", "x") is None
    for answer in (
        store.list_runs(RunFilter()),
        store.list_running(),
        store.list_workflows(),
        store.list_attempts("nothing"),
        store.list_steps("nothing"),
        store.list_step_rows("nothing"),
        store.list_edges("nothing"),
        store.list_checkpoints("nothing"),
        store.find_run_ids("n", 5),
        list(store.list_element_outputs("nothing", "map")),
        list(store.list_outputs()),
        store.check(),
    ):
        assert answer == []


def test_what_one_store_wrote_another_reads(two_stores: tuple[Store, Store]) -> None:
    one, two = two_stores
    stand(one, new_run(), write(ends=[end(output="7")]))
    assert two.get_output("run", "step") == ("7", "inline")
    stand(two, write(ends=[end("more", output="8")], end=completed()))
    assert one.get_output("run", "more") == ("8", "inline")
    assert one.get_run("run") == two.get_run("run")


# --- deleting ----------------------------------------------------------------------------------


def _finished(store: Store, run_id: str, at: int, **changes: Any) -> None:
    stand(store, new_run(run_id, **changes))
    stand(
        store,
        write(
            run_id,
            ends=[end("a", run_id), end("b", run_id)],
            edges=[edge("a", "b", run_id)],
            checkpoints=[checkpoint("x", "1", run_id, "a")],
            end=completed(at),
        ),
    )


def test_a_deleted_run_takes_all_that_belongs_to_it_and_leaves_the_rest(store: Store) -> None:
    _finished(store, "old", NOW + 10, definition_hash="old's own")
    _finished(store, "young", NOW + 20)
    stand(store, new_run("running"))
    assert store.delete_runs(NOW + 20, 100) == 1
    assert ids(store) == ["young", "running"]
    assert store.get_run_payload("old") is None
    for rows in (store.list_attempts, store.list_steps, store.list_edges, store.list_checkpoints):
        assert rows("old") == []
        assert rows("young") != []
    assert store.get_definition("old's own") is None
    assert store.get_definition("hash") is not None
    assert store.check() == []


def test_the_oldest_finished_runs_go_first_and_no_more_than_asked(store: Store) -> None:
    for n in (3, 1, 4, 0, 2):
        _finished(store, f"run{n}", NOW + 10 + n)
    assert store.delete_runs(NOW + 100, 2) == 2
    assert ids(store) == ["run4", "run3", "run2"]
    assert store.delete_runs(NOW + 100, 2) == 2
    assert store.delete_runs(NOW + 100, 2) == 1
    assert store.delete_runs(NOW + 100, 2) == 0


def test_children_go_with_their_parent_and_not_before_it(store: Store) -> None:
    stand(store, new_run("parent"))
    family = {"parent_run_id": "parent", "root_run_id": "parent"}
    _finished(store, "child", NOW + 10, **family)
    _finished(store, "grandchild", NOW + 10, parent_run_id="child", root_run_id="parent")
    assert store.delete_runs(NOW + 100, 10) == 0
    stand(store, write("parent", end=completed(NOW + 20)))
    assert store.delete_runs(NOW + 100, 10) == 1
    assert ids(store) == []
    assert store.list_steps("grandchild") == []
    assert store.check() == []


def test_a_parent_stays_while_a_descendant_still_runs(store: Store) -> None:
    stand(store, new_run("parent"))
    stand(store, new_run("child", parent_run_id="parent", root_run_id="parent"))
    stand(store, new_run("grandchild", parent_run_id="child", root_run_id="parent"))
    stand(store, write("parent", end=completed()), write("child", end=completed()))
    assert store.delete_runs(NOW + 100, 10) == 0
    stand(store, write("grandchild", end=completed()))
    assert store.delete_runs(NOW + 100, 10) == 1
    assert ids(store) == []


def test_an_id_that_is_used_again_after_its_run_was_deleted_meets_no_old_rows(store: Store) -> None:
    _finished(store, "again", NOW + 10)
    assert store.delete_runs(NOW + 100, 10) == 1
    stand(store, new_run("again", now=NOW + 500))
    assert store.list_steps("again") == []
    assert store.get_checkpoint("again", "a", "x") is None
    stand(store, write("again", ends=[end("a", "again", output='"new"')]))
    assert store.get_output("again", "a") == ('"new"', "inline")


# --- health ------------------------------------------------------------------------------------


def test_every_stored_output_is_listed_once_across_pages(store: Store) -> None:
    count = 1203
    stand(store, new_run("a"), new_run("b"), new_run("c"))
    ends = [end(f"m[{n}]", "a", kind="element", parent="m", seq=n, output=f'"é{n}"') for n in range(count)]
    stand(store, write("a", ends=ends), write("c", ends=[failure("x", "c"), end("x", "c", attempt=2, output="2")]))
    outputs = list(store.list_outputs())
    assert len(outputs) == count + 1
    assert {output for _, _, _, output, _ in outputs} == {f'"é{n}"' for n in range(count)} | {"2"}
    assert outputs[-1][:3] == ("c", "x", 2)


def test_others_may_write_while_the_outputs_are_walked(two_stores: tuple[Store, Store]) -> None:
    reader, writer = two_stores
    stand(writer, new_run("a"))
    stand(writer, write("a", ends=[end(f"m[{n}]", "a", seq=n) for n in range(1100)]))
    walked = 0
    for n, _ in enumerate(reader.list_outputs()):
        walked += 1
        if n % 300 == 0:
            stand(writer, write("a", ends=[end(f"a{n}", "a", seq=n)]))
    assert walked >= 1100


def test_a_store_without_faults_has_no_problems(store: Store) -> None:
    _finished(store, "done", NOW + 10)
    stand(store, new_run("failed"), write("failed", starts=[start("s", "failed")], end=failed()))
    stand(store, new_run("running"), write("running", starts=[start("s", "running")]))
    assert store.check() == []


def test_a_clock_that_ran_back_is_noticed(store: Store) -> None:
    stand(store, new_run(), write(ends=[end(started_at=NOW + 5, finished_at=NOW + 4)]))
    assert [(problem.code, problem.subject) for problem in store.check()] == [("time_runs_back", "run step")]


def test_closing_twice_does_nothing_the_second_time(store: Store) -> None:
    store.close()
    store.close()
