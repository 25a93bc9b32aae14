"""``Pipeline``: processes declared as a class, compiled once and run durably."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from milepost.graph import Graph
from milepost.pipeline.compiler import compile_pipeline
from milepost.pipeline.including import labels_of
from milepost.pipeline.plan import PipelinePlan
from milepost.pipeline.running import RunnablePipeline
from milepost.pipeline.wiring import wire
from milepost.runtime.handle import RunHandle
from milepost.runtime.outcome import FinishedRun
from milepost.runtime.progress import Progress

__all__ = ["Pipeline"]

P = TypeVar("P", bound=BaseModel)
Include = Iterable[str | type[Any]]


class Pipeline(Generic[P]):
    """Processes in order; a list among them is a group that runs side by side. Its verbs are called on the class.

    A run is one run of kind ``pipeline`` in the ledger; its steps are labelled ``Process.Step``.

    Example:
        >>> from pydantic import BaseModel
        >>> from milepost.pipeline import Pipeline, Process, Step
        >>> class Params(BaseModel, frozen=True):
        ...     n: int
        >>> class Count(Step[Params]):
        ...     result = "numbers"
        ...     def execute(self, params: Params) -> list[int]:
        ...         return list(range(params.n))
        >>> class Sum(Step[Params]):
        ...     def execute(self, params: Params, *, numbers: list[int]) -> int:
        ...         return sum(numbers)
        >>> class Adding(Process[Params]):
        ...     steps = [Count, Sum]
        >>> class Numbers(Pipeline[Params]):
        ...     processes = [Adding]
        >>> Numbers.run(Params(n=4), ledger=":memory:").result()
        6
    """

    processes: ClassVar[Sequence[Any]] = ()
    kind: ClassVar[str] = "pipeline"
    name: ClassVar[str] = "Pipeline"
    """The class's name: that of the workflow in the ledger."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Name the workflow after the class."""
        super().__init_subclass__(**kwargs)
        cls.name = cls.__name__

    @classmethod
    def compile(cls) -> PipelinePlan:
        """Return the frozen plan, made of the classes as they are now.

        Raises:
            CompilationError: There are mistakes: all of them, each with code, component, field and remedy.
        """
        return compile_pipeline(cls)

    @classmethod
    def build(cls) -> Graph:
        """Return the graph of the whole pipeline.

        Raises:
            CompilationError: As :meth:`compile`.
        """
        return cls.runnable().graph

    @classmethod
    def runnable(cls, include: Include | None = None) -> RunnablePipeline:
        """Return the pipeline, whole or narrowed, as workers and the command line take it.

        Raises:
            CompilationError: As :meth:`compile`.
            IncludeInvalid: As :meth:`run`.
        """
        plan = cls.compile()
        return RunnablePipeline(wire(plan, None if include is None else labels_of(plan, include)))

    @classmethod
    def run(
        cls,
        params: P | Mapping[str, Any] | None = None,
        *,
        include: Include | None = None,
        correlation_id: str | None = None,
        attempt: int = 1,
        last_attempt: bool = True,
        ledger: Any = None,
        run_id: str | None = None,
        max_concurrency: int | None = None,
        executor: Executor | None = None,
        durability: str | None = None,
        tags: Mapping[str, Any] | None = None,
        target: str | None = None,
        on_start: Callable[[Progress], None] | None = None,
    ) -> FinishedRun:
        """Run the pipeline to its end in this thread and return the finished run, whatever its status.

        Args:
            params: The params, or a dict of their fields.
            include: The processes and steps to run, by name or class; everything if left out.
            correlation_id: Groups the runs that are attempts of one job of yours.
            attempt: Which of them this is; stamped on every record, and never interpreted.
            last_attempt: Whether your scheduler will not try again.
            ledger: An open ledger, a path or a URL; None means ``MILEPOST_LEDGER``, else ``milepost.db``.
            run_id: The run's id; a new UUIDv7 if left out.
            max_concurrency: How many steps may run at once (32).
            executor: Where bodies of sync steps run; threads if left out.
            durability: ``"power"`` (default) or ``"process"``, where the ledger is opened here.
            tags: Plain JSON data kept with the run.
            target: Where ``milepost resume`` finds the class; found by itself where it stands in a module.
            on_start: Called once with the live progress before the first step.

        Raises:
            CompilationError: There are mistakes in the classes; no run was created.
            IncludeInvalid: ``include`` names nothing, something unknown, or drops what an included step needs.
            InputError: The params are not those of the pipeline.
            RunExists: The run id is taken.
            StoreError: The ledger cannot be opened or written.
            KeyboardInterrupt: Recorded, then raised again.
        """
        options = _options(locals())
        runnable = cls.runnable(include)
        return runnable.run({"params": runnable.params(params)}, **options)

    @classmethod
    async def run_async(
        cls,
        params: P | Mapping[str, Any] | None = None,
        *,
        include: Include | None = None,
        correlation_id: str | None = None,
        attempt: int = 1,
        last_attempt: bool = True,
        ledger: Any = None,
        run_id: str | None = None,
        max_concurrency: int | None = None,
        executor: Executor | None = None,
        durability: str | None = None,
        tags: Mapping[str, Any] | None = None,
        target: str | None = None,
        on_start: Callable[[Progress], None] | None = None,
    ) -> FinishedRun:
        """Do what :meth:`run` does on the running event loop, without ever blocking it."""
        options = _options(locals())
        runnable = cls.runnable(include)
        return await runnable.run_async({"params": runnable.params(params)}, **options)

    @classmethod
    def submit(
        cls, params: P | Mapping[str, Any] | None = None, *, include: Include | None = None, **options: Any
    ) -> RunHandle:
        """Put a run into a queue, for any worker that knows the pipeline; options as those of ``Dag.submit``.

        A worker takes the class itself: ``Worker([Numbers])``.

        Raises:
            CompilationError: As :meth:`run`.
            IncludeInvalid: As :meth:`run`.
            InputError: As :meth:`run`; nothing was submitted.
        """
        runnable = cls.runnable(include)
        return runnable.submit({"params": runnable.params(params)}, **options)

    @classmethod
    async def submit_async(
        cls, params: P | Mapping[str, Any] | None = None, *, include: Include | None = None, **options: Any
    ) -> RunHandle:
        """Do what :meth:`submit` does, without blocking the event loop."""
        return await asyncio.to_thread(cls.submit, params, include=include, **options)

    @classmethod
    def resume(cls, run_id: str, **options: Any) -> FinishedRun:
        """Take a run up where it died, failed or was cancelled; options as those of ``Dag.resume``.

        A run that was narrowed by ``include`` stays so.
        """
        return cls.runnable().resume(run_id, **options)

    @classmethod
    async def resume_async(cls, run_id: str, **options: Any) -> FinishedRun:
        """Do what :meth:`resume` does on the running event loop, without ever blocking it."""
        return await cls.runnable().resume_async(run_id, **options)


def _options(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in ("cls", "params", "include")}
