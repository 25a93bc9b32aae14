"""Whether a run that failed is tried again: a policy as plain data, kept with the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from milepost.engine.retry import next_delay
from milepost.model import Retry

__all__ = ["next_run_delay", "retry_document"]

# A run that may be tried again and says nothing of pauses: a second, growing, spread out.
_DEFAULT: Final = Retry(max_retries=1_000_000, delay=1.0, backoff_factor=2.0, max_delay=300.0, jitter=0.5)


def retry_document(retry: Retry | None) -> dict[str, Any]:
    """Return a policy as plain data; exception types by name, because whoever reads it may not know them.

    Example:
        >>> retry_document(Retry(delay=2.0, retry_on=(OSError,)))["retry"]["retry_on"]
        ['builtins:OSError']
    """
    if retry is None:
        return {}
    return {
        "retry": {
            "delay": retry.delay,
            "backoff_factor": retry.backoff_factor,
            "max_delay": retry.max_delay,
            "jitter": retry.jitter,
            "retry_on": [_name(kind) for kind in retry.retry_on],
            "give_up_on": [_name(kind) for kind in retry.give_up_on],
        }
    }


def next_run_delay(
    policies: Mapping[str, Any], attempt: int, max_attempts: int, error: BaseException, draw: float
) -> float | None:
    """Return the seconds until a failed run's next attempt, or None where it failed for good.

    Args:
        policies: What :func:`retry_document` made, or an empty mapping.
        attempt: The attempt that failed, from 1.
        max_attempts: How many there may be.
        error: The run's first failure.
        draw: A number from 0 to 1 for the jitter.

    Example:
        >>> next_run_delay({}, 1, 1, ValueError(), 0.0) is None
        True
        >>> next_run_delay(retry_document(Retry(delay=3.0, backoff_factor=2.0)), 2, 3, ValueError(), 0.0)
        6.0
    """
    if attempt >= max_attempts:
        return None
    stored = policies.get("retry")
    if stored is None:
        return next_delay(_DEFAULT, attempt, error, draw)
    lineage = {_name(kind) for kind in type(error).__mro__}
    if not lineage & set(stored["retry_on"]) or lineage & set(stored["give_up_on"]):
        return None
    policy = Retry(
        max_retries=max_attempts,
        delay=stored["delay"],
        backoff_factor=stored["backoff_factor"],
        max_delay=stored["max_delay"],
        jitter=stored["jitter"],
        retry_on=(BaseException,),
    )
    return next_delay(policy, attempt, error, draw)


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"
