"""The layered layout: what holds for every graph."""

from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from milepost.draw.layout import _crossings, _layers, _spread, lay_out


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 25))
    sizes = draw(st.lists(st.floats(1, 200), min_size=count, max_size=count))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda pair: pair[0] != pair[1])
    edges = draw(st.lists(pairs, unique=True, max_size=60))
    names = draw(st.permutations(range(count)))  # so that indices are in no particular order
    return sizes, [(names[min(pair)], names[max(pair)]) for pair in dict.fromkeys(map(tuple, map(sorted, edges)))]


@given(graphs())
def test_every_edge_leads_to_a_deeper_layer_and_passes_each_layer_between(graph):
    sizes, edges = graph
    plan = lay_out(sizes, edges, 10)
    for (up, down), way in zip(edges, plan.ways, strict=True):
        assert way[0] == plan.places[up]
        assert way[-1] == plan.places[down]
        assert [layer for layer, _ in way] == list(range(plan.places[up][0], plan.places[down][0] + 1))
        assert len(way) >= 2


@given(graphs())
def test_boxes_of_a_layer_never_overlap_and_stay_inside_the_extent(graph):
    sizes, edges = graph
    plan = lay_out(sizes, edges, 10)
    for layer in range(plan.layers):
        row = sorted((cross, sizes[i]) for i, (own, cross) in enumerate(plan.places) if own == layer)
        assert row, "a layer without a box"
        for (left, left_size), (right, right_size) in itertools.pairwise(row):
            assert right - left >= (left_size + right_size) / 2 + 10 - 1e-6
        assert row[0][0] - row[0][1] / 2 >= plan.low - 1e-6
        assert row[-1][0] + row[-1][1] / 2 <= plan.high + 1e-6


@given(graphs())
def test_the_same_graph_is_laid_out_the_same(graph):
    assert lay_out(*graph, 10) == lay_out(*graph, 10)


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=12))
def test_places_are_what_was_wanted_where_there_is_room(wanted):
    apart = sorted(value * 100 for value in dict.fromkeys(round(value) for value in wanted))
    assert _spread(apart, [20] * len(apart), 10) == apart


def test_places_that_are_too_close_are_moved_apart_around_their_middle():
    assert _spread([0, 0, 0], [10, 10, 10], 5) == [-15, 0, 15]


def test_a_source_sits_right_above_the_first_that_uses_it():
    #  a -> b -> c, and x -> c: x belongs beside b, not beside a
    assert _layers(4, [(0, 1), (1, 2), (3, 2)]) == [0, 1, 2, 1]


def test_crossings_that_can_be_avoided_are_avoided():
    plan = lay_out([10] * 6, [(0, 5), (1, 4), (2, 3)], 10)
    order = sorted(range(3), key=lambda item: plan.places[item][1])
    facing = {0: 5, 1: 4, 2: 3}
    assert sorted((3, 4, 5), key=lambda item: plan.places[item][1]) == [facing[item] for item in order]


def test_crossings_are_counted():
    assert _crossings([[0, 1], [2, 3]], [[3], [2], [], []]) == 1
    assert _crossings([[0, 1], [2, 3]], [[2], [3], [], []]) == 0
    assert _crossings([[0, 1], [2, 3]], [[2, 3], [2, 3], [], []]) == 1


def test_nothing_is_laid_out_as_nothing():
    assert lay_out([], [], 10).places == []


def test_a_deep_graph_of_thousands_of_steps_with_long_edges_is_laid_out():
    count = 3000
    edges = [(i, i + 1) for i in range(count - 1)] + [(0, i) for i in range(2, count, 7)]
    began = time.process_time()
    plan = lay_out([50.0] * count, edges, 10)
    assert plan.layers == count
    assert time.process_time() - began < 20  # it takes a tenth of a second; quadratic work would take minutes
