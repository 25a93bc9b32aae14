"""A provenance on a file and on PostgreSQL: one suite for both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import new_schema, server_url

from milepost.provenance import DagProvenance


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where an empty ledger is."""
    return str(tmp_path / "runs.db") if request.param == "sqlite" else new_schema(server_url())


@pytest.fixture
def provenance(place: str) -> Iterator[DagProvenance]:
    """Return a provenance there, open."""
    with DagProvenance(place) as opened:
        yield opened


@pytest.fixture
def run(provenance: DagProvenance) -> str:
    """Return the id of a run that has just begun."""
    provenance.create_run("r1", "etl:main", {"load": {"n": 3}})
    return "r1"
