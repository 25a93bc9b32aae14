"""From the nodes a user added to a validated graph: who gets what, and what is left open."""

from __future__ import annotations

import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from milepost.dag.fits import element_of, fits, is_mappable, map_outputs
from milepost.errors import GraphError, InputError, OutputMismatch, did_you_mean
from milepost.graph import Binding, Graph, Node, Source
from milepost.runtime.conform import annotation_name, return_check, show
from milepost.runtime.lazy import lazy
from milepost.runtime.steps import MISSING, Parameter, Step
from milepost.runtime.subruns import SPREAD, SubStep
from milepost.runtime.validation import complaints_of, validator_of

__all__ = ["Built", "InputSpec", "NodeSpec", "build"]


@dataclass(slots=True, eq=False)
class NodeSpec:
    """A node as the user added it. In ``bindings`` and ``over`` another spec stands for its output."""

    index: int
    label: str
    step: Step[..., Any]
    bindings: dict[str, Any]
    over: Any
    is_map: bool
    concurrency: int | None
    tolerate: float
    flatten: bool
    after: list[int]
    edges: list[int] = field(default_factory=list)  # added with >>
    outputs: tuple[Any, ...] = ()  # annotations of what its output may be; settled by build(), upstream first


@dataclass(slots=True)
class InputSpec:
    """One input of a run: a parameter, or several of one name, that no node binds."""

    name: str
    annotation: Any
    is_required: bool
    label: str


@dataclass
class Built:
    """A graph and the inputs it leaves open."""

    graph: Graph
    inputs: dict[str, InputSpec]
    _validators: dict[str, Any] = field(default_factory=dict)

    @lazy
    def holders(self) -> dict[str, list[str]]:
        """For each input the labels of the nodes that leave it open."""
        found: dict[str, list[str]] = {}
        for node in self.graph.nodes:
            for binding in node.bindings:
                if binding.source == Source.INPUT:
                    found.setdefault(binding.ref, []).append(node.label)
        return found

    def validate(
        self, given: Mapping[str, Any] | None, name: str, more: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the inputs, validated and converted by pydantic against their annotations.

        Raises:
            InputError: One line that lists everything missing, unknown or of the wrong type.
        """
        if given is not None and not (isinstance(given, Mapping) and all(isinstance(key, str) for key in given)):
            raise InputError(f"inputs must be a mapping of names to values, such as {{'n': 4}}, not {show(given)}.")
        given = {**(given or {}), **(more or {})}
        complaints = []
        values = {}
        for key in given:
            label, _, param = key.rpartition(".")
            if label and label in self.holders.get(param, ()):  # for this one node
                try:
                    values[key] = self._convert(self.inputs[param], given[key])
                except ValueError as error:
                    complaints.append(f"node {label!r}: {error}")
            elif key not in self.inputs:
                known = ", ".join(self.inputs) or "none"
                near = did_you_mean(key, self.inputs).replace(" Did", "; did")
                complaints.append(f"unknown input {key!r} (known: {known}{near})")
        for key, spec in self.inputs.items():
            if key not in given:
                if spec.is_required and not all(f"{label}.{key}" in given for label in self.holders[key]):
                    complaints.append(f"missing input {key!r} ({_named(spec.annotation)}, for step {spec.label!r})")
                continue
            try:
                values[key] = self._convert(spec, given[key])
            except ValueError as error:
                complaints.append(str(error))
        if complaints:
            raise InputError(f"{name!r} cannot run with these inputs: {'; '.join(complaints)}.")
        return values

    def _convert(self, spec: InputSpec, value: Any) -> Any:
        if spec.annotation is MISSING or spec.annotation is Any:
            return value
        from pydantic import ValidationError

        if spec.name not in self._validators:
            self._validators[spec.name] = validator_of(spec.annotation)
        validate = self._validators[spec.name]
        if validate is None:
            return value
        try:
            return validate(value)
        except ValidationError as error:
            raise ValueError(
                f"input {spec.name!r} must be {_named(spec.annotation)}, not {show(value)} "
                f"({complaints_of(error, value)})"
            ) from None


def build(name: str, specs: Sequence[NodeSpec]) -> Built:
    """Check every node, settle every parameter and order the graph.

    Raises:
        GraphError: The first mistake, with the nodes and the remedy.
    """
    if not specs:
        raise GraphError(f"The Dag {name!r} has no nodes. Add one: dag.node(function).")
    for spec in specs:  # a map goes over a node that was added before it
        spec.outputs = _outputs(spec)
    inputs: dict[str, InputSpec] = {}
    nodes = [_node(spec, specs, inputs) for spec in specs]
    built = Built(Graph(name, nodes), inputs)
    built.graph.check_inputs = lambda given: built.validate(given, name)
    return built


def _outputs(spec: NodeSpec) -> tuple[Any, ...]:
    """Return the annotations of what a node's output may be: two only for a map over who knows what."""
    if not spec.is_map:
        return (spec.step.returns,)
    over = spec.over.outputs if isinstance(spec.over, NodeSpec) else (_annotation_of(spec.over),)
    returned = spec.step.returns
    if spec.flatten:
        inner: Any = element_of(returned) if typing.get_origin(returned) is list else Any
        return (list[inner],)
    if spec.tolerate and returned is not MISSING and returned is not Any:
        returned = returned | None if hasattr(returned, "__or__") else Optional[returned]  # noqa: UP045 - a text, say
    found = [output for annotation in over for output in map_outputs(annotation, returned)]
    return tuple(found) or (MISSING,)  # over what no map can go over: _over says so


def _annotation_of(over: Any) -> Any:
    """Return the annotation of a value that a map goes over."""
    if not isinstance(over, Mapping):
        return list
    kinds = {type(key) for key in over}
    return dict[kinds.pop() if len(kinds) == 1 else Any, Any]  # type: ignore[misc]


def _may_fit(upstream: NodeSpec, annotation: Any) -> bool:
    """Return False where the output of a node certainly is no such value."""
    return any(fits(output, annotation) for output in upstream.outputs)


def _node(spec: NodeSpec, specs: Sequence[NodeSpec], inputs: dict[str, InputSpec]) -> Node:
    parameters = {parameter.name: parameter for parameter in spec.step.parameters}
    bindings = [_bound(spec, parameters, name, value) for name, value in spec.bindings.items()]
    bound = set(spec.bindings)
    over = None
    if spec.is_map:
        element = _element_parameter(spec, parameters, bound)
        bindings.append(Binding(element.name, Source.ELEMENT))
        bound.add(element.name)
        over = _over(spec, element)
    after = list(spec.after)
    claims: dict[str, str] = {}
    gathered: dict[str, list[int]] = {}
    for index in spec.edges:
        upstream = specs[index]
        if any(_is_handed(value, upstream) for value in (*spec.bindings.values(), spec.over)):
            continue  # handed over by name already
        unbound = [p for p in parameters.values() if p.name not in bound]
        whole = _gathers(spec, upstream, unbound, claims)
        if whole is not None:
            gathered.setdefault(whole, []).append(index)
            continue
        taken = _claim(spec, upstream, unbound, claims)
        if taken is None:
            after.append(index)
        elif taken in gathered:
            raise _both(spec, specs[gathered[taken][0]].label, upstream.label, taken)
        else:
            claims[taken] = upstream.label
            bindings.append(Binding(taken, Source.NODE, index))
    bindings += [Binding(name, Source.NODES, tuple(indexes)) for name, indexes in gathered.items()]
    bound |= {*claims, *gathered}
    if SPREAD in bound:  # a dict by name fills whatever is open
        bound |= set(parameters)
    for parameter in parameters.values():
        if parameter.name not in bound:
            _leave_open(spec, parameter, inputs)
            bindings.append(Binding(parameter.name, Source.INPUT, parameter.name))
    step = spec.step
    return Node(
        label=spec.label,
        body=step,
        bindings=tuple(bindings),
        over=over,
        concurrency=spec.concurrency,
        tolerate=spec.tolerate,
        flatten=spec.flatten,
        after=tuple(after),
        retry=step.retry,
        transient=step.transient,
        at_most_once=step.at_most_once,
        pure=step.pure,
        wait=getattr(step, "wait", None),
        branches=step.branches if isinstance(step, SubStep) else None,
    )


def _bound(spec: NodeSpec, parameters: Mapping[str, Parameter], name: str, value: Any) -> Binding:
    parameter = parameters.get(name)
    if parameter is None:
        if spec.step.takes_any_keyword:
            parameter = Parameter(name, MISSING, is_optional=True)
        elif name == spec.step.context_parameter:
            raise GraphError(f"Node {spec.label!r}: {name!r} is its StepContext, which the run hands in. Leave it out.")
        else:
            known = ", ".join(parameters) or "none"
            raise GraphError(
                f"Node {spec.label!r}: {spec.step.name}() has no parameter {name!r} (it has: {known})."
                f"{did_you_mean(name, parameters)}"
            )
    if _is_gathered(value):
        return _bound_list(spec, parameter, name, value)
    if not isinstance(value, NodeSpec):
        _check_value(spec, parameter, value)
        return Binding(name, Source.VALUE, value)
    if not _may_fit(value, parameter.annotation):
        raise GraphError(
            f"Node {spec.label!r} cannot take the output of {value.label!r}: it returns {_named_output(value)}, but "
            f"parameter {name!r} is {_named(parameter.annotation)}. Correct an annotation, or bind another node."
        )
    return Binding(name, Source.NODE, value.index)


def _is_handed(value: Any, upstream: NodeSpec) -> bool:
    return value is upstream or (_is_gathered(value) and any(part is upstream for part in value))


def _is_gathered(value: Any) -> bool:
    """Return whether a parameter is bound to the outputs of several nodes."""
    return isinstance(value, list) and bool(value) and all(isinstance(part, NodeSpec) for part in value)


def _bound_list(spec: NodeSpec, parameter: Parameter, name: str, upstreams: Sequence[NodeSpec]) -> Binding:
    wanted = element_of(parameter.annotation)
    if parameter.annotation is not MISSING and not fits(list, parameter.annotation):
        raise GraphError(
            f"Node {spec.label!r}: parameter {name!r} is {_named(parameter.annotation)}, and cannot take a list of the "
            "outputs of several nodes. Annotate it as a list, or bind one node."
        )
    for upstream in upstreams:
        if not _may_fit(upstream, wanted):
            raise GraphError(
                f"Node {spec.label!r} cannot take the output of {upstream.label!r} as an element: it returns "
                f"{_named_output(upstream)}, but parameter {name!r} is {_named(parameter.annotation)}. Correct an "
                "annotation, or bind another node."
            )
    return Binding(name, Source.NODES, tuple(upstream.index for upstream in upstreams))


def _gathers(spec: NodeSpec, upstream: NodeSpec, unbound: Sequence[Parameter], claims: Mapping[str, str]) -> str | None:
    """Return the list parameter that takes the output as one of its elements, or None.

    That is so where the output fits the element and no open parameter takes it as it is.
    """
    first = upstream.outputs[0]
    if first is None or first is type(None) or first is MISSING or first is Any:
        return None
    if any(_may_fit(upstream, p.annotation) for p in unbound):
        return None
    fitting = [p.name for p in unbound if _is_list(p.annotation) and _may_fit(upstream, element_of(p.annotation))]
    if len(fitting) != 1:
        return None
    if fitting[0] in claims:  # the one is the list, the other an element of it
        raise _both(spec, claims[fitting[0]], upstream.label, fitting[0])
    return fitting[0]


def _is_list(annotation: Any) -> bool:
    return annotation is not MISSING and typing.get_origin(annotation) in (list, Sequence, Iterable, Collection)


def _both(spec: NodeSpec, first: str, second: str, name: str) -> GraphError:
    return GraphError(
        f"Both {first!r} and {second!r} would go to parameter {name!r} of node {spec.label!r}. "
        f"Bind them by name: dag.node({spec.step.name}, {name}=...)."
    )


def _check_value(spec: NodeSpec, parameter: Parameter, value: Any) -> None:
    check = None if parameter.annotation is MISSING else return_check(spec.label, parameter.annotation)
    if check is None:
        return
    try:
        check(value)
    except OutputMismatch as error:
        raise GraphError(
            f"Node {spec.label!r}: parameter {parameter.name!r} is {_named(parameter.annotation)}, not {error.detail}. "
            "Bind a value of that type."
        ) from None


def _can_spread(spec: NodeSpec, unbound: Sequence[Parameter]) -> bool:
    """Return whether a dict by name may fill the open inputs: those of a sub-DAG that has several."""
    return isinstance(spec.step, SubStep) and sum(not p.is_optional for p in unbound) > 1


def _element_parameter(spec: NodeSpec, parameters: Mapping[str, Parameter], bound: set[str]) -> Parameter:
    if _can_spread(spec, [p for p in parameters.values() if p.name not in bound]):
        return Parameter(SPREAD, MISSING, is_optional=False)
    for parameter in parameters.values():
        if parameter.name not in bound:
            return parameter
    raise GraphError(
        f"Map {spec.label!r}: {spec.step.name}() has no parameter left for the element. "
        "Leave its first parameter unbound."
    )


def _over(spec: NodeSpec, element: Parameter) -> Binding:
    over = spec.over
    if not isinstance(over, NodeSpec):
        is_listed = isinstance(over, (Sequence, Mapping)) and not isinstance(over, (str, bytes, bytearray))
        if not is_listed:
            raise GraphError(
                f"Map {spec.label!r} goes over a node, list, tuple, range or dict, not {type(over).__name__}. "
                "Sort a set; make a list of a generator."
            )
        return Binding("", Source.VALUE, over)
    elements = [element_of(output) for output in over.outputs]
    if not any(fits(found, element.annotation) for found in elements):
        raise GraphError(
            f"Map {spec.label!r} cannot go over {over.label!r}: its elements are "
            f"{_named(elements[0])}, but parameter {element.name!r} is {_named(element.annotation)}. "
            "Correct an annotation, or map over another node."
        )
    if not any(map(is_mappable, over.outputs)):
        raise GraphError(
            f"Map {spec.label!r} cannot go over {over.label!r}, which returns {_named_output(over)}. "
            "Let it return a list, tuple, range or dict."
        )
    return Binding("", Source.NODE, over.index)


def _claim(spec: NodeSpec, upstream: NodeSpec, unbound: list[Parameter], claims: Mapping[str, str]) -> str | None:
    """Return the parameter that an edge binds, or None for an edge that only orders.

    Required parameters come first: an optional one is considered only where no required one fits.
    """
    first = upstream.outputs[0]
    if first is None or first is type(None):
        return None
    fitting = [p for p in unbound if _may_fit(upstream, p.annotation)]
    required = [p for p in fitting if not p.is_optional]
    candidates = required or [p for p in fitting if p.annotation is not MISSING and first is not MISSING]
    if len(candidates) == 1:
        name = candidates[0].name
        if name in claims:
            raise _both(spec, claims[name], upstream.label, name)
        return name
    if not candidates and _can_spread(spec, unbound) and fits(first, Mapping) and SPREAD not in claims:
        return SPREAD
    if candidates:
        names = ", ".join(repr(p.name) for p in candidates)
        raise GraphError(
            f"The output of {upstream.label!r} fits several parameters of node {spec.label!r}: {names}. "
            f"Bind it by name: dag.node({spec.step.name}, {candidates[0].name}=...)."
        )
    missing = [p for p in unbound if not p.is_optional]
    if missing:
        wanted = ", ".join(f"{p.name}: {_named(p.annotation)}" for p in missing)
        raise GraphError(
            f"{upstream.label!r} returns {_named_output(upstream)}, which fits no open parameter of node "
            f"{spec.label!r} ({wanted}). Bind it by name, or order the two with after= instead of >>."
        )
    return None


def _leave_open(spec: NodeSpec, parameter: Parameter, inputs: dict[str, InputSpec]) -> None:
    known = inputs.get(parameter.name)
    if known is None:
        inputs[parameter.name] = InputSpec(parameter.name, parameter.annotation, not parameter.is_optional, spec.label)
        return
    known.is_required = known.is_required or not parameter.is_optional
    if known.annotation is MISSING:
        known.annotation = parameter.annotation
    elif parameter.annotation is not MISSING and parameter.annotation != known.annotation:
        raise GraphError(
            f"Input {parameter.name!r} is {_named(known.annotation)} in node {known.label!r} and "
            f"{_named(parameter.annotation)} in node {spec.label!r}. Give both the same annotation, or bind one."
        )


def _named_output(node: NodeSpec) -> str:
    return " or ".join(map(_named, node.outputs))


def _named(annotation: Any) -> str:
    return "not annotated" if annotation is MISSING else annotation_name(annotation)
