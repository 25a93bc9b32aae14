"""Provenance: what each node of a run got and made, and what flowed along every edge, whoever executes it."""

from milepost.errors import NodeNotFound
from milepost.provenance.difference import Difference, StepDifference, compare_runs
from milepost.provenance.initiator import SCHEDULER, initiated_by, run_initiator
from milepost.provenance.lineage import Lineage, Link, Use, invalidate, lineage
from milepost.provenance.models import DagRun, EdgeTraversal, IoPayload, NodeExecution
from milepost.provenance.null import NullProvenance
from milepost.provenance.protocol import Provenance
from milepost.provenance.recorder import DagProvenance
from milepost.provenance.telling import NodeEvent

__all__ = [
    "SCHEDULER",
    "DagProvenance",
    "DagRun",
    "Difference",
    "EdgeTraversal",
    "IoPayload",
    "Lineage",
    "Link",
    "NodeEvent",
    "NodeExecution",
    "NodeNotFound",
    "NullProvenance",
    "Provenance",
    "StepDifference",
    "Use",
    "compare_runs",
    "initiated_by",
    "invalidate",
    "lineage",
    "run_initiator",
]
