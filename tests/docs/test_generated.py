"""What is generated from the code is committed as the code would generate it today."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("generate")


def test_generated_pages_and_pictures_are_up_to_date(generate: ModuleType) -> None:
    stale = [
        str(path.relative_to(ROOT))
        for path, text in generate.make_files().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run: .venv/bin/python docs/generate.py"


def test_a_state_machine_that_grows_is_drawn_whole(generate: ModuleType) -> None:
    transitions = {("open", "close"): "closed", ("open", "break"): "broken", ("broken", "mend"): "open"}
    svg = generate.draw_states(transitions, ["open", "closed", "broken"], {"closed"}, "a door")
    assert all(f">{word}</text>" in svg for word in ("open", "closed", "broken", "close", "break", "mend"))
    assert svg.count('class="head"') == 3
    assert svg.count('class="state end"') == 1


def test_a_page_without_its_region_is_reported(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "states.md").write_text("# States\n", encoding="utf-8")
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    with pytest.raises(LookupError, match=r"states\.md lacks the region .<!-- generated: run transitions -->"):
        generate.make_files()
