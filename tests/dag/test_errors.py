"""What is wrong with a graph is said when it is written or built: which nodes, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from milepost import Dag, Ledger, StepContext, step
from milepost.errors import ConfigurationError, GraphError, MilepostError


def number() -> int:
    return 2


def text() -> str:
    return "two"


def add(a: int, b: int) -> int:
    return a + b


def negate(n: int) -> int:
    return -n


def takes_context(ctx: StepContext, n: int) -> int:
    return n


def strings() -> list[str]:
    return ["a"]


def generator() -> Iterator[int]:
    yield 1


def nothing_left(x: int) -> int:
    return x


def duplicate_labels(dag: Dag) -> None:
    dag.node(number)
    dag.node(number)


def unknown_parameter(dag: Dag) -> None:
    dag.node(negate, m=1)


def near_miss(dag: Dag) -> None:
    def resize(colour: str, width: int) -> None:
        pass

    dag.node(resize, color="red")


def context_bound(dag: Dag) -> None:
    dag.node(takes_context, ctx=1)


def wrong_type(dag: Dag) -> None:
    dag.node(negate, n=dag.node(text))


def wrong_value(dag: Dag) -> None:
    dag.node(negate, n="three")


def wrong_element(dag: Dag) -> None:
    dag.map(negate, dag.node(strings))


def map_over_one_value(dag: Dag) -> None:
    dag.map(negate, dag.node(number))


def map_over_a_generator(dag: Dag) -> None:
    dag.map(negate, dag.node(generator))


def map_over_a_set(dag: Dag) -> None:
    dag.map(negate, {1, 2})


def map_over_a_string(dag: Dag) -> None:
    dag.map(negate, "text")


def map_with_nothing_left(dag: Dag) -> None:
    dag.map(nothing_left, [1], x=5)


def ambiguous_edge(dag: Dag) -> None:
    dag.node(number) >> dag.node(add)


def two_edges_for_one_parameter(dag: Dag) -> None:
    last = dag.node(negate)
    dag.node(number) >> last
    dag.node(number, label="other") >> last


def edge_that_fits_nothing(dag: Dag) -> None:
    dag.node(text) >> dag.node(negate)


def cycle(dag: Dag) -> None:
    one, other = dag.node(number), dag.node(text)
    one >> other >> one


def edge_to_itself(dag: Dag) -> None:
    one = dag.node(number)
    one >> one


def unequal_inputs(dag: Dag) -> None:
    def other(n: str) -> str:
        return n

    dag.node(negate)
    dag.node(other)


def no_signature(dag: Dag) -> None:
    dag.node(getattr)


@pytest.mark.parametrize(
    ("write", "parts"),
    [
        (lambda dag: None, ["The Dag 'd' has no nodes", "dag.node(function)"]),
        (duplicate_labels, ["Two nodes of 'd' are labelled 'number'", 'label="..."']),
        (unknown_parameter, ["Node 'negate': negate() has no parameter 'm' (it has: n)"]),
        (near_miss, ["has no parameter 'color' (it has: colour, width).", "Did you mean 'colour'?"]),
        (context_bound, ["Node 'takes_context': 'ctx' is its StepContext", "Leave it out"]),
        (wrong_type, ["Node 'negate' cannot take the output of 'text'", "returns str", "'n' is int", "Correct"]),
        (wrong_value, ["Node 'negate': parameter 'n' is int, not str 'three'", "Bind a value of that type"]),
        (wrong_element, ["Map 'negate' cannot go over 'strings'", "elements are str", "'n' is int", "Correct"]),
        (
            map_over_one_value,
            ["Map 'negate' cannot go over 'number', which returns int", "a list, tuple, range or dict"],
        ),
        (map_over_a_generator, ["Map 'negate' cannot go over 'generator'", "Let it return a list"]),
        (map_over_a_set, ["Map 'negate' goes over a node, list, tuple, range or dict, not set", "Sort a set"]),
        (map_over_a_string, ["Map 'negate' goes over", "not str"]),
        (map_with_nothing_left, ["Map 'nothing_left'", "no parameter left for the element", "unbound"]),
        (ambiguous_edge, ["The output of 'number' fits several parameters of node 'add': 'a', 'b'", "a=..."]),
        (
            two_edges_for_one_parameter,
            ["Both 'number' and 'other' would go to parameter 'n' of node 'negate'", "n=..."],
        ),
        (edge_that_fits_nothing, ["'text' returns str", "no open parameter of node 'negate' (n: int)", "after="]),
        (cycle, ["'d' goes round in a circle", "number -> text -> number", "Remove one of these edges"]),
        (edge_to_itself, ["number -> number"]),
        (unequal_inputs, ["Input 'n' is int in node 'negate' and str in node 'other'", "or bind one"]),
        (no_signature, ["Step 'getattr' has no readable signature", "Wrap it in a def"]),
    ],
)
def test_a_graph_that_cannot_work_is_refused_with_the_nodes_and_the_remedy(
    write: Callable[[Dag], None], parts: list[str], ledger: Ledger
):
    dag = Dag("d")
    write(dag)
    for attempt in (dag.build, lambda: dag.inputs, lambda: dag.run(ledger=ledger)):
        with pytest.raises(ConfigurationError) as caught:
            attempt()
        for part in parts:
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)
    assert ledger.list_runs() == []


# --- refused at the line that writes it ----------------------------------------------------------


@pytest.mark.parametrize("label", ["", " ", "a[0]", "]", "two\nlines", "nul\0", "\udce9", 5, b"bytes"])
def test_a_label_that_would_not_be_one_is_refused_at_its_line(label: Any):
    with pytest.raises(GraphError, match="A label must be printable text without"):
        Dag("d").node(number, label=label)


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "\udce9", None, 5])
def test_a_dags_name_is_printable_text(name: Any):
    with pytest.raises(ConfigurationError, match="A Dag's name must be printable text"):
        Dag(name)


@pytest.mark.parametrize("name", ["a[0]", "two\nlines", "\udce9", 5])
def test_a_steps_name_is_printable_text(name: Any):
    with pytest.raises(ConfigurationError, match="A step's name must be printable text"):
        step(name=name)(number)


def test_what_is_no_function_is_no_step():
    with pytest.raises(ConfigurationError, match="must be a function, not 5"):
        Dag("d").node(5)  # type: ignore[arg-type]


def test_a_node_of_another_dag_cannot_be_reached():
    mine, other = Dag("mine"), Dag("other")
    theirs = other.node(number)
    for write in (
        lambda: mine.node(negate, n=theirs),
        lambda: mine.map(negate, theirs),
        lambda: mine.node(text, after=theirs),
        lambda: theirs >> mine.node(negate, label="edge"),
    ):
        with pytest.raises(GraphError, match=r"cannot reach .*Add the function to this Dag as well"):
            write()


def test_an_edge_joins_nodes_and_nothing_else():
    dag = Dag("d")
    one = dag.node(number)
    with pytest.raises(GraphError, match="is not a node"):
        one >> negate  # type: ignore[operator]
    with pytest.raises(GraphError, match="is not a node"):
        one >> [negate]  # type: ignore[operator]
    with pytest.raises(GraphError, match="is not a node"):
        dag.node(text, after=number)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "container", [lambda node: [1, node], lambda node: (1, node), lambda node: {"k": node}, lambda node: {node}]
)
def test_a_node_inside_a_container_is_refused_because_it_would_arrive_as_a_node(container: Callable[[Any], Any]):
    dag = Dag("d")
    node = dag.node(number)
    with pytest.raises(GraphError, match=r"Node 'lambda': 'xs' holds the node 'number' inside a \w+\."):
        dag.node(lambda xs: xs, xs=container(node))
    with pytest.raises(GraphError, match="holds the node 'number' inside a"):
        dag.map(lambda x: x, container(node))


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "4"])
def test_a_maps_concurrency_lets_something_run(concurrency: Any):
    with pytest.raises(ConfigurationError, match="concurrency must be a whole number of 1 or more"):
        Dag("d").map(negate, [1], concurrency=concurrency)


def test_every_error_of_a_graph_is_a_milepost_error_and_a_value_error():
    assert issubclass(GraphError, MilepostError)
    assert issubclass(GraphError, ValueError)
