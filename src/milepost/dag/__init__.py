"""A graph of functions, written in Python and run durably."""

from milepost.dag.dag import Dag, NodeRef

__all__ = ["Dag", "NodeRef"]
