"""The main job as a pipeline: the same report as the Dag's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from milepost import Ledger

FILES: dict[str, str | bytes] = {"a.py": "import b\n", "b.py": "import a\n\ndef f(): ...\n", "c.py": "import a\n"}


def test_the_pipeline_writes_the_report_that_the_dag_writes(
    job: ModuleType, tree: Callable[[dict[str, str | bytes]], Path], tmp_path: Path
) -> None:
    import stdlib_index.pipeline

    source = tree(FILES)
    with Ledger.open(":memory:") as ledger:
        by_dag = job.dag.run(source=source, out=tmp_path / "dag", ledger=ledger).result()
        run = stdlib_index.pipeline.StdlibIndex.run({"source": source, "out": tmp_path / "pipeline"}, ledger=ledger)
        report = run.result()
        labels = [step.label for step in ledger.list_steps(run.run_id) if "[" not in step.label]
    assert json.loads(report.json.read_text()) == json.loads(by_dag.json.read_text())
    assert (report.modules, report.cycles) == (3, 1)
    assert sorted(labels) == [
        "Analyse.FindCycles",
        "Analyse.LinkImports",
        "Analyse.RankModules",
        "Analyse.WriteReport",
        "Read.FindModules",
        "Read.Parse",
    ]
