"""The main job as a run: what it leaves in the ledger and in the report."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from milepost import Ledger, RunStatus

Tree = Callable[[dict[str, str | bytes]], Path]

SMALL: dict[str, str | bytes] = {
    "app/__init__.py": '"""The application."""\nfrom . import views\n',
    "app/views.py": "from .models import Model\nimport sys\n\ndef show():\n    from app import late\n",
    "app/models.py": "import app.views\n\nclass Model:\n    '''A model.'''\n    def save(self): ...\n",
    "app/late.py": "import app\n",
    "empty.py": "",
    "broken.py": "def (:\n",
    "nul.py": b"x = 1\0",
    "coding.py": b"# coding: klingon\n",
    "<b>&amp;'.py": "import empty\n",
}


def _run(job: ModuleType, ledger: Ledger, source: Path, out: Path, **options: Any) -> Any:
    run = job.dag.run(inputs={"source": source, "out": out}, ledger=ledger, **options)
    assert run.status == RunStatus.COMPLETED, run.error
    return run.result()


def test_the_report_says_what_the_tree_holds(job, ledger, tree, tmp_path):
    report = _run(job, ledger, tree(SMALL), tmp_path / "out")
    assert (report.modules, report.unusable, report.cycles) == (9, 3, 1)
    assert (report.json, report.html) == (tmp_path / "out" / "report.json", tmp_path / "out" / "report.html")
    data = json.loads(report.json.read_text())
    assert data["source"] == str(tmp_path / "tree")
    assert data["totals"] == {
        "modules": 9,
        "unusable": 3,
        "lines": 16,
        "classes": 1,
        "functions": 2,
        "documentable": 8,
        "documented": 2,
    }
    assert data["cycles"] == [["app.models", "app.views"]]
    assert data["imports"]["imports"]["app"] == ["app.views"]
    assert data["imports"]["late_imports"]["app.views"] == ["app.late"]
    assert [m["path"] for m in data["modules"] if m["error"]] == ["broken.py", "coding.py", "nul.py"]
    assert [m["name"] for m in data["modules"]][:4] == ["<b>&amp;'", "broken", "coding", "empty"]
    assert {rank["module"] for rank in data["ranks"]} == {m["name"] for m in data["modules"]}


def test_every_file_is_a_step_of_its_own(job, ledger, tree, tmp_path):
    run = job.dag.run(source=tree(SMALL), out=tmp_path / "out", ledger=ledger)
    labels = [step.label for step in ledger.list_steps(run.run_id) if step.label.startswith("parse[")]
    assert sorted(labels) == [f"parse[{n}]" for n in range(9)]
    assert run.output("parse[4]") == run.output("parse")[4]


def test_the_report_is_equal_to_the_byte_however_the_run_was_driven(job, ledger, real_tree, tmp_path):
    reports = [
        _run(job, ledger, real_tree, tmp_path / "one", max_concurrency=1),
        _run(job, ledger, real_tree, tmp_path / "many", max_concurrency=16),
    ]
    for kind in ("json", "html"):
        one, many = (getattr(report, kind).read_bytes() for report in reports)
        assert one == many
        assert len(one) > 10_000


def test_nothing_but_the_report_is_left_in_its_folder(job, ledger, tree, tmp_path):
    source, out = tree(SMALL), tmp_path / "out"
    _run(job, ledger, source, out)
    _run(job, ledger, source, out)  # over the first one
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]


def test_a_source_that_is_no_folder_fails_the_run_in_one_line(job, ledger, tmp_path):
    run = job.dag.run(source=tmp_path / "nowhere", out=tmp_path / "out", ledger=ledger)
    assert (run.status, run.failed_step) == (RunStatus.FAILED, "find_modules")
    assert re.fullmatch(r"NotADirectoryError: .*nowhere.* Name one: --input source=DIR\.", run.error)
    assert not (tmp_path / "out").exists()


def test_a_tree_without_python_gets_a_report_of_nothing(job, ledger, tree, tmp_path):
    report = _run(job, ledger, tree({"README.md": "# Nothing"}), tmp_path / "out")
    assert report.modules == 0
    assert json.loads(report.json.read_text())["ranks"] == []
    assert "<tbody></tbody>" in report.html.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_a_file_whose_name_is_no_text_is_indexed_as_well(job, ledger, tree, tmp_path):
    source = tree({"plain.py": ""})
    Path(os.fsdecode(os.fsencode(source) + b"/odd\xff.py")).write_text("import plain")
    report = _run(job, ledger, source, tmp_path / "out")
    data = json.loads(report.json.read_text())
    assert [m["name"] for m in data["modules"]] == ["odd\udcff", "plain"]
    assert data["imports"]["imports"] == {"odd\udcff": ["plain"], "plain": []}
    assert "odd\\udcff" in report.html.read_text(encoding="utf-8")


def test_the_inputs_are_optional(job):
    assert job.dag.inputs == {"source": Path, "out": Path}
    assert job.STDLIB.is_dir()


class _Page(HTMLParser):
    """Notes the elements of a page, and complains about one that is not closed."""

    EMPTY = frozenset({"meta", "link", "img", "br", "hr", "input", "rect", "path", "line", "circle", "polygon"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def page(job, ledger, tree, tmp_path) -> _Page:
    report = _run(job, ledger, tree(SMALL), tmp_path / "out")
    page = _Page()
    page.feed(report.html.read_text(encoding="utf-8"))
    page.close()
    return page


def test_the_page_is_whole_and_needs_nothing_from_outside(page):
    assert page.open == []
    tags = {tag for tag, _ in page.seen}
    assert {"html", "svg", "table"} <= tags
    assert not tags & {"script", "link", "img", "iframe", "b"}
    for _, attributes in page.seen:
        assert not {"src", "href", "srcset"} & set(attributes)


def test_the_page_shows_names_as_they_are_and_draws_every_step(page):
    assert "<b>&amp;'" in page.text
    drawing = " ".join(page.text)
    for label in ("find_modules", "parse", "link_imports", "find_cycles", "rank_modules", "report"):
        assert label in drawing
    assert "9/9" in drawing
