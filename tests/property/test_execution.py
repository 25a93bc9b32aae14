"""Random graphs, schedules, failures and crashes against a reference that is too simple to be wrong.

The engine is driven by hand: Hypothesis draws a graph, which call ends next and how, and when the
process dies. The reference knows nothing of scheduling. It evaluates the graph by recursion, and
after a crash it says by a fixed point which nodes have to run.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from milepost.engine import Call, Execution, History, StepSummary, plan_restart
from milepost.engine.restart import NOT_LOADED
from milepost.graph import Binding, Graph, Node, Source
from milepost.model import Retry, Storage
from milepost.states import StepStatus


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    nodes: list[Node] = []
    for index in range(draw(st.integers(1, 7))):
        earlier = st.lists(st.integers(0, index - 1), max_size=3) if index else st.just([])
        bindings = [Binding(f"p{i}", Source.NODE, ref) for i, ref in enumerate(draw(earlier))]
        after = tuple(draw(earlier))
        over = concurrency = None
        if draw(st.booleans()):
            maps = [node.index for node in nodes if node.is_map]
            if maps and draw(st.booleans()):
                over = Binding("", Source.NODE, draw(st.sampled_from(maps)))
            else:
                over = Binding("", Source.VALUE, draw(st.sampled_from([[], [7], (1, 2), range(3), {}, {"k": 5, 2: 6}])))
            concurrency = draw(st.sampled_from([None, 1, 2]))
            bindings.append(Binding("x", Source.ELEMENT))
        node = Node(
            f"n{index}",
            None,
            tuple(bindings),
            over,
            concurrency,
            after,
            retry=draw(st.sampled_from([None, Retry(max_retries=1), Retry(max_retries=2, delay=1.0)])),
            transient=draw(st.booleans()),
        )
        node.index = index
        nodes.append(node)
    return Graph("g", nodes)


def value_of(label: str, arguments: dict[str, Any]) -> int:
    return zlib.crc32(repr((label, sorted(arguments.items()))).encode())


class Reference:
    """Every value of a graph, by recursion."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[int, Any] = {}
        self.elements: dict[int, list[str]] = {}
        self.arguments: dict[str, dict[str, Any]] = {}
        for index in range(len(graph)):
            self.value(index)

    def value(self, index: int) -> Any:
        if index not in self.values:
            node = self.graph.nodes[index]
            given = {b.param: self.value(b.ref) for b in node.bindings if b.source == Source.NODE}
            self.values[index] = self._map(node, given) if node.is_map else self._step(node.label, given)
        return self.values[index]

    def _step(self, label: str, given: dict[str, Any]) -> int:
        self.arguments[label] = given
        return value_of(label, given)

    def _map(self, node: Node, given: dict[str, Any]) -> Any:
        assert node.over is not None
        over = self.value(node.over.ref) if node.over.source == Source.NODE else node.over.ref
        pairs = list(over.items() if isinstance(over, dict) else enumerate(over))
        self.elements[node.index] = [f"{node.label}[{key!r}]" for key, _ in pairs]
        made = {key: self._step(f"{node.label}[{key!r}]", {**given, "x": x}) for key, x in pairs}
        return made if isinstance(over, dict) else list(made.values())

    def nodes_to_run(self, completed: set[str]) -> set[int]:
        """What a restart has to run: the unfinished, and transient nodes that those read."""
        run = {node.index for node in self.graph.nodes if node.label not in completed}
        while True:
            needed = {ref for index in run for ref in self.graph.nodes[index].reads}
            again = {ref for ref in needed - run if self.graph.nodes[ref].transient and self.has_work(ref)}
            if not again:
                return run
            run |= again

    def has_work(self, index: int) -> bool:
        return bool(self.elements.get(index, [index]))

    def labels_to_run(self, completed: set[str]) -> set[str]:
        labels: set[str] = set()
        for index in self.nodes_to_run(completed):
            node = self.graph.nodes[index]
            mine = self.elements.get(index, []) if node.is_map else [node.label]
            labels |= {label for label in mine if node.transient or label not in completed}
        return labels


@dataclass
class Recorded:
    """What a ledger would hold: the outcome of each label, and the values that are kept."""

    completed: set[str] = field(default_factory=set)
    values: dict[str, Any] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def history(self, graph: Graph) -> History:
        summaries = []
        for label, count in self.attempts.items():
            node = node_of(graph, label)
            parent = node.label if node.label != label else None
            is_whole_map = node.is_map and parent is None
            storage = Storage.ELEMENTS if is_whole_map else Storage.NONE if node.transient else Storage.INLINE
            status = StepStatus.COMPLETED if label in self.completed else StepStatus.FAILED
            summaries.append(StepSummary(label, parent, status, storage, count, self.failures[label]))
        plan = plan_restart(graph, summaries)
        history = History(dict.fromkeys(plan.done, NOT_LOADED), {}, plan.tries)
        for label in (*plan.load, *plan.load_maps):
            history.done[graph[label].index] = self.values[label]
        for index, kept in plan.elements.items():
            is_loaded = graph.nodes[index].label in plan.load_elements
            history.elements[index] = {label: self.values[label] if is_loaded else NOT_LOADED for label in kept}
        return history


class Life:
    """One process that executes the run until it ends or dies, checking every rule at every turn."""

    def __init__(self, reference: Reference, recorded: Recorded, failing: Counter[str], limit: int) -> None:
        self.reference = reference
        self.recorded = recorded
        self.failing = failing
        self.limit = limit
        self.expected = reference.labels_to_run(recorded.completed)
        history = recorded.history(reference.graph)
        self.finished = set(history.done)
        self.available = {index for index, value in history.done.items() if value is not NOT_LOADED}
        self.execution = Execution(reference.graph, {}, history)
        self.running: list[Call] = []
        self.ran: Counter[str] = Counter()
        self.now = 0.0
        self.take_marks()

    def live(self, draw: st.DrawFn, events: int | None) -> bool:
        """Return whether the run ended within this many events; None means it lives to the end."""
        execution = self.execution
        while not execution.is_finished:
            if events is not None:
                if events == 0:
                    return False
                events -= 1
            self.start_what_can()
            if self.running:
                self.end(self.running.pop(draw(st.integers(0, len(self.running) - 1))))
            else:
                due = execution.next_due()
                assert due is not None, "nothing runs, nothing waits, and the run has not ended"
                self.now = due
            execution.wake(self.now)
            self.check_values()
        return True

    def start_what_can(self) -> None:
        execution = self.execution
        while execution.running < self.limit and (call := execution.next_call()) is not None:
            assert execution.failure is None, f"{call} started after {execution.failure}"
            assert call.label in self.expected, f"{call} need not run"
            assert self.ran[call.label] == 0, f"{call} succeeded already"
            assert set(call.node.upstream) <= self.finished, f"{call} started before its upstreams ended"
            assert execution.arguments(call) == self.reference.arguments[call.label]
            self.recorded.attempts[call.label] += 1
            assert call.attempt == self.recorded.attempts[call.label]
            self.running.append(call)
            of_map = Counter(c.node.index for c in self.running)[call.node.index]
            assert call.node.concurrency is None or of_map <= call.node.concurrency
        assert execution.running == len(self.running)

    def end(self, call: Call) -> None:
        label, recorded = call.label, self.recorded
        if self.failing[label]:
            self.failing[label] -= 1
            recorded.failures[label] += 1
            retry = call.node.retry
            may_retry = retry is not None and recorded.failures[label] <= retry.max_retries
            delay = self.execution.failed(call, ValueError(label), final=False, now=self.now, draw=0.0)
            if self.execution.failure is None:
                assert may_retry
                assert delay is not None
            else:
                assert delay is None
        else:
            self.ran[label] += 1
            value = value_of(label, self.execution.arguments(call))
            recorded.completed.add(label)
            recorded.values[label] = value
            self.execution.succeeded(call, value)
            if call.map is None:
                self.finished.add(call.node.index)
                self.available.add(call.node.index)
        self.take_marks()

    def take_marks(self) -> None:
        marks, self.execution.marks = self.execution.marks, []
        for mark in marks:
            label = mark.node.label
            if mark.verb == "start":
                self.recorded.attempts[label] += 1
                assert mark.attempt == self.recorded.attempts[label]
            elif mark.verb == "complete":
                assert {*self.reference.elements[mark.node.index]} <= self.recorded.completed
                self.recorded.completed.add(label)
                self.recorded.values[label] = self.reference.values[mark.node.index]
                self.finished.add(mark.node.index)
                self.available.add(mark.node.index)

    def check_values(self) -> None:
        """A value is kept exactly as long as a node that has not finished reads it."""
        graph = self.reference.graph
        wanted = {ref for node in graph.nodes if node.index not in self.finished for ref in node.reads}
        assert self.execution._outputs.keys() == wanted & self.available
        for index, value in self.execution._outputs.items():
            assert value == self.reference.values[index]

    def check_end(self) -> None:
        execution, reference = self.execution, self.reference
        assert execution.is_completed
        assert set(self.ran) == self.expected
        assert execution.remaining == execution.running == 0
        for index, value in execution.results.items():
            assert value == reference.values[index]
            assert index in reference.graph.sinks


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_step_runs_once_and_in_order_through_failures_crashes_and_restarts(
    data: st.DataObject,
) -> None:
    graph = data.draw(graphs())
    reference = Reference(graph)
    recorded = Recorded()
    labels = sorted(reference.arguments)
    failing = Counter(data.draw(st.dictionaries(st.sampled_from(labels), st.integers(1, 3)))) if labels else Counter()
    limit = data.draw(st.integers(1, 4))
    once: Counter[str] = Counter()
    for life_span in [*data.draw(st.lists(st.integers(0, 12), max_size=3)), None, None]:
        life = Life(reference, recorded, failing, limit)
        has_ended = life.live(data.draw, life_span)
        once.update({label: n for label, n in life.ran.items() if not node_of(graph, label).transient})
        if has_ended and life.execution.is_completed:
            life.check_end()
            break
        if has_ended:
            assert life.execution.failure is not None
            recorded.failures.clear()  # resumed by hand: the retries count afresh
            if life_span is None:
                failing.clear()  # ... and the cause is mended
    else:
        raise AssertionError("the run never completed")
    assert once == {label: 1 for label in labels if not node_of(graph, label).transient}


def node_of(graph: Graph, label: str) -> Node:
    return graph[label.partition("[")[0]]
