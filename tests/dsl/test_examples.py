"""Every operator has an example that runs, and that the docs show and draw."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from milepost.dsl import Workflow, register_workflow
from milepost.dsl.files import load_workflow
from milepost.dsl.operators import OPERATORS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "dsl"
RESULTS = {
    "task": 6,
    "activity": "done",
    "condition": "it was accepted",
    "switch": "printed",
    "parallel": 2,
    "foreach": 14,
    "while": 128,
    "wait": "ordered, reminded",
    "emit_event": "stock-monday",
    "wait_for_event": 12,
    "join": "found",
    "reflexive": "monday monday (say more)",
    "multi_choice": {"mail": "mailed"},
    "terminate": {"rows": 0},
    "child_workflow": {"today": {"status": "completed", "result": 6}},
}


@pytest.fixture(autouse=True, scope="module")
def functions() -> None:
    spec = importlib.util.spec_from_file_location("dsl_example_functions", EXAMPLES / "functions.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def load(kind: str) -> Workflow:
    return load_workflow(str(EXAMPLES / f"{kind}.yaml"))


def test_every_operator_has_an_example() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == set(OPERATORS) == set(RESULTS)


@pytest.mark.parametrize("kind", RESULTS)
def test_the_example_of_an_operator_uses_it_and_runs(kind, ledger) -> None:
    register_workflow(load("task"))
    workflow = load(kind)
    assert kind in {node.operator_type.value for node in workflow.tasks.values()}
    assert workflow.run(ledger=ledger).result() == RESULTS[kind]
    assert Workflow.from_yaml(workflow.to_yaml()) == workflow


@pytest.mark.parametrize("kind", RESULTS)
def test_the_docs_show_and_draw_the_example_of_an_operator(kind) -> None:
    page = (ROOT / "docs" / "reference" / "workflow-operators.md").read_text(encoding="utf-8")
    text = (EXAMPLES / f"{kind}.yaml").read_text(encoding="utf-8")
    assert text in page
    assert load(kind).to_svg().strip() in page
