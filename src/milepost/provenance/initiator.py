"""Who starts runs: said once, and kept with every run that begins meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["SCHEDULER", "initiated_by", "run_initiator"]

SCHEDULER: Final = "scheduler"
"""Who starts the runs of schedules."""

run_initiator: ContextVar[str | None] = ContextVar("run_initiator", default=None)
"""Who starts runs here; None where nobody said so."""


@contextmanager
def initiated_by(who: str) -> Iterator[None]:
    """Say who starts the runs that are created by hand within.

    Example:
        >>> from milepost.provenance import DagProvenance
        >>> with DagProvenance(":memory:") as provenance, initiated_by("ada"):
        ...     provenance.create_run("r1", "etl", {})
        ...     print(provenance.inspect_run("r1").initiated_by)
        ada
    """
    token = run_initiator.set(who)
    try:
        yield
    finally:
        run_initiator.reset(token)
