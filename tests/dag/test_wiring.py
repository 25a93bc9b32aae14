"""Writing a graph: labels, bindings, open parameters, edges."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from milepost import Dag, Ledger, StepContext, step
from milepost.dag import NodeRef
from milepost.errors import GraphError


def sources(dag: Dag, label: str) -> dict[str, Any]:
    """Where each parameter of a node comes from."""
    nodes = {node["label"]: node for node in json.loads(dag.build().definition)["nodes"]}
    return dict(nodes[label]["params"])


def number() -> int:
    return 2


def text() -> str:
    return "two"


def add(a: int, b: int) -> int:
    return a + b


# --- labels --------------------------------------------------------------------------------------


class Callable:
    def __call__(self, x: int) -> int:
        return x


@pytest.mark.parametrize(
    ("fn", "label"),
    [
        (number, "number"),
        (step(number), "number"),
        (step(name="renamed")(number), "renamed"),
        (functools.partial(add, 1), "add"),
        (lambda: 1, "lambda"),
        (Callable(), "Callable"),
        (len, "len"),
    ],
)
def test_a_node_is_labelled_by_its_function(fn: Any, label: str):
    assert Dag("d").node(fn).label == label


def test_a_label_of_its_own_wins():
    assert Dag("d").node(step(name="renamed")(number), label="mine").label == "mine"


def test_the_same_function_can_be_many_nodes_under_labels_of_their_own(ledger: Ledger):
    dag = Dag("d")
    one = dag.node(number, label="one")
    dag.node(add, a=one, b=dag.node(number, label="another"))
    assert dag.run(ledger=ledger).result() == 4


# --- bindings ------------------------------------------------------------------------------------


def test_keywords_bind_parameters_to_nodes_and_to_plain_values():
    dag = Dag("d")
    dag.node(add, a=dag.node(number), b=3)
    assert sources(dag, "add") == {"a": {"step": "number"}, "b": {"value": "int"}}


def test_parameters_left_open_are_inputs_by_name_and_required_ones_come_first():
    def load(path: Path, limit: int = 5) -> int:
        return limit

    def scale(x: int, factor: float) -> float:
        return x * factor

    dag = Dag("d")
    dag.node(scale, x=dag.node(load))
    assert dag.inputs == {"path": Path, "factor": float, "limit": int}
    assert list(dag.inputs) == ["path", "factor", "limit"]
    assert sources(dag, "load") == {"path": {"input": "path"}, "limit": {"input": "limit"}}


def test_an_optional_parameter_left_open_keeps_its_default_unless_it_is_given(ledger: Ledger):
    def load(limit: int = 5) -> int:
        return limit

    dag = Dag("d")
    dag.node(load)
    assert dag.run(ledger=ledger).result() == 5
    assert dag.run(ledger=ledger, limit=6).result() == 6


def test_one_input_serves_every_node_that_leaves_it_open(ledger: Ledger):
    def double(n: int) -> int:
        return 2 * n

    def triple(n: int) -> int:
        return 3 * n

    dag = Dag("d")
    dag.node(add, a=dag.node(double), b=dag.node(triple))
    assert list(dag.inputs) == ["n"]
    assert dag.run(ledger=ledger, n=2).result() == 10


def test_an_input_is_required_where_any_node_requires_it():
    def lenient(n: int = 1) -> int:
        return n

    def strict(n: int) -> int:
        return n

    dag = Dag("d")
    dag.node(lenient)
    dag.node(strict)
    assert list(dag.inputs) == ["n"]
    with pytest.raises(ValueError, match="missing input 'n'"):
        dag.run(ledger=":memory:")


def test_parameters_named_like_arguments_of_node_and_run_are_reached_by_bind_and_inputs(ledger: Ledger):
    def odd(label: str, after: int, bind: int, ledger: str, run_id: int) -> list[Any]:
        return [label, after, bind, ledger, run_id]

    dag = Dag("d")
    dag.node(odd, bind={"label": "l", "after": 1, "bind": dag.node(number)})
    assert dag.run(ledger=ledger, inputs={"ledger": "x", "run_id": 5}).result() == ["l", 1, 2, "x", 5]


def test_a_step_with_any_keywords_takes_any_binding(ledger: Ledger):
    def gather(**parts: int) -> dict[str, int]:
        return parts

    dag = Dag("d")
    dag.node(gather, one=dag.node(number), two=5)
    assert dag.run(ledger=ledger).result() == {"one": 2, "two": 5}


def test_positional_only_parameters_can_be_bound_and_left_open(ledger: Ledger):
    def subtract(a: int, b: int, /, c: int) -> int:
        return a - b - c

    dag = Dag("d")
    dag.node(subtract, bind={"b": dag.node(number)}, c=1)
    assert dag.run(ledger=ledger, a=10).result() == 7


def test_an_optional_positional_only_parameter_may_be_left_out(ledger: Ledger):
    def power(base: int, exponent: int = 2, /) -> int:
        return base**exponent

    dag = Dag("d")
    dag.node(power)
    assert dag.run(ledger=ledger, base=3).result() == 9
    assert dag.run(ledger=ledger, base=3, exponent=3).result() == 27


def test_an_optional_positional_only_parameter_before_one_that_is_given_keeps_its_default(ledger: Ledger):
    def subtract(a: int = 10, b: int = 2, c: int = 0, /) -> int:
        return a - b - c

    dag = Dag("d")
    dag.node(subtract, bind={"b": 5})
    assert dag.run(ledger=ledger).result() == 5
    assert dag.run(ledger=ledger, c=1).result() == 4
    assert dag.run(ledger=ledger, a=7).result() == 2


def test_what_a_partial_has_bound_is_bound(ledger: Ledger):
    dag = Dag("d")
    dag.node(functools.partial(add, b=40), a=dag.node(number))
    assert dag.run(ledger=ledger).result() == 42


def test_a_step_is_called_like_its_function():
    assert step(retries=2)(add)(1, b=2) == 3
    assert step(add).__name__ == "add"
    assert step(add).__wrapped__ is add  # type: ignore[attr-defined]


def test_options_of_a_step_can_be_changed_for_one_node():
    slow = step(timeout=5, retries=1)(number)
    quick = slow.with_options(timeout=1, retries=3)
    assert (slow.timeout, quick.timeout) == (5, 1)
    assert slow.retry is not None
    assert quick.retry is not None
    assert (slow.retry.max_retries, quick.retry.max_retries) == (1, 3)
    assert step(quick).fn is number


# --- edges ---------------------------------------------------------------------------------------


def test_an_edge_binds_the_one_open_parameter_that_fits():
    def label_of(n: int, name: str) -> str:
        return f"{n} {name}"

    dag = Dag("d")
    last = dag.node(label_of)
    assert dag.node(number) >> last is last
    dag.node(text) >> last
    assert sources(dag, "label_of") == {"n": {"step": "number"}, "name": {"step": "text"}}
    assert dag.inputs == {}


def test_an_edge_from_a_step_without_a_value_only_orders():
    def prepare() -> None:
        pass

    dag = Dag("d")
    dag.node(prepare) >> dag.node(add)
    assert list(dag.build().edges()) == [("prepare", "add")]
    assert list(dag.inputs) == ["a", "b"]


def test_an_edge_to_a_node_with_nothing_open_only_orders():
    dag = Dag("d")
    dag.node(number) >> dag.node(text)
    assert list(dag.build().edges()) == [("number", "text")]
    assert sources(dag, "text") == {}


def test_an_edge_between_nodes_that_are_bound_already_adds_nothing():
    dag = Dag("d")
    one = dag.node(number)
    one >> dag.node(add, a=one, b=1)
    assert sources(dag, "add") == {"a": {"step": "number"}, "b": {"value": "int"}}


def test_an_edge_prefers_a_required_parameter_to_an_optional_one():
    def takes(extra: int = 0, *, needed: int) -> int:
        return extra + needed

    dag = Dag("d")
    dag.node(number) >> dag.node(takes)
    assert sources(dag, "takes") == {"needed": {"step": "number"}, "extra": {"input": "extra"}}


def test_an_edge_binds_an_optional_parameter_that_fits_where_no_required_one_does():
    def takes(name: str, extra: int = 0) -> str:
        return name * extra

    dag = Dag("d")
    dag.node(number) >> dag.node(takes)
    assert sources(dag, "takes") == {"extra": {"step": "number"}, "name": {"input": "name"}}


def test_without_annotations_an_edge_binds_the_only_open_parameter():
    dag = Dag("d")
    dag.node(lambda: 1, label="one") >> dag.node(lambda x: x, label="other")
    assert sources(dag, "other") == {"x": {"step": "one"}}


def test_edges_fan_out_to_a_list_and_in_from_one(ledger: Ledger):
    def double(n: int) -> int:
        return 2 * n

    def done() -> str:
        return "done"

    dag = Dag("d")
    first = dag.node(number)
    middle = [dag.node(double, label="left"), dag.node(double, label="right")]
    last = dag.node(done)
    assert first >> middle >> last is last
    assert set(dag.build().edges()) == {
        ("number", "left"), ("number", "right"), ("left", "done"), ("right", "done"),
    }  # fmt: skip
    assert dag.run(ledger=ledger).result() == "done"


def test_an_edge_into_a_map_binds_what_its_elements_share():
    def scale(x: int, factor: str) -> str:
        return factor * x

    dag = Dag("d")
    dag.node(text) >> dag.map(scale, [1, 2])
    assert sources(dag, "scale") == {"x": {"element": ""}, "factor": {"step": "text"}}


def test_an_edge_drawn_twice_is_one_edge():
    dag = Dag("d")
    one, other = dag.node(number), dag.node(text)
    one >> other
    one >> other
    assert list(dag.build().edges()) == [("number", "text")]


def test_after_orders_without_handing_anything_over():
    dag = Dag("d")
    one = dag.node(number)
    other = dag.node(text, after=one)
    dag.node(add, after=[one, other])
    assert list(dag.build().edges()) == [("number", "text"), ("number", "add"), ("text", "add")]
    assert list(dag.inputs) == ["a", "b"]


def test_every_node_runs_also_one_that_nothing_leads_to(ledger: Ledger):
    dag = Dag("d")
    dag.node(number)
    dag.node(text)
    assert dag.run(ledger=ledger).result() == {"number": 2, "text": "two"}


# --- maps ----------------------------------------------------------------------------------------


def test_a_map_hands_the_element_to_the_first_parameter_that_is_not_bound():
    dag = Dag("d")
    dag.map(add, [1, 2], a=5)
    assert sources(dag, "add") == {"a": {"value": "int"}, "b": {"element": ""}}


def test_a_map_never_hands_the_element_to_a_context():
    def body(ctx: StepContext, x: int) -> int:
        return x

    dag = Dag("d")
    dag.map(body, [1])
    assert sources(dag, "body") == {"x": {"element": ""}}


def test_parameters_that_a_map_leaves_open_are_inputs(ledger: Ledger):
    dag = Dag("d")
    dag.map(add, [1, 2])
    assert list(dag.inputs) == ["b"]
    assert dag.run(ledger=ledger, b=10).result() == [11, 12]


def test_a_map_hands_on_a_list_of_what_its_step_returns():
    def total(xs: list[int]) -> int:
        return sum(xs)

    def wrong(xs: list[str]) -> int:
        return len(xs)

    dag = Dag("d")
    mapped = dag.map(add, [1], b=1)
    dag.node(total, xs=mapped)
    dag.build()
    dag.node(wrong, xs=mapped)
    with pytest.raises(ValueError, match="cannot take the output of 'add'"):
        dag.build()


def known(n: int) -> dict[str, int]:
    return {"a": n}


def either(n: int) -> list[int] | dict[str, int]:
    return {"a": n}


def unannotated(n):
    return {"a": n}


def square(n: int) -> int:
    return n * n


def take_dict(x: dict[str, int]) -> int:
    return x["a"]


def take_list(x: list[int]) -> int:
    return sum(x)


@pytest.mark.parametrize("over", [{"a": 2}, known, either, unannotated])
@pytest.mark.parametrize("is_twice", [False, True])
@pytest.mark.parametrize("is_edge", [False, True])
def test_a_map_over_a_dict_hands_on_a_dict(over: Any, is_twice: bool, is_edge: bool, ledger: Ledger):
    dag = Dag("d")
    mapped = dag.map(square, dag.node(over, n=2) if callable(over) else over)
    if is_twice:
        mapped = dag.map(square, mapped, label="again")
    if is_edge:
        mapped >> dag.node(take_dict)
    else:
        dag.node(take_dict, x=mapped)
    assert dag.run(ledger=ledger).result() == (16 if is_twice else 4)


@pytest.mark.parametrize("over", [either, unannotated])
def test_a_map_over_what_may_be_a_list_may_hand_on_a_list(over: Any):
    dag = Dag("d")
    dag.node(take_list, x=dag.map(square, dag.node(over)))
    dag.build()


def of_texts(x: dict[str, str]) -> None: ...


def by_number(x: dict[int, int]) -> None: ...


@pytest.mark.parametrize(
    ("over", "take", "told"),
    [
        ({"a": 2}, take_list, "returns dict[str, int], but parameter 'x' is list[int]"),
        (known, take_list, "returns dict[str, int], but"),
        (known, of_texts, "but parameter 'x' is dict[str, str]"),
        ({"a": 2}, by_number, "but parameter 'x' is dict[int, int]"),
        ([1, 2], take_dict, "returns list[int], but parameter 'x' is dict[str, int]"),
        (unannotated, square, "returns list[int] or dict[Any, int], but parameter 'n' is int"),
    ],
)
def test_a_maps_output_goes_to_no_parameter_that_it_certainly_does_not_fit(over: Any, take: Any, told: str):
    dag = Dag("d")
    mapped = dag.map(square, dag.node(over) if callable(over) else over)
    dag.node(take, label="take", **{"n" if take is square else "x": mapped})
    with pytest.raises(GraphError) as caught:
        dag.build()
    assert "Node 'take' cannot take the output of 'square'" in str(caught.value)
    assert told in str(caught.value)


def test_keys_of_several_types_are_no_reason_to_refuse():
    dag = Dag("d")
    dag.node(take_dict, x=dag.map(square, {"a": 1, 2: 2}))
    dag.build()


def test_a_long_chain_of_maps_can_be_built():
    dag = Dag("d")
    last = dag.map(square, {"a": 1})
    for n in range(2000):
        last = dag.map(square, last, label=str(n))
    dag.node(take_dict, x=last)
    assert len(dag.build()) == 2002


# --- annotations ---------------------------------------------------------------------------------


def returns(annotation: Any) -> Any:
    def give():
        raise NotImplementedError

    give.__annotations__["return"] = annotation
    return give


def takes(annotation: Any) -> Any:
    def take(x):
        raise NotImplementedError

    take.__annotations__["x"] = annotation
    return take


class Base:
    pass


class Derived(Base):
    pass


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        (int, int), (bool, int), (int, float), (int, float | None), (int, Any), (Any, int),
        (int, object), (Derived, Base), (list[int], list), (list, list[int]), (list[int], Iterable[int]),
        (list[Derived], list[Base]), (tuple[int, ...], tuple[int, ...]), (tuple[int, str], tuple),
        (dict[str, int], dict), (int | str, int | str | None), (None, int | None), (Path, "Unknown"), (str, str | Path),
    ],
)  # fmt: skip
def test_annotations_that_agree_may_be_bound(offered: Any, wanted: Any):
    dag = Dag("d")
    dag.node(takes(wanted), x=dag.node(returns(offered)))
    dag.build()


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        (int, str), (str, int), (float, int), (Base, Derived), (list[int], list[str]), (int | None, int), (int, None),
        (list[int], dict[str, int]), (tuple[int, str], tuple[int, int]), (tuple[int, str], tuple[int]), (str, Path),
        (list[int | None], list[int]), (dict[str, int], dict[str, str]),
    ],
)  # fmt: skip
def test_annotations_that_contradict_each_other_may_not(offered: Any, wanted: Any):
    dag = Dag("d")
    dag.node(takes(wanted), x=dag.node(returns(offered)))
    with pytest.raises(ValueError, match=r"Node 'take' cannot take the output of 'give': it returns .* but .*'x' is "):
        dag.build()


# --- the Dag itself ------------------------------------------------------------------------------


def test_a_graph_is_built_once_until_it_changes():
    dag = Dag("d")
    one = dag.node(number)
    built = dag.build()
    assert dag.build() is built
    other = dag.node(text)
    assert len(dag.build()) == 2
    built = dag.build()
    one >> other
    assert list(dag.build().edges()) == [("number", "text")]
    assert dag.build() is not built


def test_a_dag_and_its_nodes_tell_who_they_are():
    dag = Dag("nightly")
    ref = dag.node(number)
    assert isinstance(ref, NodeRef)
    assert repr(dag) == "<Dag 'nightly' with 1 nodes>"
    assert repr(ref) == "<node 'number'>"


# --- several nodes into one parameter ---------------------------------------------------------------


def one_half() -> float:
    return 0.5


def two() -> float:
    return 2.0


def half(n: float) -> float:
    return n / 2


def collect(values: list[float]) -> list[float]:
    return values


def test_several_edges_into_a_list_make_a_list_in_the_order_of_the_edges() -> None:
    dag = Dag("fan-in")
    a, b, c = dag.node(one_half, label="a"), dag.node(two, label="b"), dag.node(two, label="c")
    end = dag.node(collect)
    [b, a, c] >> end
    assert dag.run(ledger=":memory:").result() == [2.0, 0.5, 2.0]


def test_one_edge_into_a_list_of_what_it_makes_arrives_in_a_list() -> None:
    dag = Dag("fan-in")
    dag.node(two) >> dag.node(collect)
    assert dag.run(ledger=":memory:").result() == [2.0]


def test_a_list_goes_to_a_list_as_it_is() -> None:
    dag = Dag("fan-in")
    dag.node(collect, label="first", values=[1.5]) >> dag.node(collect, label="second")
    assert dag.run(ledger=":memory:").result() == [1.5]


def test_the_same_edge_twice_hands_the_value_over_once() -> None:
    dag = Dag("fan-in")
    a, end = dag.node(two), dag.node(collect)
    a >> end
    a >> end
    assert dag.run(ledger=":memory:").result() == [2.0]


def test_a_list_and_an_element_of_it_into_one_parameter_are_ambiguous() -> None:
    dag = Dag("fan-in")
    end = dag.node(collect, label="end")
    dag.node(collect, label="all", values=[9.0]) >> end
    dag.node(two) >> end
    with pytest.raises(GraphError, match="Both 'all' and 'two' would go to parameter 'values'"):
        dag.build()


def test_two_parameters_that_take_the_same_value_are_ambiguous() -> None:
    def both(first: list[float], second: list[float]) -> int:
        return 0

    dag = Dag("fan-in")
    dag.node(two) >> dag.node(both)
    with pytest.raises(GraphError, match="fits no open parameter of node 'both'"):
        dag.build()


def test_several_nodes_are_bound_by_name_as_a_list() -> None:
    dag = Dag("by-name")
    dag.node(collect, values=[dag.node(two), dag.node(one_half)])
    assert dag.run(ledger=":memory:").result() == [2.0, 0.5]


def test_a_list_of_nodes_of_the_wrong_type_is_refused_when_the_graph_is_built() -> None:
    dag = Dag("by-name")
    dag.node(collect, values=[dag.node(two), dag.node(lambda: ["x"], label="untyped"), dag.node(text)])
    with pytest.raises(GraphError, match="cannot take the output of 'text' as an element: it returns str"):
        dag.build()
    other = Dag("scalar")
    other.node(half, n=[other.node(two)])
    with pytest.raises(GraphError, match="parameter 'n' is float, and cannot take a list"):
        other.build()


def test_a_run_that_gathers_goes_on_from_its_completed_steps_with_the_same_list() -> None:
    broken = [True]

    def total(values: list[float]) -> float:
        if broken:
            raise ValueError("no")
        return sum(values)

    ledger = Ledger.open(":memory:")
    dag = Dag("fan-in")
    end = dag.node(total)
    [dag.node(one_half), dag.node(two)] >> end
    run = dag.run(ledger=ledger)
    (attempt,) = ledger.get_step(run.run_id, "total")
    assert attempt.input == '{"values":{"steps":["one_half","two"]}}'
    broken.clear()
    assert dag.resume(run.run_id, ledger=ledger).result() == 2.5
