"""A PostgreSQL server to measure on: with its own defaults, so that a commit costs what it costs."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from postgres import PostgresServer, new_schema

__all__ = ["new_schema", "running_server"]


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """Start a server on the folder's disk and yield its URL; ``MILEPOST_TEST_POSTGRES`` names another."""
    given = os.environ.get("MILEPOST_TEST_POSTGRES")
    if given:
        yield given
        return
    server = PostgresServer(parent=_reachable(folder))
    try:
        server.start()
        yield server.url
    finally:
        server.close()


def _reachable(folder: Path) -> Path:
    """Return the folder, or the system's own for temporary files where the server's user may not enter it."""
    folder.chmod(0o755)
    if os.geteuid() or all(parent.stat().st_mode & 0o001 for parent in folder.resolve().parents):
        return folder
    return Path(tempfile.gettempdir())
