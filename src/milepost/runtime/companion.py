"""What a face keeps beside the steps of a run, and must have durable in the same commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from milepost.runtime.flight import Flight
from milepost.states import StepStatus
from milepost.store import CheckpointWrite, RunEnd

__all__ = ["Companion"]


class Companion(Protocol):
    """Asked by a session, in the driver's thread, about each attempt that ends."""

    def gives_up(self, flight: Flight) -> bool:
        """Return whether the failure of this attempt is final, whatever its node's policy says."""
        ...

    def ended(self, flight: Flight, status: StepStatus, delay: float | None) -> Sequence[CheckpointWrite]:
        """Return what is committed together with the end of an attempt.

        Args:
            flight: The attempt.
            status: How it ended.
            delay: Seconds until the next attempt of a failed one, None where there is none.
        """
        ...

    def stopped(self, flights: Sequence[Flight], message: str) -> Sequence[CheckpointWrite]:
        """Return what is committed with the early end of a run that leaves these attempts in the air."""
        ...

    def holds_on(self) -> bool:
        """Return whether the run, whose graph has come to its end, goes on under the same lease with something else."""
        ...

    def ending(self, now: int) -> RunEnd | None:
        """Return how a run ends whose graph has completed, None for completed."""
        ...
