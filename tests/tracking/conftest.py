"""The two databases that the client stands on: every test here runs on both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from postgres import new_schema, server_url
from tracked import Base

from milepost import Ledger
from milepost.tracking import Client


@pytest.fixture(params=["sqlite", "postgres"])
def base(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Base]:
    monkeypatch.delenv("MILEPOST_LEDGER", raising=False)
    monkeypatch.chdir(tmp_path)
    is_postgres = request.param == "postgres"
    url = new_schema(server_url()) if is_postgres else str(tmp_path / "runs.db")
    with ExitStack() as stack:
        made = Base(url, stack, is_postgres=is_postgres)
        if not is_postgres:
            Ledger.open(url).close()
        yield made


@pytest.fixture
def client(base: Base) -> Client:
    return base.client()
