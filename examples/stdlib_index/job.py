"""Index a tree of Python source, one durable step per file: the standard library, or any folder.

    milepost run examples/stdlib_index/job.py:dag
    milepost run examples/stdlib_index/job.py:dag --input source=src --input out=index

Kill it anywhere; `milepost resume --all` goes on from the last completed step and ends with the same
report: nothing in it tells when, or how often, the run was started.

This file is all that knows of Milepost. The modules beside it are plain Python.
"""

from __future__ import annotations

import json
import os
import sysconfig
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from milepost import Dag, StepContext, step
from milepost.draw import as_picture, svg

from .imports import ImportGraph, Rank, build_graph, list_cycles, weigh_modules
from .page import render, sum_up
from .source import Module, SourceFile, list_files, read_module

STDLIB = Path(sysconfig.get_path("stdlib"))
OUT = Path("demo")


@dataclass(frozen=True)
class Report:
    """Where the report is, and its headline."""

    json: Path
    html: Path
    modules: int
    unusable: int
    cycles: int


@step
def find_modules(ctx: StepContext, source: Path = STDLIB) -> list[SourceFile]:
    """Find every Python file of the tree."""
    if not source.is_dir():
        raise NotADirectoryError(f"The source must be a folder, not {str(source)!r}. Name one: --input source=DIR.")
    return list_files(source.resolve(), on_error=lambda error: ctx.logger.warning("Passed over: %s", error))


@step(retries=2, timeout=60)
def parse(file: SourceFile) -> Module:
    """Index one file. A file that cannot be parsed is an answer too, not a failure of the run."""
    return read_module(file)


@step
def link_imports(modules: list[Module]) -> ImportGraph:
    """Build the import graph."""
    return build_graph(modules)


@step
def find_cycles(graph: ImportGraph) -> list[list[str]]:
    """Find the modules that import each other."""
    return list_cycles(graph)


@step
def rank_modules(graph: ImportGraph) -> list[Rank]:
    """Find the modules that everything leans on."""
    return weigh_modules(graph)


@step
def write_report(
    ctx: StepContext,
    modules: list[Module],
    graph: ImportGraph,
    cycles: list[list[str]],
    ranks: list[Rank],
    source: Path = STDLIB,
    out: Path = OUT,
) -> Report:
    """Write report.json for programs and report.html for people."""
    source, out = source.resolve(), out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    sums = sum_up(modules)
    report = Report(out / "report.json", out / "report.html", len(modules), sums["unusable"], len(cycles))
    data = {
        "source": str(source),
        "totals": sums,
        "modules": [asdict(module) for module in modules],
        "imports": asdict(graph),
        "cycles": cycles,
        "ranks": [asdict(rank) for rank in ranks],
    }
    replace_file(report.json, json.dumps(data, indent=1), ctx.run_id)
    replace_file(report.html, render(source, modules, cycles, ranks, draw_run(len(modules))), ctx.run_id)
    return report


dag = Dag("stdlib-index")
found = dag.node(find_modules)  # its source stays open: an input of the run
parsed = dag.map(parse, found, concurrency=8)  # one step per file, in parallel
linked = dag.node(link_imports, modules=parsed)
cycles = dag.node(find_cycles, graph=linked)
ranks = dag.node(rank_modules, graph=linked)
report = dag.node(write_report, modules=parsed, graph=linked, cycles=cycles, ranks=ranks, label="report")


def draw_run(files: int) -> str:
    """Draw the run as it stands when the report is there: every step of it is completed."""
    graph = dag.build()
    picture = as_picture(graph, dict.fromkeys(graph.labels, "completed"))
    nodes = [replace(node, done=files, total=files) if node.is_map else node for node in picture.nodes]
    return svg(replace(picture, nodes=tuple(nodes)))


def replace_file(path: Path, text: str, run_id: str) -> None:
    """Write a file so that whoever looks, at any moment, finds the old one or the new one whole."""
    # The run's id keeps two runs apart, and lets a resumed run overwrite what its dead process left.
    part = path.with_name(f".{path.name}.{run_id}")
    with part.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
