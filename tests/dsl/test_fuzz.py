"""Workflows that Hypothesis makes: they come back equal, and run as a small interpreter says.

The interpreter knows nothing of graphs: it walks the nodes of a chain one after another.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milepost.dsl import Workflow, WorkflowBuilder
from milepost.engine import History

leaf = st.tuples(st.sampled_from(["add", "fail"]), st.integers(0, 9))
ok_leaf = st.tuples(st.just("add"), st.integers(0, 9))


def nodes(inner: Any) -> Any:
    some = st.lists(inner, min_size=1, max_size=2)
    return st.one_of(
        ok_leaf,
        st.tuples(st.just("parallel"), st.lists(some, min_size=1, max_size=2)),
        st.tuples(st.just("condition"), st.integers(0, 9), some, some),
        st.tuples(st.just("foreach"), st.integers(0, 3), some, st.booleans()),
        st.tuples(st.just("switch"), st.sampled_from(["x", "y", "z"])),
        st.tuples(st.just("while"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(0, 1)),
    )


trees = st.lists(st.recursive(leaf, nodes, max_leaves=8), min_size=1, max_size=4)


class _Failed(Exception):
    pass


def write(builder: WorkflowBuilder, tree: list[Any], path: str = "n") -> WorkflowBuilder:
    for i, node in enumerate(tree):
        name = f"{path}_{i}"
        match node:
            case ("add", n):
                builder.task(name, "t.add", args=[n])
            case ("fail", _):
                builder.task(name, "t.fail")
            case ("parallel", branches):
                made = {
                    f"b{j}": (lambda w, b=branch, p=f"{name}_{j}": write(w, b, p)) for j, branch in enumerate(branches)
                }
                builder.parallel(name, made)
            case ("condition", n, yes, no):
                builder.condition(
                    name,
                    f"{n} > 4",
                    lambda w, t=yes, p=name: write(w, t, f"{p}_t"),
                    lambda w, t=no, p=name: write(w, t, f"{p}_f"),
                )
            case ("foreach", n, body, parallel):
                builder.foreach(
                    name,
                    f"{{{{range({n})}}}}",
                    lambda w, t=body, p=name: write(w, t, f"{p}_b"),
                    parallel=parallel,
                )
            case ("switch", case):
                builder.switch(name, case, {"x": f"{name}_x", "y": f"{name}_y"})
                builder.task(f"{name}_x", "t.add", args=[10]).task(f"{name}_y", "t.add", args=[20])
            case ("while", n):
                builder.while_loop(name, f"{{{{index}}}} < {n}", lambda w, p=name: w.task(f"{p}_w", "t.add", args=[30]))
            case ("wait", _):
                builder.wait(name, 0)
    return builder


def interpret(tree: list[Any], seen: list[int]) -> None:
    for node in tree:
        match node:
            case ("add", n):
                seen.append(n)
            case ("fail", _):
                raise _Failed
            case ("parallel", branches):
                failed = False
                for branch in branches:
                    try:
                        interpret(branch, seen)
                    except _Failed:
                        failed = True
                if failed:
                    raise _Failed
            case ("condition", n, yes, no):
                interpret(yes if n > 4 else no, seen)
            case ("foreach", n, body, True):
                interpret([("parallel", [body] * n)], seen)
            case ("foreach", n, body, _):
                for _ in range(n):
                    interpret(body, seen)
            case ("switch", case):
                seen += {"x": [10], "y": [20]}.get(case, [])
            case ("while", n):
                seen += [30] * n


def replays_from_any_prefix(workflow: Workflow, ledger: Any, finished: Any) -> None:
    """Begin again with the first steps recorded: none of them is handed out again, and with all nothing is left."""
    graph = workflow.for_worker().build()
    steps = [step for step in ledger.list_steps(finished.run_id) if step.status.value == "completed"]
    outputs = {step.label: ledger.get_output(finished.run_id, step.label) for step in steps}
    for count in range(len(steps) + 1):
        recorded = {step.label: outputs[step.label] for step in steps[:count]}
        execution = graph.begin({}, History(recorded=dict(recorded)), "again")
        first = execution.next_call()
        assert first is None or first.label not in recorded
        assert (first is None) == (count == len(steps)) == execution.is_completed


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees)
def test_generated_workflows_come_back_equal_and_run_as_the_interpreter_says(tree, ledger, calls) -> None:
    calls.clear()
    workflow = write(WorkflowBuilder("fuzz"), tree).build()
    loaded = Workflow.from_yaml(workflow.to_yaml())
    assert loaded == workflow
    assert Workflow.from_json(workflow.to_json()) == workflow
    assert loaded.to_yaml() == workflow.to_yaml()
    assert workflow.to_mermaid()
    seen: list[int] = []
    try:
        interpret(tree, seen)
        wanted = "completed"
    except _Failed:
        wanted = "failed"
    finished = loaded.run(ledger=ledger)
    assert finished.status.value == wanted, finished.error
    ran = sorted(value[0] for name, value in calls if name == "add")
    if wanted == "completed":
        assert ran == sorted(seen)
        replays_from_any_prefix(loaded, ledger, finished)
    else:  # of branches beside a failure, what had begun has ended, and no more
        assert not [n for n in ran if ran.count(n) > sorted(seen).count(n)]
