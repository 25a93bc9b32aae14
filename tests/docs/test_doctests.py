"""Every example in a docstring of the package runs, and shows what it prints."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import milepost

MODULES = [
    "milepost",
    *(
        found.name
        for found in pkgutil.walk_packages(milepost.__path__, "milepost.")
        if not found.name.endswith("__main__")
    ),
]


def _examples(name: str) -> list[doctest.DocTest]:
    return [
        test for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)) if test.examples
    ]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner()
    report: list[str] = []
    for test in _examples(name):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_the_package_has_examples() -> None:
    assert sum(len(test.examples) for name in MODULES for test in _examples(name)) > 30
