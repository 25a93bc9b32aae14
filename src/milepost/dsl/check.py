"""What is wrong with a workflow as a graph: unknown ids, cycles, routes, templates, schedule. All of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from milepost.dsl.names import RESERVED
from milepost.dsl.operators import (
    ActivityOperator,
    BaseOperator,
    ChildWorkflowOperator,
    ConditionOperator,
    EmitEventOperator,
    ForEachOperator,
    MultiChoiceOperator,
    ParallelOperator,
    ReflexiveOperator,
    SwitchOperator,
    TaskOperator,
    TerminateOperator,
    WaitForEventOperator,
    WhileOperator,
)
from milepost.dsl.problems import Path, WorkflowProblem
from milepost.dsl.structure import Block, block_of, in_order, inner_blocks
from milepost.dsl.templates import TemplateFailed, is_template, references
from milepost.engine.ticks import check_cron, check_zone
from milepost.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from milepost.dsl.workflow import Workflow

__all__ = ["find_problems", "late_templates_of", "templates_of"]


def find_problems(workflow: Workflow, *, lenient: bool = False) -> list[WorkflowProblem]:
    """Return every mistake and everything that is hardly meant."""
    finder = _Finder(workflow, lenient=lenient)
    finder.check_workflow()
    finder.check_scope(("tasks",), dict(workflow.tasks), set(workflow.variables))
    return finder.found


def templates_of(node: BaseOperator) -> Iterator[tuple[Path, str, bool]]:
    """Yield every text of a node that is read as a template: its path, itself, and whether it is a condition."""
    if isinstance(node, (TaskOperator, ActivityOperator)):
        yield from _texts(("args",), node.args)
        yield from _texts(("kwargs",), node.kwargs)
    elif isinstance(node, ReflexiveOperator):
        yield from _texts(("generator_kwargs",), node.generator_kwargs)
    elif isinstance(node, (ConditionOperator, WhileOperator)):
        yield ("condition",), node.condition, True
    elif isinstance(node, SwitchOperator):
        yield ("switch_on",), node.switch_on, False
    elif isinstance(node, ForEachOperator):
        yield ("items",), node.items, False
    elif isinstance(node, MultiChoiceOperator):
        for name, branch in node.branches.items():
            yield ("branches", name, "condition"), branch.condition, True
    elif isinstance(node, EmitEventOperator):
        yield ("event_name",), node.event_name, False
        yield from _texts(("payload",), node.payload)
    elif isinstance(node, WaitForEventOperator):
        yield ("event_name",), node.event_name, False
    elif isinstance(node, TerminateOperator):
        yield from _texts(("result",), node.result)
    elif isinstance(node, ChildWorkflowOperator):
        for name, child in node.children.items():
            yield from _texts(("children", name, "inputs"), child.inputs)
    if node.idempotency_key is not None:
        yield ("idempotency_key",), node.idempotency_key, False
    for i, guard in enumerate(node.preconditions):
        yield ("preconditions", i, "variable"), guard.variable, False


def late_templates_of(node: BaseOperator) -> Iterator[tuple[Path, str, bool]]:
    """Yield the texts that are read when the node's own result is known."""
    if isinstance(node, ReflexiveOperator):
        yield from _texts(("verifier_kwargs",), node.verifier_kwargs)
        if node.correction_prompt_template is not None:
            yield ("correction_prompt_template",), node.correction_prompt_template, False
    for i, guard in enumerate(node.postconditions):
        yield ("postconditions", i, "variable"), guard.variable, False


def _texts(path: Path, value: Any) -> Iterator[tuple[Path, str, bool]]:
    if isinstance(value, str):
        yield path, value, False
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts((*path, key), item)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts((*path, i), item)


class _Finder:
    def __init__(self, workflow: Workflow, *, lenient: bool) -> None:
        self.found: list[WorkflowProblem] = []
        self._workflow = workflow
        self._lenient = lenient
        self._guesses = 0

    def _near(self, name: str, known: Iterable[str]) -> str:
        """Return the near miss, for the first mistakes alone: to look for one costs as much as there are names."""
        self._guesses += 1
        return did_you_mean(name, known) if self._guesses <= _MOST_GUESSES else ""

    def _add(self, path: Path, message: str, *, is_warning: bool = False) -> None:
        self.found.append(WorkflowProblem(path, message, is_warning=is_warning))

    def check_workflow(self) -> None:
        workflow = self._workflow
        if not workflow.tasks:
            self._add(("tasks",), "it has no nodes: a run of it does nothing", is_warning=True)
        if workflow.start_task is not None and workflow.start_task not in workflow.tasks:
            near = did_you_mean(workflow.start_task, workflow.tasks)
            self._add(("start_task",), f"there is no node {workflow.start_task!r}.{near}")
        for name in workflow.variables:
            if name in RESERVED:
                self._add(("variables", name), f"{name!r} is a name that templates reserve. Choose another")
        self._check_schedule()

    def _check_schedule(self) -> None:
        workflow, zone = self._workflow, self._workflow.timezone
        try:
            check_zone(zone)
        except ConfigurationError as error:
            self._add(("timezone",), str(error))
            zone = "UTC"
        if workflow.schedule is None:
            return
        if len(workflow.schedule.split()) != 5 and not workflow.schedule.startswith("@"):
            told = f"{workflow.schedule!r} must be a cron line of five fields: minute hour day month weekday"
            self._add(("schedule",), told)
            return
        try:
            check_cron(workflow.schedule, zone)
        except ConfigurationError as error:
            self._add(("schedule",), str(error))

    def check_scope(self, path: Path, nodes: dict[str, BaseOperator], names: set[str]) -> None:
        """Check the nodes of one scope, and the scopes inside them.

        Args:
            path: Where the scope stands: followed by an id, or in a loop's body by a position.
            nodes: Its nodes by id.
            names: What templates may name besides results of this scope.
        """
        is_list = path[-1] == "loop_body"
        at: dict[str, Path] = {key: (*path, i if is_list else key) for i, key in enumerate(nodes)}
        for key, node in nodes.items():
            if key != node.task_id:
                self._add(
                    (*at[key], "task_id"),
                    f"the node under {key!r} calls itself {node.task_id!r}. Give both the same id",
                )
        block = block_of(nodes)
        self._check_ids(block, at)
        cycle = _cycle(block)
        if cycle:
            told = " -> ".join(repr(name) for name in cycle)
            self._add(at[cycle[0]], f"these nodes wait for each other: {told}. Take one of the dependencies out")
            return
        self._check_names(block, at, names)
        self._check_reach(block, at)

    def _check_ids(self, block: Block, at: dict[str, Path]) -> None:
        for name, field, unknown in block.unknown:
            near = self._near(unknown, block.nodes)
            self._add(
                (*at[name], field),
                f"node {name!r} names {unknown!r}, which is no node here.{near}",
                is_warning=self._lenient and field == "dependencies",
            )
        for name, node in block.nodes.items():
            for field in ("on_success_task_id", "on_failure_task_id"):
                if getattr(node, field) == name:
                    self._add((*at[name], field), f"node {name!r} cannot be its own handler")
            if isinstance(node, SwitchOperator) and name in (*node.cases.values(), node.default):
                self._add((*at[name], "cases"), f"switch {name!r} cannot lead to itself")
            if isinstance(node, (ParallelOperator, MultiChoiceOperator)):
                for branch, listed in node.branches.items():
                    ids = listed if isinstance(listed, list) else listed.tasks
                    held = node.branch_workflows.get(branch)
                    missing = [i for i in ids if held is None or i not in held.tasks]
                    if missing:
                        self._add(
                            (*at[name], "branches", branch),
                            f"branch {branch!r} of {name!r} lists {', '.join(map(repr, missing))}, "
                            "which branch_workflows does not hold",
                        )
                for branch in node.branch_workflows:
                    if isinstance(node, MultiChoiceOperator) and branch not in node.branches:
                        self._add(
                            (*at[name], "branch_workflows", branch),
                            f"branch {branch!r} of {name!r} has no condition in branches",
                        )
            if isinstance(node, MultiChoiceOperator) and node.minimum_branches > len(node.branches):
                self._add(
                    (*at[name], "minimum_branches"),
                    f"{name!r} has {len(node.branches)} branches, so {node.minimum_branches} can never hold",
                )
            if isinstance(node, (ForEachOperator, WhileOperator)):
                seen: set[str] = set()
                for i, body in enumerate(node.loop_body):
                    if body.task_id in seen:
                        self._add(
                            (*at[name], "loop_body", i, "task_id"),
                            f"the id {body.task_id!r} is used twice in the body of {name!r}",
                        )
                    seen.add(body.task_id)

    def _check_reach(self, block: Block, at: dict[str, Path]) -> None:
        ending = {name for name, node in block.nodes.items() if isinstance(node, TerminateOperator)}
        for name in block.nodes:
            lost = {
                other for other in ending & set(block.needs[name]) if not block.gates[other] and not block.routes[other]
            }
            if lost and not block.gates[name] and not block.routes[name]:
                self._add(
                    at[name], f"node {name!r} can never run: {min(lost)!r} ends the run before it", is_warning=True
                )

    # --- templates ---------------------------------------------------------------------------

    def _check_names(self, block: Block, at: dict[str, Path], outer: set[str]) -> None:
        order = in_order(block)
        bits = {name: 1 << i for i, name in enumerate(order)}
        before: dict[str, int] = {}
        for name in order:
            mask = 0
            for other in (*block.needs[name], *(r.source for r in (*block.gates[name], *block.routes[name]))):
                mask |= bits[other] | before.get(other, 0)
            before[name] = mask
        gives = {name: results_of(node) for name, node in block.nodes.items()}
        makers: dict[str, int] = {}
        for name, results in gives.items():
            for result in results:
                makers[result] = makers.get(result, 0) | bits[name]
        for name, node in block.nodes.items():
            extra = set(outer)
            if any(route.key == "failure" for route in block.routes[name]):
                extra |= {"failed_task_id", "error_message"}
            self._check_templates(node, at[name], before[name], makers, extra, templates_of(node))
            own = extra | gives[name] | {"result", "output", "feedback", "turn"}
            self._check_templates(node, at[name], before[name], makers, own, late_templates_of(node))
            visible = (
                extra | {result for result, mask in makers.items() if mask & before[name]}
                if inner_blocks(node)
                else set()
            )
            for branch, inner in inner_blocks(node):
                where = (*at[name], "branch_workflows", branch, "tasks") if branch else (*at[name], "loop_body")
                seen = visible
                if isinstance(node, ForEachOperator):
                    seen = visible | {"item", "index"}
                elif isinstance(node, WhileOperator):
                    carried = {key for body in inner.values() for key in results_of(body)}
                    seen = visible | carried | {"index"}
                elif branch:
                    held = node.branch_workflows[branch]  # type: ignore[attr-defined]
                    seen = visible | set(held.variables)
                self.check_scope(where, inner, seen)

    def _check_templates(
        self,
        node: BaseOperator,
        path: Path,
        before: int,
        makers: dict[str, int],
        extra: set[str],
        texts: Iterable[tuple[Path, str, bool]],
    ) -> None:
        for where, text, is_condition in texts:
            if not is_condition and not is_template(text):
                continue
            try:
                asked = references(text, is_condition=is_condition)
            except TemplateFailed as error:
                self._add((*path, *where), f"the template {text[:80]!r} is refused: {error.reason}")
                continue
            for reference in asked:
                name = reference.name
                if name in extra or makers.get(name, 0) & before:
                    continue
                if name == "inputs":
                    self._check_input(path + where, reference.field)
                elif isinstance(node, WhileOperator) and name in {k for b in node.loop_body for k in results_of(b)} | {
                    "index"
                }:
                    continue
                elif name not in _EVERYWHERE:
                    self._add((*path, *where), self._unknown_name(node, name, makers, extra))

    def _unknown_name(self, node: BaseOperator, name: str, makers: dict[str, int], extra: set[str]) -> str:
        if name in makers:
            return (
                f"node {node.task_id!r} asks for {name!r}, which is no result of a node before it. Add the dependency"
            )
        near = self._near(name, [*makers, *extra, *RESERVED])
        return f"node {node.task_id!r} asks for {name!r}, which is no input, variable or result available there.{near}"

    def _check_input(self, path: Path, field: str | None) -> None:
        declared = self._workflow.inputs
        if (
            declared
            and field is not None
            and field not in declared
            and field not in ("data_interval_start", "data_interval_end")
        ):
            self._add(path, f"the workflow declares no input {field!r}.{self._near(field, declared)}")


_MOST_GUESSES = 25
_EVERYWHERE = frozenset({"ds", "run", "workflow", "ENV", "secrets"})


def results_of(node: BaseOperator) -> set[str]:
    """Return the names that a node's end gives to those after it."""
    names = {node.task_id}
    if node.result_key is not None:
        names.add(node.result_key)
    if isinstance(node, (ParallelOperator, MultiChoiceOperator)):
        for _, inner in inner_blocks(node):
            for held in inner.values():
                names |= results_of(held)
    elif isinstance(node, WhileOperator):
        names |= {body.result_key for body in node.loop_body if body.result_key is not None}
    return names


def _cycle(block: Block) -> list[str]:
    """Return the members of a cycle, the first once more at its end, or nothing."""
    state: dict[str, int] = {}
    for first in block.nodes:
        if first in state:
            continue
        path, waiting = [first], [iter(block.edges(first))]
        state[first] = 1
        while waiting:
            for other in waiting[-1]:
                if state.get(other) == 1:
                    found = [*path[path.index(other) :], other]
                    return found[::-1]
                if other not in state:
                    state[other] = 1
                    path.append(other)
                    waiting.append(iter(block.edges(other)))
                    break
            else:
                state[path.pop()] = 2
                waiting.pop()
    return []
