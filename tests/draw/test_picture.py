"""What is drawn: pictures of graphs, of definitions and of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from milepost import Dag, Ledger, RunStatus, StepStatus, step
from milepost.draw import Picture, PictureEdge, PictureNode, as_picture, picture_of_run
from milepost.draw.picture import in_order
from milepost.errors import ConfigurationError, RunNotFound


def numbers(n: int = 3) -> list[int]:
    return list(range(n))


def double(n: int) -> int:
    return 2 * n


def fail_at_one(n: int) -> int:
    if n == 1:
        raise ValueError("one is bad")
    return n


def make_dag(work=double) -> Dag:
    dag = Dag("sums")
    found = dag.node(numbers)
    worked = dag.map(work, found, label="work", concurrency=1)
    dag.node(sum, label="total", iterable=worked)
    return dag


def by_label(picture: Picture) -> dict[str, PictureNode]:
    return {node.label: node for node in picture.nodes}


def test_a_graph_and_its_definition_give_the_same_picture():
    graph = make_dag().build()
    assert as_picture(graph) == as_picture(graph.definition)
    assert [node.label for node in as_picture(graph).nodes] == ["numbers", "work", "total"]
    assert as_picture(graph).edges == (PictureEdge("numbers", "work"), PictureEdge("work", "total"))


def test_a_graph_that_is_not_run_has_no_statuses():
    picture = as_picture(make_dag().build())
    assert not picture.is_run
    assert {node.status for node in picture.nodes} == {None}


def test_a_map_over_a_plain_list_knows_its_count_before_it_runs():
    dag = Dag("g")
    dag.map(double, [1, 2, 3])
    (node,) = as_picture(dag.build()).nodes
    assert (node.total, node.counts) == (3, "map of 3")


def test_nodes_of_a_definition_come_in_an_order_they_can_run_in():
    dag = Dag("g")
    late = dag.node(double, label="late", n=1)
    early = dag.node(double, label="early", n=1)
    _ = early >> late
    assert [node.label for node in as_picture(dag.build().definition).nodes] == ["early", "late"]


def test_ordering_loses_no_node_even_where_edges_go_round():
    nodes = [PictureNode("a"), PictureNode("b"), PictureNode("c")]
    edges = [PictureEdge("a", "b"), PictureEdge("b", "a")]
    assert {node.label for node in in_order(nodes, edges)} == {"a", "b", "c"}


def test_statuses_can_be_given_by_label_and_the_rest_is_pending():
    picture = as_picture(make_dag().build(), {"numbers": "completed", "work": StepStatus.RUNNING})
    assert [node.status for node in picture.nodes] == [StepStatus.COMPLETED, StepStatus.RUNNING, StepStatus.PENDING]
    assert [edge.is_traversed for edge in picture.edges] == [True, False]


def test_a_wrong_label_or_status_answers_with_the_near_one():
    graph = make_dag().build()
    with pytest.raises(ConfigurationError, match="Did you mean 'total'"):
        as_picture(graph, {"totl": "completed"})
    with pytest.raises(ConfigurationError, match="Did you mean 'completed'"):
        as_picture(graph, {"total": "complete"})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"name":"g"}', '{"name":"g","nodes":[{"label":"x"}]}'])
def test_a_text_that_is_no_definition_is_refused(text):
    with pytest.raises(ConfigurationError, match="is no definition of a graph"):
        as_picture(text)


def test_the_picture_of_a_completed_run_has_counts_spans_and_traversed_edges(ledger: Ledger):
    run = make_dag().run(ledger=ledger)
    picture = picture_of_run(ledger, run.run_id)
    nodes = by_label(picture)
    assert picture.status == RunStatus.COMPLETED
    assert {node.status for node in picture.nodes} == {StepStatus.COMPLETED}
    assert (nodes["work"].done, nodes["work"].total, nodes["work"].counts) == (3, 3, "3/3")
    assert [element.label for element in nodes["work"].elements] == ["work[0]", "work[1]", "work[2]"]
    assert all(edge.is_traversed for edge in picture.edges)
    assert all(node.duration is not None and node.duration >= 0 for node in picture.nodes)
    assert picture.gaps == ()


def test_the_picture_of_a_failed_run_tells_what_failed_and_what_never_started(ledger: Ledger):
    run = make_dag(fail_at_one).run(ledger=ledger)
    nodes = by_label(picture_of_run(ledger, run.run_id))
    assert nodes["work"].status == StepStatus.FAILED
    assert (nodes["work"].done, nodes["work"].failed) == (1, 1)
    assert nodes["work"].elements[1].error == "ValueError: one is bad"
    assert nodes["total"].status == StepStatus.PENDING
    assert nodes["total"].started_at is None
    edges = picture_of_run(ledger, run.run_id).edges
    assert [edge.is_traversed for edge in edges] == [True, False]


def test_retries_are_counted_and_the_last_attempt_tells_the_status(ledger: Ledger):
    tries: list[int] = []

    @step(retries=2)
    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return 7

    dag = Dag("g")
    dag.node(flaky)
    run = dag.run(ledger=ledger)
    (node,) = picture_of_run(ledger, run.run_id).nodes
    assert (node.status, node.attempts, node.retries) == (StepStatus.COMPLETED, 3, 2)
    assert [span.status for span in node.spans] == [StepStatus.FAILED, StepStatus.FAILED, StepStatus.COMPLETED]


def test_elements_come_in_the_order_of_the_map_not_of_their_names(ledger: Ledger):
    dag = Dag("g")
    dag.map(double, list(range(12)), label="work")
    run = dag.run(ledger=ledger)
    (node,) = picture_of_run(ledger, run.run_id).nodes
    assert [element.label for element in node.elements] == [f"work[{index}]" for index in range(12)]


def test_the_time_between_a_cancelled_attempt_and_its_resumption_is_a_gap(ledger: Ledger):
    marker = {"bad": True}

    def sometimes(n: int) -> int:
        if marker["bad"]:
            raise KeyboardInterrupt
        return n

    dag = Dag("g")
    dag.node(sometimes, n=1)
    with pytest.raises(KeyboardInterrupt):
        dag.run(ledger=ledger, run_id="r")
    marker["bad"] = False
    dag.resume("r", ledger=ledger)
    first, second = ledger.list_attempts("r")
    assert picture_of_run(ledger, "r").gaps == ((first.finished_at, second.started_at),)


def test_a_run_that_does_not_exist_has_no_picture(ledger: Ledger):
    with pytest.raises(RunNotFound):
        picture_of_run(ledger, "nope")


def test_a_run_without_a_definition_is_drawn_from_its_steps(ledger: Ledger, tmp_path: Path):
    run = make_dag().run(ledger=ledger)
    ledger.store._writer.execute("UPDATE runs SET hash = NULL")
    picture = picture_of_run(ledger, run.run_id)
    assert [node.label for node in picture.nodes] == ["numbers", "work", "total"]
    assert by_label(picture)["work"].is_map
    assert picture.edges == (PictureEdge("numbers", "work"), PictureEdge("work", "total"))
