"""Who observes the runs that are executed here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from milepost.observe.composite import CompositeObserver
from milepost.observe.protocol import RunObserver

__all__ = ["active_observer", "observing"]

_ACTIVE: Final[ContextVar[CompositeObserver | None]] = ContextVar("milepost_observer", default=None)


@contextmanager
def observing(*observers: RunObserver) -> Iterator[CompositeObserver]:
    """Tell observers of every run that is executed within, of whatever kind, and of the runs inside it.

    Starts are told when they happen, ends once they are durable. A run is a pipeline, a step of it a step. A run that
    is suspended or handed back has not ended. An observer that fails is logged, and the run goes on.

    Args:
        observers: Whom to tell, besides those that are told already.

    Example:
        >>> from milepost import Dag
        >>> from milepost.observe import ExecutionRecordsObserver, MemoryRecordStore, observing
        >>> with Dag("doubling") as dag:
        ...     _ = dag.node(lambda n: 2 * n, label="double")
        >>> store = MemoryRecordStore()
        >>> with observing(ExecutionRecordsObserver(store)):
        ...     _ = dag.run(n=1, ledger=":memory:")
        >>> [(record.step, str(record.status)) for record in store.steps()]
        [('double', 'success')]
    """
    outer = _ACTIVE.get()
    told: tuple[RunObserver, ...] = observers if outer is None else (outer, *observers)
    made = CompositeObserver(told)
    token = _ACTIVE.set(made)
    try:
        yield made
    finally:
        _ACTIVE.reset(token)


def active_observer() -> CompositeObserver | None:
    """Return who is told of runs that are executed here, None for nobody."""
    return _ACTIVE.get()
