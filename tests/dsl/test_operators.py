"""Every operator, run from its YAML."""

from __future__ import annotations

from datetime import timedelta

import pytest

from milepost import Worker
from milepost.draw.from_ledger import picture_of_run
from milepost.dsl import WorkflowBuilder as B
from milepost.dsl import register_workflow
from milepost.dsl.functions import REGISTERED


def labels(ledger, finished):
    return [step.label for step in ledger.list_steps(finished.run_id) if step.status.value == "completed"]


def test_a_chain_hands_values_on_as_they_are(run):
    flow = B("seq").task("a", "t.echo", args=[{"k": [1, 2]}]).task("b", "t.echo", args=["{{a}}"], result_key="r")
    assert run(flow.task("c", "t.echo", args=["{{r.k}}"])).result() == [1, 2]


def test_a_parallel_ends_when_all_branches_have_and_gives_their_results_by_every_name(run):
    flow = B("par").task("a", "t.add", args=[1], result_key="one")
    flow.parallel(
        "fan",
        {
            "x": lambda w: w.task("px", "t.add", args=["{{one}}"], result_key="rx"),
            "b 2": lambda w: w.task("py", "t.add", args=["{{a}}", 10]),
        },
    ).task("load", "t.echo", args=[["{{px}}", "{{rx}}", "{{py}}", "{{fan}}"]])
    assert run(flow).result() == [3, 3, 12, {"x": 3, "b 2": 12}]


@pytest.mark.parametrize(("value", "ran"), [(9, ["a", "c", "big", "big2", "end"]), (1, ["a", "c", "small", "end"])])
def test_a_condition_runs_one_branch_and_what_follows_waits_for_it(run, ledger, value, ran):
    flow = B("cond").task("a", "t.echo", args=[value])
    flow.condition(
        "c",
        "{{a}} > 5",
        lambda w: w.task("big", "t.echo", args=["big"]).task("big2", "t.echo", args=["{{big}}2"]),
        lambda w: w.task("small", "t.echo", args=["small"]),
    ).task("end", "t.echo", args=["done"])
    finished = run(flow)
    assert finished.result() == "done"
    assert labels(ledger, finished) == ran


@pytest.mark.parametrize(("value", "ran"), [("x", ["a", "s", "tx", "after"]), ("q", ["a", "s", "after"])])
def test_a_switch_runs_the_chosen_target_alone(run, ledger, value, ran):
    flow = B("sw").task("a", "t.echo", args=[value]).switch("s", "{{a}}", {"x": "tx", "y": "ty"})
    flow.task("tx", "t.echo").task("ty", "t.echo").task("after", "t.echo", args=["after"])
    assert labels(ledger, run(flow)) == ran


@pytest.mark.parametrize("parallel", [True, False])
def test_a_foreach_gives_its_results_in_the_order_of_its_items(run, parallel):
    flow = B("fe").foreach(
        "loop", "{{range(4)}}", lambda w: w.task("d", "t.add", args=["{{item}}", "{{index}}"]), parallel=parallel
    )
    assert run(flow).result() == [0, 2, 4, 6]


def test_a_while_loop_tests_its_condition_before_each_round_and_carries_results(run):
    flow = B("wh").task("init", "t.echo", args=[0], result_key="n")
    flow.while_loop("w", "{{n}} < 3", lambda w: w.task("inc", "t.add", args=["{{n}}"], result_key="n"))
    assert run(flow.task("out", "t.echo", args=["{{n}}"])).result() == 3


def test_a_while_loop_that_does_not_end_fails_after_its_last_round(run, calls):
    flow = B("wh").while_loop("w", "true", lambda w: w.task("x", "t.echo"), max_iterations=3)
    finished = run(flow)
    assert "still holds after 3 rounds" in finished.error
    assert len(calls) == 3


def test_an_event_that_was_emitted_before_counts_and_its_payload_has_two_names(run):
    flow = B("ev").emit_event("e", "go-{{inputs.k}}", payload={"v": "{{inputs.k}}"})
    flow.wait_for_event("we", "go-{{inputs.k}}", timeout_seconds=5, result_key="got").wait("z", timedelta(0))
    assert run(flow.task("o", "t.echo", args=["{{got.payload.v}}-{{we.payload.v}}"]), {"k": 7}).result() == "7-7"


def test_a_wait_for_an_event_that_does_not_come_fails(run):
    assert "EventTimedOut" in run(B("ev").wait_for_event("we", "never", timeout_seconds=0.01)).error


def test_a_failed_task_is_tried_again_by_its_own_policy(run, ledger):
    finished = run(B("ret").task("f", "t.fail_times", args=[2]).retry(3, timedelta(0)))
    assert finished.result() == 3
    assert [step.status.value for step in ledger.list_steps(finished.run_id)] == ["failed", "failed", "completed"]


def test_a_failure_handler_knows_who_failed_and_the_run_stays_failed(run, calls):
    flow = (
        B("hand").task("f", "t.fail").on_failure("h").task("h", "t.echo", args=["{{failed_task_id}}:{{error_message}}"])
    )
    finished = run(flow.task("n", "t.echo", args=["never"]))
    assert finished.status.value == "failed"
    assert calls == [("fail", "no"), ("echo", "f:no")]


def test_a_success_handler_runs_and_is_no_link_of_the_chain(run, calls):
    flow = B("hand").task("f", "t.echo", args=[1]).on_success("h").task("h", "t.echo", args=["h"])
    flow.task("n", "t.echo", args=["n"])
    workflow = flow.build()
    assert workflow.tasks["n"].dependencies == ["f"]
    assert run(flow).status.value == "completed"
    assert sorted(str(x) for _, x in calls) == ["1", "h", "n"]


def branches(mode):
    flow = B("joins").task("a", "t.fail", dependencies=[]).task("b", "t.echo", args=["B"], dependencies=["a0"])
    flow.task("a0", "t.echo", dependencies=[])
    return flow.join("j", ["a", "b"], mode).task("o", "t.echo", args=["{{j}}"])


def test_one_success_goes_on_with_the_first_that_succeeds(run):
    assert run(branches("one_success")).result() == "B"


def test_all_of_waits_for_all_and_then_succeeds(run):
    assert run(branches("all_of")).result() == {"b": "B"}


def test_any_of_has_the_status_of_the_first_to_end(run):
    assert "JoinFailed" in run(branches("any_of")).error


def test_all_success_fails_at_the_first_failure(run):
    assert run(branches("all_success")).status.value == "failed"


def test_a_multi_choice_runs_every_branch_whose_condition_holds(run):
    flow = B("mc").multi_choice(
        "m",
        {
            "p": ("{{inputs.n}} > 1", lambda w: w.task("mp", "t.echo", args=["p"])),
            "q": ("{{inputs.n}} > 3", lambda w: w.task("mq", "t.echo", args=["q"])),
        },
    )
    assert run(flow, {"n": 2}).result() == {"p": "p"}


def test_a_multi_choice_with_too_few_branches_fails(run):
    flow = B("mc").multi_choice("m", {"p": ("false", lambda w: w.task("mp", "t.echo"))})
    assert "TooFewBranches" in run(flow).error


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_terminate_ends_the_run_as_it_says(run, status):
    flow = B("term").task("a", "t.echo", args=[1]).terminate("t", status, {"x": "{{a}}"}, "enough")
    finished = run(flow)
    assert finished.status.value == status
    if status == "completed":
        assert finished.result() == {"x": 1}
    else:
        assert "enough" in finished.error


def test_a_reflexive_node_corrects_until_the_verifier_is_content(run):
    assert run(B("refl").reflexive("r", "t.generate", "t.verify", {"start": 0}, max_turns=5)).result() == 3


def test_a_reflexive_node_fails_after_its_last_turn(run):
    assert "in 2 turns" in run(B("refl").reflexive("r", "t.generate", "t.verify", max_turns=2)).error


def test_a_child_workflow_is_a_run_of_its_own(run, ledger):
    register_workflow(B("kid").task("k", "t.add", args=["{{inputs.n}}"]).build())
    flow = B("mum").child_workflow("c", "kid", {"n": "{{inputs.n}}"}, result_key="kid_result")
    finished = run(flow, {"n": 3})
    assert finished.result() == {"c": {"status": "completed", "result": 4}}
    assert sorted(r.workflow for r in ledger.list_runs(inner=True)) == ["kid", "mum"]
    assert [r.workflow for r in ledger.list_runs(parent_run_id=finished.run_id)] == ["kid"]


def test_a_postcondition_that_does_not_hold_fails_the_node_without_a_retry(run, calls):
    flow = B("guards").task("a", "t.echo", args=[5]).retry(3).postcondition("{{result}}", "in_range", [0, 3], "too big")
    assert "too big" in run(flow).error
    assert len(calls) == 1


def test_a_precondition_that_does_not_hold_prevents_the_node(run, calls):
    flow = B("guards").task("a", "t.echo", args=[5]).precondition("{{inputs.n}}", "equals", 1)
    assert "GuardFailed" in run(flow, {"n": 2}).error
    assert calls == []


def test_a_parallel_that_takes_too_long_fails(run):
    branches = {"a": lambda w: w.wait("w1", timedelta(days=9)), "b": lambda w: w.task("q", "t.echo")}
    assert "StepTimedOut" in run(B("pto").parallel("p", branches).timeout(timedelta(milliseconds=50))).error


@pytest.mark.parametrize(("action", "status"), [("fail", "failed"), ("cancel", "cancelled")])
def test_a_deadline_ends_the_run(run, action, status):
    flow = B("dl", deadline_seconds=0.05, deadline_action=action).wait("w1", timedelta(days=9))
    assert run(flow).status.value == status


def test_a_name_that_is_missing_fails_before_the_function_is_called_and_is_not_retried(run, calls):
    finished = run(B("miss").task("a", "t.echo", args=["{{inputs.zz}}"]).retry(3), {})
    assert "node 'a'" in finished.error
    assert "zz" in finished.error
    assert calls == []


def test_parallel_with_join_gives_the_results_of_its_branches(run):
    flow = B("pj").parallel_with_join("p", {"a": lambda w: w.task("q", "t.echo", args=[1])})
    assert run(flow.task("o", "t.echo", args=["{{p_results}}"])).result() == {"a": 1}


def test_an_idempotency_key_calls_the_function_once_over_all_runs(run, calls):
    flow = B("once").task("a", "t.echo", args=["{{inputs.k}}"], idempotency_key="{{inputs.k}}")
    assert [run(flow, {"k": k}).result() for k in ("x", "x", "y")] == ["x", "x", "y"]
    assert calls == [("echo", "x"), ("echo", "y")]


def test_an_open_circuit_keeps_the_function_from_being_called(run, calls):
    from milepost.dsl import CircuitBreakerPolicy

    policy = CircuitBreakerPolicy(failure_threshold=2, isolation_duration=timedelta(hours=1))
    flow = B("breaker").task("a", "t.fail", circuit_breaker_policy=policy).retry(4, timedelta(0))
    assert "CircuitOpen" in run(flow).error
    assert len(calls) == 2


def test_the_retry_of_a_loop_runs_the_whole_loop_again(run):
    flow = (
        B("again").foreach("l", "{{range(2)}}", lambda w: w.task("x", "t.fail_times", args=[1])).retry(1, timedelta(0))
    )
    assert run(flow).result() == [2, 3]


def test_the_rounds_of_a_loop_are_drawn_as_one_node_that_tells_how_they_stand(run, ledger):
    finished = run(B("drawn").foreach("l", "{{range(3)}}", lambda w: w.task("x", "t.echo")).task("end", "t.echo"))
    picture = picture_of_run(ledger, finished.run_id)
    (node,) = [node for node in picture.nodes if node.label == "l/x"]
    assert (node.status.value, node.done, len(node.elements)) == ("completed", 3, 3)
    assert not [node.label for node in picture.nodes if node.status is None or node.status.value == "pending"]


def test_a_dynamic_foreach_asks_for_its_items_again_when_all_have_run(run):
    flow = B("dyn").task("start", "t.echo", args=[[]], result_key="list")
    flow.foreach("l", "{{range(2)}}", lambda w: w.task("x", "t.echo", args=["{{item}}"]), dynamic=True)
    assert run(flow).result() == [0, 1]


@pytest.mark.parametrize("options", [{}, {"max_concurrency": 1}])
def test_an_attempt_that_takes_too_long_counts_as_a_failure_and_is_tried_again(run, calls, options):
    flow = B("slow").task("s", "t.sleepy", args=[1]).timeout(timedelta(milliseconds=80)).retry(1, timedelta(0))
    assert run(flow, **options).result() == "awake"
    assert len(calls) == 2


def test_a_failed_run_that_is_resumed_goes_on_from_what_has_completed(ledger, calls):
    workflow = B("again").task("a", "t.echo", args=[1]).task("f", "t.fail_times", args=[1]).build()
    finished = workflow.run(ledger=ledger)
    assert finished.status.value == "failed"
    assert workflow.resume(finished.run_id, ledger=ledger).result() == 2
    assert [name for name, _ in calls] == ["echo", "fail_times", "fail_times"]


def test_a_failure_that_was_tolerated_is_not_tried_again_when_the_run_is_resumed(ledger, calls):
    flow = B("again").task("bad", "t.fail", dependencies=[]).task("good", "t.echo", dependencies=[])
    flow.join("j", ["bad", "good"], "all_of").task("f", "t.fail_times", args=[1])
    workflow = flow.build()
    finished = workflow.run(ledger=ledger)
    assert workflow.resume(finished.run_id, ledger=ledger).status.value == "completed"
    assert [name for name, _ in calls].count("fail") == 1


def test_a_child_that_failed_goes_on_when_its_parent_does(ledger):
    state = {"broken": True}
    REGISTERED["t.moody"] = lambda: 1 / (not state["broken"])
    done: list[int] = []
    REGISTERED["t.note"] = lambda: done.append(1)
    try:
        register_workflow(B("kid_moody").task("n", "t.note").task("k", "t.moody").build())
        flow = B("mum_moody").child_workflow("c", "kid_moody").build()
        first = flow.run(ledger=ledger)
        assert "ZeroDivisionError" in first.error
        state["broken"] = False
        assert flow.resume(first.run_id, ledger=ledger).result() == {"c": {"status": "completed", "result": 1.0}}
    finally:
        del REGISTERED["t.moody"], REGISTERED["t.note"]
    assert done == [1]
    (child,) = ledger.list_runs(parent_run_id=first.run_id)
    assert (child.workflow, child.kind, child.status.value) == ("kid_moody", "workflow", "completed")


def test_runs_of_long_ids_have_children_of_their_own(ledger):
    register_workflow(B("kid_long").task("k", "t.add", args=["{{inputs.n}}"]).build())
    flow = B("mum_long").child_workflow("c", "kid_long", {"n": "{{inputs.n}}"}).build()
    for n in (1, 2):
        found = flow.run({"n": n}, ledger=ledger, run_id=f"{'x' * 110}{n}").result()
        assert found["c"]["result"] == n + 1


def test_a_run_whose_child_waits_holds_no_lease_and_wakes_with_it(ledger):
    register_workflow(B("kid_waits").wait_for_event("w", "go").build())
    flow = B("mum_waits").child_workflow("c", "kid_waits").build()
    handle = flow.submit(ledger=ledger)
    Worker([flow.for_worker()], ledger=ledger, heartbeat_process=False).run_until_idle()
    assert handle.status() == "suspended"
    assert ledger.require_run(handle.run_id).lease_owner is None
    ledger.emit_event("go", 7)
    Worker([flow.for_worker()], ledger=ledger, heartbeat_process=False).run_until_idle()
    assert handle.result(0) == {"c": {"status": "completed", "result": {"payload": 7}}}
