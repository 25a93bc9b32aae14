"""Operators for time and events: wait, emit_event, wait_for_event."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from milepost.dsl.kinds import OperatorType
from milepost.dsl.operators.base import BaseOperator
from milepost.dsl.plain import PlainDict
from milepost.dsl.times import WaitFor

__all__ = ["EmitEventOperator", "WaitForEventOperator", "WaitOperator"]


class WaitOperator(BaseOperator):
    """Waits for a duration or until a moment; no thread, connection or lease is held."""

    operator_type: Literal[OperatorType.WAIT] = Field(OperatorType.WAIT, frozen=True)
    wait_for: WaitFor
    """How long, or until when (naive: local time)."""


class EmitEventOperator(BaseOperator):
    """Emits an event; the first emit of a name stands."""

    operator_type: Literal[OperatorType.EMIT_EVENT] = Field(OperatorType.EMIT_EVENT, frozen=True)
    event_name: str
    """The event's name; may be a template."""
    payload: PlainDict = {}
    """What comes with it; texts may be templates."""


class WaitForEventOperator(BaseOperator):
    """Waits for an event; one that was emitted before counts."""

    operator_type: Literal[OperatorType.WAIT_FOR_EVENT] = Field(OperatorType.WAIT_FOR_EVENT, frozen=True)
    event_name: str
    """The event's name; may be a template."""
    timeout_seconds: float | None = Field(None, gt=0)
    """After so many seconds the node fails; None waits for ever."""
