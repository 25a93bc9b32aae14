"""``WorkflowBuilder``: a workflow written node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Self

from milepost.dsl.kinds import JoinMode
from milepost.dsl.loading import validated_node
from milepost.dsl.names import branch_name
from milepost.dsl.operators import (
    ActivityOperator,
    BaseOperator,
    ChildWorkflowOperator,
    ConditionOperator,
    EmitEventOperator,
    ForEachOperator,
    JoinOperator,
    MultiChoiceOperator,
    ParallelOperator,
    ReflexiveOperator,
    SwitchOperator,
    TaskOperator,
    TerminateOperator,
    WaitForEventOperator,
    WaitOperator,
    WhileOperator,
)
from milepost.dsl.policies import DataGuard, RetryPolicy, TimeoutPolicy
from milepost.dsl.problems import WorkflowInvalid, WorkflowProblem
from milepost.dsl.workflow import Workflow
from milepost.errors import ConfigurationError, did_you_mean

__all__ = ["WAIT_FOR_BRANCHES", "WorkflowBuilder"]

Branch = Callable[["WorkflowBuilder"], "WorkflowBuilder"]

WAIT_FOR_BRANCHES: Final = "tools.workflow.wait_for_parallel_branches"
_OF_ANY: Final = set(BaseOperator.model_fields) - {"task_id", "operator_type"}
_OF_NODE: Final = sorted({*_OF_ANY, "depends_on", "args", "kwargs"})


class WorkflowBuilder:
    """Writes a workflow: each node depends on the node before it unless told otherwise.

    Args:
        name: The workflow's name.
        version: Its version.
        existing_workflow: Goes on with this workflow instead of a new one.
        parent: The builder whose branch this one writes.
        deadline_seconds: Seconds from a run's start until it is ended.
        deadline_action: ``"fail"`` or ``"cancel"``.

    Example:
        >>> workflow = (
        ...     WorkflowBuilder("report")
        ...     .task("load", "etl.load", result_key="rows")
        ...     .task("count", "etl.count", args=["{{rows}}"])
        ...     .build()
        ... )
        >>> workflow.tasks["count"].dependencies
        ['load']
    """

    def __init__(
        self,
        name: str,
        version: str = "2.0.0",
        existing_workflow: Workflow | None = None,
        parent: WorkflowBuilder | None = None,
        deadline_seconds: float | None = None,
        deadline_action: Literal["fail", "cancel"] = "fail",
    ) -> None:
        """Begin."""
        if existing_workflow is None:
            data = {
                "name": name,
                "version": version,
                "deadline_seconds": deadline_seconds,
                "deadline_action": deadline_action,
            }
            existing_workflow = validated_node(Workflow, data, f"Workflow {name!r}")
        self.workflow = existing_workflow
        self.parent = parent
        self._mistakes: list[WorkflowProblem] = []
        self._last: BaseOperator | None = None
        self._called: set[str] = set()
        self._pending: list[str] = []
        for node in existing_workflow.tasks.values():
            self._note_calls(node)
        chain = [node for key, node in existing_workflow.tasks.items() if key not in self._called]
        self._last = chain[-1] if chain else None
        self._point: str | None = self._last.task_id if self._last is not None else None

    # --- nodes -------------------------------------------------------------------------------

    def task(self, task_id: str, function: str, **kwargs: Any) -> Self:
        """Add a call of a function; keywords that no operator knows are keyword arguments of the function."""
        return self._call(TaskOperator, task_id, function, kwargs)

    def activity(self, task_id: str, function: str, **kwargs: Any) -> Self:
        """Add a call of a long function that may send heartbeats; it is awaited."""
        return self._call(ActivityOperator, task_id, function, kwargs)

    def condition(
        self, task_id: str, condition: str, if_true: Branch | None, if_false: Branch | None = None, **kwargs: Any
    ) -> Self:
        """Add two branches, of which one runs."""
        data: dict[str, Any] = {
            "condition": condition,
            "if_true": None,
            "if_false": None,
            "true_tasks": [],
            "false_tasks": [],
        }
        node = self._add(ConditionOperator, task_id, data, kwargs)
        for branch, first, listed in ((if_true, "if_true", "true_tasks"), (if_false, "if_false", "false_tasks")):
            if branch is None:
                continue
            inner = self._inner(branch, branch_name(task_id, first), f"{first} of {task_id!r}")
            tasks = inner.workflow.tasks
            for key, found in tasks.items():
                if key in self.workflow.tasks:
                    self._mistake(key, f"the id {key!r} is used twice")
                    continue
                found.dependencies = [*found.dependencies, task_id]
                self.workflow.tasks[key] = found
                self._note_calls(found)
            setattr(node, first, next(iter(tasks), None))
            setattr(node, listed, list(tasks))
        return self

    def parallel(self, task_id: str, branches: Mapping[str, Branch], **kwargs: Any) -> Self:
        """Add branches that run side by side; the next node waits for all of them."""
        held = self._branches(task_id, branches)
        data = {"branches": {name: list(flow.tasks) for name, flow in held.items()}, "branch_workflows": held}
        self._add(ParallelOperator, task_id, data, kwargs)
        return self

    def parallel_with_join(
        self,
        task_id: str,
        branches: Mapping[str, Branch],
        timeout_seconds: int = 300,
        join_result_key: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Add :meth:`parallel`, and a task ``<id>_join`` that gives the results of its branches."""
        fork_key = kwargs.pop("result_key", None) or _key(f"{task_id}_fork_data")
        self.parallel(task_id, branches, result_key=fork_key, **kwargs)
        return self.task(
            f"{task_id}_join",
            WAIT_FOR_BRANCHES,
            args=[f"{{{{{fork_key}}}}}"],
            kwargs={"timeout_seconds": timeout_seconds},
            result_key=join_result_key or _key(f"{task_id}_results"),
        )

    def foreach(self, task_id: str, items: str, loop_body: Branch, **kwargs: Any) -> Self:
        """Add a loop over items: its body runs once for each."""
        body = self._inner(loop_body, branch_name(task_id, "body"), f"the body of {task_id!r}")
        self._add(ForEachOperator, task_id, {"items": items, "loop_body": list(body.workflow.tasks.values())}, kwargs)
        return self

    def while_loop(self, task_id: str, condition: str, loop_body: Branch, **kwargs: Any) -> Self:
        """Add a loop whose body runs while a condition holds."""
        body = self._inner(loop_body, branch_name(task_id, "body"), f"the body of {task_id!r}")
        data = {"condition": condition, "loop_body": list(body.workflow.tasks.values())}
        self._add(WhileOperator, task_id, data, kwargs)
        return self

    def wait(self, task_id: str, wait_for: timedelta | datetime | str | float, **kwargs: Any) -> Self:
        """Add a durable wait: so long, or until a moment."""
        self._add(WaitOperator, task_id, {"wait_for": wait_for}, kwargs)
        return self

    def emit_event(self, task_id: str, event_name: str, **kwargs: Any) -> Self:
        """Add an event that is emitted."""
        self._add(EmitEventOperator, task_id, {"event_name": event_name}, kwargs)
        return self

    def wait_for_event(
        self, task_id: str, event_name: str, timeout_seconds: float | None = None, **kwargs: Any
    ) -> Self:
        """Add a durable wait for an event; None waits for ever."""
        self._add(WaitForEventOperator, task_id, {"event_name": event_name, "timeout_seconds": timeout_seconds}, kwargs)
        return self

    def switch(
        self, task_id: str, switch_on: str, cases: Mapping[str, str], default: str | None = None, **kwargs: Any
    ) -> Self:
        """Add a choice among nodes by the text of a value."""
        self._add(SwitchOperator, task_id, {"switch_on": switch_on, "cases": dict(cases), "default": default}, kwargs)
        return self

    def join(
        self, task_id: str, join_tasks: Sequence[str], join_mode: JoinMode | str = JoinMode.ALL_OF, **kwargs: Any
    ) -> Self:
        """Add a node that waits for several others."""
        kwargs.setdefault("dependencies", [])
        self._add(JoinOperator, task_id, {"join_tasks": list(join_tasks), "join_mode": join_mode}, kwargs)
        return self

    def reflexive(
        self,
        task_id: str,
        generator: str,
        verifier: str,
        generator_kwargs: Mapping[str, Any] | None = None,
        verifier_kwargs: Mapping[str, Any] | None = None,
        max_turns: int = 3,
        correction_prompt_template: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Add a node that generates, verifies and corrects."""
        data = {
            "generator": generator,
            "verifier": verifier,
            "generator_kwargs": dict(generator_kwargs or {}),
            "verifier_kwargs": dict(verifier_kwargs or {}),
            "max_turns": max_turns,
            "correction_prompt_template": correction_prompt_template,
        }
        self._add(ReflexiveOperator, task_id, data, kwargs)
        return self

    def multi_choice(
        self, task_id: str, branches: Mapping[str, tuple[str, Branch]], minimum_branches: int = 1, **kwargs: Any
    ) -> Self:
        """Add branches of which every one runs whose condition holds."""
        held = self._branches(task_id, {name: branch for name, (_, branch) in branches.items()})
        listed = {
            name: {"condition": condition, "tasks": list(held[name].tasks) if name in held else []}
            for name, (condition, _) in branches.items()
        }
        data = {"branches": listed, "branch_workflows": held, "minimum_branches": minimum_branches}
        self._add(MultiChoiceOperator, task_id, data, kwargs)
        return self

    def terminate(
        self,
        task_id: str,
        status: Literal["completed", "failed", "cancelled"] = "completed",
        result: Any = None,
        reason: str = "",
        **kwargs: Any,
    ) -> Self:
        """Add an early end of the run."""
        self._add(TerminateOperator, task_id, {"status": status, "result": result, "reason": reason}, kwargs)
        return self

    def child_workflows(
        self,
        task_id: str,
        children: Mapping[str, Any],
        result_key: str | None = None,
        timeout_seconds: float | None = None,
        **kwargs: Any,
    ) -> Self:
        """Add runs of other workflows, side by side."""
        data = {"children": dict(children), "timeout_seconds": timeout_seconds}
        self._add(ChildWorkflowOperator, task_id, data, {**kwargs, "result_key": result_key})
        return self

    def child_workflow(
        self,
        task_id: str,
        workflow_name: str,
        inputs: Mapping[str, Any] | None = None,
        result_key: str | None = None,
        timeout_seconds: float | None = None,
        **kwargs: Any,
    ) -> Self:
        """Add a run of another workflow; the branch is named as the node."""
        child = {"workflow_name": workflow_name, "inputs": dict(inputs or {})}
        return self.child_workflows(task_id, {task_id: child}, result_key, timeout_seconds, **kwargs)

    # --- modifiers of the last node ----------------------------------------------------------

    def retry(self, max_retries: int = 3, delay: timedelta = timedelta(seconds=5), backoff_factor: float = 2.0) -> Self:
        """Say when the last node is tried again."""
        data = {"max_retries": max_retries, "delay": delay, "backoff_factor": backoff_factor}
        return self._modify("retry_policy", validated_node(RetryPolicy, data, "retry()"))

    def timeout(self, timeout: timedelta, kill_on_timeout: bool = True) -> Self:
        """Say how long one attempt of the last node may take."""
        return self._modify(
            "timeout_policy",
            validated_node(TimeoutPolicy, {"timeout": timeout, "kill_on_timeout": kill_on_timeout}, "timeout()"),
        )

    def on_success(self, success_task_id: str) -> Self:
        """Name the node that starts when the last one has succeeded."""
        return self._modify("on_success_task_id", success_task_id)

    def on_failure(self, failure_task_id: str) -> Self:
        """Name the node that starts when the last one has failed after its last retry."""
        return self._modify("on_failure_task_id", failure_task_id)

    def precondition(self, variable: str, check: str, value: Any = None, message: str = "") -> Self:
        """Add a check of data before the last node."""
        node = self._require_last("precondition")
        guard = validated_node(
            DataGuard, {"variable": variable, "check": check, "value": value, "message": message}, "precondition()"
        )
        node.preconditions = [*node.preconditions, guard]
        return self

    def postcondition(self, variable: str, check: str, value: Any = None, message: str = "") -> Self:
        """Add a check of data after the last node."""
        node = self._require_last("postcondition")
        guard = validated_node(
            DataGuard, {"variable": variable, "check": check, "value": value, "message": message}, "postcondition()"
        )
        node.postconditions = [*node.postconditions, guard]
        return self

    # --- the workflow ------------------------------------------------------------------------

    def set_description(self, description: str) -> Self:
        """Say what the workflow is for."""
        self.workflow.description = description
        return self

    def set_version(self, version: str) -> Self:
        """Set its version."""
        self.workflow.version = version
        return self

    def set_schedule(self, cron: str, timezone: str | None = None) -> Self:
        """Say when it runs: a cron line, in UTC unless a time zone is named."""
        self.workflow.set_schedule(cron, timezone)
        return self

    def set_start_date(self, start_date: datetime) -> Self:
        """Say when the schedule begins (naive: local time)."""
        self.workflow.set_start_date(start_date)
        return self

    def set_catchup(self, enabled: bool) -> Self:
        """Say whether missed firings are made up for."""
        self.workflow.set_catchup(enabled)
        return self

    def set_paused(self, paused: bool) -> Self:
        """Say whether the schedule starts nothing."""
        self.workflow.set_paused(paused)
        return self

    def add_tags(self, *tags: str) -> Self:
        """Add words by which runs are found."""
        self.workflow.add_tags(*tags)
        return self

    def set_max_active_runs(self, count: int) -> Self:
        """Say how many scheduled runs may be unfinished at once."""
        self.workflow.set_max_active_runs(count)
        return self

    def set_default_retry_policy(self, policy: RetryPolicy) -> Self:
        """Set the policy of nodes that have none."""
        self.workflow.set_default_retry_policy(policy)
        return self

    def set_variables(self, variables: Mapping[str, Any]) -> Self:
        """Add variables, which templates name."""
        self.workflow.set_variables(variables)
        return self

    def set_inputs(self, **inputs: Any) -> Self:
        """Declare the inputs of a run: a type, such as ``day=str``, or a default, such as ``limit=10``."""
        self.workflow.set_inputs(**inputs)
        return self

    def set_start_task(self, task_id: str) -> Self:
        """Name the node that comes first."""
        self.workflow.set_start_task(task_id)
        return self

    def set_deadline(self, seconds: float, action: Literal["fail", "cancel"] = "fail") -> Self:
        """Say after how many seconds a run is ended, and how."""
        self.workflow.set_deadline(seconds, action)
        return self

    def build(self) -> Workflow:
        """Check everything and return the workflow: the same object each time.

        Raises:
            WorkflowInvalid: (a ValueError) All mistakes at once.
        """
        workflow = self.workflow
        if workflow.start_task is None and workflow.tasks:
            workflow.start_task = next(iter(workflow.tasks))
        if self._mistakes:
            try:
                workflow.check()
            except WorkflowInvalid as error:
                raise WorkflowInvalid(error.what, [*self._mistakes, *error.problems]) from None
            raise WorkflowInvalid(f"Workflow {workflow.name!r}", self._mistakes)
        return workflow.check()

    # --- inside ------------------------------------------------------------------------------

    def _call(self, kind: type[BaseOperator], task_id: str, function: str, given: dict[str, Any]) -> Self:
        own: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, value in given.items():
            (own if key in _OF_NODE else extra)[key] = value
        for key in extra:
            near = did_you_mean(key, [name for name in _OF_NODE if len(name) > 4 and abs(len(name) - len(key)) < 3])
            if near and _is_near_miss(key):
                raise ConfigurationError(
                    f"{task_id!r}: {key!r} would be a keyword argument of {function!r}.{near} "
                    f"If it is the function's, write kwargs={{{key!r}: ...}}."
                )
        data = {"function": function, "args": own.pop("args", []), "kwargs": {**own.pop("kwargs", {}), **extra}}
        self._add(kind, task_id, data, own)
        return self

    def _add(self, kind: type[BaseOperator], task_id: str, data: dict[str, Any], given: Mapping[str, Any]) -> Any:
        given = dict(given)
        unknown = [key for key in given if key not in kind.model_fields and key != "depends_on"]
        if unknown:
            known = [name for name in kind.model_fields if name not in ("task_id", "operator_type")]
            told = "; ".join(f"{key!r}{did_you_mean(key, known)}" for key in unknown)
            name = kind.model_fields["operator_type"].default.value
            raise ConfigurationError(f"{name} {task_id!r} has no keyword {told}. Known: {', '.join(known)}.")
        also = given.pop("depends_on", None)
        if given.get("dependencies") is None:
            given.pop("dependencies", None)
            if also is not None:
                given["dependencies"] = also
        if "dependencies" not in given:
            is_called = task_id in self._called
            given["dependencies"] = [] if is_called or self._point is None else [self._point]
        if isinstance(given["dependencies"], str):
            given["dependencies"] = [given["dependencies"]]
        given["dependencies"] = list(given["dependencies"])
        node = validated_node(kind, {"task_id": task_id, **data, **given}, f"Workflow {self.workflow.name!r}")
        if task_id in self.workflow.tasks:
            self._mistake(task_id, f"the id {task_id!r} is used twice")
        else:
            self.workflow.tasks[task_id] = node  # type: ignore[assignment]
        self._note_calls(node)
        self._last = node
        if task_id not in self._called:
            self._point = task_id
        return node

    def _note_calls(self, node: BaseOperator) -> None:
        called = {node.on_success_task_id, node.on_failure_task_id}
        if isinstance(node, SwitchOperator):
            called |= {*node.cases.values(), node.default}
        self._called |= {name for name in called if name is not None and name != node.task_id}

    def _modify(self, field: str, value: Any) -> Self:
        node = self._require_last(field.removesuffix("_policy").removesuffix("_task_id"))
        setattr(node, field, value)
        self._note_calls(node)
        return self

    def _require_last(self, modifier: str) -> BaseOperator:
        if self._last is None:
            raise WorkflowInvalid(
                f"Workflow {self.workflow.name!r}",
                [WorkflowProblem((), f"{modifier}() changes the last node, and there is none yet")],
            )
        return self._last

    def _branches(self, task_id: str, branches: Mapping[str, Branch]) -> dict[str, Workflow]:
        return {
            name: self._inner(branch, branch_name(task_id, name), f"branch {name!r} of {task_id!r}").workflow
            for name, branch in branches.items()
        }

    def _inner(self, branch: Branch, name: str, what: str) -> WorkflowBuilder:
        inner = WorkflowBuilder(name, self.workflow.version, parent=self)
        if branch is None or not callable(branch):
            raise ConfigurationError(f"{what} must be a function that takes a builder and returns it, not {branch!r}.")
        found = branch(inner)
        if not isinstance(found, WorkflowBuilder):
            raise ConfigurationError(f"{what} returned {found!r}. Let it return the builder it was given.")
        if found.workflow.start_task is None and found.workflow.tasks:
            found.workflow.start_task = next(iter(found.workflow.tasks))
        self._mistakes += found._mistakes  # noqa: SLF001 - of this class
        return found

    def _mistake(self, task_id: str, message: str) -> None:
        self._mistakes.append(WorkflowProblem(("tasks", task_id), message))


def _key(text: str) -> str:
    """Return a name that templates can use for a node of any id."""
    key = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in text)
    return key if not key[:1].isdigit() else f"_{key}"


def _is_near_miss(key: str) -> bool:
    """Return whether a keyword is all but one of ours, such as ``dependecies`` or ``retry_polcy``."""
    import difflib  # only where a keyword is unknown

    return any(
        difflib.SequenceMatcher(None, key, name).ratio() > 0.82 for name in _OF_NODE if len(name) > 4 and name != key
    )
