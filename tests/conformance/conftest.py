"""Where the stores come from that must all pass this suite.

A new database joins by one entry in ``BACKENDS``. What it does otherwise than the rest is declared
there as a capability, never skipped in passing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from postgres import new_schema, server_url

from milepost.store import Store
from milepost.stores.postgres import PostgresStore
from milepost.stores.sqlite import SQLiteStore


@dataclass(frozen=True)
class Backend:
    """One database of its own for one test.

    Attributes:
        open_store: Opens it; the caller closes what it opened.
        is_shared: Whether a second store opened the same way sees the same runs.
    """

    open_store: Callable[[], Store]
    is_shared: bool


@contextmanager
def _sqlite_file(folder: Path) -> Iterator[Backend]:
    yield Backend(partial(SQLiteStore, str(folder / "runs.db"), durability="process"), is_shared=True)


@contextmanager
def _sqlite_memory(folder: Path) -> Iterator[Backend]:
    yield Backend(partial(SQLiteStore, ":memory:"), is_shared=False)


@contextmanager
def _postgres(folder: Path) -> Iterator[Backend]:
    url = new_schema(server_url())
    yield Backend(partial(PostgresStore, url), is_shared=True)


BACKENDS = {"sqlite_file": _sqlite_file, "sqlite_memory": _sqlite_memory, "postgres": _postgres}


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with BACKENDS[request.param](tmp_path) as made:
        yield made


@pytest.fixture(params=[name for name in BACKENDS if name != "sqlite_memory"])
def shared_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with BACKENDS[request.param](tmp_path) as made:
        assert made.is_shared
        yield made


@pytest.fixture
def store(backend: Backend) -> Iterator[Store]:
    opened = backend.open_store()
    yield opened
    opened.close()


@pytest.fixture
def two_stores(shared_backend: Backend) -> Iterator[tuple[Store, Store]]:
    """Return two stores on one database, as two processes would have them."""
    with ExitStack() as stack:
        stores = shared_backend.open_store(), shared_backend.open_store()
        for opened in stores:
            stack.callback(opened.close)
        yield stores
