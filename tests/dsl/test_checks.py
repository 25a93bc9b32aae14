"""What a workflow is refused for: all at once, each mistake with its place."""

from __future__ import annotations

import time
import warnings
from datetime import UTC, datetime, timedelta

import pytest

from milepost.dsl import (
    DataGuard,
    Duration,
    JoinMode,
    RetryPolicy,
    TaskOperator,
    Workflow,
    WorkflowInvalid,
    WorkflowWarning,
)
from milepost.dsl import WorkflowBuilder as B
from milepost.dsl.structure import block_of
from milepost.dsl.templates import TemplateFailed, evaluate, evaluate_condition, evaluate_items
from milepost.errors import ConfigurationError

TASK = "{task_id: %s, operator_type: task, function: t.echo%s}"


def problems(text, **options):
    with pytest.raises(WorkflowInvalid) as caught:
        Workflow.from_yaml(text, **options)
    return [(p.line, str(p)) for p in caught.value.problems]


def mistakes(builder):
    with pytest.raises(ValueError, match="mistake") as caught:
        builder.build()
    return [p.message for p in caught.value.problems]


def test_every_mistake_is_told_at_once_with_its_line():
    found = problems(
        "name: x\n"
        "vesion: '1'\n"
        "tasks:\n"
        "  a: {task_id: a, operator_type: tsk}\n"
        "  b: {task_id: b, operator_type: wait, wait_for: PTfoo}\n"
        "  c: {task_id: c, operator_type: task, function: f, depedencies: [a]}\n"
    )
    assert [line for line, _ in found] == [2, 4, 5, 6]
    assert "Did you mean 'version'?" in found[0][1]
    assert "Unknown operator type: tsk" in found[1][1]
    assert "tasks.b.wait_for: 'PTfoo' is no duration" in found[2][1]
    assert "Did you mean 'dependencies'?" in found[3][1]


def test_unknown_ids_cycles_and_templates_have_their_lines():
    text = (
        "name: x\ntasks:\n  a: " + TASK % ("a", ", dependencies: [b]") + "\n  b: " + TASK % ("b", ", dependencies: [a]")
    )
    ((line, told),) = problems(text)
    assert line == 3
    assert "'a' -> 'b' -> 'a'" in told
    text = "name: x\ntasks:\n  ab: " + TASK % ("ab", "") + "\n  c: " + TASK % ("c", ", dependencies: [ac]")
    ((line, told),) = problems(text)
    assert line == 4
    assert "names 'ac', which is no node here." in told
    with pytest.warns(WorkflowWarning, match="'ac'"):
        Workflow.from_yaml(text, lenient=True)


def test_lenient_takes_unknown_keys_as_warnings():
    text = "name: x\nnew_key: 1\ntasks:\n  a: " + TASK % ("a", "")
    with pytest.warns(WorkflowWarning, match="new_key"):
        assert Workflow.from_yaml(text, lenient=True).tasks["a"].task_id == "a"


def test_a_template_may_name_only_what_is_available_there():
    told = mistakes(B("x").task("a", "t.echo", args=["{{later}}"]).task("b", "t.echo", result_key="later"))
    assert told == ["node 'a' asks for 'later', which is no result of a node before it. Add the dependency"]
    assert "Did you mean" in mistakes(B("x").task("load", "t.echo").task("b", "t.echo", args=["{{laod}}"]))[0]
    flow = B("x").set_inputs(day=str).task("a", "t.echo", args=["{{inputs.dya}}"])
    assert mistakes(flow) == ["the workflow declares no input 'dya'. Did you mean 'day'?"]


@pytest.mark.parametrize(
    "flow",
    [
        B("x").task("a", "t.echo").task("a", "t.echo"),
        B("x").task("a", "t.echo").on_failure("a"),
        B("x").task("a", "t.echo").on_success("gone"),
        B("x").task("a", "t.echo", dependencies=["a"]),
        B("x").task("a", "t.echo").join("j", ["gone"], "all_of"),
        B("x").switch("s", "x", {"a": "gone"}),
        B("x").set_schedule("61 * * * *").task("a", "t.echo"),
        B("x").task("a", "t.echo").set_start_task("gone"),
        B("x").set_schedule("0 2 * * *", "Mars/Base").task("a", "t.echo"),
        B("x").multi_choice("m", {}, minimum_branches=2),
        B("x")
        .foreach("l", "{{range(2)}}", lambda w: w.task("b", "t.echo", dependencies=["out"]))
        .task("out", "t.echo"),
    ],
    ids=lambda flow: next(iter(flow.workflow.tasks)),
)
def test_build_refuses_what_cannot_run(flow):
    assert mistakes(flow)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: B("x").wait("w", "5 minutes"), "no duration"),
        (lambda: B("x").wait("w", "PT1S tail"), "no duration"),
        (lambda: B("x").task("a", "f", dependecies=["b"]), "Did you mean 'dependencies'?"),
        (lambda: B("x").wait("w", 1, resultkey="x"), "has no keyword"),
        (lambda: B("abc\n"), "workflow name"),
        (lambda: B("a__b"), "workflow name"),
        (lambda: B("x", "1__0"), "version"),
        (lambda: B("x").set_version("a__ b"), "version"),
        (lambda: B("x").set_max_active_runs(0), "max_active_runs"),
        (lambda: RetryPolicy(max_retries=-1), "max_retries"),
        (lambda: RetryPolicy(delay=timedelta(-1)), "delay"),
        (lambda: B("x").task("a", "f", result_key="inputs"), "reserve"),
        (lambda: B("x").task("a/b", "f"), "task id"),
        (lambda: B("x").task("", "f"), "task id"),
        (lambda: B("x").retry(), "no"),
        (lambda: B("x").precondition("{{a}}", "exists"), "none yet"),
        (lambda: DataGuard(variable="{{a}}", check="in_range", value=3), "in_range"),
        (lambda: DataGuard(variable="{{a}}", check="bigger"), "check"),
        (lambda: B("x").condition("c", "true", lambda w: None), "Let it return the builder"),
        (lambda: B("x").parallel("p", {"a": None}), "must be a function"),
        (lambda: B("x").reflexive("r", "g", "v", max_turns=11), "max_turns"),
        (lambda: B("x").task("a", "f", args=[{1, 2}]), "set"),
    ],
)
def test_a_value_that_cannot_be_is_refused_where_it_is_written(make, told):
    with pytest.raises((ValueError, ConfigurationError), match=told.replace("?", r"\?")):
        make()


def test_an_unquoted_version_says_how_to_write_it():
    assert "write it in quotes" in problems("name: x\nversion: 1.0\n")[0][1]


@pytest.mark.parametrize(
    "build", [lambda w: w.task("a", "f"), lambda w: w.wait("a", 1), lambda w: w.emit_event("a", "e")]
)
def test_modifiers_and_depends_on_work_on_every_node(build):
    flow = build(B("x").task("first", "f").task("second", "f")).retry(2).timeout(timedelta(seconds=3))
    node = flow.build().tasks["a"]
    assert node.retry_policy.max_retries == 2
    assert node.timeout_policy.timeout == timedelta(seconds=3)
    assert B("x").task("p", "f").task("q", "f").wait("w", 1, depends_on=["p"]).build().tasks["w"].dependencies == ["p"]


def test_an_empty_list_of_dependencies_is_none():
    assert B("x").task("a", "f").task("b", "f", dependencies=[]).build().tasks["b"].dependencies == []


def test_a_builder_goes_on_with_an_existing_workflow():
    first = B("x").task("a", "f").build()
    again = B("x", existing_workflow=first).task("b", "f").build()
    assert again is first
    assert again.tasks["b"].dependencies == ["a"]


def test_arguments_are_never_changed():
    kwargs, dependencies, args = {"k": [1]}, ["b", "a", "b"], [[1]]
    flow = (
        B("x")
        .task("a", "f")
        .task("b", "f")
        .task("c", "f", args=args, kwargs=kwargs, dependencies=dependencies, other=2)
    )
    flow.parallel_with_join("p", {"q": lambda w: w.task("i", "f")}, result_key="mine")
    assert (kwargs, dependencies, args) == ({"k": [1]}, ["b", "a", "b"], [[1]])
    assert flow.build().tasks["p"].result_key == "mine"
    assert flow.workflow.tasks["c"].kwargs == {"k": [1], "other": 2}


def test_the_bodies_of_loops_are_scopes_of_their_own():
    flow = (
        B("x")
        .task("a", "f")
        .foreach("l", "{{range(2)}}", lambda w: w.task("a", "f").foreach("m", "[1]", lambda v: v.task("a", "f")))
    )
    workflow = flow.build()
    assert list(workflow.tasks) == ["a", "l"]
    assert [body.task_id for body in workflow.tasks["l"].loop_body] == ["a", "m"]


def test_an_activity_in_a_loop_is_still_one_after_loading():
    workflow = B("x").foreach("l", "[1]", lambda w: w.activity("a", "f")).build()
    assert Workflow.from_yaml(workflow.to_yaml()).tasks["l"].loop_body[0].operator_type.value == "activity"


def test_ids_inside_a_parallel_before_are_legal_dependencies():
    flow = B("x").parallel("p", {"q": lambda w: w.task("i", "f")}).task("o", "f", dependencies=["i"], args=["{{i}}"])
    assert flow.build().tasks["o"].dependencies == ["i"]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("P1D", timedelta(1)), ("P1DT1H", timedelta(hours=25)), ("P8D", timedelta(8)),
        ("PT1.5S", timedelta(seconds=1.5)),
        ("P1Y35D", timedelta(400)), ("-PT5S", timedelta(seconds=-5)), ("PT1.5H", timedelta(hours=1.5)),
        ("duration:90", timedelta(seconds=90)), (90, timedelta(seconds=90)), ("00:01:30", timedelta(seconds=90)),
    ],
)  # fmt: skip
def test_durations_of_any_length_are_read(text, span):
    assert B("x").wait("w", text).build().tasks["w"].wait_for == span


@pytest.mark.parametrize(
    "wait",
    [timedelta(400), timedelta(0), timedelta(hours=24), datetime(2030, 1, 1), datetime(2030, 1, 1, tzinfo=UTC)],  # noqa: DTZ001
)
def test_waits_of_any_length_come_back_as_they_were(wait):
    workflow = B("x").wait("w", wait).build()
    assert Workflow.from_yaml(workflow.to_yaml()).tasks["w"].wait_for == wait
    assert Workflow.from_json(workflow.to_json()) == workflow


def test_older_forms_of_waits_are_read():
    read = B("x").wait("w", "datetime:2030-01-01T00:00:00").build().tasks["w"].wait_for
    assert read == datetime(2030, 1, 1)  # noqa: DTZ001
    assert Duration.weeks(1) == timedelta(7)


def test_members_in_python_are_text_in_files():
    workflow = B("x").task("a", "f").join("j", ["a"], JoinMode.ANY_OF).build()
    assert workflow.tasks["j"].join_mode is JoinMode.ANY_OF
    assert "join_mode: any_of" in workflow.to_yaml()
    assert Workflow.from_yaml(workflow.to_yaml()).tasks["j"].join_mode is JoinMode.ANY_OF


def test_a_condition_with_an_empty_branch_comes_back():
    workflow = B("x").condition("c", "true", lambda w: w.task("a", "f"), None).build()
    assert Workflow.from_yaml(workflow.to_yaml()) == workflow


def test_a_node_that_can_never_run_is_worth_a_warning():
    with pytest.warns(WorkflowWarning, match="can never run"):
        B("x").terminate("t").task("a", "f").build()


def test_assignments_are_checked():
    task = TaskOperator(task_id="a", function="f")
    with pytest.raises(ValueError, match="dependencies"):
        task.dependencies = 3
    with pytest.raises(ValueError, match="frozen"):
        task.operator_type = "wait"


def test_diagrams_are_valid_for_any_id():
    flow = B("x").task("p-1", "f", description='say "hi": {x}').task("p_1", "f").task("end", "f")
    flow.parallel("q", {"b 1": lambda w: w.task("p_1", "f", description="d")}).condition(
        "c", "true", lambda w: w.task("y", "f")
    )
    workflow = flow.build()
    mermaid = Workflow.from_yaml(workflow.to_yaml()).to_mermaid()
    assert mermaid.startswith("stateDiagram-v2\n")
    ids = [line.split(" as ")[1] for line in mermaid.splitlines() if " as " in line]
    assert len(ids) == len(set(ids)) == 7
    assert "c --> y : True" in mermaid
    assert workflow.to_graphviz().count("{") == workflow.to_graphviz().count("}")
    assert workflow.to_svg().startswith("<svg")


# --- bad input ---------------------------------------------------------------------------------


def test_a_file_of_fifty_megabytes_is_refused_at_once():
    began = time.monotonic()
    assert "characters" in problems("name: x\n# " + "x" * 50_000_000)[0][1]
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("name: [\n", 2, "no YAML"),
        ("name: x\ntasks: {{x}}\n", 2, "key must be text"),
        ("name: x\nvariables: {a: !!python/object/apply:os.system ['true']}\n", 2, "would build an object"),
        ("", 1, "empty"),
        ("- a\n", 1, "mapping"),
        ("name: x\nname: y\n", 2, "twice"),
        ("name: x\n---\nname: y\n", 2, "second document"),
        ("name: x\nvariables: &a {b: *a}\n", 2, "inside what it names"),
        ("name: x\nvariables: *a\n", 2, "anchor"),
        ("name: x\nvariables: {a: " + "[" * 5000 + "]" * 5000 + "}\n", 2, "nest"),
    ],
)
def test_what_is_no_safe_yaml_is_refused_with_its_line(text, line, told):
    ((found, message),) = problems(text)
    assert found == line
    assert told in message


def test_anchors_that_explode_are_refused_in_bounded_time():
    lines = ["name: x", "variables:", "  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    began = time.monotonic()
    ((line, told),) = problems("\n".join(lines))
    assert "anchors" in told
    assert line > 3
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ x.__init__.__globals__ }}",
        "{{ x.append(1) }}",
        "{{ cycler.__init__ }}",
        "{{x}}{% for i in range(9) %}{% endfor %}",
        "{{x}}{% import 'os' as os %}",
        "{{ range(100000000) }}",
        "{{ 'a' * 100000000 }}",
        "{{ [0] * 100000000 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ x['__class__'] }}",
        "{{ lipsum() }}",
        "{{ missing }}",
        "{{ x.missing }}",
        "{{ 1 / 0 }}",
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
    ],
)
def test_a_template_cannot_leave_the_sandbox_or_grow_without_bound(text):
    began = time.monotonic()
    with pytest.raises(TemplateFailed):
        evaluate(text, {"x": [1, 2]})
    assert time.monotonic() - began < 2


def test_text_that_came_from_data_is_never_evaluated_again():
    assert evaluate("{{x}}", {"x": "{{ 1 + 1 }}"}) == "{{ 1 + 1 }}"
    assert evaluate("{{x}}", {"x": "[1, 2]"}) == "[1, 2]"
    assert evaluate("${x.y} {{x.y}}", {"x": {"y": 3}}) == "3 3"


def test_conditions_compare_values():
    names = {"qa": {"status": "failed"}, "score": 0.9}
    assert evaluate_condition("{{qa.status}} == 'failed' and {{score}} > 0.8", names)
    assert evaluate_condition("'{{qa.status}}' == 'failed'", names)
    assert not evaluate_condition("false", names)


@pytest.mark.parametrize("items", ["{{n}}", "not a list", "{{m}}"])
def test_a_foreach_over_what_is_no_list_is_refused(items):
    with pytest.raises(TemplateFailed, match="list"):
        evaluate_items(items, {"n": 3, "m": {"a": 1}})


def test_a_chain_of_thousands_loads_and_is_checked_in_a_second():
    flow = B("big")
    for i in range(1000):
        flow.task(f"t{i}", "t.echo", args=[f"{{{{t{i - 1}}}}}"] if i else [])
    text = flow.build().to_yaml()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Workflow.from_yaml(text).tasks) == 1000


def test_a_wrong_schedule_hides_no_other_mistake():
    found = problems('name: x\ntimezone: Nowhere/None\nschedule: "x * * * *"\nvariables: {item: 1}\n')
    assert [line for line, _ in found] == [2, 3, 4]


def test_near_misses_are_looked_for_at_the_first_mistakes_alone():
    nodes = [TASK % (f"node_{i}", f", dependencies: [nod_{i}x]") for i in range(100)]
    found = problems("name: x\ntasks:\n" + "".join(f"  node_{i}: {node}\n" for i, node in enumerate(nodes)))
    assert len(found) == 100
    assert ["Did you mean" in told for _, told in found] == [True] * 25 + [False] * 75


def test_every_node_behind_a_branch_waits_for_all_of_it_that_does_not_wait_for_the_node():
    listed = [f"m{i}" for i in range(60)]
    tasks = {"c": {"task_id": "c", "operator_type": "condition", "condition": "true", "if_true": "m0"}}
    tasks["c"] |= {"true_tasks": listed, "false_tasks": []}
    for name in (*listed, *(f"z{i}" for i in range(60))):
        tasks[name] = {"task_id": name, "operator_type": "task", "function": "t.echo", "dependencies": ["c"]}
    tasks["m7"]["dependencies"] += ["z5"]
    tasks["m8"]["dependencies"] += ["m7"]
    block = block_of(Workflow.from_dict({"name": "x", "tasks": tasks}).tasks)
    assert block.needs["z4"] == ("c", *listed)
    assert block.needs["z5"] == ("c", *(name for name in listed if name not in ("m7", "m8")))


def test_a_sum_is_bounded_as_a_repetition_is():
    with pytest.raises(TemplateFailed, match="too long"):
        evaluate("{{ (a + a)[0] }}", {"a": "x" * 600_000})
