"""Observers: told of the starts, errors and ends of pipelines, processes and steps, and what they keep of them."""

from milepost.observe.active import active_observer, observing
from milepost.observe.composite import CompositeObserver
from milepost.observe.log import LoggingObserver
from milepost.observe.memory import MemoryRecordStore
from milepost.observe.protocol import ExecutionRecordStore, RunObserver
from milepost.observe.recording import ExecutionRecordsObserver

__all__ = [
    "CompositeObserver",
    "ExecutionRecordStore",
    "ExecutionRecordsObserver",
    "LoggingObserver",
    "MemoryRecordStore",
    "RunObserver",
    "active_observer",
    "observing",
]
