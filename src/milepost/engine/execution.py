"""One run in progress, as plain data and functions: the state that both drivers share.

The driver takes calls with :meth:`Execution.next_call`, performs them, and reports each outcome
with :meth:`~Execution.succeeded` or :meth:`~Execution.failed`. Invariants:

- a call is handed out only when every upstream node has succeeded;
- after the first failure, or :meth:`~Execution.halt`, nothing new is handed out;
- a value is kept only while a node that has not finished reads it; the values of final nodes are
  kept for the run's outputs, except those of maps, which the ledger can give back.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from milepost.engine.calls import Call, Failure, MapMark, MapProgress
from milepost.engine.elements import flatten, list_elements
from milepost.engine.restart import NOT_LOADED, History
from milepost.engine.retry import next_delay
from milepost.graph import Graph, Node, Source

__all__ = ["Execution"]

_DONE: Final = -1  # in place of a count of upstreams: one that runs again must not start a node that is done


class Execution:
    """The progress of one run through its graph.

    Args:
        graph: What to run.
        inputs: The run's inputs by name.
        history: What a restart reuses; None for a fresh run.
    """

    dropped: ClassVar[list[Call]] = []  # waits that nobody needs any more: a fixed graph has none

    __slots__ = (
        "_delayed",
        "_elements",
        "_inputs",
        "_keep_maps",
        "_open_maps",
        "_outputs",
        "_ready",
        "_tick",
        "_tries",
        "_unread",
        "_waiting",
        "failure",
        "graph",
        "is_halted",
        "marks",
        "remaining",
        "results",
        "running",
    )

    def __init__(self, graph: Graph, inputs: Mapping[str, Any], history: History | None = None) -> None:
        """Find what can run first."""
        history = history or History()
        self.graph = graph
        self.failure: Failure | None = None
        self.is_halted = False
        self.running = 0
        self.marks: list[MapMark] = []
        self.results: dict[int, Any] = {}
        self._inputs = inputs
        self._keep_maps = history.keep_maps
        self._elements = history.elements
        self._tries = history.tries
        self._ready: deque[Call] = deque()
        self._delayed: list[tuple[float, int, Call]] = []
        self._tick = 0
        self._open_maps: deque[MapProgress] = deque()
        done = history.done
        self.remaining = len(graph) - len(done)
        self._outputs: dict[int, Any] = {}
        nodes = graph.nodes
        self._waiting = [len(node.upstream) for node in nodes]
        self._unread = [node.readers for node in nodes]
        waiting = self._waiting
        for index, value in done.items():
            node = nodes[index]
            for ref in node.downstream:
                waiting[ref] -= 1
            for ref in node.reads:
                self._unread[ref] -= 1
            if value is not NOT_LOADED:
                self._outputs[index] = value
        for index in done:
            waiting[index] = _DONE
        self._settle([index for index in graph.order if waiting[index] == 0])

    # --- asking ------------------------------------------------------------------------------

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do or to wait for."""
        return self.remaining == 0 or (self.is_halted and self.running == 0)

    @property
    def is_completed(self) -> bool:
        """Whether every node has succeeded."""
        return self.remaining == 0

    def next_call(self) -> Call | None:
        """Hand out the next call, or None when nothing can start now."""
        if self.is_halted:
            return None
        if self._ready:
            self.running += 1
            return self._ready.popleft()
        while self._open_maps:
            call = self._next_element(self._open_maps[0])
            if call is not None:
                if len(self._open_maps) > 1:  # maps side by side take turns
                    self._open_maps.rotate(-1)
                self.running += 1
                return call
            self._open_maps.popleft().is_open = False
        return None

    @property
    def has_ready(self) -> bool:
        """Whether :meth:`next_call` is likely to hand something out."""
        return not self.is_halted and bool(self._ready or self._open_maps)

    def next_due(self) -> float | None:
        """Return when the earliest delayed retry is due, on the driver's monotonic clock."""
        return self._delayed[0][0] if self._delayed and not self.is_halted else None

    def wake(self, now: float) -> None:
        """Make every retry ready whose time has come."""
        delayed = self._delayed
        while delayed and delayed[0][0] <= now:
            call = heapq.heappop(delayed)[2]
            if call.map is None:
                self._ready.append(call)
            else:
                call.map.retries.append(call)
                self._reopen(call.map)

    def arguments(self, call: Call) -> dict[str, Any]:
        """Return the keyword arguments of a call."""
        kwargs = {}
        for binding in call.node.bindings:
            source = binding.source
            if source == Source.NODE:
                kwargs[binding.param] = self._outputs[binding.ref]
            elif source == Source.ELEMENT:
                kwargs[binding.param] = call.element
            elif source == Source.VALUE:
                kwargs[binding.param] = binding.ref
            elif source == Source.NODES:
                kwargs[binding.param] = [self._outputs[ref] for ref in binding.ref]
            elif binding.ref in self._inputs:  # else an optional input: the function has a default
                kwargs[binding.param] = self._inputs[binding.ref]
        return kwargs

    # --- telling -----------------------------------------------------------------------------

    def succeeded(self, call: Call, value: Any) -> None:
        """Take in a result and make ready what waited for it."""
        self.running -= 1
        map_ = call.map
        if map_ is None:
            self._finish(call.node, value)
            return
        map_.running -= 1
        if map_.outputs is not None:
            map_.outputs[call.position] = value
        self._go_on(map_)

    def failed(self, call: Call, error: BaseException, *, final: bool, now: float, draw: float) -> float | None:
        """Take in a failure: schedule the next attempt, or fail the run.

        Args:
            call: The attempt that failed.
            error: What it raised.
            final: No retry whatever the policy says (an output that cannot be stored, say).
            now: The driver's monotonic clock in seconds.
            draw: A number from 0 to 1 for the jitter.

        Returns:
            The seconds until the next attempt, or None when the failure stands.
        """
        self.running -= 1
        map_ = call.map
        if map_ is not None:
            map_.running -= 1
        delay = None
        if not final and not self.is_halted:
            delay = next_delay(call.node.retry, call.failures + 1, error, draw)
        if delay is None and map_ is not None and map_.spare and not self.is_halted:
            map_.spare -= 1  # its place in the output stays None
            self._go_on(map_)
            return None
        if delay is None:
            self._fail(call.label, error)
            if map_ is not None and not map_.is_failed:
                map_.is_failed = True
                self.marks.append(MapMark(map_.node, map_.attempt, "fail", map_.total, error))
            return None
        call.attempt += 1
        call.failures += 1
        if delay > 0:
            self._tick += 1  # breaks ties: calls cannot be compared
            heapq.heappush(self._delayed, (now + delay, self._tick, call))
        elif map_ is None:
            self._ready.append(call)
        else:
            map_.retries.append(call)
        if map_ is not None:
            self._reopen(map_)
        return delay

    def abandoned(self, call: Call) -> None:
        """Take in that nobody waits for this call any more (an interrupt, a cancel)."""
        self.running -= 1
        if call.map is not None:
            call.map.running -= 1

    def halt(self) -> None:
        """Hand out nothing new from now on."""
        self.is_halted = True

    def _go_on(self, map_: MapProgress) -> None:
        """Take note that one more element of a map needs no further attempt."""
        map_.left -= 1
        if map_.left == 0:
            self._finish(map_.node, self._end_map(map_))
        elif not map_.is_open:
            self._reopen(map_)

    # --- inside ------------------------------------------------------------------------------

    def _fail(self, label: str, error: BaseException) -> None:
        if self.failure is None:
            self.failure = Failure(label, error)
        self.is_halted = True

    def _finish(self, node: Node, value: Any) -> None:
        self._settle(self._close(node, value))

    def _settle(self, ready: list[int]) -> None:
        """Start nodes that wait for nothing; maps without work end at once, and may make others ready."""
        nodes = self.graph.nodes
        for index in ready:  # it grows meanwhile; no recursion, as a chain of empty maps may outgrow the stack
            ended = self._activate(nodes[index])
            if ended is not None:
                ready += self._close(ended.node, self._end_map(ended))

    def _close(self, node: Node, value: Any) -> list[int]:
        """Note that a node has succeeded; return what waits for nothing any more."""
        self.remaining -= 1
        unread = self._unread
        if node.readers:
            if unread[node.index]:  # after a restart, all of its readers may be done
                self._outputs[node.index] = value
        elif not node.downstream and (self._keep_maps or not node.is_map):
            self.results[node.index] = value
        for ref in node.reads:
            unread[ref] -= 1
            if unread[ref] == 0:
                self._outputs.pop(ref, None)
        ready = []
        waiting = self._waiting
        for ref in node.downstream:
            waiting[ref] -= 1
            if waiting[ref] == 0:
                ready.append(ref)
        return ready

    def _activate(self, node: Node) -> MapProgress | None:
        """Make a node ready; return it when it is a map with nothing to do."""
        if self.is_halted:
            return None
        tries = self._tries.get(node.label, (0, 0)) if self._tries else (0, 0)
        if not node.is_map:
            self._ready.append(Call(node, node.label, tries, None, 0, None))
            return None
        attempt = tries[0] + 1
        try:
            elements, keys = list_elements(node.label, self._over(node))
        except Exception as error:  # whatever the user's own sequence raises
            self.marks.append(MapMark(node, attempt, "fail", 0, error))
            self._fail(node.label, error)
            return None
        total = len(elements)
        map_ = MapProgress(node, attempt, total, iter(()), keep=self._keep_maps or self._unread[node.index] > 0)
        map_.keys = keys
        self.marks.append(MapMark(node, attempt, "start", total))
        names = zip(range(total) if keys is None else keys, elements, strict=True)
        named = ((i, f"{node.label}[{name!r}]", element) for i, (name, element) in enumerate(names))
        done = self._elements.pop(node.index, None)
        map_.elements = iter(self._without_done(map_, named, done)) if done else named
        if map_.left == 0:
            return map_
        self._open_maps.append(map_)
        return None

    def _without_done(
        self, map_: MapProgress, named: Iterator[tuple[int, str, Any]], done: dict[str, Any]
    ) -> list[tuple[int, str, Any]]:
        left = []
        for position, label, element in named:
            if label not in done:
                left.append((position, label, element))
            elif map_.outputs is not None:
                map_.outputs[position] = done[label]
        map_.left = len(left)
        return left

    def _over(self, node: Node) -> Any:
        binding = node.over
        assert binding is not None
        if binding.source == Source.NODE:
            return self._outputs[binding.ref]
        return self._inputs[binding.ref] if binding.source == Source.INPUT else binding.ref

    def _next_element(self, map_: MapProgress) -> Call | None:
        if map_.limit is not None and map_.running >= map_.limit:
            return None
        if map_.retries:
            map_.running += 1
            return map_.retries.popleft()
        if map_.elements is None:
            return None
        found = next(map_.elements, None)
        if found is None:
            map_.elements = None
            return None
        position, label, element = found
        map_.running += 1
        tries = self._tries.get(label, (0, 0)) if self._tries else (0, 0)
        return Call(map_.node, label, tries, map_, position, element)

    def _reopen(self, map_: MapProgress) -> None:
        if not map_.is_open and (map_.retries or map_.elements is not None):
            map_.is_open = True
            self._open_maps.append(map_)

    def _end_map(self, map_: MapProgress) -> Any:
        self.marks.append(MapMark(map_.node, map_.attempt, "complete", map_.total, keys=map_.keys))
        if map_.outputs is not None and map_.node.flatten:
            return flatten(map_.outputs)
        if map_.outputs is not None and map_.keys is not None:
            return dict(zip(map_.keys, map_.outputs, strict=True))
        return map_.outputs
