"""From a workflow to a graph: one node for each operator at every depth, and the plan that decides what runs.

Why a plan of its own and not a Dag with maps and switches: joins that tolerate failures, handlers, loops that
end by a condition and branches chosen while the run goes on have no fixed graph. The plan hands out calls in
the way the engine's own execution does, so that the drivers, the ledger and the workers are the same: each
completed node is one commit, and a run that is resumed replays its recorded values into the plan.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from milepost.dsl import bodies
from milepost.dsl.check import late_templates_of, templates_of
from milepost.dsl.inputs import check_inputs
from milepost.dsl.operators import (
    ActivityOperator,
    BaseOperator,
    EmitEventOperator,
    ReflexiveOperator,
    TaskOperator,
    WaitForEventOperator,
    WaitOperator,
)
from milepost.dsl.structure import Block, block_of, in_order, inner_blocks, is_tolerant
from milepost.dsl.templates import references
from milepost.dsl.workflow import Workflow
from milepost.graph import Graph, Node
from milepost.model import Retry
from milepost.runtime.steps import Step

__all__ = ["BlockPlan", "Plan", "WorkflowGraph", "compile_workflow"]

_LONGEST_DELAY = 10.0 * 365 * 86400


@dataclass(slots=True, eq=False)
class Plan:
    """One operator where it stands: its node in the graph, and the scopes inside it."""

    op: BaseOperator
    node: Node
    names: frozenset[str]
    inner: list[tuple[str, BlockPlan]]
    retry: Retry | None
    steps: dict[str, Step[..., Any]] = field(default_factory=dict)

    def aux(
        self,
        step: Step[..., Any],
        *,
        wait: str | None = None,
        pure: bool = False,
        branches: Mapping[str, Graph] | None = None,
    ) -> Node:
        """Return a node for a call beside the operator's own: shown and counted as part of it."""
        node = Node(self.node.label, step, wait=wait, pure=pure, branches=branches)
        node.index = self.node.index
        return node


@dataclass(slots=True, eq=False)
class BlockPlan:
    """One scope: its description, the plans of its nodes, and who looks again when one has ended."""

    block: Block
    plans: dict[str, Plan]
    sinks: list[str]
    cleanup: frozenset[str]
    followers: dict[str, list[str]] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)


class WorkflowGraph(Graph):
    """The graph of a workflow. Its stored definition holds the whole workflow."""

    __slots__ = ("is_resolved", "plan", "workflow")

    def __init__(self, workflow: Workflow, nodes: list[Node], plan: BlockPlan, *, is_resolved: bool) -> None:
        """Index the nodes."""
        super().__init__(workflow.name, nodes)
        self.version = workflow.version
        self.workflow = workflow
        self.plan = plan
        self.is_resolved = is_resolved
        self.check_inputs = lambda given: check_inputs(workflow.name, workflow.inputs, given)

    def _definition_text(self) -> str:
        document = json.loads(super()._definition_text())
        document["document"] = self.workflow.to_dict()
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False)

    @property
    def replays(self) -> bool:
        """Whether its execution takes every recorded value: it does."""
        return True

    def begin(self, inputs: Mapping[str, Any], history: Any, run_id: str) -> Any:
        """Return the execution of a run: what the drivers ask for the next call."""
        from milepost.dsl.planning import WorkflowExecution  # it reads the plans made here

        return WorkflowExecution(self, inputs, history, run_id)

    def of_definition(self, stored: str) -> Graph | None:
        """Return the graph that a run began with, made again from its stored definition."""
        document = json.loads(stored).get("document")
        if document is None:
            return None
        return compile_workflow(Workflow.model_validate(document), is_resolved=self.is_resolved)


def compile_workflow(workflow: Workflow, *, is_resolved: bool = False) -> WorkflowGraph:
    """Return the graph of a workflow.

    Args:
        workflow: What was checked before.
        is_resolved: Look the functions up, so that it can run; without, it can be drawn and stored.

    Raises:
        FunctionNotFound: A function is not registered.
    """
    from milepost.dsl.functions import resolve_function  # it knows the builder

    resolve = resolve_function if is_resolved else _unresolved
    compiler = _Compiler(workflow, resolve)
    plan = compiler.scope(dict(workflow.tasks), "", (), dict(workflow.variables))
    return WorkflowGraph(workflow, compiler.nodes, plan, is_resolved=is_resolved)


def _unresolved(name: str) -> Callable[..., Any]:
    def missing(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"{name} is not resolved")

    return missing


class _Compiler:
    def __init__(self, workflow: Workflow, resolve: Callable[[str], Callable[..., Any]]) -> None:
        self.nodes: list[Node] = []
        self._workflow = workflow
        self._resolve = resolve

    def scope(
        self, operators: dict[str, BaseOperator], prefix: str, entry: tuple[int, ...], variables: dict[str, Any]
    ) -> BlockPlan:
        block = block_of(operators)
        plans: dict[str, Plan] = {}
        for name in in_order(block):
            op = block.nodes[name]
            after = tuple(dict.fromkeys(plans[source].node.index for source in block.edges(name))) or entry
            label = prefix + name
            inner: list[tuple[str, BlockPlan]] = []
            ends: list[int] = []
            for branch, held in inner_blocks(op):
                part = (
                    f"{branch.replace('%', '%25').replace('/', '%2F').replace('[', '%5B').replace(']', '%5D')}/"
                    if branch
                    else ""
                )
                own = dict(op.branch_workflows[branch].variables) if branch else {}  # type: ignore[attr-defined]
                scope = self.scope(held, f"{label}/{part}", after, own)
                inner.append((branch, scope))
                ends += [scope.plans[sink].node.index for sink in scope.sinks]
            plans[name] = self._plan(op, label, (*after, *ends) if ends else after, inner)
        ordered = {name: plans[name] for name in block.nodes}
        return BlockPlan(block, ordered, block.sinks(), _cleanup(block), _followers(block), variables)

    def _plan(self, op: BaseOperator, label: str, after: tuple[int, ...], inner: list[tuple[str, BlockPlan]]) -> Plan:
        texts = [*templates_of(op), *late_templates_of(op)]
        names = frozenset(
            ref.name for _, text, is_condition in texts for ref in references(text, is_condition=is_condition)
        )
        policy = op.timeout_policy
        timeout = None if policy is None else policy.timeout.total_seconds()
        steps: dict[str, Step[..., Any]] = {}
        wait = None
        is_pure = False
        calls = isinstance(op, (TaskOperator, ActivityOperator))
        if isinstance(op, (TaskOperator, ActivityOperator)):
            body = bodies.function_step(op.function, self._resolve(op.function), timeout)
        elif isinstance(op, EmitEventOperator):
            body = bodies.evaluating(bodies.emit, "emit_event", pure=False)
        elif isinstance(op, WaitOperator):
            body, wait = WAIT, "sleep"
        elif isinstance(op, WaitForEventOperator):
            body, wait = WAIT, "event"
        else:
            body, is_pure = bodies.evaluating(bodies.evaluate_node, op.operator_type.value, pure=True), True
        if isinstance(op, ReflexiveOperator):
            steps["generate"] = bodies.function_step(op.generator, self._resolve(op.generator), timeout)
            steps["verify"] = bodies.function_step(op.verifier, self._resolve(op.verifier), timeout)
        own = op.retry_policy or (self._workflow.default_retry_policy if calls else None)
        retry = None
        if own is not None:
            retry = Retry(own.max_retries, own.delay.total_seconds(), own.backoff_factor, max_delay=_LONGEST_DELAY)
        node = Node(
            label, body, after=tuple(dict.fromkeys(after)), wait=wait, pure=is_pure, retry=retry if calls else None
        )
        node.index = len(self.nodes)
        self.nodes.append(node)
        return Plan(op, node, names, inner, retry, steps)


def _nothing(**_: Any) -> Any:
    raise AssertionError("a wait has no body")


WAIT = Step(_nothing, name="wait")


def _followers(block: Block) -> dict[str, list[str]]:
    """Return whom the end of each node concerns: those that wait for it, and those that it may choose or call."""
    followers = {name: list(waiting) for name, waiting in block.dependants.items()}
    for name in block.nodes:
        for route in (*block.gates[name], *block.routes[name]):
            followers[route.source].append(name)
    return followers


def _cleanup(block: Block) -> frozenset[str]:
    """Return the nodes that may still start when another one has failed: handlers, the tolerant, and what follows."""
    frontier = [name for name, routes in block.routes.items() if any(r.key in ("success", "failure") for r in routes)]
    frontier += [name for name, node in block.nodes.items() if is_tolerant(node) and block.needs[name]]
    found: set[str] = set()
    while frontier:
        name = frontier.pop()
        if name not in found:
            found.add(name)
            frontier += block.dependants[name]
    return frozenset(found)
