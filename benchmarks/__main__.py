"""``python -m benchmarks``: measure and print the table.

Args on the command line: names of parts (``steps``, ``postgres``, ``queues``, ``stages``, ``dags``, ``workflows``,
``tracking``, ``scale``) to measure only those; ``--json FILE`` writes the rows as JSON as well. PostgreSQL is a server
of our own with its default settings, or the one that ``MILEPOST_TEST_POSTGRES`` names.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import dags, postgres, queues, scale, stages, steps, tracking, workflows
from benchmarks.report import as_dict, show

PARTS = {
    "steps": steps.measure,
    "postgres": postgres.measure,
    "queues": queues.measure,
    "stages": stages.measure,
    "workflows": workflows.measure,
    "tracking": tracking.measure,
    "dags": dags.measure,
    "scale": scale.measure,
}


def main() -> int:
    """Measure the parts that were asked for; return 1 when a budget is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Milepost's speed budget.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="only these parts")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON, too")
    parser.add_argument("--folder", help="measure on this disk (default: the working directory's)")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder or ".", prefix=".bench-") as folder:
        for name in options.parts or PARTS:
            console.print(f"measuring {name} ...", style="dim")
            rows += PARTS[name](Path(folder))
    show(rows, console)
    console.print(
        f"{platform.python_implementation()} {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{os.cpu_count()} cores, {platform.machine()}; median of at least 5, floors taken by turns."
    )
    if options.json:
        Path(options.json).write_text(json.dumps([as_dict(row) for row in rows], indent=2), encoding="utf-8")
    return 0 if all(row.is_met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
