"""When a failed attempt is followed by another."""

from __future__ import annotations

from milepost.errors import NonRetryable
from milepost.model import Retry

__all__ = ["next_delay"]


def next_delay(policy: Retry | None, failures: int, error: BaseException, draw: float) -> float | None:
    """Return the seconds to wait before the next attempt, or None when there is none.

    Args:
        policy: The step's policy; None means a single attempt.
        failures: Failed attempts so far, this one included (1 after the first failure).
        error: What the attempt raised.
        draw: A number from 0 (inclusive) to 1 (exclusive), drawn by the caller, for the jitter.

    Example:
        >>> next_delay(Retry(max_retries=2, delay=1.0, backoff_factor=3.0), 2, ValueError(), 0.0)
        3.0
        >>> next_delay(Retry(max_retries=2), 3, ValueError(), 0.0) is None
        True
    """
    if policy is None or failures > policy.max_retries or isinstance(error, NonRetryable):
        return None
    if not isinstance(error, policy.retry_on) or isinstance(error, policy.give_up_on):
        return None
    # The exponent is bounded because a float power overflows long before max_delay stops mattering.
    delay = min(policy.delay * policy.backoff_factor ** min(failures - 1, 64), policy.max_delay)
    return delay * (1.0 - policy.jitter * draw)
