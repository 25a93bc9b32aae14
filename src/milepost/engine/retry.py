"""When a failed attempt is followed by another."""

from __future__ import annotations

from collections.abc import Callable

from milepost.errors import NonRetryable
from milepost.model import Retry

__all__ = ["next_delay"]

Kinds = tuple[type[BaseException], ...]


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
    if policy is None or failures > policy.max_retries or not _is_worth_another(policy, error):
        return None
    try:
        delay = min(policy.delay * policy.backoff_factor ** (failures - 1), policy.max_delay)
    except OverflowError:
        delay = policy.max_delay if policy.delay else 0.0
    return delay * (1.0 - policy.jitter * draw)


def _is_worth_another(policy: Retry, error: BaseException) -> bool:
    refused: Kinds = (NonRetryable, *policy.give_up_on)
    return _is_any(error, policy.retry_on, all) and not _is_any(error, refused, any)


def _is_any(error: BaseException, kinds: Kinds, how: Callable[[list[bool]], bool]) -> bool:
    """Return whether an error is of these kinds; for a group (a TaskGroup raises one) all or any of its parts."""
    if isinstance(error, kinds):
        return True
    return isinstance(error, BaseExceptionGroup) and how([_is_any(part, kinds, how) for part in error.exceptions])
