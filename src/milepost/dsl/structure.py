"""What the parts of a workflow mean for each other: who waits for whom, who calls whom, what is seen where.

One :class:`Block` describes one scope: the nodes of a workflow, of a branch, or of a loop's body. The checks
and the execution read the same description.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from milepost.dsl.kinds import JoinMode, TriggerRule
from milepost.dsl.operators import (
    BaseOperator,
    ConditionOperator,
    ForEachOperator,
    JoinOperator,
    MultiChoiceOperator,
    ParallelOperator,
    SwitchOperator,
    WhileOperator,
)

__all__ = ["Block", "Route", "block_of", "functions_of", "in_order", "inner_blocks", "inner_ids", "is_tolerant"]

_HANDLED = ("success", "failure")
_TOLERANT = (TriggerRule.ALL_DONE, TriggerRule.ONE_SUCCESS, TriggerRule.ONE_DONE)


@dataclass(frozen=True, slots=True)
class Route:
    """Who can start a node that waits to be called: ``key`` is a case, ``success``, ``failure``, or a branch."""

    source: str
    key: str


@dataclass(slots=True)
class Block:
    """One scope.

    Attributes:
        nodes: The operators by id, in order.
        needs: Whom each node waits for.
        dependants: Who waits for each node.
        gates: The conditions whose branch each node belongs to.
        routes: Who calls each node that only runs when it is called.
        unknown: Ids that were named and are nowhere: (node, field, id).
    """

    nodes: dict[str, BaseOperator]
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dependants: dict[str, list[str]] = field(default_factory=dict)
    gates: dict[str, tuple[Route, ...]] = field(default_factory=dict)
    routes: dict[str, tuple[Route, ...]] = field(default_factory=dict)
    unknown: list[tuple[str, str, str]] = field(default_factory=list)

    def tolerates(self, task_id: str) -> bool:
        """Return whether a failure of this node is left to those that wait for it."""
        waiting = self.dependants[task_id]
        return bool(waiting) and all(is_tolerant(self.nodes[name]) for name in waiting)

    def sinks(self) -> list[str]:
        """Return the nodes that nobody waits for, handlers left out: their results are the block's."""
        passed_over = {name for name, routes in self.routes.items() if any(r.key in _HANDLED for r in routes)}
        for routes in (*self.routes.values(), *self.gates.values()):  # what chose others has nothing to say itself
            passed_over |= {route.source for route in routes if route.key not in _HANDLED}
        return [name for name in self.nodes if not self.dependants[name] and name not in passed_over]

    def edges(self, task_id: str) -> list[str]:
        """Return everybody whose end can decide whether this node starts."""
        calls = (*self.gates[task_id], *self.routes[task_id])
        return [*self.needs[task_id], *(route.source for route in calls)]


def is_tolerant(node: BaseOperator) -> bool:
    """Return whether a node can do with the failure of one it waits for."""
    if isinstance(node, JoinOperator):
        return node.join_mode != JoinMode.ALL_SUCCESS
    return node.trigger_rule in _TOLERANT


def inner_blocks(node: BaseOperator) -> list[tuple[str, dict[str, BaseOperator]]]:
    """Return the scopes inside a node: (name of the branch, nodes); a loop's body has the empty name."""
    if isinstance(node, (ParallelOperator, MultiChoiceOperator)):
        return [(name, dict(branch.tasks)) for name, branch in node.branch_workflows.items()]
    if isinstance(node, (ForEachOperator, WhileOperator)):
        return [("", {body.task_id: body for body in node.loop_body})]
    return []


def inner_ids(node: BaseOperator) -> set[str]:
    """Return the ids at every depth inside the branches of a parallel or multi_choice node."""
    found: set[str] = set()
    if isinstance(node, (ParallelOperator, MultiChoiceOperator)):
        for branch in node.branch_workflows.values():
            for name, inner in branch.tasks.items():
                found.add(name)
                found |= inner_ids(inner)
        for listed in node.branches.values():
            found.update(listed if isinstance(listed, list) else listed.tasks)
    return found


def block_of(nodes: Mapping[str, BaseOperator]) -> Block:
    """Describe one scope."""
    block = Block(dict(nodes))
    names = block.nodes
    gates: dict[str, list[Route]] = {name: [] for name in names}
    routes: dict[str, list[Route]] = {name: [] for name in names}
    inside = {inner: name for name, node in names.items() for inner in inner_ids(node)}
    for name, node in names.items():
        for called, key, where in _called(node):
            if called in names:
                routes[called].append(Route(name, key))
            else:
                block.unknown.append((name, where, called))
        if isinstance(node, ConditionOperator):
            for key, member in _members(node, names):
                gates[member].append(Route(name, key))
            for where, first in (("if_true", node.if_true), ("if_false", node.if_false)):
                if first is not None and first not in names:
                    block.unknown.append((name, where, first))
    block.gates = {name: tuple(found) for name, found in gates.items()}
    block.routes = {name: tuple(found) for name, found in routes.items()}
    needs: dict[str, list[str]] = {}
    for name, node in names.items():
        wanted = list(node.dependencies)
        where = "dependencies"
        if isinstance(node, JoinOperator):
            for member in node.join_tasks:
                if member not in names and member not in inside:
                    block.unknown.append((name, "join_tasks", member))
            wanted += node.join_tasks
        found = []
        for other in wanted:
            place = other if other in names else inside.get(other)
            if place is None:
                if not (isinstance(node, JoinOperator) and other in node.join_tasks):
                    block.unknown.append((name, where, other))
            elif not (place == name and other != name):
                found.append(place)
        needs[name] = [*dict.fromkeys(found)]
    _wait_for_chosen(block, needs)
    block.needs = {name: tuple(found) for name, found in needs.items()}
    block.dependants = {name: [] for name in names}
    for name, waited in block.needs.items():
        for other in waited:
            block.dependants[other].append(name)
    return block


def _called(node: BaseOperator) -> Iterable[tuple[str, str, str]]:
    """Yield (id, key, field) of the nodes that this one calls."""
    if node.on_success_task_id is not None:
        yield node.on_success_task_id, "success", "on_success_task_id"
    if node.on_failure_task_id is not None:
        yield node.on_failure_task_id, "failure", "on_failure_task_id"
    if isinstance(node, SwitchOperator):
        for case, target in node.cases.items():
            yield target, f"={case}", "cases"
        if node.default is not None:
            yield node.default, "default", "default"


def _members(node: ConditionOperator, names: Mapping[str, BaseOperator]) -> Iterable[tuple[str, str]]:
    for key, first, listed in (("true", node.if_true, node.true_tasks), ("false", node.if_false, node.false_tasks)):
        if listed is None:
            other = node.if_false if key == "true" else node.if_true
            listed = _reached(node.task_id, first, other, names)  # noqa: PLW2901
        for member in listed:
            if member in names and member != node.task_id:
                yield key, member


def _reached(condition: str, first: str | None, other: str | None, names: Mapping[str, BaseOperator]) -> list[str]:
    """Return the nodes of a branch of an older file: they depend on the condition and on one of the branch."""
    if first is None or first not in names:
        return []
    found = {first}
    for name, node in names.items():
        if name != other and condition in node.dependencies and found & set(node.dependencies):
            found.add(name)
    return list(found)


def _wait_for_chosen(block: Block, needs: dict[str, list[str]]) -> None:
    """Let a node that depends on a condition or a switch wait for what it chose."""
    chosen: dict[str, list[str]] = {}
    for target, routes in (*block.gates.items(), *block.routes.items()):
        for route in routes:
            if route.key not in ("success", "failure"):
                chosen.setdefault(route.source, []).append(target)
    members: dict[str, set[str]] = {source: set(targets) for source, targets in chosen.items()}
    dependants: dict[str, list[str]] = {name: [] for name in block.nodes}
    for name, waited in needs.items():
        for other in waited:
            dependants[other].append(name)
    for name in block.nodes:
        late: set[str] | None = None  # who comes after it, so that it cannot wait for them
        for source in tuple(needs[name]):
            if source not in chosen or name in members[source]:
                continue
            if any(route.source in members.get(source, ()) for route in block.gates[name]):
                continue
            late = _after(name, dependants) if late is None else late
            known = late | set(needs[name])
            for target in dict.fromkeys(chosen[source]):
                if target not in known:
                    needs[name].append(target)
                    dependants[target].append(name)


def _after(start: str, dependants: Mapping[str, list[str]]) -> set[str]:
    """Return a node and everybody who waits for it, directly or not."""
    seen, frontier = {start}, [start]
    while frontier:
        for other in dependants[frontier.pop()]:
            if other not in seen:
                seen.add(other)
                frontier.append(other)
    return seen


def functions_of(nodes: Mapping[str, BaseOperator]) -> list[str]:
    """Return the names of the functions that nodes call, at every depth."""
    found: list[str] = []
    for node in nodes.values():
        for key in ("function", "generator", "verifier"):
            name = getattr(node, key, None)
            if name is not None:
                found.append(name)
        for _, inner in inner_blocks(node):
            found += functions_of(inner)
    return list(dict.fromkeys(found))


def in_order(block: Block) -> list[str]:
    """Return the nodes, each after those it waits for."""
    order: list[str] = []
    state: dict[str, int] = {}
    for first in block.nodes:
        waiting = [(first, iter(block.edges(first)))] if first not in state else []
        state.setdefault(first, 1)
        while waiting:
            name, edges = waiting[-1]
            for other in edges:
                if other not in state:
                    state[other] = 1
                    waiting.append((other, iter(block.edges(other))))
                    break
            else:
                waiting.pop()
                state[name] = 2
                order.append(name)
    return order
