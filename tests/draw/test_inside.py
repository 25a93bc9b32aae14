"""Sub-DAGs and switches in pictures, and pictures in notebooks."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree as ET

import pytest

from milepost import Dag, FinishedRun, Ledger
from milepost.draw import as_picture, mermaid, picture_of_run, svg, text


def add(n: int) -> int:
    return n + 1


@pytest.fixture
def dag() -> Dag:
    inner = Dag("inner")
    inner.node(add, n=inner.node(add, label="first"), label="second")
    dag = Dag("outer")
    start = dag.node(inner, label="part", n=1)
    routes = dag.node(lambda n: [("more", n), ("less", n), ("more", n)], label="routes", n=start)
    dag.map(dag.switch({"more": add, "less": add}, label="way"), routes)
    return dag


@pytest.fixture
def run(dag: Dag) -> FinishedRun:
    return dag.run(ledger=Ledger.open(":memory:"))


def test_a_graph_says_what_its_nodes_run_inside(dag: Dag) -> None:
    assert text(dag.build()) == (
        "outer\n"
        "  part    sub-DAG of 2 steps\n"
        "  routes                           ← part\n"
        "  way     map switch: more | less  ← routes\n"
    )


def test_a_stored_definition_says_the_same(dag: Dag) -> None:
    graph = dag.build()
    found, stored = as_picture(graph), as_picture(graph.definition)
    assert [(n.label, n.kind, n.inside) for n in found.nodes] == [(n.label, n.kind, n.inside) for n in stored.nodes]


def test_a_run_says_which_branches_its_elements_took(run: FinishedRun) -> None:
    picture = picture_of_run(run.ledger, run.run_id)
    way = next(node for node in picture.nodes if node.label == "way")
    assert (way.counts, way.inside) == ("3/3", "switch: 1 less, 2 more")


def test_colons_in_the_names_of_switches_and_branches_are_part_of_them() -> None:
    dag = Dag("colons")
    dag.switch({"a:b": add, "b": add}, ("a:b", 1), label="one:way")
    dag.map(dag.switch({"a:b": add, "b": add}, label="ways:all"), [("a:b", 1), ("b", 2), ("a:b", 3)])
    ledger = Ledger.open(":memory:")
    run = dag.run(ledger=ledger)
    assert {node.label: node.inside for node in picture_of_run(ledger, run.run_id).nodes} == {
        "one:way": "switch: a:b",
        "ways:all": "switch: 2 a:b, 1 b",
    }


def test_a_switch_that_is_no_map_says_which_branch_it_took() -> None:
    dag = Dag("outer")
    dag.switch({"more": add, "less": add}, ("less", 1), label="way")
    run = dag.run(ledger=Ledger.open(":memory:"))
    (way,) = picture_of_run(run.ledger, run.run_id).nodes
    assert (way.kind, way.inside) == ("switch", "switch: less")


def test_mermaid_has_a_shape_of_its_own_for_each(dag: Dag) -> None:
    dag.switch({"more": add}, ("more", 1), label="alone")
    drawn = mermaid(dag.build())
    assert 'n0(["part (sub-DAG of 2 steps)"])' in drawn
    assert '{{"alone (switch: more)"}}' in drawn
    assert '[["way: map (switch: more #124; less)"]]' in drawn


def test_the_svg_of_a_run_names_what_is_inside(run: FinishedRun) -> None:
    drawn = svg(picture_of_run(run.ledger, run.run_id))
    ET.fromstring(drawn)
    assert "sub-DAG of 2 steps" in drawn
    assert "switch: 1 less, 2 more" in drawn


def test_notebooks_show_dags_runs_results_and_pictures(dag: Dag, run: FinishedRun) -> None:
    for shown in (dag, run, picture_of_run(run.ledger, run.run_id), as_picture(dag.build())):
        assert shown._repr_html_().startswith("<svg ")
    result = asyncio.run(dag())
    assert result._repr_html_().startswith("<pre>&lt;run ")
