"""A type checker sees of the public API what ``api.py`` beside this file says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

API = Path(__file__).with_name("api.py")


def test_the_public_api_has_the_types_it_promises():
    checker = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(API)],
        capture_output=True,
        text=True,
        cwd=API.parents[2],
    )
    assert checker.returncode == 0, checker.stdout
