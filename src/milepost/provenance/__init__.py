"""Provenance: what each node of a run got and made, and what flowed along every edge, whoever executes it."""

from milepost.provenance.initiator import SCHEDULER, initiated_by, run_initiator
from milepost.provenance.models import DagRun, EdgeTraversal, IoPayload, NodeExecution
from milepost.provenance.null import NullProvenance
from milepost.provenance.protocol import Provenance
from milepost.provenance.recorder import DagProvenance, NodeNotFound

__all__ = [
    "SCHEDULER",
    "DagProvenance",
    "DagRun",
    "EdgeTraversal",
    "IoPayload",
    "NodeExecution",
    "NodeNotFound",
    "NullProvenance",
    "Provenance",
    "initiated_by",
    "run_initiator",
]
