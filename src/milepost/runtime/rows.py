"""The rows of a run's steps: what is written when an attempt starts or ends."""

from __future__ import annotations

from typing import Final

from milepost.engine import Call, MapMark
from milepost.graph import ELEMENT_MARK, Graph
from milepost.model import StepKind, Storage
from milepost.runtime.flight import Flight
from milepost.runtime.landing import describe_error
from milepost.states import StepStatus
from milepost.store import StepWrite
from milepost.values import encode

__all__ = ["Rows"]

_RUNNING: Final = StepStatus.RUNNING.value


class Rows:
    """Makes the rows of one run under one lease."""

    __slots__ = ("_graph", "_lease_epoch", "_run_id")

    def __init__(self, run_id: str, lease_epoch: int, graph: Graph) -> None:
        """Begin with what all of them carry."""
        self._run_id = run_id
        self._lease_epoch = lease_epoch
        self._graph = graph

    def start(self, flight: Flight) -> StepWrite:
        """Return the row of an attempt that runs."""
        call = flight.call
        node = call.node
        return StepWrite(
            self._run_id,
            call.label,
            flight.attempt,
            flight.seq,
            self._lease_epoch,
            _kind_of(call),
            None if call.map is None else node.label,
            _RUNNING,
            self._input_text(call),
            None,
            Storage.NONE if node.transient else Storage.INLINE,
            None,
            None,
            None,
            None,
            None,
            flight.started_at,
            None,
        )

    def end(self, flight: Flight, status: str) -> StepWrite:
        """Return the row of an attempt that is over: its start and its end in one."""
        call = flight.call
        node = call.node
        error = flight.error
        error_type, message, trace = (None, None, None) if error is None else describe_error(error)
        return StepWrite(
            self._run_id,
            call.label,
            flight.attempt,
            flight.seq,
            self._lease_epoch,
            _kind_of(call),
            None if call.map is None else node.label,
            status,
            self._input_text(call),
            flight.text,
            Storage.NONE if node.transient else Storage.INLINE,
            flight.hash,
            error_type,
            message,
            trace,
            None,
            flight.started_at,
            flight.finished_at,
        )

    def paused(self, flight: Flight) -> StepWrite:
        """Return the row of an attempt that paused its run: it is over, and what it stands for has still to be done."""
        return self.start(flight)._replace(status=StepStatus.PENDING.value)

    def of_map(self, mark: MapMark, status: str, begun: tuple[int, int], finished_at: int | None) -> StepWrite:
        """Return the row of a map itself; ``begun`` is its sequence number and when it started."""
        error = mark.error
        error_type, message, trace = (None, None, None) if error is None else describe_error(error)
        seq, started_at = begun
        return StepWrite(
            self._run_id,
            mark.node.label,
            mark.attempt,
            seq,
            self._lease_epoch,
            StepKind.MAP,
            None,
            status,
            self._graph.input_texts[mark.node.index],
            self._shape_text(mark),
            Storage.ELEMENTS,
            None,
            error_type,
            message,
            trace,
            mark.total,
            started_at,
            finished_at,
        )

    def _shape_text(self, mark: MapMark) -> str | None:
        """Return what tells the elements' places where their rows alone do not: the keys of a dict, or how many."""
        if mark.node.flatten:
            return encode({"flat": mark.total if mark.keys is None else mark.keys})
        if mark.keys is not None:
            return encode(mark.keys)
        return encode(mark.total) if mark.node.tolerate else None

    def _input_text(self, call: Call) -> str:
        if call.map is None:
            return self._graph.input_texts[call.node.index]
        return self._graph.element_texts[call.node.index].replace(ELEMENT_MARK, str(call.position), 1)


def _kind_of(call: Call) -> str:
    if call.map is not None:
        return StepKind.ELEMENT
    if call.node.undoes is not None:
        return StepKind.UNDO
    return call.node.kind
