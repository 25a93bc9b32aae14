"""Workflow files of older releases, the words of trigger rules, and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from milepost.cli.app import app
from milepost.dsl import JoinMode, OperatorType, TriggerRule, Workflow
from milepost.dsl import WorkflowBuilder as B
from milepost.dsl.schema import file_schema

OLDER = """
name: invoice_run
version: "1.2.0"
schedule: "30 6 * * 1-5"
tags: [billing]
variables: {currency: EUR}
default_retry_policy: {max_retries: 2, delay: PT10S, backoff_factor: 2.0}
tasks:
  fetch: {task_id: fetch, operator_type: task, function: t.echo, args: ["{{ds}}"], result_key: invoices}
  fan:
    task_id: fan
    operator_type: parallel
    dependencies: [fetch]
    branches: {mail: [notify], pdf: [render]}
    branch_workflows:
      mail:
        name: fan_mail
        tasks: {notify: {task_id: notify, operator_type: task, function: t.echo, args: ["{{invoices}}"]}}
      pdf:
        name: fan_pdf
        tasks: {render: {task_id: render, operator_type: task, function: t.echo, kwargs: {x: "{{currency}}"}}}
  pause: {task_id: pause, operator_type: wait, wait_for: PT0.01S, dependencies: [fan]}
"""


def test_a_file_of_the_original_loads_and_runs(ledger):
    workflow = Workflow.from_yaml(OLDER)
    finished = workflow.run({"data_interval_start": "2026-01-01"}, ledger=ledger)
    assert finished.status.value == "completed"
    assert ledger.get_output(finished.run_id, "fan") == {"mail": "2026-01-01", "pdf": "EUR"}


def test_the_branches_of_a_condition_are_found_in_files_that_do_not_record_them(ledger):
    text = """
name: older
tasks:
  c: {task_id: c, operator_type: condition, condition: "{{inputs.n}} > 1", if_true: a, if_false: b}
  a: {task_id: a, operator_type: task, function: t.echo, args: [a], dependencies: [c]}
  a2: {task_id: a2, operator_type: task, function: t.echo, args: [a2], dependencies: [a, c]}
  b: {task_id: b, operator_type: task, function: t.echo, args: [b], dependencies: [c]}
"""
    workflow = Workflow.from_yaml(text)
    assert workflow.run({"n": 2}, ledger=ledger).result() == "a2"
    assert workflow.run({"n": 0}, ledger=ledger).result() == "b"


def test_nodes_of_loops_that_an_older_file_has_twice_are_read_once(ledger):
    text = """
name: older
tasks:
  l:
    task_id: l
    operator_type: foreach
    items: "[1, 2]"
    loop_body: [{task_id: x, operator_type: task, function: t.echo, args: ["{{item}}"], dependencies: []}]
  x: {task_id: x, operator_type: task, function: t.echo, dependencies: [l], is_internal_loop_task: true}
"""
    assert list(Workflow.from_yaml(text).tasks) == ["l"]


@pytest.mark.parametrize(
    ("rule", "ran"),
    [("all_success", False), ("all_done", True), ("one_success", True), ("one_done", True), ("none_failed", False)],
)
def test_a_trigger_rule_says_what_is_asked_of_dependencies(run, calls, rule, ran):
    flow = B("rules").task("good", "t.echo", dependencies=[]).task("bad", "t.fail", dependencies=[])
    finished = run(flow.task("last", "t.echo", args=["last"], dependencies=["good", "bad"], trigger_rule=rule))
    assert (("echo", "last") in calls) == ran
    assert finished.status.value == ("completed" if ran else "failed")


def test_a_node_that_could_do_with_one_success_fails_the_run_when_it_gets_none(run):
    flow = B("rules").task("bad", "t.fail").task("last", "t.echo", trigger_rule="one_success")
    assert run(flow).error == "ValueError: no"


def test_the_sets_of_words_are_those_of_the_format():
    assert [word.value for word in JoinMode] == ["all_of", "any_of", "all_success", "one_success"]
    assert [word.value for word in TriggerRule] == ["all_success", "all_done", "one_success", "one_done", "none_failed"]
    assert all(word.name == word.value.upper() for word in OperatorType)
    assert len(OperatorType) == 16


def test_the_schema_of_files_names_every_operator_and_no_unknown_key():
    schema = file_schema()
    assert schema["additionalProperties"] is False
    text = json.dumps(schema)
    assert all(f'"{kind.value}"' in text for kind in OperatorType if kind != OperatorType.TRY_CATCH)


def command(*words: str):
    return CliRunner().invoke(app, ["workflow", *words])


def test_the_command_line_tells_every_mistake_with_file_line_and_path(tmp_path: Path):
    file = tmp_path / "flow.yaml"
    file.write_text("name: x\ntasks:\n  a: {task_id: a, operator_type: task, function: t.echo, arg: [1]}\n")
    done = command("validate", str(file))
    assert done.exit_code == 1
    assert f"{file}:3:58: tasks.a.arg: unknown key 'arg'. Did you mean 'args'?" in done.stderr


@pytest.mark.parametrize(("form", "begin"), [("mermaid", "stateDiagram-v2"), ("dot", "digraph"), ("svg", "<svg")])
def test_the_command_line_draws_a_file(tmp_path: Path, form, begin):
    file = tmp_path / "flow.yaml"
    file.write_text(OLDER)
    assert command("graph", str(file), "--format", form).stdout.startswith(begin)


def test_the_command_line_converts_a_file_to_json_and_python(tmp_path: Path):
    file = tmp_path / "flow.yaml"
    file.write_text(OLDER)
    workflow = Workflow.from_yaml(OLDER)
    assert Workflow.from_json(command("convert", str(file), "--to", "json").stdout) == workflow
    names: dict = {}
    exec(command("convert", str(file), "--to", "python").stdout, names)
    assert names["workflow"] == workflow
    assert "pause  wait  after fan" in command("show", str(file)).stdout
    assert command("validate", str(file)).exit_code == 0
