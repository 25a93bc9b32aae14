"""The graph: validated, ordered, indexed, and comparable with one that was stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from milepost.errors import GraphError
from milepost.graph import ELEMENT_MARK, Binding, Graph, Node, Source, compare_definitions, fingerprint


def node(label: str, *reads: int, after: tuple[int, ...] = (), **options: Any) -> Node:
    return Node(label, None, tuple(Binding(f"p{ref}", Source.NODE, ref) for ref in reads), after=after, **options)


def mapped(label: str, over: Binding, *more: Binding) -> Node:
    return Node(label, None, (Binding("x", Source.ELEMENT), *more), over)


# --- order and indexes ---------------------------------------------------------------------------


def test_nodes_are_ordered_so_that_each_comes_after_its_upstreams():
    graph = Graph("g", [node("last", 1, 2), node("middle", 2), node("first")])
    assert [graph.nodes[index].label for index in graph.order] == ["first", "middle", "last"]


def test_a_node_is_found_by_its_label():
    graph = Graph("g", [node("a"), node("b", 0)])
    assert len(graph) == 2
    assert "b" in graph
    assert "c" not in graph
    assert graph["b"].index == 1
    assert list(graph.labels) == ["a", "b"]
    with pytest.raises(KeyError):
        graph["c"]


def test_edges_name_every_upstream_once_whether_its_value_is_used_or_not():
    graph = Graph("g", [node("a"), node("b"), node("c", 0, after=(0, 1))])
    assert list(graph.edges()) == [("a", "c"), ("b", "c")]
    assert graph["c"].reads == (0,)
    assert (graph["a"].readers, graph["b"].readers) == (1, 0)


def test_sinks_are_the_nodes_that_nothing_comes_after():
    graph = Graph("g", [node("a"), node("b", 0), node("c", after=(0,)), node("alone")])
    assert [graph.nodes[index].label for index in graph.sinks] == ["b", "c", "alone"]


def test_a_map_reads_what_it_goes_over():
    graph = Graph("g", [node("a"), mapped("m", Binding("", Source.NODE, 0))])
    assert graph["m"].is_map
    assert not graph["a"].is_map
    assert graph["m"].upstream == graph["m"].reads == (0,)


def test_the_same_nodes_can_be_indexed_again():
    nodes = [node("a"), node("b", 0)]
    Graph("g", nodes)
    again = Graph("g", nodes)
    assert again["a"].downstream == [1]
    assert again["a"].readers == 1


# --- errors --------------------------------------------------------------------------------------


def test_two_nodes_of_one_label_are_refused_by_name():
    with pytest.raises(GraphError, match=r"Two nodes of 'g' are labelled 'twin'\. Give one .* label="):
        Graph("g", [node("twin"), node("twin")])


@pytest.mark.parametrize(
    ("nodes", "circle"),
    [
        ([node("a", after=(0,))], "a -> a"),
        ([node("a", 1), node("b", 0)], "a -> b -> a"),
        ([node("start"), node("a", 0, 2), node("b", 1), node("end", 2)], "a -> b -> a"),
        ([node("end", 1), node("a", 3), node("b", 1), node("c", 2)], "a -> b -> c -> a"),
    ],
)
def test_a_circle_is_refused_and_told_in_the_direction_of_its_edges(nodes: list[Node], circle: str):
    with pytest.raises(GraphError) as caught:
        Graph("g", nodes)
    told = str(caught.value).partition("circle: ")[2].partition(".")[0].split(" -> ")
    expected = circle.split(" -> ")
    assert told[0] == told[-1]
    at = told.index(expected[0])
    assert [*told[at:-1], *told[:at], expected[0]] == expected
    assert "Remove one of these edges" in str(caught.value)


def test_a_long_chain_is_ordered_without_deep_recursion():
    graph = Graph("g", [node("n0"), *[node(f"n{i}", i - 1) for i in range(1, 20_000)]])
    assert graph.order == tuple(range(20_000))


# --- what is recorded ----------------------------------------------------------------------------


def test_inputs_are_described_by_reference():
    graph = Graph(
        "g",
        [
            node("a"),
            Node(
                "b",
                None,
                (
                    Binding("up", Source.NODE, 0),
                    Binding("given", Source.INPUT, "root"),
                    Binding("plain", Source.VALUE, [1, "é"]),
                    Binding("code", Source.VALUE, object()),
                ),
            ),
        ],
    )
    assert json.loads(graph.input_texts[0]) == {}
    assert json.loads(graph.input_texts[1]) == {
        "up": {"step": "a"},
        "given": {"input": "root"},
        "plain": {"value": [1, "é"]},
        "code": {"unstored": "object"},
    }


def test_an_element_names_its_position_in_what_the_map_goes_over():
    graph = Graph("g", [node("a"), mapped("m", Binding("", Source.NODE, 0), Binding("k", Source.INPUT, "k"))])
    assert json.loads(graph.input_texts[1]) == {"x": {"step": "a", "item": None}, "k": {"input": "k"}}
    element = graph.element_texts[1].replace(ELEMENT_MARK, "17")
    assert json.loads(element) == {"x": {"step": "a", "item": 17}, "k": {"input": "k"}}


def test_plain_values_of_a_map_are_described_once_and_not_for_every_element():
    table = list(range(1000))
    graph = Graph("g", [mapped("m", Binding("", Source.VALUE, table), Binding("k", Source.VALUE, table))])
    assert json.loads(graph.input_texts[0])["x"] == {"value": table, "item": None}
    element = graph.element_texts[0].replace(ELEMENT_MARK, "17")
    assert json.loads(element) == {"x": {"map": "m", "item": 17}, "k": {"map": "m"}}


# --- the definition ------------------------------------------------------------------------------


def test_the_definition_names_labels_kinds_sources_and_edges_and_nothing_of_the_code():
    graph = Graph("g", [node("a"), mapped("m", Binding("", Source.NODE, 0), Binding("k", Source.VALUE, 5))])
    assert json.loads(graph.definition) == {
        "name": "g",
        "nodes": [
            {"label": "a", "kind": "step", "params": {}, "upstream": []},
            {
                "label": "m",
                "kind": "map",
                "params": {"x": {"element": ""}, "k": {"value": "int"}},
                "over": {"step": "a"},
                "upstream": ["a"],
            },
        ],
    }
    assert graph.fingerprint == fingerprint(graph.definition)


def test_equal_definitions_have_equal_fingerprints_and_others_do_not():
    one, same, other = (Graph("g", [node(label)]) for label in ("a", "a", "b"))
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != other.fingerprint


def test_a_graph_has_not_changed_against_itself():
    graph = Graph("g", [node("a"), mapped("m", Binding("", Source.NODE, 0))])
    assert compare_definitions(graph.definition, graph.definition) == []


OLD = [node("a"), node("b", 0), mapped("m", Binding("", Source.NODE, 0))]


@pytest.mark.parametrize(
    ("new", "changes"),
    [
        ([node("a"), node("b", 0)], ["step 'm' is gone"]),
        ([*OLD, node("c")], ["step 'c' is new"]),
        (
            [node("a"), node("b", 0), node("m", 0)],
            [
                "step 'm' was a map and is a step",
                "step 'm' lost its parameter 'x'",
                "step 'm' has a new parameter 'p0'",
                "map 'm' goes over nothing, no longer step 'a'",
            ],
        ),
        (
            [node("a"), Node("b", None, (Binding("p0", Source.INPUT, "n"),)), OLD[2]],
            [
                "parameter 'p0' of step 'b' comes from input 'n', no longer from step 'a'",
                "the edge 'a' -> 'b' is gone",
            ],
        ),
        ([node("a"), node("b", 0), mapped("m", Binding("", Source.NODE, 1))],
            [
                "map 'm' goes over step 'b', no longer step 'a'",
                "the edge 'a' -> 'm' is gone",
                "the edge 'b' -> 'm' is new",
            ],
        ),
        ([node("a"), node("b", 0), mapped("m", Binding("", Source.VALUE, [1]))],
            ["map 'm' goes over value 'list', no longer step 'a'", "the edge 'a' -> 'm' is gone"],
        ),
    ],
)  # fmt: skip
def test_a_changed_graph_is_told_change_by_change(new: list[Node], changes: list[str]):
    assert compare_definitions(Graph("g", OLD).definition, Graph("g", new).definition) == changes


def test_the_order_in_which_nodes_were_added_is_no_change():
    graph = Graph("g", [node("a"), node("b")])
    turned = Graph("g", [node("b"), node("a")])
    assert compare_definitions(graph.definition, turned.definition) == []
