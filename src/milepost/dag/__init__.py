"""A graph of functions, written in Python and run durably."""

from milepost.dag.dag import Dag, NodeRef
from milepost.dag.runner import DagRunner, DagRunResult, DagRunStatus
from milepost.errors import DagPause
from milepost.runtime.context import DagContext

__all__ = ["Dag", "DagContext", "DagPause", "DagRunResult", "DagRunStatus", "DagRunner", "NodeRef"]
