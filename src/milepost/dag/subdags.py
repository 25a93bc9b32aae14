"""Dags as nodes of other Dags: sub-DAGs, and the branches of switches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from milepost.errors import GraphError
from milepost.graph import Graph
from milepost.runtime.steps import MISSING, Parameter, Step
from milepost.runtime.subruns import SubStep

if TYPE_CHECKING:
    from milepost.dag.dag import Dag

__all__ = ["OPEN", "ROUTED", "sub_dag_step", "switch_step"]

OPEN: Final[Any] = object()  # stands for what is bound by an edge, or by nothing
ROUTED: Final = "routed"  # the one parameter of a switch


def sub_dag_step(dag: Dag) -> SubStep:
    """Return the step that runs a Dag as it is now.

    Raises:
        GraphError: It cannot be built, or has several final nodes.
    """
    graph, parameters, returns = _parts(dag)
    return SubStep(dag.name, {"": graph}, parameters, returns)


def switch_step(label: str, branches: Any, make: type[Dag]) -> SubStep:
    """Return the step that runs one of several Dags or functions.

    Args:
        label: The switch's label.
        branches: Them by label, or a list of them, each known by its own name.
        make: The class of Dags, to put a function into one.

    Raises:
        GraphError: There is none, one cannot be built, or two bear one name.
    """
    if isinstance(branches, Mapping):
        named = list(branches.items())
    elif isinstance(branches, Sequence) and not isinstance(branches, str):
        dags = [_as_dag(branch, make) for branch in branches]
        named = [(dag.name, dag) for dag in dags]
    else:
        raise GraphError(f"The branches of switch {label!r} must be a dict or a list, not {type(branches).__name__}.")
    if not named:
        raise GraphError(f"Switch {label!r} has no branch. Give it sub-DAGs or functions by label.")
    graphs: dict[str, Graph] = {}
    required: dict[str, tuple[str, ...]] = {}
    found = []
    for name, branch in named:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise GraphError(f"A branch of switch {label!r} must be named by printable text, not {name!r}.")
        if name in graphs:
            raise GraphError(f"Two branches of switch {label!r} are named {name!r}. Name them in a dict.")
        graphs[name], parameters, returns = _parts(_as_dag(branch, make))
        required[name] = tuple(parameter.name for parameter in parameters if not parameter.is_optional)
        found.append(returns)
    same = found[0] if all(returns == found[0] for returns in found) else MISSING
    return SubStep(label, graphs, (Parameter(ROUTED, MISSING, is_optional=False),), same, required)


def _as_dag(branch: Any, make: type[Dag]) -> Dag:
    if isinstance(branch, make):
        return branch
    step = branch if isinstance(branch, Step) else Step(branch)
    dag = make(step.name)
    dag.node(step)
    return dag


def _parts(dag: Dag) -> tuple[Graph, tuple[Parameter, ...], Any]:
    """Return a Dag's graph, its inputs as parameters, and the annotation of its output."""
    built = dag._build()  # noqa: SLF001 - of one package
    sinks = built.graph.sinks
    if len(sinks) != 1:
        names = ", ".join(repr(built.graph.nodes[index].label) for index in sinks)
        raise GraphError(
            f"The Dag {dag.name!r} has several final nodes ({names}), so it has no one output to hand on as a sub-DAG. "
            "Let one node take what the others make."
        )
    outputs = dag._specs[sinks[0]].outputs  # noqa: SLF001
    parameters = tuple(
        Parameter(spec.name, spec.annotation, is_optional=not spec.is_required) for spec in built.inputs.values()
    )
    return built.graph, parameters, outputs[0] if len(outputs) == 1 else MISSING
