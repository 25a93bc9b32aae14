"""The same index as a pipeline of two processes, declared as classes; in the second, steps run side by side.

    milepost run examples/stdlib_index/pipeline.py
    milepost run examples/stdlib_index/pipeline.py --input source=src --input out=index
    milepost graph examples/stdlib_index/pipeline.py

What the steps do is the same code as in ``job.py``: only how they are put together differs.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from milepost import Retry, StepContext
from milepost.pipeline import Pipeline, Process, Step

from . import job
from .imports import ImportGraph, Rank
from .job import OUT, STDLIB, Report
from .source import Module, SourceFile


class Index(BaseModel, frozen=True):
    """What to index, and where the report goes."""

    source: Path = STDLIB
    out: Path = OUT


class FindModules(Step[Index]):
    """Find every Python file of the tree."""

    result = "files"

    def execute(self, params: Index, *, ctx: StepContext) -> list[SourceFile]:
        return job.find_modules(ctx, params.source)


class Parse(Step[Index]):
    """Index each file: one step per file, eight at once."""

    result = "modules"
    over = "files"
    concurrency = 8
    retry = Retry(max_retries=2)
    timeout = 60

    def execute(self, params: Index, file: SourceFile) -> Module:
        return job.parse(file)


class LinkImports(Step[Index]):
    """Build the import graph."""

    result = "graph"

    def execute(self, params: Index, *, modules: list[Module]) -> ImportGraph:
        return job.link_imports(modules)


class FindCycles(Step[Index]):
    """Find the modules that import each other."""

    result = "cycles"

    def execute(self, params: Index, *, graph: ImportGraph) -> list[list[str]]:
        return job.find_cycles(graph)


class RankModules(Step[Index]):
    """Find the modules that everything leans on."""

    result = "ranks"

    def execute(self, params: Index, *, graph: ImportGraph) -> list[Rank]:
        return job.rank_modules(graph)


class WriteReport(Step[Index]):
    """Write report.json for programs and report.html for people."""

    def execute(
        self,
        params: Index,
        *,
        ctx: StepContext,
        modules: list[Module],
        graph: ImportGraph,
        cycles: list[list[str]],
        ranks: list[Rank],
    ) -> Report:
        return job.write_report(ctx, modules, graph, cycles, ranks, params.source, params.out)


class Read(Process[Index]):
    """From a folder to what is in its files."""

    steps = [FindModules, Parse]


class Analyse(Process[Index]):
    """From the files to the report; what looks for cycles and what ranks run side by side."""

    steps = [LinkImports, [FindCycles, RankModules], WriteReport]


class StdlibIndex(Pipeline[Index]):
    """The main job."""

    processes = [Read, Analyse]
