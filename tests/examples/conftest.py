"""The main job as a module, and trees of source to give it."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
# Packages of the standard library that every installation has: some 350 files of real code.
PACKAGES = (
    "asyncio",
    "collections",
    "concurrent",
    "email",
    "encodings",
    "http",
    "importlib",
    "json",
    "logging",
    "multiprocessing",
    "unittest",
    "urllib",
    "xml",
)


@pytest.fixture(scope="session")
def job() -> ModuleType:
    """Return the main job's module, under the name that a run of its file would give it."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    import stdlib_index.job

    return stdlib_index.job


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[dict[str, str | bytes]], Path]:
    """Return a function that writes files below a new folder and returns the folder."""

    def write(files: dict[str, str | bytes]) -> Path:
        root = tmp_path / "tree"
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    return write


@pytest.fixture(scope="session")
def real_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of a part of the standard library, for reading only."""
    root = tmp_path_factory.mktemp("real")
    for name in PACKAGES:
        shutil.copytree(
            Path(sysconfig.get_path("stdlib"), name), root / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    return root
