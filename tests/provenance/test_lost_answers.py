"""A server that is out of reach for a moment, before a write by hand is durable or just after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from postgres import new_schema, server_url

from milepost.provenance import DagProvenance


@pytest.fixture
def provenance() -> Iterator[DagProvenance]:
    """Return a provenance on PostgreSQL with a run, one of whose nodes has begun."""
    with DagProvenance(new_schema(server_url())) as opened:
        opened.create_run("r1", "etl", {})
        opened.record_node_start("r1", "a", "{}")
        yield opened


WRITES: dict[str, Callable[[DagProvenance], None]] = {
    "start": lambda provenance: provenance.record_node_start("r1", "b", "1"),
    "skip": lambda provenance: provenance.record_node_skipped("r1", "b", "1"),
    "complete": lambda provenance: provenance.record_node_complete("r1", "a", "1"),
    "complete with edges": lambda provenance: provenance.complete_node_with_edges("r1", "a", "1", [("a", "b")]),
    "fail": lambda provenance: provenance.record_node_failed("r1", "a", "no"),
    "fail with the run": lambda provenance: provenance.fail_node_and_finish_run("r1", "a", "no"),
    "edge": lambda provenance: provenance.record_edge_traversal("r1", "a", "b"),
    "status": lambda provenance: provenance.update_run_status("r1", "paused"),
    "finish": lambda provenance: provenance.finish_run("r1", "completed", "[1]"),
}


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
@pytest.mark.parametrize("name", WRITES)
def test_a_write_whose_connection_breaks_stands_once(provenance: DagProvenance, name: str, point: str) -> None:
    broken = []

    def fault(at: str) -> None:
        if at == point and not broken:
            broken.append(at)
            raise psycopg.OperationalError("the connection is lost")

    provenance.ledger.store.fault = fault  # type: ignore[attr-defined]
    WRITES[name](provenance)
    assert broken == [point]
    found = [(row["node_label"], row["status"]) for row in provenance.get_node_executions("r1")]
    edges = [(row["upstream_label"], row["downstream_label"]) for row in provenance.get_edge_traversals("r1")]
    run = provenance.get_run("r1")
    assert run is not None
    first = "completed" if name.startswith("complete") else "failed" if name.startswith("fail") else "running"
    second = {"start": [("b", "running")], "skip": [("b", "skipped")]}.get(name, [])
    assert found == [("a", first), *second]
    assert [len(provenance.get_attempts("r1", label)) for label, _ in found] == [1] * len(found)
    assert edges == ([("a", "b")] if name in ("edge", "complete with edges") else [])
    ends = {"fail with the run": "failed", "status": "paused", "finish": "completed"}
    assert run["status"] == ends.get(name, "running")


@pytest.mark.parametrize("name", WRITES)
def test_a_write_finds_its_way_round_a_connection_that_the_server_has_ended(
    provenance: DagProvenance, name: str
) -> None:
    with provenance.ledger.store._borrow() as connection:  # type: ignore[attr-defined]
        pid = connection.info.backend_pid
    conninfo = provenance.ledger.store._address.conninfo  # type: ignore[attr-defined]
    with psycopg.connect(conninfo, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
    WRITES[name](provenance)
