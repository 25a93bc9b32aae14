"""When the code of a step counts as changed."""

from __future__ import annotations

import functools
from typing import Any

from milepost import Dag, Retry, step
from milepost.graph import changed_code, compare_definitions
from milepost.runtime.code import code_hash


def one(n: int) -> int:
    return n + 1


def two(n: int) -> int:
    return n + 2


def made(source: str) -> Any:
    """Return the function of a source that no file holds."""
    space: dict[str, Any] = {}
    exec(source, space)
    return space["f"]


class Adder:
    def __call__(self, n: int) -> int:
        return n


def test_code_is_known_by_its_source() -> None:
    assert code_hash(one, {}) == code_hash(one, {})
    assert code_hash(one, {}) != code_hash(two, {})


def test_options_count_as_code() -> None:
    assert step(one).code != step(timeout=3)(one).code
    assert step(retries=1)(one).code != step(retries=2)(one).code
    assert step(retry=Retry(retry_on=(OSError,)))(one).code != step(retry=Retry(retry_on=(ValueError,)))(one).code
    assert step(name="other")(one).code == step(one).code


def test_arguments_of_a_partial_count_as_code() -> None:
    assert step(functools.partial(one, n=1)).code != step(functools.partial(one, n=2)).code
    assert step(functools.partial(one, n=1)).code == step(functools.partial(one, n=1)).code


def test_what_has_no_source_is_known_by_what_it_does_or_by_its_name() -> None:
    assert code_hash(made("def f(n): return n"), {}) == code_hash(made("def f(n): return n"), {})
    assert code_hash(made("def f(n): return n"), {}) != code_hash(made("def f(n): return n + 1"), {})
    assert code_hash(sum, {}) != code_hash(len, {})
    assert code_hash(Adder(), {}) == code_hash(Adder(), {})


def test_changed_code_is_named_and_is_no_change_of_the_graph() -> None:
    def graph(fn: Any) -> str:
        dag = Dag("g")
        dag.node(two, n=dag.node(fn, label="first", n=1))
        return dag.build().definition

    assert changed_code(graph(one), graph(two)) == ["first"]
    assert compare_definitions(graph(one), graph(two)) == []
