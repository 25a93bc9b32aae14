"""Steps that run a graph as a run of its own: sub-DAGs, and switches that choose one of several.

A sub-run is a row among the runs with steps, edges and a lease of its own, linked to the step that it belongs to.
Its id follows from its parent's and the step's label, so that whoever takes the parent up finds it again and goes
on with what is left of it. It shares its parent's fate: a failure, a pause or a cancellation passes up as what it is,
and a request to stop or to pause passes down.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from milepost.engine import History
from milepost.errors import ConfigurationError, DagPause, RunCancelled, RunFailed, did_you_mean
from milepost.graph import Graph, Source
from milepost.model import Run
from milepost.runtime.async_driver import AsyncDriver
from milepost.runtime.flight import Flight
from milepost.runtime.keeper import executing
from milepost.runtime.lifecycle import finish, new_run, resume_session
from milepost.runtime.session import RunSession
from milepost.runtime.steps import Parameter, Step
from milepost.runtime.waiting import LOOK
from milepost.states import RunStatus
from milepost.store import NewWait

__all__ = ["SPREAD", "SWITCH", "SubContext", "SubStep", "child_run_id"]

SPREAD: Final = "*"  # names the parameter whose value, a dict by name, is spread over the inputs of a sub-DAG
SWITCH: Final = "__switch__"  # the key that names the branch in a dict


class SubContext:
    """Where a sub-run belongs: the session of its parent, and the attempt of the step."""

    def __init__(self, session: RunSession, flight: Flight) -> None:
        """Made by the driver."""
        self.session = session
        self.flight = flight


class SubStep(Step[..., Any]):
    """A step whose body is a graph.

    Args:
        name: The default label.
        branches: The graph under "", or the graphs of a switch by label.
        parameters: What a graph around it can bind.
        returns: The annotation of its output.
        required: Of a switch, the inputs that each branch must have.
    """

    def __init__(
        self,
        name: str,
        branches: Mapping[str, Graph],
        parameters: tuple[Parameter, ...],
        returns: Any,
        required: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Prepare a body for the drivers."""
        is_transient = any(graph.nodes[index].transient for graph in branches.values() for index in graph.sinks)
        super().__init__(self._perform, name=name, transient=is_transient)
        self.branches = dict(branches)
        self.required = required or {}
        self._given = parameters, returns

    @property
    def is_switch(self) -> bool:
        """Whether it chooses one of several graphs."""
        return "" not in self.branches

    def __repr__(self) -> str:
        """Return the name."""
        return f"<{'switch' if self.is_switch else 'sub-DAG'} {self.name!r}>"

    @property
    def _signature(self) -> tuple[tuple[Parameter, ...], Any, str | None, tuple[str, ...], bool]:
        return *self._given, "ctx", (), False

    @property
    def classes(self) -> tuple[type, ...]:
        """The classes that its graphs' steps mention."""
        found = [cls for graph in self.branches.values() for node in graph.nodes for cls in node.body.classes]
        return tuple(dict.fromkeys(found))

    @property
    def check(self) -> None:
        """Nothing: the step inside it has checked the value."""

    @property
    def code(self) -> str:
        """The hash of what all of its graphs run."""
        told = "\0".join(f"{name}={graph.definition}" for name, graph in sorted(self.branches.items()))
        return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    def make_context(self, session: RunSession, flight: Flight) -> SubContext:
        """Return what the body needs to know of the run around it."""
        return SubContext(session, flight)

    async def _perform(self, ctx: SubContext, **given: Any) -> Any:
        branch, inputs = self._route(given)
        return await perform_subrun(ctx, self.branches[branch], branch, inputs)

    def _route(self, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the branch that runs, and its inputs by name."""
        if not self.is_switch:
            return "", _spread(self.branches[""], given)
        branch, data = _chosen(self.name, given.pop(next(iter(given))))
        if branch not in self.branches:
            known = ", ".join(map(repr, self.branches))
            raise ConfigurationError(
                f"Switch {self.name!r} has no branch {branch!r} (it has: {known}).{did_you_mean(branch, self.branches)}"
            )
        graph = self.branches[branch]
        names, required = input_names(graph), self.required[branch]
        alone = names[0] if len(names) == 1 else required[0] if len(required) == 1 else None
        is_by_name = isinstance(data, Mapping) and len(names) > 1 and set(required) <= set(data) <= set(names)
        if alone is not None and not is_by_name:
            return branch, {alone: data}
        return branch, _spread(graph, {SPREAD: data} if names else {})


def input_names(graph: Graph) -> list[str]:
    """Return the names of the inputs that a graph leaves open, in the order of its nodes."""
    return list(dict.fromkeys(b.ref for node in graph.nodes for b in node.bindings if b.source == Source.INPUT))


def _spread(graph: Graph, given: dict[str, Any]) -> dict[str, Any]:
    """Return inputs by name, with the dict that stands for several of them taken apart."""
    if SPREAD not in given:
        return given
    value = given.pop(SPREAD)
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        names = ", ".join(input_names(graph))
        raise ConfigurationError(
            f"The sub-DAG {graph.name!r} has several inputs ({names}), so it takes a dict of them by name, not a value "
            f"of type {type(value).__name__}."
        )
    return {**given, **value}


def _chosen(label: str, routed: Any) -> tuple[Any, Any]:
    """Return the branch and the data of what reached a switch; the value itself stays as it is for who else has it."""
    if isinstance(routed, tuple) and len(routed) == 2:
        return routed
    if isinstance(routed, Mapping) and SWITCH in routed:
        return routed[SWITCH], {key: value for key, value in routed.items() if key != SWITCH}
    raise ConfigurationError(
        f"Switch {label!r} needs a pair (branch, data), or a dict with the key {SWITCH!r}, not a value of type "
        f"{type(routed).__name__}."
    )


def child_run_id(parent_run_id: str, label: str, void: int = 0) -> str:
    """Return the id of the sub-run of a step: the same whenever it is asked for.

    Args:
        parent_run_id: The run of the step.
        label: The step.
        void: The last attempt of it whose sub-run no longer counts: one that was undone, or made of what was bad.

    Example:
        >>> child_run_id("018bcfe5-6800-7000-8000-000000000000", "part")[:18]
        '018bcfe5-6800-89d1'
    """
    told = f"{parent_run_id}\0{label}" + (f"\0{void}" if void else "")
    digest = hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    # A UUIDv8 (RFC 9562) that begins with the time of its parent's, where that has one, and so is listed beside it.
    head = parent_run_id.replace("-", "")[:12]
    if len(head) < 12 or not all(letter in "0123456789abcdef" for letter in head):
        head = digest[20:32]
    variant = "89ab"[int(digest[3], 16) % 4]
    return f"{head[:8]}-{head[8:12]}-8{digest[:3]}-{variant}{digest[4:7]}-{digest[7:19]}"


async def perform_subrun(
    ctx: SubContext,
    graph: Graph,
    branch: str,
    inputs: dict[str, Any],
    *,
    kind: str = "dag",
    tags: Mapping[str, Any] | None = None,
) -> Any:
    """Begin a sub-run, or take up what there is of it, drive it to its end, and return its output.

    Raises:
        DagPause: It was paused.
        RunCancelled: Somebody cancelled it.
        BaseException: What its step raised, where it failed.
    """
    parent, flight = ctx.session, ctx.flight
    if graph.check_inputs is not None:
        inputs = graph.check_inputs(inputs)
    run_id = child_run_id(parent.run_id, flight.call.label, parent.void_attempts.get(flight.call.label, 0))
    is_new = flight.attempt == 1 and parent.lease_epoch == 1
    while True:
        with executing(parent.ledger, run_id):
            child = await _session(parent, flight, graph, branch, inputs, run_id, kind, tags, is_new=is_new)
            if isinstance(child, Run):
                return await asyncio.to_thread(_result, parent, child)
            parent.children.append(child)
            try:
                if parent.pause_reason is not None:
                    child.ask_to_pause(parent.pause_reason[1])
                await AsyncDriver(child, max_concurrency=parent.limit, executor=parent.executor).drive()
            finally:
                parent.children.remove(child)
        if not _waits(child):
            return await asyncio.to_thread(_outcome, child)
        is_new = False
        await _wait_with(parent, flight, run_id)


def _waits(child: RunSession) -> bool:
    """Return whether a sub-run gave its lease up because nothing is left in it but waiting."""
    end = child.end
    return end is not None and end.status == RunStatus.SUSPENDED and end.outcome is None


async def _wait_with(parent: RunSession, flight: Flight, run_id: str) -> None:
    """Return when the sub-run can go on; until then its parent waits for the same, and may be suspended with it.

    Whatever wakes the sub-run then wakes the parent, whose step takes the sub-run up again.
    """
    ledger, label = parent.ledger, flight.call.label

    def register() -> set[str]:
        waits = [
            NewWait(parent.run_id, parent.lease_epoch, f"{label} > {w.label}", w.kind, w.scope, w.event, w.wake_at)
            for w in ledger.store.list_waits(run_id)
            if w.outcome is None
        ]
        if waits:
            ledger.store.register_waits(waits, ledger.shared_now())
        return {wait.label for wait in waits}

    def can_go_on() -> bool:
        run = ledger.require_run(run_id)
        if run.status != RunStatus.SUSPENDED:
            return True
        return run.available_at is not None and run.available_at <= ledger.shared_now()

    parent.inner_waits[label] = await asyncio.to_thread(register)
    parent.waits[label] = flight
    try:
        while not await asyncio.to_thread(can_go_on):
            parent.wake()  # nothing may be left there, too, but to wait
            await asyncio.sleep(LOOK)
    finally:
        parent.waits.pop(label, None)
        parent.inner_waits.pop(label, None)


async def _session(
    parent: RunSession,
    flight: Flight,
    graph: Graph,
    branch: str,
    inputs: dict[str, Any],
    run_id: str,
    kind: str,
    tags: Mapping[str, Any] | None,
    *,
    is_new: bool,
) -> RunSession | Run:
    """Return the session of a sub-run, or its row where it has completed already."""
    ledger = parent.ledger
    if not parent.is_recorded:
        return type(parent)(ledger, run_id, 1, graph, inputs, history=History(keep_maps=True))
    found = None if is_new else await asyncio.to_thread(ledger.get_run, run_id)
    if found is None:
        new = new_run(ledger, graph, inputs, kind=kind, run_id=run_id, tags=tags, created_by=parent.family[1])
        new.parent_run_id, new.root_run_id = parent.run_id, parent.family[0]
        new.parent_step = f"{flight.call.label}:{branch}" if branch else flight.call.label
        await ledger.commit_async(new)
        child = RunSession(ledger, run_id, 1, graph, inputs)
    elif found.status == RunStatus.COMPLETED:
        return found
    else:
        child = await asyncio.to_thread(resume_session, ledger, run_id, graph, is_inherited=True)
    child.family = parent.family
    child.may_suspend = parent.may_suspend
    return child


def _result(parent: RunSession, run: Run) -> Any:
    return parent.ledger.get_result(run.run_id)


def _outcome(child: RunSession) -> Any:
    """Return the output of a sub-run that has ended, or raise what it ended with."""
    end = child.end
    assert end is not None
    if end.status == RunStatus.COMPLETED:
        return finish(child).result()
    if end.status == RunStatus.SUSPENDED:
        raise DagPause(end.error_message or "")
    if end.status == RunStatus.CANCELLED:
        raise RunCancelled(child.run_id, end.error_message)
    if child.error is not None:
        child.error.add_note(f"It was raised in step {end.error_step!r} of the sub-run {child.run_id}.")
        raise child.error
    raise RunFailed(child.run_id, end.error_step, end.error_type, end.error_message, end.error_traceback or "")
