"""The site builds without a warning, and a reader's browser fetches nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FETCHED = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\bsrc=\"(https?:)?//|<link\b[^>]*rel=\"(?:stylesheet|preconnect|icon)\"[^>]*href=\"(https?:)?//"
)


def test_the_site_builds_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert built.returncode == 0, built.stderr
    pages = {page.name: page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html")}
    assert "guarantees.html" in pages
    assert 'id="durability-power-or-process"' in pages["guarantees.html"]
    assert [name for name, text in pages.items() if _FETCHED.search(text)] == []
