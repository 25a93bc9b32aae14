"""Where an output came from and what used it, across runs; and outputs that are marked as bad."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from milepost.errors import ConfigurationError, StepNotFound
from milepost.ledger import Ledger
from milepost.model import Run, step_at
from milepost.provenance.inner import list_inner_runs
from milepost.runtime.invalid import INVALID, find_invalid
from milepost.states import StepStatus
from milepost.store import Execution

__all__ = ["Lineage", "Link", "Use", "invalidate", "lineage"]


@dataclass(frozen=True, slots=True)
class Link:
    """A step on the way, how far away it is, and how it hangs together with the one before.

    Attributes:
        via: ``edge`` of the graph, ``copy`` by a replay, ``inner`` run of a node, or ``outer`` run of an inner one.
        towards: Label of the step one nearer, and its run.
    """

    run_id: str
    label: str
    status: str
    depth: int
    via: str
    towards: tuple[str, str]
    output_hash: str | None


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a step's output was made of, and what was made of it, nearest first."""

    run_id: str
    label: str
    status: str
    output_hash: str | None
    is_invalid: str | None
    made_of: tuple[Link, ...]
    used_by: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """A run that used an output, and the steps that did, in the order of their distance."""

    run_id: str
    workflow: str
    status: str
    steps: tuple[str, ...]


class _Recorded:
    """A run as the ledger has it, looked at once."""

    def __init__(self, ledger: Ledger, run: Run) -> None:
        self._ledger = ledger
        self.run = run

    @cached_property
    def steps(self) -> dict[str, Execution]:
        return {found.label: found for found in self._ledger.store.list_executions(self.run.run_id)}

    @cached_property
    def origins(self) -> dict[str, str]:
        found = self._ledger.store.list_inputs(self.run.run_id)
        return {step.label: step.origin_run_id for step in found if step.origin_run_id is not None}

    @cached_property
    def _pairs(self) -> dict[tuple[str, str], None]:
        """Edges that were traversed, and those of the graph that a copied step has had."""
        pairs = dict.fromkeys((edge.upstream, edge.downstream) for edge in self._ledger.list_edges(self.run.run_id))
        document = self._ledger.get_definition(self.run.run_id) if self.run.hash is not None else None
        for node in json.loads(document)["nodes"] if document else ():
            for upstream in node["upstream"]:
                if upstream in self.steps and node["label"] in self.steps:
                    pairs[upstream, node["label"]] = None
        return pairs

    @cached_property
    def upstream(self) -> dict[str, list[str]]:
        """The steps whose outputs each step has used."""
        found: dict[str, list[str]] = {}
        for upstream, downstream in self._pairs:
            found.setdefault(downstream, []).append(upstream)
        return found

    @cached_property
    def downstream(self) -> dict[str, list[str]]:
        """The steps that have used each step's output."""
        found: dict[str, list[str]] = {}
        for upstream, downstream in self._pairs:
            found.setdefault(upstream, []).append(downstream)
        return found

    @cached_property
    def at(self) -> dict[str, list[str]]:
        """The runs inside this one by their place, such as ``parse[3]``."""
        found: dict[str, list[str]] = {}
        for child in list_inner_runs(self._ledger, self.run.run_id):
            found.setdefault(step_at(child.parent_step or "", self.steps), []).append(child.run_id)
        return found

    @cached_property
    def inner(self) -> dict[str, list[str]]:
        """The runs at a place and below it: what is at ``parse[3]`` is in ``parse`` as well."""
        found: dict[str, list[str]] = {}
        for place, run_ids in self.at.items():
            for end in [at for at, letter in enumerate(place) if letter == "["] + [len(place)]:
                found.setdefault(place[:end], []).extend(run_ids)
        return found

    @cached_property
    def replays(self) -> list[str]:
        return self._ledger.store.list_replays(self.run.run_id)

    @cached_property
    def sinks(self) -> dict[str, None]:
        """The final steps, in the order of their starts."""
        tops = (label for label, step in self.steps.items() if step.parent is None)
        return dict.fromkeys(label for label in tops if label not in self.downstream)

    @cached_property
    def sources(self) -> dict[str, None]:
        """The steps that have used no other, in the order of their starts."""
        tops = (label for label, step in self.steps.items() if step.parent is None)
        return dict.fromkeys(label for label in tops if label not in self.upstream)


class _Walker:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._runs: dict[str, _Recorded | None] = {}

    def find(self, run_id: str) -> _Recorded | None:
        """Return a run, None where it is not there any more."""
        if run_id not in self._runs:
            run = self._ledger.get_run(run_id)
            self._runs[run_id] = None if run is None else _Recorded(self._ledger, run)
        return self._runs[run_id]

    def run(self, run_id: str) -> _Recorded:
        return self.find(run_id) or _Recorded(self._ledger, self._ledger.require_run(run_id))

    def made_of(self, run_id: str, label: str) -> Iterator[tuple[str, str, str]]:
        """Return (run, step, via) of what a step's output was made of directly."""
        recorded = self.run(run_id)
        origin = recorded.origins.get(label)
        if origin is not None and self.find(origin) is not None:
            yield origin, label, "copy"
            return
        map_ = label.partition("[")[0] if label.endswith("]") else label
        children = recorded.inner.get(label, []) + (recorded.at.get(map_, []) if map_ != label else [])
        for child in children:
            yield from ((child, sink, "inner") for sink in self.run(child).sinks)
        upstream = recorded.upstream.get(map_, [])
        yield from ((run_id, found, "edge") for found in upstream)
        parent = recorded.run.parent_run_id
        if not upstream and parent is not None and recorded.run.parent_step is not None:
            around = self.run(parent)
            outer = step_at(recorded.run.parent_step, around.steps).partition("[")[0]
            yield from ((parent, up, "outer") for up in around.upstream.get(outer, []))

    def used_by(self, run_id: str, label: str) -> Iterator[tuple[str, str, str]]:
        """Return (run, step, via) of what a step's output was used by directly."""
        recorded = self.run(run_id)
        map_ = label.partition("[")[0] if label.endswith("]") else label
        if map_ != label:
            yield run_id, map_, "edge"
        for down in recorded.downstream.get(label, []):
            yield run_id, down, "edge"
            for child in recorded.inner.get(down, []):
                yield from ((child, source, "inner") for source in self.run(child).sources)
        parent = recorded.run.parent_run_id
        if parent is not None and recorded.run.parent_step is not None and label in recorded.sinks:
            yield parent, step_at(recorded.run.parent_step, self.run(parent).steps), "outer"
        made_by = recorded.origins.get(label, run_id)
        for replay in recorded.replays:
            copied = self.find(replay)
            if copied is not None and copied.origins.get(label) == made_by:
                yield replay, label, "copy"

    def walk(self, run_id: str, label: str, *, is_up: bool) -> tuple[Link, ...]:
        step = self.made_of if is_up else self.used_by
        seen = {(run_id, label)}
        waiting = deque([(run_id, label, 0)])
        links = []
        while waiting:
            at_run, at_label, depth = waiting.popleft()
            for run, found, via in step(at_run, at_label):
                if (run, found) in seen:
                    continue
                seen.add((run, found))
                waiting.append((run, found, depth + 1))
                known = self.run(run).steps.get(found)
                status = "pending" if known is None else known.status
                hash_ = None if known is None else known.output_hash
                links.append(Link(run, found, status, depth + 1, via, (at_run, at_label), hash_))
        return tuple(links)


def lineage(ledger: Ledger, run_id: str, label: str | None = None) -> list[Lineage]:
    """Return where the output of a step came from and what used it, across replays and inner runs.

    Args:
        ledger: Where the run is recorded.
        run_id: The run.
        label: The step, or an element of a map; None: every final step of the run.

    Raises:
        RunNotFound: There is no such run.
        StepNotFound: It has no such step.

    Example:
        >>> from milepost import Dag, Ledger
        >>> with Dag("sum") as dag:
        ...     numbers = dag.node(lambda n: list(range(n)), label="numbers", n=4)
        ...     _ = dag.node(sum, label="total", iterable=numbers)
        >>> ledger = Ledger.open(":memory:")
        >>> run = dag.run(ledger=ledger)
        >>> [link.label for link in lineage(ledger, run.run_id, "total")[0].made_of]
        ['numbers']
    """
    walker = _Walker(ledger)
    recorded = walker.run(run_id)
    if label is not None and label not in recorded.steps:
        raise StepNotFound(run_id, label, recorded.steps)
    invalid = find_invalid(ledger, run_id)
    return [
        Lineage(
            run_id,
            one,
            recorded.steps[one].status,
            recorded.steps[one].output_hash,
            invalid.get(one),
            walker.walk(run_id, one, is_up=True),
            walker.walk(run_id, one, is_up=False),
        )
        for one in ([label] if label is not None else recorded.sinks)
    ]


def invalidate(ledger: Ledger, run_id: str, label: str, reason: str = "marked as bad") -> list[Use]:
    """Mark the output of a step as bad and return every run that used it, directly or through other steps.

    No replay reuses it, and a run that is resumed makes it anew, with all that depends on it.

    Args:
        ledger: Where the run is recorded.
        run_id: The run. Where its step was copied by a replay, the output is the original's, and is marked there.
        label: The step, or an element of a map.
        reason: What is wrong with it.

    Raises:
        RunNotFound: There is no such run.
        StepNotFound: It has no such step.
        ConfigurationError: The step has no output, or the reason is empty.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise ConfigurationError("A reason must be a text that says what is wrong with the output.")
    ledger.require_writable()
    walker = _Walker(ledger)
    recorded = walker.run(run_id)
    found = recorded.steps.get(label)
    if found is None:
        raise StepNotFound(run_id, label, recorded.steps)
    origin = recorded.origins.get(label)
    if origin is not None and ledger.get_run(origin) is not None:
        return invalidate(ledger, origin, label, reason)
    if found.status not in (StepStatus.COMPLETED, StepStatus.SKIPPED):
        raise ConfigurationError(f"Step {label!r} of run {run_id} is {found.status}: there is no output to mark.")
    mark = json.dumps({"attempt": found.attempt, "reason": reason})
    ledger.store.hand_save(run_id, label, INVALID, mark, ledger.clock.now())
    uses: dict[str, list[str]] = {run_id: []}
    for link in walker.walk(run_id, label, is_up=False):
        uses.setdefault(link.run_id, []).append(link.label)
    runs = ((walker.run(used).run, steps) for used, steps in uses.items() if steps)
    return [Use(run.run_id, run.workflow, run.status.value, tuple(steps)) for run, steps in runs]
