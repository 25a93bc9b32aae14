"""Whatever is public has its place in the documentation, and every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import milepost
from milepost import errors, states

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^[ ]*```.*?^[ ]*```[ ]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

# The words that the design fixes; the glossary must define each.
FIXED_WORDS = (
    "attempt",
    "cancel",
    "checkpoint",
    "edge",
    "event",
    "heartbeat",
    "lease",
    "lease epoch",
    "lifecycle event",
    "provenance",
    "queue",
    "record",
    "replay",
    "rescue",
    "restart",
    "resume",
    "retry",
    "rollback",
    "run",
    "schedule",
    "sleep",
    "step",
    "task",
    "worker",
    "workflow",
)


def _words(page: Path) -> str:
    """Return a page's text without its code."""
    return _CODE.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))


def _anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def _glossary() -> dict[str, tuple[str, str]]:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]*)\|$", (DOCS / "glossary.md").read_text("utf-8"), re.MULTILINE)
    return {term: (meaning.strip(), others.strip()) for term, meaning, others in rows[1:]}


def test_every_public_name_is_documented() -> None:
    documented = {
        name
        for page in (DOCS / "reference").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    }
    missing = [name for name in milepost.__all__ if f"milepost.{name}" not in documented]
    assert [name for name in missing if name not in errors.__all__] == []


def test_every_error_is_documented() -> None:
    assert {name.lower() for name in errors.__all__} <= _anchors(DOCS / "reference" / "errors.md")


def test_every_state_is_explained() -> None:
    explained = re.findall(r"^\| (\w+) \| [^|]+ \|$", (DOCS / "states.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(explained) == sorted(["state", *states.RunStatus, "state", *states.StepStatus])


def test_every_word_that_the_design_fixes_is_in_the_glossary() -> None:
    assert [word for word in FIXED_WORDS if word not in _glossary()] == []


def test_every_word_of_the_glossary_has_one_place_and_a_meaning() -> None:
    lines = [line for line in (DOCS / "glossary.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    assert len(_glossary()) == len(lines) - 1  # but for the head: no term twice, no row that is not read
    assert [term for term, (meaning, _) in _glossary().items() if len(meaning) < 15] == []
    assert list(_glossary()) == sorted(_glossary(), key=str.lower)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_words(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
        elif page.is_relative_to(DOCS) and not target.is_relative_to(DOCS):
            broken.append(f"{link} leaves the site")
    assert broken == []


def test_every_page_is_in_the_navigation_once() -> None:
    def pages(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"])
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_one_title_and_writes_cancelled_with_two_ls(page: Path) -> None:
    text = _FENCE.sub("", page.read_text("utf-8"))
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    assert re.findall(r"\w*cancel(?:ed|ing|ation)\b(?<!cancellation)", text) == []
