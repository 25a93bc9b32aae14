"""``Workflow``: a named, versioned graph of operators, as data."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import yaml
from pydantic import Field, field_validator

from milepost.dsl.inputs import InputField, input_field
from milepost.dsl.names import check_version, check_workflow_name
from milepost.dsl.operators import AnyOperator, BaseOperator, MultiChoiceOperator, ParallelOperator, groups, loops
from milepost.dsl.plain import PlainDict, dump
from milepost.dsl.policies import Part, RetryPolicy
from milepost.dsl.problems import WorkflowInvalid, WorkflowWarning, with_lines
from milepost.dsl.reading import Lines, read_json, read_yaml
from milepost.dsl.times import Moment

if TYPE_CHECKING:
    from milepost.dsl.running import RunnableWorkflow
    from milepost.model import Schedule
    from milepost.runtime import FinishedRun, RunHandle

__all__ = ["FORMAT", "Workflow"]

FORMAT: Final = 1  # of the file; it grows when an older Milepost could no longer read it rightly
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Workflow(Part):
    """A workflow as data. Build one with :class:`WorkflowBuilder`, or load one from YAML or JSON.

    Example:
        >>> workflow = Workflow.from_yaml('''
        ... name: greeting
        ... tasks:
        ...   greet: {task_id: greet, operator_type: task, function: demo.greet, args: ["{{inputs.who}}"]}
        ... ''')
        >>> workflow.tasks["greet"].function
        'demo.greet'
        >>> Workflow.from_json(workflow.to_json()) == workflow
        True
    """

    name: str
    """Lower-case letters, digits and single underscores."""
    format: Literal[1] = FORMAT
    """The version of the file format."""
    version: str = "2.0.0"
    """Letters, digits, ``.``, ``_`` and ``-``."""
    description: str = ""
    """What it is for."""
    tasks: dict[str, AnyOperator] = {}
    """The nodes by id."""
    inputs: dict[str, InputField] = {}
    """The inputs of a run; where none is declared, a run takes any."""
    variables: PlainDict = {}
    """Values that templates name."""
    start_task: str | None = None
    """The node that was added first."""
    schedule: str | None = None
    """A cron line of five fields."""
    timezone: str = "UTC"
    """The time zone of the cron line."""
    start_date: Moment | None = None
    """No firing before this moment (naive: local time)."""
    catchup: bool = False
    """Whether missed firings are made up for."""
    is_paused: bool = False
    """Whether the schedule starts nothing."""
    tags: list[str] = []
    """Words by which runs are found."""
    max_active_runs: int = Field(1, ge=1)
    """How many scheduled runs may be unfinished at once."""
    default_retry_policy: RetryPolicy | None = None
    """For nodes that call functions and have no policy of their own."""
    deadline_seconds: float | None = Field(None, gt=0)
    """Seconds from the run's start until it is ended."""
    deadline_action: Literal["fail", "cancel"] = "fail"
    """How it is ended then."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        return check_workflow_name(value)

    @field_validator("version", mode="before")
    @classmethod
    def _check_version(cls, value: Any) -> str:
        return check_version(value)

    @field_validator("inputs", mode="before")
    @classmethod
    def _read_inputs(cls, value: Any) -> Any:
        return {name: input_field(found) for name, found in value.items()} if isinstance(value, Mapping) else value

    # --- setting -----------------------------------------------------------------------------

    def add_task(self, task: BaseOperator) -> Self:
        """Add a node; one of the same id is replaced."""
        self.tasks[task.task_id] = task  # type: ignore[assignment]
        return self

    def set_variables(self, variables: Mapping[str, Any]) -> Self:
        """Add variables to those there are."""
        self.variables = {**self.variables, **variables}
        return self

    def set_inputs(self, **inputs: Any) -> Self:
        """Declare the inputs of a run: a type, such as ``day=str``, or a default, such as ``limit=10``."""
        self.inputs = {**self.inputs, **{name: input_field(found) for name, found in inputs.items()}}
        return self

    def set_start_task(self, task_id: str) -> Self:
        """Name the node that comes first."""
        self.start_task = task_id
        return self

    def set_schedule(self, cron: str, timezone: str | None = None) -> Self:
        """Say when it runs: a cron line, in UTC unless a time zone is named."""
        self.schedule = cron
        if timezone is not None:
            self.timezone = timezone
        return self

    def set_start_date(self, start_date: datetime) -> Self:
        """Say when the schedule begins."""
        self.start_date = start_date
        return self

    def set_catchup(self, enabled: bool) -> Self:
        """Say whether missed firings are made up for."""
        self.catchup = enabled
        return self

    def set_paused(self, paused: bool) -> Self:
        """Say whether the schedule starts nothing."""
        self.is_paused = paused
        return self

    def add_tags(self, *tags: str) -> Self:
        """Add words by which runs are found."""
        self.tags = list(dict.fromkeys((*self.tags, *tags)))
        return self

    def set_max_active_runs(self, count: int) -> Self:
        """Say how many scheduled runs may be unfinished at once."""
        self.max_active_runs = count
        return self

    def set_default_retry_policy(self, policy: RetryPolicy) -> Self:
        """Set the policy of nodes that have none."""
        self.default_retry_policy = policy
        return self

    def set_deadline(self, seconds: float, action: Literal["fail", "cancel"] = "fail") -> Self:
        """Say after how many seconds a run is ended, and how."""
        self.deadline_seconds = seconds
        self.deadline_action = action
        return self

    # --- checking ----------------------------------------------------------------------------

    def check(self, *, lenient: bool = False) -> Self:
        """Find every mistake in the graph and the templates.

        Args:
            lenient: Unknown ids are warnings, as older files have them.

        Raises:
            WorkflowInvalid: There are mistakes: all of them.

        Warns:
            WorkflowWarning: Something is allowed and hardly meant.
        """
        self._check(lenient=lenient, lines={})
        return self

    def _check(self, *, lenient: bool, lines: Lines) -> None:
        from milepost.dsl.check import find_problems  # it knows the operators, and this module

        found = with_lines(find_problems(self, lenient=lenient), lines)
        mistakes = [problem for problem in found if not problem.is_warning]
        if mistakes:
            raise WorkflowInvalid(f"Workflow {self.name!r}", mistakes)
        for problem in found:
            warnings.warn(f"Workflow {self.name!r}: {problem}", WorkflowWarning, stacklevel=3)

    # --- writing and reading -----------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, fields that are None left out."""
        return dump(self, keep_none=False)

    def to_yaml(self) -> str:
        """Return it as YAML: block style, keys sorted."""
        text: str = yaml.dump(
            self.to_dict(), Dumper=_Dumper, sort_keys=True, default_flow_style=False, allow_unicode=True
        )
        return text

    def to_json(self) -> str:
        """Return it as JSON with an indent of two, in the order of the fields."""
        return json.dumps(dump(self, keep_none=True), indent=2, ensure_ascii=False)

    @classmethod
    def from_yaml(cls, text: str, *, lenient: bool = False) -> Self:
        """Load a workflow from YAML and check it.

        Args:
            text: The file's text.
            lenient: Unknown keys and ids are warnings, as older files have them.

        Raises:
            WorkflowInvalid: All mistakes at once, each with its path and line.
        """
        data, lines = read_yaml(text)
        return cls._load(data, lines, lenient=lenient)

    @classmethod
    def from_json(cls, text: str, *, lenient: bool = False) -> Self:
        """Load a workflow from JSON and check it; as :meth:`from_yaml`."""
        return cls._load(read_json(text), {}, lenient=lenient)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, lenient: bool = False) -> Self:
        """Load a workflow from plain data and check it; as :meth:`from_yaml`."""
        return cls._load(dict(data), {}, lenient=lenient)

    @classmethod
    def _load(cls, data: Any, lines: Lines, *, lenient: bool) -> Self:
        from milepost.dsl.loading import validated  # it knows this module

        workflow, warned = validated(cls, data, lines, lenient=lenient)
        for problem in warned:
            warnings.warn(f"Workflow {workflow.name!r}: {problem}", WorkflowWarning, stacklevel=3)
        workflow._check(lenient=lenient, lines=lines)  # noqa: SLF001 - of this class
        return workflow

    # --- running -----------------------------------------------------------------------------

    def _runnable(self) -> RunnableWorkflow:
        from milepost.dsl.running import RunnableWorkflow  # it compiles workflows

        return RunnableWorkflow(self)

    def run(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> FinishedRun:
        """Run it to its end in this thread, and return the finished run, whatever its status.

        Args:
            inputs: The inputs by name.
            options: As for ``Dag.run``: ``ledger``, ``run_id``, ``max_concurrency``, ``tags``, ...

        Raises:
            WorkflowInvalid: It was changed since it was built, and has mistakes.
            FunctionNotFound: A function is not registered, nor in an allowed module.
            InputError: Inputs are missing, unknown or of the wrong type; no run was created.
        """
        return self._runnable().run(inputs, **options)

    async def run_async(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> FinishedRun:
        """Do what :meth:`run` does on the running event loop."""
        return await self._runnable().run_async(inputs, **options)

    def resume(self, run_id: str, **options: Any) -> FinishedRun:
        """Go on with a run that died, failed or was cancelled, by the definition it began with."""
        return self._runnable().resume(run_id, **options)

    def submit(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> RunHandle:
        """Put a run into a queue; options as for ``Dag.submit``."""
        return self._runnable().submit(inputs, **options)

    def add_schedule(self, name: str | None = None, **options: Any) -> Schedule:
        """Add its schedule to a ledger, as the workflow states it; options as for ``Dag.schedule``."""
        from milepost.dsl.running import schedule_workflow

        return schedule_workflow(self, name, options)

    def for_worker(self) -> RunnableWorkflow:
        """Return what a :class:`milepost.Worker` takes, its functions looked up."""
        found = self._runnable()
        found.build()
        return found

    # --- drawing -----------------------------------------------------------------------------

    def to_mermaid(self) -> str:
        """Return it as a Mermaid state diagram."""
        from milepost.dsl.drawing import to_mermaid  # it knows the operators

        return to_mermaid(self)

    def to_graphviz(self) -> str:
        """Return it in DOT, the language of Graphviz."""
        from milepost.dsl.drawing import to_graphviz

        return to_graphviz(self)

    def to_svg(self) -> str:
        """Return it as an SVG picture."""
        from milepost.dsl.drawing import to_svg

        return to_svg(self)


for _module in (groups, loops):  # the operators that hold operators and workflows
    _module.AnyOperator = AnyOperator  # type: ignore[attr-defined]
    _module.Workflow = Workflow  # type: ignore[attr-defined]
for _model in (ParallelOperator, MultiChoiceOperator, loops.ForEachOperator, loops.WhileOperator):
    _model.model_rebuild(force=True, _types_namespace={"AnyOperator": AnyOperator, "Workflow": Workflow})
Workflow.model_rebuild(force=True)
