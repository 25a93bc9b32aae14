"""The import graph of the main job: edges, cycles and ranks."""

from __future__ import annotations

from types import ModuleType

import pytest


def _modules(job: ModuleType, **imports: str) -> list[object]:
    """Return modules by name, each with the names it imports; ``__`` stands for a dot."""
    return [
        job.Module(name.replace("__", "."), f"{name}.py", imports=wanted.split()) for name, wanted in imports.items()
    ]


def test_an_import_counts_for_the_deepest_module_that_it_names(job):
    graph = job.build_graph(_modules(job, main="pkg.sub.name pkg.other os.path", pkg="", pkg__sub="pkg pkg.sub.x"))
    assert graph.imports == {"main": ["pkg", "pkg.sub"], "pkg": [], "pkg.sub": ["pkg"]}


def test_a_late_import_of_what_was_imported_before_is_no_second_edge(job):
    graph = job.build_graph(
        [job.Module("a", "a.py", imports=["b"], late_imports=["b.x", "c"]), *_modules(job, b="", c="")]
    )
    assert (graph.imports["a"], graph.late_imports["a"]) == (["b"], ["c"])


def test_a_package_goes_before_a_module_of_the_same_name(job, tree):
    root = tree({"x.py": "import a", "x/__init__.py": "import b", "a.py": "", "b.py": ""})
    graph = job.build_graph([job.read_module(file) for file in job.list_files(root, on_error=print)])
    assert graph.imports["x"] == ["b"]


def test_cycles_are_groups_that_reach_each_other_the_largest_first(job):
    modules = _modules(job, a="b", b="c", c="a d", d="e", e="d", f="f a", g="", h="i", i="h")
    assert job.list_cycles(job.build_graph(modules)) == [["a", "b", "c"], ["d", "e"], ["h", "i"]]


def test_late_imports_close_no_cycle(job):
    modules = [*_modules(job, a="b"), job.Module("b", "b.py", late_imports=["a"])]
    assert job.list_cycles(job.build_graph(modules)) == []


def test_cycles_and_chains_of_any_length_are_found_without_recursion(job):
    names = [f"m{n:05}" for n in range(20_000)]
    ring = {name: [names[(place + 1) % len(names)]] for place, name in enumerate(names)}
    assert job.list_cycles(job.ImportGraph(ring, {})) == [names]
    chain = {**ring, names[-1]: []}
    assert job.list_cycles(job.ImportGraph(chain, {})) == []


def test_cycles_agree_with_a_plain_search_for_ways_there_and_back(job):
    # A graph with everything in it: nested rings, bridges, leaves; reachability decides what is right.
    targets = {str(n): [str(m) for m in sorted({(n * n + 1) % 40, (3 * n + 2) % 40, n // 2})] for n in range(40)}

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in targets[waiting.pop()]:
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
        return seen

    reached = {name: reach(name) for name in targets}
    expected = {
        tuple(sorted(other for other in targets if other in reached[name] and name in reached[other]))
        for name in targets
    }
    found = job.list_cycles(job.ImportGraph(targets, {name: [] for name in targets}))
    assert {tuple(group) for group in found} == {group for group in expected if len(group) > 1}
    assert len(found) > 1


def test_ranks_put_first_what_everything_leans_on(job):
    graph = job.build_graph(_modules(job, app="lib base", tool="lib", lib="base", base="", alone=""))
    ranks = job.weigh_modules(graph)
    assert [rank.module for rank in ranks][:2] == ["base", "lib"]
    assert {rank.module: rank.imported_by for rank in ranks} == {"base": 2, "lib": 2, "app": 0, "tool": 0, "alone": 0}
    assert sum(rank.weight for rank in ranks) == pytest.approx(1)


def test_equal_weights_are_ordered_by_name_whatever_order_the_modules_come_in(job):
    modules = _modules(job, c="z", a="z", b="z", z="")
    ranks = job.weigh_modules(job.build_graph(modules))
    assert [rank.module for rank in ranks] == ["z", "a", "b", "c"]
    assert job.weigh_modules(job.build_graph(modules[::-1])) == ranks


def test_a_tree_without_modules_has_no_ranks(job):
    assert job.weigh_modules(job.build_graph([])) == []
