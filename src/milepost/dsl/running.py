"""Run, submit, schedule and resume workflows: what ``Workflow.run`` and the command line call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from milepost.dag.face import LedgerLike
from milepost.dag.scheduling import Scheduling
from milepost.dag.submitting import Submitting
from milepost.dsl.compiling import WorkflowGraph, compile_workflow
from milepost.dsl.inputs import check_inputs
from milepost.dsl.workflow import Workflow
from milepost.errors import ConfigurationError, did_you_mean
from milepost.graph import Graph
from milepost.model import Schedule
from milepost.runtime.handle import RunHandle
from milepost.runtime.lifecycle import open_ledger
from milepost.runtime.outcome import FinishedRun
from milepost.runtime.run import RunOptions, resume_graph, resume_graph_async, run_graph, run_graph_async
from milepost.runtime.scheduling import ScheduleOptions, add_schedule
from milepost.runtime.submission import SubmitOptions
from milepost.runtime.subruns import SubContext, perform_subrun

__all__ = ["RunnableWorkflow", "register_workflow", "run_child_workflow"]

_WORKFLOWS: dict[str, Workflow] = {}


class RunnableWorkflow(Submitting, Scheduling):
    """A workflow as workers and queues know one: its name, its graph, the check of its inputs.

    Example:
        >>> from milepost.dsl import WorkflowBuilder, task_function
        >>> @task_function("demo.twice")
        ... def twice(n: int) -> int:
        ...     return 2 * n
        >>> workflow = WorkflowBuilder("twice").task("double", "demo.twice", args=["{{inputs.n}}"]).build()
        >>> workflow.run({"n": 4}, ledger=":memory:").result()
        8
    """

    kind = "workflow"

    def __init__(self, workflow: Workflow, target: str | None = None) -> None:
        """Take a copy, so that a later change of the workflow concerns later runs alone."""
        self.workflow = workflow.model_copy(deep=True).check()
        self.name = workflow.name
        self._target = target
        self._graph: WorkflowGraph | None = None

    def build(self) -> Graph:
        """Return the graph, its functions looked up."""
        if self._graph is None:
            self._graph = compile_workflow(self.workflow, is_resolved=True)
        return self._graph

    def _build(self) -> RunnableWorkflow:
        return self

    @property
    def graph(self) -> Graph:
        """The graph, for those who submit it: functions need not be known here."""
        return self._graph or compile_workflow(self.workflow)

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs that are declared, for the command line."""
        return dict.fromkeys(self.workflow.inputs, Any)

    def validate(
        self, given: Mapping[str, Any] | None, name: str, more: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the inputs, checked."""
        return check_inputs(self.name, self.workflow.inputs, {**(given or {}), **(more or {})})

    def _submit(
        self, inputs: list[Mapping[str, Any]], ledger: LedgerLike, options: SubmitOptions, conn: Any
    ) -> list[RunHandle]:
        return super()._submit(inputs, ledger, replace(options, tags=self._tags(options.tags)), conn)

    def _tags(self, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
        return {**dict.fromkeys(self.workflow.tags, True), **(given or {})}

    def _locate(self, target: str | None = None) -> str | None:
        return target or self._target

    def run(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> FinishedRun:
        """Run it to its end in this thread; options as those of ``Dag.run``."""
        values = self.validate(inputs, self.name)
        return run_graph(self.build(), values, self.kind, self._options(options))

    async def run_async(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> FinishedRun:
        """Run it to its end on the running loop."""
        values = self.validate(inputs, self.name)
        return await run_graph_async(self.build(), values, self.kind, self._options(options))

    def resume(self, run_id: str, **options: Any) -> FinishedRun:
        """Go on with a run."""
        return resume_graph(self.build(), run_id, self._options(options, has_tags=False))

    async def resume_async(self, run_id: str, **options: Any) -> FinishedRun:
        """Go on with a run on the running loop."""
        return await resume_graph_async(self.build(), run_id, self._options(options, has_tags=False))

    def _options(self, given: dict[str, Any], *, has_tags: bool = True) -> RunOptions:
        given = dict(given)
        given["target"] = self._locate(given.get("target"))
        if has_tags:
            given["tags"] = self._tags(given.get("tags"))
        return RunOptions(**given)


def register_workflow(workflow: Workflow) -> Workflow:
    """Let other workflows run this one as a child, by its name; return it."""
    _WORKFLOWS[workflow.name] = workflow
    return workflow


async def run_child_workflow(name: str, inputs: Mapping[str, Any], context: SubContext) -> Any:
    """Run a registered workflow as a run inside another, and return its result.

    Raises:
        ConfigurationError: None is registered under this name.
        BaseException: What it failed with, or that it was cancelled or paused: its parent shares that.
    """
    workflow = _WORKFLOWS.get(name)
    if workflow is None:
        raise ConfigurationError(
            f"No workflow is registered as {name!r}.{did_you_mean(name, _WORKFLOWS)} Call register_workflow() first."
        )
    runnable = RunnableWorkflow(workflow)
    given = runnable.validate(inputs, name)
    tags = dict.fromkeys(workflow.tags, True)
    return await perform_subrun(context, runnable.build(), "", given, kind=runnable.kind, tags=tags)


def schedule_workflow(workflow: Workflow, name: str | None, options: dict[str, Any]) -> Schedule:
    """Add the schedule of a workflow to a ledger, and pause it where the workflow says so."""
    if workflow.schedule is None:
        raise ConfigurationError(f"Workflow {workflow.name!r} has no schedule. Call set_schedule() first.")
    start = workflow.start_date
    ledger = open_ledger(options.pop("ledger", None))
    inputs = {"data_interval_start": "{data_interval_start}", "data_interval_end": "{data_interval_end}"}
    runnable = RunnableWorkflow(workflow)
    rule: dict[str, Any] = {
        "cron": workflow.schedule,
        "timezone": workflow.timezone,
        "start_at": start.astimezone() if start is not None and start.tzinfo is None else start,
        "catch_up": workflow.catchup,
        "max_active": workflow.max_active_runs,
        **options,
    }
    inputs = rule.pop("inputs", None) or inputs
    rule["target"] = runnable._locate(rule.get("target"))  # noqa: SLF001 - of this module
    how = ScheduleOptions(name=name or workflow.name, is_paused=workflow.is_paused, **rule)
    schedule = add_schedule(ledger, runnable.graph, runnable.kind, inputs, how)
    if workflow.is_paused and schedule.paused_at is None:  # it was there before
        return ledger.pause_schedule(schedule.name)
    return schedule
