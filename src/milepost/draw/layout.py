"""A layered layout: where the boxes of a graph go, and the way of each edge between them.

The classic four steps of Sugiyama, Tagawa and Toda (1981): layers by longest path; dummies where an
edge passes a layer; an order inside each layer by sweeps that count crossings; positions by least
squares with that order kept. No package does this in pure Python and is kept up, and a drawing must
not need a compiled one.

Positions are abstract: ``main`` grows with the layers, ``cross`` runs along a layer. The drawing
decides which of the two is x.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

__all__ = ["Layout", "lay_out"]

_DUMMY: Final = 4.0  # room that a passing edge takes along a layer
_MANY_DUMMIES: Final = 4000  # beyond it, long edges go straight: bends nobody could follow are not worth the time
_ORDER_SWEEPS: Final = 12
_PLACE_SWEEPS: Final = 8


@dataclass(frozen=True, slots=True)
class Layout:
    """Centres of the boxes as (layer, cross), the centres that each edge passes, and the extent of each layer.

    ``ways[i]`` are the points of edge i, its two boxes included.
    """

    places: list[tuple[int, float]]
    ways: list[list[tuple[int, float]]]
    layers: int
    low: float
    high: float


def lay_out(sizes: Sequence[float], edges: Sequence[tuple[int, int]], gap: float) -> Layout:
    """Lay out an acyclic graph.

    Args:
        sizes: How much room each box takes along its layer.
        edges: (upstream, downstream) by index; every upstream's index may be anything, cycles may not be.
        gap: Free room between two boxes of a layer.

    Example:
        >>> lay_out([10, 10], [(0, 1)], 5).places
        [(0, 0.0), (1, 0.0)]
    """
    count = len(sizes)
    if not count:
        return Layout([], [], 0, 0.0, 0.0)
    layer_of = _layers(count, edges)
    room = list(sizes)
    chains: list[list[int]] = []  # of each edge: its upstream, its dummies, its downstream
    is_crowded = sum(layer_of[down] - layer_of[up] - 1 for up, down in edges) > _MANY_DUMMIES
    for up, down in edges:
        passed = [] if is_crowded else list(range(layer_of[up] + 1, layer_of[down]))
        chains.append([up, *range(len(room), len(room) + len(passed)), down])
        room += [_DUMMY] * len(passed)
        layer_of += passed
    segments = [pair for chain in chains for pair in pairwise(chain)]
    rows: list[list[int]] = [[] for _ in range(max(layer_of) + 1)]
    for item, layer in enumerate(layer_of):
        rows[layer].append(item)
    above: list[list[int]] = [[] for _ in room]
    below: list[list[int]] = [[] for _ in room]
    for up, down in segments:
        below[up].append(down)
        above[down].append(up)
    rows = _order(rows, above, below)
    cross = _place(rows, above, below, room, gap)
    places = [(layer_of[item], cross[item]) for item in range(count)]
    ways = [[(layer_of[item], cross[item]) for item in chain] for chain in chains]
    low = min(cross[item] - room[item] / 2 for item in range(len(room)))
    high = max(cross[item] + room[item] / 2 for item in range(len(room)))
    return Layout(places, ways, len(rows), low, high)


def _layers(count: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    below: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for up, down in edges:
        below[up].append(down)
        waiting[down] += 1
    ready = [item for item in range(count) if not waiting[item]]
    layer_of = [0] * count
    for item in ready:  # grows while it is walked
        for other in below[item]:
            layer_of[other] = max(layer_of[other], layer_of[item] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    # A source sits right above the first that uses it, not far away at the top.
    sources = set(range(count)).difference(down for _, down in edges)
    for item in sources:
        if below[item]:
            layer_of[item] = min(layer_of[other] for other in below[item]) - 1
    return layer_of


def _order(rows: list[list[int]], above: list[list[int]], below: list[list[int]]) -> list[list[int]]:
    """Reorder each layer by the mean position of its neighbours, down and up in turns; keep the best."""
    best, fewest = rows, _crossings(rows, below)
    for sweep in range(_ORDER_SWEEPS):
        if not fewest:
            break
        rows = [list(row) for row in rows]
        goes_down = sweep % 2 == 0
        neighbours = above if goes_down else below
        sequence = range(1, len(rows)) if goes_down else range(len(rows) - 2, -1, -1)
        for layer in sequence:
            fixed = rows[layer - 1 if goes_down else layer + 1]
            position = {item: float(place) for place, item in enumerate(fixed)}
            means = {
                item: _mean([position[other] for other in neighbours[item] if other in position], place)
                for place, item in enumerate(rows[layer])
            }
            rows[layer].sort(key=means.__getitem__)
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = rows, crossings
    return best


def _crossings(rows: list[list[int]], below: list[list[int]]) -> int:
    total = 0
    for upper, lower in pairwise(rows):
        position = {item: place for place, item in enumerate(lower)}
        seen: list[int] = []  # ends of the segments met so far, sorted
        for item in upper:
            ends = [position[other] for other in below[item] if other in position]
            total += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _place(
    rows: list[list[int]], above: list[list[int]], below: list[list[int]], room: Sequence[float], gap: float
) -> list[float]:
    """Move each layer as close to its neighbours' means as its order allows, down and up in turns."""
    cross = [0.0] * len(room)
    for row in rows:
        edge = 0.0
        for item in row:
            cross[item] = edge + room[item] / 2
            edge += room[item] + gap
        for item in row:
            cross[item] -= (edge - gap) / 2
    for sweep in range(_PLACE_SWEEPS):
        goes_down = sweep % 2 == 0
        # The last sweep looks both ways, so that neither sources nor sinks are left aside.
        looked_at = (above, below) if sweep == _PLACE_SWEEPS - 1 else (above,) if goes_down else (below,)
        for row in rows if goes_down else reversed(rows):
            wanted = [_mean([cross[other] for side in looked_at for other in side[item]], cross[item]) for item in row]
            for item, value in zip(row, _spread(wanted, [room[i] for i in row], gap), strict=True):
                cross[item] = value
    return cross


def _spread(wanted: Sequence[float], room: Sequence[float], gap: float) -> list[float]:
    """Return the places nearest to what is wanted (least squares) that keep order and distance.

    With the distances subtracted it is isotonic regression: pool neighbours that are out of order.
    """
    offsets = [0.0]
    for before, after in pairwise(room):
        offsets.append(offsets[-1] + before / 2 + gap + after / 2)
    pools: list[tuple[float, int]] = []  # (mean, how many)
    for value, offset in zip(wanted, offsets, strict=True):
        mean, size = value - offset, 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean = (mean * size + other * count) / (size + count)
            size += count
        pools.append((mean, size))
    places = [mean for mean, size in pools for _ in range(size)]
    return [place + offset for place, offset in zip(places, offsets, strict=True)]


def _mean(values: Sequence[float], default: float) -> float:
    """Return the mean, or the default of no values."""
    return sum(values) / len(values) if values else default
