"""How nodes are added to a Dag, and what stands for them meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Union, cast, overload

from milepost.dag.build import Built, NodeSpec
from milepost.dag.subdags import OPEN, ROUTED, sub_dag_step, switch_step
from milepost.dag.waits import EVENT, SLEEP
from milepost.errors import ConfigurationError, GraphError
from milepost.names import DEFAULT_QUEUE
from milepost.runtime.steps import Step, as_step
from milepost.runtime.subruns import SubStep

if TYPE_CHECKING:
    from milepost.dag.dag import Dag

__all__ = ["NodeRef", "Writing"]

Function = Union[Step[..., Any], Callable[..., Any], "Writing"]


class NodeRef:
    """A node of a Dag: bind it to a parameter of a later node, or order nodes with ``>>``."""

    __slots__ = ("dag", "spec")

    def __init__(self, dag: Writing, spec: NodeSpec) -> None:
        """Made by ``Dag.node`` and ``Dag.map``."""
        self.dag = dag
        self.spec = spec

    @property
    def label(self) -> str:
        """The node's label."""
        return self.spec.label

    @overload
    def __rshift__(self, other: NodeRef) -> NodeRef: ...
    @overload
    def __rshift__(self, other: list[NodeRef]) -> list[NodeRef]: ...

    def __rshift__(self, other: NodeRef | list[NodeRef]) -> NodeRef | list[NodeRef]:
        """Run ``other`` after this node, and hand it this node's output where that is unambiguous."""
        for ref in other if isinstance(other, list) else [other]:
            self.dag.add_edge(self, ref)
        return other

    def __rrshift__(self, others: Iterable[NodeRef]) -> NodeRef:
        """Run this node after each of a list of others."""
        for ref in others:
            self.dag.add_edge(ref, self)
        return self

    def __repr__(self) -> str:
        """Return the label."""
        return f"<node {self.label!r}>"


class Writing:
    """What a Dag does with nodes. Mixed into :class:`milepost.Dag`."""

    name: str
    _specs: list[NodeSpec]
    _steps: dict[Any, Step[..., Any]]
    _built: Built | None

    def node(
        self,
        fn: Function,
        /,
        *,
        label: str | None = None,
        after: NodeRef | Iterable[NodeRef] = (),
        bind: Mapping[str, Any] | None = None,
        **bindings: Any,
    ) -> NodeRef:
        """Add a step.

        Args:
            fn: The function or step; or another Dag, which then runs inside each run as a run of its own. Its open
                inputs are the parameters, its one final node's output is the output.
            label: The step's label, unique in the run; the step's name if left out.
            after: Nodes that must complete first and hand nothing over.
            bind: Bindings by name, for parameters called ``label``, ``after`` or ``bind``.
            bindings: Parameter names with another node (its output is handed over) or a plain
                value. Parameters left open are inputs of the run, by name.

        Raises:
            GraphError: The label or a parameter name cannot be.
        """
        return self._add(fn, label, after, _joined(bindings, bind))

    def map(
        self,
        fn: Function | NodeRef,
        over: Any,
        /,
        *,
        concurrency: int | None = None,
        tolerate: float = 0,
        flatten: bool = False,
        label: str | None = None,
        after: NodeRef | Iterable[NodeRef] = (),
        bind: Mapping[str, Any] | None = None,
        **bindings: Any,
    ) -> NodeRef:
        """Add a map: one step for each element, side by side, each durable on its own.

        The elements' labels are ``label[0]``, ``label[1]``, … (``label['key']`` over a dict). The
        node's output is the list of all outputs in order, or a dict with the same keys.

        Args:
            fn: Called with one element in its first parameter that is not bound by name. A Dag is run once for each
                element; where it leaves several inputs open, the elements are dicts of them by name. Or a switch.
            over: A node whose output is a list, tuple, range or dict, or such a value itself.
            concurrency: How many elements may run at once; the run's own limit if left out.
            tolerate: How many elements may fail without failing the map: a number, or below 1 a part of all. In the
                output, None stands for what they would have made.
            flatten: Make one list of what the elements return: lists are joined, None adds nothing, anything else is
                one item. Without it there is one result for each element.
            label: The map's label; the step's name if left out.
            after: Nodes that must complete first and hand nothing over.
            bind: Bindings by name, for parameters with the name of an argument here.
            bindings: As for :meth:`node`, the same for every element.

        Raises:
            GraphError: The label, a parameter name or what to go over cannot be.
        """
        if concurrency is not None and (
            isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1
        ):
            raise ConfigurationError(f"concurrency must be a whole number of 1 or more, not {concurrency!r}.")
        if isinstance(tolerate, bool) or not isinstance(tolerate, (int, float)) or not 0 <= tolerate < 2**31:
            raise ConfigurationError(f"tolerate must be a number of 0 or more, not {tolerate!r}.")
        if tolerate > 1 and tolerate != int(tolerate):
            raise ConfigurationError(f"tolerate must be a whole number, or a part below 1, not {tolerate!r}.")
        if isinstance(fn, NodeRef):
            label = fn.label if label is None else label
            fn = self._take_back(fn)
        return self._add(
            fn,
            label,
            after,
            _joined(bindings, bind),
            over=over,
            is_map=True,
            concurrency=concurrency,
            tolerate=tolerate,
            flatten=flatten,
        )

    def switch(
        self,
        branches: Mapping[str, Function] | Sequence[Function],
        routed: Any = OPEN,
        /,
        *,
        label: str = "switch",
        after: NodeRef | Iterable[NodeRef] = (),
    ) -> NodeRef:
        """Add a switch: of several sub-DAGs or functions, the one that the value before it names.

        That value is a pair ``(branch, data)``, or a dict with the key ``"__switch__"``, whose other entries are the
        data. The branch gets the data in its only required input, or as a dict of its inputs by name, and what it makes
        is the node's output. It runs as a run of its own. A label that no branch bears fails the step.

        To route each element of a map, map over the switch: ``dag.map(dag.switch(branches), over)``.

        Args:
            branches: Sub-DAGs or functions by label; of a list, each by its own name.
            routed: The node before it, or such a value; an edge (``>>``) does as well.
            label: The step's label.
            after: Nodes that must complete first and hand nothing over.

        Raises:
            GraphError: A branch cannot be built, two bear one name, or the label cannot be.

        Example:
            >>> from milepost import Dag
            >>> dag = Dag("parity")
            >>> kinds = dag.node(lambda: [("odd", 3), ("even", 4)], label="kinds")
            >>> halve, triple = (lambda n: n // 2), (lambda n: 3 * n)
            >>> _ = dag.map(dag.switch({"even": halve, "odd": triple}), kinds)
            >>> dag.run(ledger=":memory:").result()
            [9, 2]
        """
        bindings = {} if routed is OPEN else {ROUTED: routed}
        return self._add(switch_step(label, branches, cast("type[Dag]", type(self))), label, after, bindings)

    def _take_back(self, ref: NodeRef) -> Step[..., Any]:
        """Take a switch out of the nodes again, so that a map runs it for each element."""
        self._check_own(ref, "")
        spec = ref.spec
        is_used = bool(spec.bindings or spec.after or spec.edges) or any(
            spec.index in (*other.after, *other.edges) or spec in (*other.bindings.values(), other.over)
            for other in self._specs
        )
        if not (isinstance(spec.step, SubStep) and spec.step.is_switch) or is_used or spec not in self._specs:
            raise GraphError(
                f"{ref!r} is a node already. Map a function, a sub-DAG or a switch: dag.map(dag.switch(...), over)."
            )
        self._specs.remove(spec)
        for other in self._specs[spec.index :]:
            other.index -= 1
        for other in self._specs:
            other.after = [index - (index > spec.index) for index in other.after]
            other.edges = [index - (index > spec.index) for index in other.edges]
        return spec.step

    def sleep(
        self,
        duration: float | timedelta | datetime | NodeRef,
        *,
        label: str = "sleep",
        after: NodeRef | Iterable[NodeRef] = (),
    ) -> NodeRef:
        """Add a durable wait: so many seconds, or until a moment. It holds no worker, and survives restarts.

        Args:
            duration: Seconds, a timedelta, an aware datetime, or a node whose output is one.
            label: The step's label.
            after: Nodes that must complete first.

        Raises:
            GraphError: The label or the duration cannot be.
        """
        return self._add(SLEEP, label, after, {"duration": duration})

    def wait_event(
        self,
        event: str | NodeRef,
        *,
        timeout: float | timedelta | None = None,
        scope: str = DEFAULT_QUEUE,
        label: str | None = None,
        after: NodeRef | Iterable[NodeRef] = (),
    ) -> NodeRef:
        """Add a wait for an event; the node's output is the event's payload.

        An event that was emitted before counts. The first emit of a name stands for everybody.

        Args:
            event: The event's name, or a node whose output is one.
            timeout: Seconds after which the step fails with EventTimedOut; None waits for ever.
            scope: Where the event is emitted: a queue's name.
            label: The step's label; the event's name if left out.
            after: Nodes that must complete first.

        Raises:
            GraphError: The label or the name cannot be.
        """
        name = label if label is not None else event if isinstance(event, str) else "event"
        given = {"event": event, "timeout": timeout, "scope": scope}
        return self._add(EVENT, name, after, given)

    def add_edge(self, upstream: NodeRef, downstream: NodeRef) -> None:
        """Add what ``upstream >> downstream`` adds.

        Raises:
            GraphError: One of the two is a node of another Dag, or no node.
        """
        for ref in (upstream, downstream):
            if not isinstance(ref, NodeRef):
                raise GraphError(f"{ref!r} is not a node. Add it first: {self.name}.node(function).")
            self._check_own(ref, downstream.label if isinstance(downstream, NodeRef) else "")
        if upstream.spec.index not in downstream.spec.edges:
            downstream.spec.edges.append(upstream.spec.index)
        self._built = None

    def _add(
        self,
        fn: Function,
        label: str | None,
        after: NodeRef | Iterable[NodeRef],
        bindings: dict[str, Any],
        *,
        over: Any = None,
        is_map: bool = False,
        concurrency: int | None = None,
        tolerate: float = 0,
        flatten: bool = False,
    ) -> NodeRef:
        step = self._step(fn)
        label = step.name if label is None else label
        if not isinstance(label, str) or not label.isprintable() or not label.strip() or "[" in label or "]" in label:
            raise GraphError(
                f"A label must be printable text without '[' and ']', not {label!r}: 'x[3]' names an element of a map."
            )
        for name, value in (*bindings.items(), ("over", over)):
            if isinstance(value, NodeRef):
                self._check_own(value, label)
            elif _is_gathered(value) and name != "over":
                for ref in value:
                    self._check_own(ref, label)
            else:
                _check_plain(value, name, label)
        order = list(after) if isinstance(after, Iterable) else [after]
        for ref in order:
            self._check_own(ref, label)
        if isinstance(step, SubStep) and step.is_switch and step.name != label:
            step = SubStep(label, step.branches, step.parameters, step.returns, step.required)
        spec = NodeSpec(
            index=len(self._specs),
            label=label,
            step=step,
            bindings={name: _unwrap(value) for name, value in bindings.items()},
            over=_unwrap(over) if is_map else None,
            is_map=is_map,
            concurrency=concurrency,
            tolerate=tolerate,
            flatten=flatten,
            after=[ref.spec.index for ref in order],
        )
        self._specs.append(spec)
        self._built = None
        return NodeRef(self, spec)

    def _step(self, fn: Function) -> Step[..., Any]:
        if isinstance(fn, Step):
            return fn
        if isinstance(fn, Writing):
            return sub_dag_step(cast("Dag", fn))
        try:
            found = self._steps.get(fn)  # looking at a function's signature is worth doing once
        except TypeError:
            return as_step(fn)
        if found is None:
            found = self._steps[fn] = as_step(fn)
        return found

    def _check_own(self, ref: NodeRef, label: str) -> None:
        if not isinstance(ref, NodeRef):
            raise GraphError(f"{ref!r} is not a node. Add it first: dag.node(function).")
        if ref.dag is not self:
            raise GraphError(
                f"Node {label!r} of {self.name!r} cannot reach {ref.label!r}, which is a node of the Dag "
                f"{ref.dag.name!r}. Add the function to this Dag as well."
            )


def _unwrap(value: Any) -> Any:
    if _is_gathered(value):
        return [ref.spec for ref in value]
    return value.spec if isinstance(value, NodeRef) else value


def _is_gathered(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(ref, NodeRef) for ref in value)


def _joined(bindings: dict[str, Any], bind: Mapping[str, Any] | None) -> dict[str, Any]:
    if bind is not None and not isinstance(bind, Mapping):
        raise GraphError(f"bind must be a mapping of parameter names to nodes or values, not {bind!r}.")
    return {**bindings, **(bind or {})}


def _check_plain(value: Any, name: str, label: str) -> None:
    """Refuse nodes inside a container: they would reach the function as nodes, not as their outputs."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
    for part in parts:
        if isinstance(part, NodeRef):
            raise GraphError(
                f"Node {label!r}: {name!r} holds the node {part.label!r} inside a {type(value).__name__}. "
                "Give each node a parameter of its own, or let a step put their outputs together."
            )
