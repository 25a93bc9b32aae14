"""Who imports whom: the graph, its cycles, and the modules that everything leans on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .source import Module

DAMPING = 0.85
ROUNDS = 60  # by then no weight moves in its first nine digits


@dataclass(frozen=True)
class ImportGraph:
    """Module to the modules it imports, when it is loaded and later.

    An import counts for the deepest module of the tree that it names.
    """

    imports: dict[str, list[str]] = field(default_factory=dict)
    late_imports: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Rank:
    """A module's weight in the import graph; all weights add up to 1."""

    module: str
    weight: float
    imported_by: int


def build_graph(modules: Sequence[Module]) -> ImportGraph:
    """Return the import graph of the modules."""
    known = {module.name: module for module in modules}  # x/__init__.py comes after x.py and wins, as in Python
    graph = ImportGraph()
    for name, module in sorted(known.items()):
        now = {_resolve(wanted, known) for wanted in module.imports} - {"", name}
        late = {_resolve(wanted, known) for wanted in module.late_imports} - {"", name}
        graph.imports[name], graph.late_imports[name] = sorted(now), sorted(late - now)
    return graph


def _resolve(wanted: str, known: Mapping[str, object]) -> str:
    while wanted and wanted not in known:
        wanted = wanted.rpartition(".")[0]
    return wanted


def list_cycles(graph: ImportGraph) -> list[list[str]]:
    """Return the groups of modules that import each other while they load, the largest first."""
    groups = [sorted(group) for group in _strong_components(graph.imports) if len(group) > 1]
    return sorted(groups, key=lambda group: (-len(group), group))


def _strong_components(targets: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Yield the strongly connected components: Tarjan's algorithm (1972), with a stack in place of recursion."""
    order: dict[str, int] = {}  # when a module was first met
    low: dict[str, int] = {}  # the earliest module on the path that it leads back to
    path: list[str] = []
    on_path: set[str] = set()
    for start in targets:
        calls = [] if start in order else [(start, iter(targets[start]))]
        while calls:
            name, rest = calls[-1]
            if name not in order:
                order[name] = low[name] = len(order)
                path.append(name)
                on_path.add(name)
            for target in rest:
                if target not in order:
                    calls.append((target, iter(targets[target])))
                    break
                if target in on_path:
                    low[name] = min(low[name], order[target])
            else:
                calls.pop()
                if calls:
                    caller = calls[-1][0]
                    low[caller] = min(low[caller], low[name])
                if low[name] == order[name]:
                    component = [path.pop()]
                    while component[-1] != name:
                        component.append(path.pop())
                    on_path.difference_update(component)
                    yield component


def weigh_modules(graph: ImportGraph) -> list[Rank]:
    """Return the modules by PageRank, heaviest first: one weighs what the modules that import it weigh."""
    targets = {name: graph.imports[name] + graph.late_imports[name] for name in graph.imports}
    count = max(len(targets), 1)
    weights = dict.fromkeys(targets, 1 / count)
    for _ in range(ROUNDS):
        idle = sum(weights[name] for name, to in targets.items() if not to)  # who imports nothing gives to all
        fresh = dict.fromkeys(targets, (1 - DAMPING + DAMPING * idle) / count)
        for name, to in targets.items():
            for target in to:
                fresh[target] += DAMPING * weights[name] / len(to)
        weights = fresh
    imported_by = Counter(target for to in targets.values() for target in to)
    ranks = [Rank(name, round(weight, 9), imported_by[name]) for name, weight in weights.items()]
    return sorted(ranks, key=lambda rank: (-rank.weight, rank.module))
