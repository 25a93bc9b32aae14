"""Files in the table layout of the library that the provenance comes from."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from milepost import Ledger
from milepost.errors import SchemaNewer
from milepost.provenance import DagProvenance

SEED = """
CREATE TABLE dag_runs (run_id TEXT PRIMARY KEY, dag_nsref TEXT NOT NULL, status TEXT NOT NULL, started_at REAL NOT NULL,
    finished_at REAL, source_inputs_json TEXT);
CREATE TABLE node_executions (run_id TEXT NOT NULL, node_label TEXT NOT NULL, status TEXT NOT NULL, node_type TEXT,
    input_json TEXT, output_json TEXT, started_at REAL, finished_at REAL, error TEXT, PRIMARY KEY (run_id, node_label),
    FOREIGN KEY (run_id) REFERENCES dag_runs (run_id));
CREATE TABLE edge_traversals (run_id TEXT NOT NULL, upstream_label TEXT NOT NULL, downstream_label TEXT NOT NULL,
    traversed_at REAL NOT NULL, FOREIGN KEY (run_id) REFERENCES dag_runs (run_id));
INSERT INTO dag_runs VALUES
    ('done', 'm:dag', 'completed', 1700000000.25, 1700000001.5, '{"a": {"n": 1}}'),
    ('dead', 'm:dag', 'running', 1700000002, NULL, 'null'),
    ('again', 'm:dag', 'running', 1700000002, 1700000003, 'null'),
    ('odd', 'm:dag', 'exploded', 1700000004, NULL, NULL);
INSERT INTO node_executions VALUES
    ('done', 'b', 'completed', 'sink', '{"x": 1}', '2', 1700000001, 1700000001.5, NULL),
    ('done', 'a', 'skipped', NULL, NULL, '1', 1700000000.5, 1700000000.5, NULL),
    ('dead', 'a', 'running', 'source', '{}', NULL, 1700000002, NULL, NULL),
    ('odd', 'a', 'failed', 'source', '{}', NULL, 1700000004, 1700000005, 'no'),
    ('nowhere', 'a', 'failed', 'source', '{}', NULL, 1700000004, 1700000005, 'an orphan');
INSERT INTO edge_traversals VALUES
    ('done', 'a', 'b', 1700000001), ('done', 'a', 'b', 1700000002), ('nowhere', 'a', 'b', 1);
"""

LATER = """
CREATE TABLE dag_runs (run_id TEXT PRIMARY KEY, dag_nsref TEXT NOT NULL, parent_run_id TEXT, status TEXT NOT NULL,
    started_at REAL NOT NULL, finished_at REAL, source_inputs_json TEXT, sink_outputs_json TEXT, initiated_by TEXT);
CREATE TABLE node_executions (run_id TEXT NOT NULL, node_label TEXT NOT NULL, status TEXT NOT NULL, input_json TEXT,
    output_json TEXT, started_at REAL, finished_at REAL, error TEXT, is_source INTEGER, is_sink INTEGER,
    PRIMARY KEY (run_id, node_label));
CREATE TABLE edge_traversals (run_id TEXT NOT NULL, upstream_label TEXT NOT NULL, downstream_label TEXT NOT NULL,
    traversed_at REAL NOT NULL, PRIMARY KEY (run_id, upstream_label, downstream_label));
INSERT INTO dag_runs VALUES
    ('top', 'm:dag', NULL, 'completed', 1700000000, 1700000001, 'null', '{"b": 2}', 'ada'),
    ('sub', 'm:dag/a[]', 'top', 'completed', 1700000000, 1700000001, 'null', NULL, 'ada');
INSERT INTO node_executions VALUES ('top', 'a', 'completed', '{}', '1', 1700000000, 1700000001, NULL, 1, 0);
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "original.db"


@contextlib.contextmanager
def written(path: Path, script: str) -> Iterator[DagProvenance]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    with DagProvenance(path) as provenance:
        yield provenance


def test_a_file_in_the_original_layout_is_taken_over_when_it_is_opened(path: Path) -> None:
    with written(path, SEED) as provenance:
        assert provenance.get_run("done") == {
            "run_id": "done",
            "dag_nsref": "m:dag",
            "status": "completed",
            "started_at": 1700000000.25,
            "finished_at": 1700000001.5,
            "source_inputs_json": '{"a": {"n": 1}}',
        }
        rows = provenance.get_node_executions("done")
        assert [(row["node_label"], row["status"], row["node_type"], row["output_json"]) for row in rows] == [
            ("a", "skipped", None, "1"),
            ("b", "completed", "sink", "2"),
        ]
        assert len(provenance.get_edge_traversals("done")) == 1  # kept once
        assert provenance.get_pending_nodes("dead") == ["a"]
        assert list(provenance.ledger.check()) == []


def test_its_own_tables_are_kept_and_opening_it_again_changes_nothing(path: Path) -> None:
    with written(path, SEED) as provenance:
        before = provenance.list_runs()
    with DagProvenance(path) as provenance:
        assert provenance.list_runs() == before
        assert len(provenance.get_attempts("done", "b")) == 1
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM dag_runs").fetchone() == (4,)


def test_what_an_older_program_adds_later_is_taken_over_as_well(path: Path) -> None:
    with written(path, SEED):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO dag_runs VALUES ('late', 'm:dag', 'paused', 1700000009, NULL, NULL)")
    with DagProvenance(path) as provenance:
        late = provenance.get_run("late")
        assert late is not None
        assert late["status"] == "paused"


def test_runs_of_dead_processes_odd_states_and_orphans_find_their_place(path: Path) -> None:
    with written(path, SEED) as provenance:
        dead, again, odd = (provenance.get_run(run_id) for run_id in ("dead", "again", "odd"))
        assert dead is not None
        assert again is not None
        assert odd is not None
        assert (dead["status"], again["finished_at"], odd["status"]) == ("running", 1700000003, "failed")
        assert provenance.ledger.require_run("odd").error_message == "its status was exploded"
        assert provenance.get_run("nowhere") is None
        provenance.finish_run("dead", "failed")  # and they can be gone on with by hand
        ended = provenance.get_run("dead")
        assert ended is not None
        assert ended["status"] == "failed"


def test_the_layouts_of_later_releases_are_taken_over_too(path: Path) -> None:
    with written(path, LATER) as provenance:
        assert [run.run_id for run in provenance.list_runs(initiator="ada")] == ["top"]
        assert [run.run_id for run in provenance.get_child_runs("top")] == ["sub"]
        found = provenance.inspect_run("top")
        assert found is not None
        assert found.nodes[0].is_source
        assert provenance.ledger.get_payload("top").result == '{"b": 2}'


def test_an_import_that_fails_leaves_nothing_half_written(path: Path) -> None:
    with pytest.raises(Exception, match="original"), written(path, SEED + "DROP TABLE edge_traversals;"):
        pass
    with Ledger.open(path) as ledger:
        assert ledger.list_runs() == []


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    with DagProvenance(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE schema_migrations SET number = 9999 WHERE number = 1")
    with pytest.raises(SchemaNewer):
        DagProvenance(path)
