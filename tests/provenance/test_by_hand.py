"""Runs that are recorded by hand: the thirteen verbs, case by case."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from rows import completed, new_run
from rows import write as write_run

from milepost import Dag, DagRunner, Ledger, RunStatus, StepContext
from milepost.clock import FOR_EVER
from milepost.errors import ConfigurationError, MilepostError, RunBusy, RunExists, RunNotFound, ValueNotStorable
from milepost.provenance import (
    SCHEDULER,
    DagProvenance,
    NodeNotFound,
    NullProvenance,
    Provenance,
    initiated_by,
)


def row(provenance: DagProvenance, label: str, run_id: str = "r1") -> dict[str, Any]:
    (found,) = [one for one in provenance.get_node_executions(run_id) if one["node_label"] == label]
    return found


# --- the life of a run ---------------------------------------------------------------------------


def test_a_run_is_followed_from_its_creation_to_its_end(provenance: DagProvenance) -> None:
    before = time.time()
    provenance.create_run("r1", "etl:main", {"load": {"n": 3}})
    begun = provenance.get_run("r1")
    assert begun is not None
    assert list(begun) == ["run_id", "dag_nsref", "status", "started_at", "finished_at", "source_inputs_json"]
    assert (begun["dag_nsref"], begun["status"], begun["finished_at"]) == ("etl:main", "running", None)
    assert before - 1 < begun["started_at"] < time.time() + 1
    assert json.loads(begun["source_inputs_json"]) == {"load": {"n": 3}}
    provenance.finish_run("r1", "completed")
    ended = provenance.get_run("r1")
    assert ended is not None
    assert ended["status"] == "completed"
    assert ended["finished_at"] >= ended["started_at"]


def test_a_node_is_followed_from_its_start_to_its_output(provenance: DagProvenance, run: str) -> None:
    provenance.record_node_start(run, "load", '{"n": 3}', "source")
    started = row(provenance, "load")
    assert list(started) == [
        "run_id",
        "node_label",
        "status",
        "node_type",
        "input_json",
        "output_json",
        "started_at",
        "finished_at",
        "error",
    ]
    assert (started["status"], started["node_type"], started["input_json"]) == ("running", "source", '{"n": 3}')
    assert provenance.get_node_output(run, "load") is None
    assert provenance.get_pending_nodes(run) == ["load"]
    provenance.record_node_complete(run, "load", "[0, 1, 2]")
    done = row(provenance, "load")
    assert (done["status"], done["output_json"], done["error"]) == ("completed", "[0, 1, 2]", None)
    assert done["finished_at"] >= done["started_at"]
    assert provenance.get_node_output(run, "load") == "[0, 1, 2]"
    assert provenance.get_pending_nodes(run) == []


def test_what_is_recorded_by_hand_is_a_run_of_the_ledger_like_any_other(provenance: DagProvenance, run: str) -> None:
    provenance.record_node_start(run, "load", "{}")
    provenance.record_node_complete(run, "load", "1")
    provenance.finish_run(run, "completed")
    ledger = provenance.ledger
    assert ledger.require_run(run).status is RunStatus.COMPLETED
    assert ledger.get_output(run, "load") == 1
    assert list(ledger.check()) == []


def test_every_write_is_durable_when_it_returns(place: str) -> None:
    with DagProvenance(place) as one, DagProvenance(place) as other:
        one.create_run("r1", "etl", None)
        assert other.get_run("r1") is not None
        one.record_node_start("r1", "a", "{}")
        assert other.get_pending_nodes("r1") == ["a"]
        other.record_node_complete("r1", "a", "1")
        assert one.get_node_output("r1", "a") == "1"


# --- the reference's edge cases -------------------------------------------------------------------


def test_a_run_id_that_exists_is_refused(provenance: DagProvenance, run: str) -> None:
    with pytest.raises(RunExists):
        provenance.create_run(run, "other", {})
    found = provenance.get_run(run)
    assert found is not None
    assert found["dag_nsref"] == "etl:main"


def test_a_run_needs_a_name(provenance: DagProvenance) -> None:
    with pytest.raises(ConfigurationError, match="dag_nsref"):
        provenance.create_run("r1", None, {})  # type: ignore[arg-type]
    assert provenance.get_run("r1") is None


def test_no_source_inputs_are_stored_as_null(provenance: DagProvenance) -> None:
    provenance.create_run("r1", "etl", None)
    found = provenance.get_run("r1")
    assert found is not None
    assert found["source_inputs_json"] == "null"


def test_source_inputs_that_cannot_be_stored_leave_no_run(provenance: DagProvenance) -> None:
    with pytest.raises(ValueNotStorable):
        provenance.create_run("r1", "etl", {"a": {"lock": threading.Lock()}})
    assert provenance.get_run("r1") is None


@pytest.mark.parametrize(
    "write",
    [
        lambda p: p.update_run_status("nowhere", "running"),
        lambda p: p.finish_run("nowhere", "completed"),
        lambda p: p.record_node_start("nowhere", "a", "{}"),
        lambda p: p.record_node_complete("nowhere", "a", "1"),
        lambda p: p.record_node_failed("nowhere", "a", "no"),
        lambda p: p.record_node_skipped("nowhere", "a", "1"),
        lambda p: p.record_edge_traversal("nowhere", "a", "b"),
        lambda p: p.fail_node_and_finish_run("nowhere", "a", "no"),
        lambda p: p.create_run("r9", "etl", {}, parent_run_id="nowhere"),
    ],
)
def test_a_write_to_an_unknown_run_is_an_error_and_leaves_no_orphan(provenance: DagProvenance, write: Any) -> None:
    with pytest.raises(RunNotFound) as caught:
        write(provenance)
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, ValueError)
    assert provenance.list_runs() == []


@pytest.mark.parametrize("verb", ["record_node_complete", "record_node_failed", "fail_node_and_finish_run"])
def test_a_write_to_an_unknown_node_is_an_error_that_names_what_is_near(
    provenance: DagProvenance, run: str, verb: str
) -> None:
    provenance.record_node_start(run, "extract", "{}")
    with pytest.raises(NodeNotFound, match="extract"):
        getattr(provenance, verb)(run, "extrakt", "1")
    found = provenance.get_run(run)
    assert found is not None
    assert found["status"] == "running"


@pytest.mark.parametrize("verb", ["update_run_status", "finish_run"])
def test_an_unknown_status_is_refused_with_those_there_are(provenance: DagProvenance, run: str, verb: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Did you mean 'completed'.*paused"):
        getattr(provenance, verb)(run, "complete")
    with pytest.raises(ConfigurationError, match="complete"):
        provenance.list_runs(status="complete")


def test_a_second_start_is_a_new_attempt_and_the_first_stays_in_the_history(
    provenance: DagProvenance, run: str
) -> None:
    provenance.record_node_start(run, "a", '{"n": 1}')
    provenance.record_node_failed(run, "a", "first")
    provenance.record_node_start(run, "a", '{"n": 2}')
    again = row(provenance, "a")
    assert (again["status"], again["input_json"], again["error"], again["finished_at"]) == (
        "running",
        '{"n": 2}',
        None,
        None,
    )
    provenance.record_node_complete(run, "a", "2")
    history = provenance.get_attempts(run, "a")
    assert [(one["attempt"], one["status"], one["input_json"], one["error"]) for one in history] == [
        (1, "failed", '{"n": 1}', "first"),
        (2, "completed", '{"n": 2}', None),
    ]


def test_a_skipped_node_has_no_input_and_no_type(provenance: DagProvenance, run: str) -> None:
    provenance.record_node_start(run, "a", '{"n": 1}', "source")
    provenance.record_node_skipped(run, "a", "7")
    found = row(provenance, "a")
    assert (found["status"], found["input_json"], found["node_type"]) == ("skipped", None, None)
    assert found["started_at"] == found["finished_at"]
    assert provenance.get_node_output(run, "a") == "7"


def test_a_node_that_fails_after_it_completed_keeps_its_output_and_no_longer_gives_it(
    provenance: DagProvenance, run: str
) -> None:
    provenance.record_node_start(run, "a", "{}")
    provenance.record_node_complete(run, "a", "1")
    provenance.record_node_failed(run, "a", "after all")
    found = row(provenance, "a")
    assert (found["status"], found["output_json"], found["error"]) == ("failed", "1", "after all")
    assert provenance.get_node_output(run, "a") is None


def test_a_node_that_completes_after_it_failed_keeps_the_text_of_the_error(provenance: DagProvenance, run: str) -> None:
    provenance.record_node_start(run, "a", "{}")
    provenance.record_node_failed(run, "a", "not yet")
    provenance.record_node_complete(run, "a", "1")
    found = row(provenance, "a")
    assert (found["status"], found["output_json"], found["error"]) == ("completed", "1", "not yet")


def test_a_run_that_goes_on_by_hand_keeps_the_end_that_was_told_of_it(provenance: DagProvenance, run: str) -> None:
    provenance.finish_run(run, "failed")
    ended = provenance.get_run(run)
    assert ended is not None
    provenance.update_run_status(run, "running")
    again = provenance.get_run(run)
    assert again is not None
    assert (again["status"], again["finished_at"]) == ("running", ended["finished_at"])
    assert provenance.ledger.require_run(run).finished_at is None  # the ledger itself says what is so
    provenance.finish_run(run, "completed")
    last = provenance.get_run(run)
    assert last is not None
    assert last["status"] == "completed"
    assert last["finished_at"] > ended["finished_at"]
    assert list(provenance.ledger.check()) == []


def test_a_status_alone_sets_no_end(provenance: DagProvenance, run: str) -> None:
    provenance.update_run_status(run, "completed")
    found = provenance.get_run(run)
    assert found is not None
    assert (found["status"], found["finished_at"]) == ("completed", None)


def test_paused_is_this_faces_word_for_suspended(provenance: DagProvenance, run: str) -> None:
    provenance.update_run_status(run, "paused")
    found = provenance.get_run(run)
    assert found is not None
    assert found["status"] == "paused"
    assert provenance.ledger.require_run(run).status is RunStatus.SUSPENDED
    assert [one.run_id for one in provenance.list_runs(status="paused")] == [run]


@pytest.mark.parametrize(
    "statuses",
    list(itertools.product(["running", "paused", "completed", "failed", "cancelled"], repeat=2)),
    ids="-".join,
)
def test_a_run_by_hand_may_go_from_any_state_to_any_other(
    provenance: DagProvenance, run: str, statuses: tuple[str, str]
) -> None:
    for status, verb in itertools.product(statuses, (provenance.update_run_status, provenance.finish_run)):
        verb(run, status)
        found = provenance.get_run(run)
        assert found is not None
        assert found["status"] == status
    assert list(provenance.ledger.check()) == []


def test_a_node_that_was_never_reached_is_in_no_list(provenance: DagProvenance, run: str) -> None:
    assert (provenance.get_node_executions(run), provenance.get_pending_nodes(run)) == ([], [])
    assert provenance.get_node_output(run, "a") is None


def test_nodes_are_listed_in_the_order_of_their_starts(provenance: DagProvenance, run: str) -> None:
    labels = ["z", "a", "m", "b"]
    for label in labels:
        provenance.record_node_start(run, label, "{}")
    assert [one["node_label"] for one in provenance.get_node_executions(run)] == labels
    assert provenance.get_pending_nodes(run) == labels


def test_reads_of_an_unknown_run_find_nothing(provenance: DagProvenance) -> None:
    assert provenance.get_run("nowhere") is None
    assert provenance.get_node_output("nowhere", "a") is None
    assert provenance.inspect_run("nowhere") is None
    assert provenance.get_node_executions("nowhere") == []
    assert provenance.get_pending_nodes("nowhere") == []
    assert provenance.get_edge_traversals("nowhere") == []


def test_an_edge_that_is_recorded_twice_is_kept_once(provenance: DagProvenance, run: str) -> None:
    for upstream, downstream in [("a", "b"), ("a", "c"), ("a", "b")]:
        provenance.record_edge_traversal(run, upstream, downstream)
    found = provenance.get_edge_traversals(run)
    assert list(found[0]) == ["run_id", "upstream_label", "downstream_label", "traversed_at"]
    assert [(one["upstream_label"], one["downstream_label"]) for one in found] == [("a", "b"), ("a", "c")]
    assert found[0]["traversed_at"] <= found[1]["traversed_at"]


@pytest.mark.parametrize("text", ["{", "nothing", "", b"\xff", None])
def test_what_is_no_json_is_refused_and_nothing_is_written(provenance: DagProvenance, run: str, text: Any) -> None:
    provenance.record_node_start(run, "a", "{}")
    for write in (
        lambda: provenance.record_node_complete(run, "a", text),
        lambda: provenance.record_node_skipped(run, "b", text),
        lambda: provenance.complete_node_with_edges(run, "a", text, [("a", "b")]),
    ):
        with pytest.raises(ConfigurationError, match="JSON"):
            write()
    assert row(provenance, "a")["status"] == "running"
    assert provenance.get_edge_traversals(run) == []


def test_a_label_must_be_a_text(provenance: DagProvenance, run: str) -> None:
    with pytest.raises(ConfigurationError, match="node_label"):
        provenance.record_node_start(run, "", "{}")


# --- what later versions have, and more -----------------------------------------------------------


def test_a_node_completes_with_its_edges_at_once(provenance: DagProvenance, run: str) -> None:
    provenance.record_node_start(run, "a", "{}")
    provenance.complete_node_with_edges(run, "a", "1", [("a", "b"), ("a", "c")])
    assert provenance.get_node_output(run, "a") == "1"
    assert len(provenance.get_edge_traversals(run)) == 2


def test_a_node_fails_with_its_run_at_once(provenance: DagProvenance, run: str) -> None:
    provenance.record_node_start(run, "a", "{}")
    provenance.fail_node_and_finish_run(run, "a", "no")
    found = provenance.get_run(run)
    assert found is not None
    assert found["status"] == "failed"
    assert found["finished_at"] is not None
    assert row(provenance, "a")["error"] == "no"


def test_an_inspection_has_aware_times_and_loads_payloads_when_asked(provenance: DagProvenance, run: str) -> None:
    provenance.record_node_start(run, "a", '{"n": 1}', is_source=True)
    provenance.record_node_complete(run, "a", "1")
    provenance.record_edge_traversal(run, "a", "b")
    found = provenance.inspect_run(run)
    assert found is not None
    assert found.started_at.tzinfo is UTC
    (node,) = found.nodes
    assert (node.is_source, node.is_sink, node.io, found.io) == (True, False, None, None)
    assert [edge.downstream_label for edge in node.edges] == ["b"]
    assert found.latest_update() == node.finished_at
    assert found.nodes_changed_since(found.started_at - timedelta(seconds=1)) == [node]
    provenance.load_io(found, ["a"])
    assert node.io is not None
    assert (node.io.input_json, node.io.output_json) == ('{"n": 1}', "1")
    with pytest.raises(NodeNotFound):
        provenance.load_io(found, ["b"])


def test_runs_are_listed_by_name_status_initiator_and_parent_top_level_by_default(provenance: DagProvenance) -> None:
    with initiated_by("ada"):
        provenance.create_run("top", "etl", {})
    provenance.create_run("other", "report", {}, initiator=SCHEDULER)
    provenance.create_run("child", "etl/sub", {}, parent_run_id="top")
    provenance.create_run("grandchild", "etl/sub/sub", {}, parent_run_id="child")
    provenance.finish_run("other", "completed", "[1]")
    ids = [run.run_id for run in provenance.get_recent_runs()]
    assert ids == ["other", "top"]
    assert [run.run_id for run in provenance.list_runs(dag_nsref="etl")] == ["top"]
    assert [run.run_id for run in provenance.list_runs(initiator="ada")] == ["top"]
    assert [run.run_id for run in provenance.get_active_runs()] == ["top"]
    assert [run.run_id for run in provenance.list_runs(parent_run_id="top")] == ["child"]
    assert [run.run_id for run in provenance.get_child_runs("top")] == ["child", "grandchild"]
    (first,) = provenance.list_runs(limit=1)
    (second,) = provenance.list_runs(limit=1, before=first)
    assert (first.run_id, second.run_id) == ("other", "top")
    assert provenance.ledger.get_payload("other").result == "[1]"


def test_every_run_inside_a_run_is_found_however_many_there_are() -> None:
    with DagProvenance(":memory:") as provenance:
        provenance.create_run("top", "etl", {})
        for number in range(1001):
            provenance.create_run(f"inner{number}", "etl/sub", {}, parent_run_id="top")
        assert len({run.run_id for run in provenance.get_child_runs("top")}) == 1001


def test_payloads_are_read_where_they_are_asked_for_alone(provenance: DagProvenance, run: str) -> None:
    provenance.record_node_start(run, "a", "1")
    provenance.record_node_failed(run, "a", "no")
    provenance.record_node_start(run, "a", "2")
    provenance.record_node_complete(run, "a", "3")
    provenance.record_node_skipped(run, "b", "4")
    store = provenance.ledger.store
    assert [(one.label, one.input, one.output) for one in store.list_executions(run)] == [
        ("a", None, None),
        ("b", None, None),
    ]
    found = store.list_executions(run, payloads=True)
    assert [(one.label, one.input, one.output) for one in found] == [("a", "2", "3"), ("b", None, "4")]
    assert store.get_execution(run, "a") == found[0]
    assert store.get_execution(run, "c") is None
    assert [(one.attempt, one.output_hash) for one in store.list_executions(run)] == [
        (one.attempt, one.output_hash) for one in found
    ]


def test_a_purge_takes_children_along(provenance: DagProvenance) -> None:
    provenance.create_run("top", "etl", {})
    provenance.create_run("child", "etl/sub", {}, parent_run_id="top")
    provenance.finish_run("child", "completed")
    provenance.finish_run("top", "completed")
    provenance.create_run("open", "etl", {})
    assert provenance.purge(older_than=timedelta(days=1)) == 0
    assert provenance.purge(older_than=timedelta(microseconds=-(10**9))) == 1
    assert [run.run_id for run in provenance.list_runs()] == ["open"]
    assert provenance.get_run("child") is None


def test_many_writers_at_once_lose_nothing(place: str) -> None:
    with DagProvenance(place) as provenance:
        provenance.create_run("r1", "wide", {})

        def work(number: int) -> None:
            with DagProvenance(place) as own:
                for node in range(10):
                    label = f"n{number}-{node}"
                    own.record_node_start("r1", label, "{}")
                    own.record_node_complete("r1", label, str(node))
                    own.record_edge_traversal("r1", "root", label)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert len(provenance.get_node_executions("r1")) == 80
        assert provenance.get_pending_nodes("r1") == []
        assert len(provenance.get_edge_traversals("r1")) == 80


def test_two_starts_of_one_node_at_once_are_two_attempts(place: str) -> None:
    with DagProvenance(place) as provenance:
        provenance.create_run("r1", "etl", {})
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: provenance.record_node_start("r1", "a", "{}"), range(16)))
        assert [one["attempt"] for one in provenance.get_attempts("r1", "a")] == list(range(1, 17))


def test_subscribers_are_told_of_every_start_and_end_and_cannot_break_a_run(
    provenance: DagProvenance, run: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str | None, str, str | None]] = []
    provenance.subscribe(lambda event: 1 // 0)  # type: ignore[arg-type, return-value]
    stop = provenance.subscribe(lambda event: told.append((event.node_label, event.status, event.error)))
    provenance.record_node_start(run, "a", "{}")
    provenance.record_node_failed(run, "a", "no")
    provenance.record_node_skipped(run, "b", "1")
    with pytest.raises(NodeNotFound):
        provenance.record_node_complete(run, "c", "1")
    provenance.finish_run(run, "failed")
    assert told == [("a", "running", None), ("a", "failed", "no"), ("b", "skipped", None), (None, "failed", None)]
    assert "ZeroDivisionError" in caplog.text
    stop()
    provenance.update_run_status(run, "running")
    assert len(told) == 4


def test_payloads_are_redacted_before_they_are_stored_and_never_logged(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    def hide(label: str | None, text: str) -> str:
        return text.replace("hunter2", "***")

    with caplog.at_level("DEBUG"), DagProvenance(place, redact=hide) as provenance:
        provenance.create_run("r1", "etl", {"a": {"password": "hunter2"}})
        provenance.record_node_start("r1", "a", '{"password": "hunter2"}')
        provenance.record_node_complete("r1", "a", '"hunter2!"')
        provenance.record_node_skipped("r1", "b", '"hunter2"')
        stored = json.dumps([provenance.get_run("r1"), provenance.get_node_executions("r1")])
    assert "hunter2" not in stored
    assert stored.count("***") == 4
    assert "hunter2" not in caplog.text
    with DagProvenance(place, redact=lambda label, text: "{") as broken, pytest.raises(ConfigurationError):
        broken.record_node_start("r1", "c", "{}")


# --- runs of the engine ---------------------------------------------------------------------------


def double(n: int) -> int:
    return 2 * n


def numbers(count: int) -> list[int]:
    return list(range(count))


def total(items: list[int]) -> int:
    return sum(items)


@pytest.fixture
def recorded(provenance: DagProvenance) -> str:
    with Dag("sums") as dag:
        dag.node(total, items=dag.map(double, dag.node(numbers)))
    return dag.run(count=3, ledger=provenance.ledger).run_id


def test_a_run_of_the_engine_reads_as_one_by_hand(provenance: DagProvenance, recorded: str) -> None:
    found = {one["node_label"]: one for one in provenance.get_node_executions(recorded)}
    assert {label: one["node_type"] for label, one in found.items()} == {
        "numbers": "source",
        "double": "composite",
        "total": "sink",
    }
    assert {label: one["output_json"] for label, one in found.items()} == {
        "numbers": "[0,1,2]",
        "double": "[0,2,4]",
        "total": "6",
    }
    assert provenance.get_node_output(recorded, "double[1]") == "2"
    with_elements = provenance.get_node_executions(recorded, elements=True)
    assert len(with_elements) == 6
    edges = {(one["upstream_label"], one["downstream_label"]) for one in provenance.get_edge_traversals(recorded)}
    assert edges == {("numbers", "double"), ("double", "total")}
    inspected = provenance.inspect_run(recorded)
    assert inspected is not None
    assert inspected.status == "completed"


def test_a_run_that_the_engine_executes_is_its_drivers_alone(provenance: DagProvenance) -> None:
    refused: list[str] = []

    def meddle(ctx: StepContext) -> None:
        for write in (
            lambda: provenance.record_node_start(ctx.run_id, "x", "{}"),
            lambda: provenance.finish_run(ctx.run_id, "completed"),
            lambda: provenance.record_edge_traversal(ctx.run_id, "x", "y"),
            lambda: provenance.record_node_complete(ctx.run_id, "meddle", "1"),
        ):
            with pytest.raises(RunBusy) as caught:
                write()
            refused.append(str(caught.value))

    dag = Dag("meddling")
    dag.node(meddle)
    dag.run(ledger=provenance.ledger).result()
    assert len(refused) == 4
    assert "process" in refused[0]


def test_a_write_that_was_refused_says_why_even_where_the_engine_has_ended_the_run_meanwhile(
    provenance: DagProvenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = provenance.ledger.store
    assert store.apply([new_run("engine")]) == [None]
    look = store.hand_get_run

    def end_and_look(run_id: str) -> Any:
        store.apply([write_run(run_id, end=completed())])
        return look(run_id)

    monkeypatch.setattr(store, "hand_get_run", end_and_look)
    with pytest.raises(RunBusy, match="engine"):
        provenance.record_node_start("engine", "a", "{}")
    provenance.record_node_start("engine", "a", "{}")


def test_a_run_of_the_engine_that_was_taken_by_hand_goes_on_by_hand_until_the_engine_takes_it_back(
    provenance: DagProvenance, place: str
) -> None:
    dag = Dag("taken")
    broken = [True]

    def work() -> int:
        if broken[0]:
            raise ValueError("broken")
        return 1

    dag.node(work, label="work")
    run_id = dag.run(ledger=provenance.ledger).run_id
    provenance.update_run_status(run_id, "running")
    with DagProvenance(place) as other:
        other.record_node_start(run_id, "by_hand", "{}")
        other.record_node_complete(run_id, "by_hand", "1")
        other.record_edge_traversal(run_id, "by_hand", "work")
        other.finish_run(run_id, "failed")
    provenance.update_run_status(run_id, "running")
    assert provenance.ledger.require_run(run_id).lease_until == FOR_EVER
    provenance.finish_run(run_id, "failed")
    broken.clear()
    broken.append(False)
    assert dag.resume(run_id, ledger=provenance.ledger).status is RunStatus.COMPLETED
    assert provenance.get_node_output(run_id, "by_hand") == "1"
    assert list(provenance.ledger.check()) == []


def test_the_doctor_takes_what_was_told_by_hand_as_it_was_told(provenance: DagProvenance, run: str) -> None:
    for _ in range(2):
        provenance.record_node_start(run, "twice", "{}")
        provenance.record_node_complete(run, "twice", "1")
    provenance.record_node_start(run, "left running", "{}")
    provenance.record_node_start(run, "left failed", "{}")
    provenance.record_node_failed(run, "left failed", "no")
    provenance.record_edge_traversal(run, "never seen", "twice")
    provenance.finish_run(run, "completed")
    assert list(provenance.ledger.check()) == []


def test_a_runner_records_where_its_provenance_does(provenance: DagProvenance) -> None:
    with Dag("doubling") as dag:
        dag.node(double)
    result = asyncio.run(DagRunner(dag, provenance).run({"double": {"n": 4}}))
    assert provenance.get_node_output(result.run_id, "double") == "8"


def test_a_run_inside_a_run_is_called_by_its_place_there(provenance: DagProvenance) -> None:
    with Dag("inner") as inner:
        inner.node(double)
    with Dag("outer") as outer:
        outer.map(inner, outer.node(numbers), label="each")
    run = outer.run(count=2, ledger=provenance.ledger)
    children = [provenance.get_run(child.run_id) for child in provenance.get_child_runs(run.run_id)]
    names = {child["dag_nsref"] for child in children if child is not None}
    assert names == {"outer/each[0]", "outer/each[1]"}
    seen = provenance.inspect_run(run.run_id)
    assert seen is not None
    each = next(node for node in seen.nodes if node.node_label == "each")
    assert {sub.dag_nsref for sub in each.sub_dags} == names


def test_a_run_whose_process_died_is_not_taken_up_by_those_who_cannot_go_on_with_it(
    provenance: DagProvenance, run: str
) -> None:
    from milepost.runtime.lifecycle import find_interrupted

    assert [found.run_id for found in find_interrupted(provenance.ledger)] == []
    assert provenance.get_run(run) is not None


# --- the two classes, and how they are made -------------------------------------------------------


def test_null_provenance_has_every_verb_and_keeps_nothing() -> None:
    verbs = {name for name, _ in inspect.getmembers(Provenance, inspect.isfunction) if not name.startswith("_")}
    for cls in (DagProvenance, NullProvenance):
        for verb in verbs:
            theirs, ours = inspect.signature(getattr(Provenance, verb)), inspect.signature(getattr(cls, verb))
            assert str(theirs) == str(ours), (cls, verb)
    null = NullProvenance()
    null.create_run("r1", "etl", {"a": {"b": object()}})
    null.record_node_start("r1", "a", "{}")
    null.record_node_complete("r1", "a", "1")
    assert (null.get_run("r1"), null.get_node_output("r1", "a")) == (None, None)
    assert null.get_node_executions("r1") == null.get_pending_nodes("r1") == null.get_edge_traversals("r1") == []


def test_it_is_made_from_a_path_a_text_a_ledger_or_in_memory(tmp_path: Path) -> None:
    def made() -> Iterator[DagProvenance]:
        yield DagProvenance(tmp_path / "deep" / "folder" / "a.db")
        yield DagProvenance(str(tmp_path / "b.db"))
        yield DagProvenance(":memory:")
        yield DagProvenance(Ledger.open(tmp_path / "c.db"))

    for provenance in made():
        provenance.create_run("r1", "etl", {})
        assert provenance.get_run("r1") is not None
        provenance.close()


def test_an_open_ledger_stays_open_when_its_provenance_is_closed(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "runs.db") as ledger:
        DagProvenance(ledger).close()
        assert ledger.list_runs() == []


def test_its_errors_are_of_one_hierarchy() -> None:
    assert issubclass(NodeNotFound, (MilepostError, LookupError, ValueError))
    assert issubclass(RunExists, MilepostError)
