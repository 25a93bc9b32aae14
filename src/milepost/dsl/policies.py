"""What may be said of any node: when it is retried, how long it may take, what its data must be."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from milepost.dsl.kinds import GuardCheck
from milepost.dsl.plain import Plain
from milepost.dsl.times import Span, parse_duration

__all__ = ["CircuitBreakerPolicy", "DataGuard", "Part", "RetryPolicy", "TimeoutPolicy"]


class Part(BaseModel):
    """What every model of a workflow file has in common: no unknown key, no unchecked assignment."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, use_attribute_docstrings=True)


class RetryPolicy(Part):
    """When a failed node is tried again: retry n waits ``delay * backoff_factor ** (n - 1)``.

    Example:
        >>> RetryPolicy(max_retries=2, delay="PT10S").delay
        datetime.timedelta(seconds=10)
    """

    max_retries: int = Field(3, ge=0, strict=True)
    """Further attempts after the first."""
    delay: Span = Field(timedelta(seconds=5), ge=timedelta(0), validate_default=False)
    """The wait before the first retry."""
    backoff_factor: float = Field(2.0, ge=1, allow_inf_nan=False)
    """Each further wait is this many times the one before."""


class TimeoutPolicy(Part):
    """How long one attempt may take.

    Example:
        >>> TimeoutPolicy(timeout="PT5M").kill_on_timeout
        True
    """

    timeout: Span = Field(gt=timedelta(0))
    """The limit of one attempt."""
    kill_on_timeout: bool = True
    """Whether the body is asked to stop; the node has failed either way."""


class CircuitBreakerPolicy(Part):
    """Keeps a failing function from being called again and again.

    Example:
        >>> CircuitBreakerPolicy(failure_threshold=3).isolation_duration
        datetime.timedelta(seconds=30)
    """

    failure_threshold: int = Field(5, ge=1)
    """So many failures in a row open the circuit."""
    success_threshold: int = Field(2, ge=1)
    """So many successes in a row close it again."""
    isolation_duration: Span = Field(timedelta(seconds=30), ge=timedelta(0))
    """How long it stays open before a trial call is admitted."""
    catch_exceptions: list[str] | None = None
    """Names of exception classes that count; None: all."""
    ignore_exceptions: list[str] | None = None
    """Names of exception classes that do not count."""

    @model_validator(mode="before")
    @classmethod
    def _read_seconds(cls, data: Any) -> Any:
        if isinstance(data, dict) and "isolation_duration_seconds" in data:
            data = dict(data)
            data.setdefault("isolation_duration", parse_duration(data.pop("isolation_duration_seconds")))
        return data


class DataGuard(Part):
    """A check of a value before or after a node; ``in_range`` includes both ends.

    Example:
        >>> DataGuard(variable="{{score}}", check="in_range", value=[0, 1]).check.value
        'in_range'
    """

    variable: str
    """A template that gives the value."""
    check: GuardCheck
    """What is asked of it."""
    value: Plain = None
    """What it is compared with."""
    message: str = ""
    """What the failure says."""

    @model_validator(mode="after")
    def _check_value(self) -> Self:
        value = self.value
        if self.check == GuardCheck.IN_RANGE and not (isinstance(value, (list, tuple)) and len(value) == 2):
            raise ValueError(f"in_range needs value: [min, max], not {value!r}")
        if self.check == GuardCheck.IN_SET and not isinstance(value, (list, tuple)):
            raise ValueError(f"in_set needs a list as value, not {value!r}")
        if self.check == GuardCheck.TYPE_CHECK and not isinstance(value, str):
            raise ValueError(f"type_check needs the name of a type as value, not {value!r}")
        if self.check == GuardCheck.MATCHES_REGEX:
            try:
                re.compile(value)
            except (re.error, TypeError) as error:
                raise ValueError(f"matches_regex needs a regular expression as value, not {value!r}: {error}") from None
        return self
