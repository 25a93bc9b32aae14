"""When a failed attempt is followed by another: pure arithmetic, no clock and no chance."""

from __future__ import annotations

import pytest

from milepost.engine import next_delay
from milepost.errors import NonRetryable
from milepost.model import Retry


def test_a_step_without_a_policy_has_a_single_attempt():
    assert next_delay(None, 1, ValueError(), 0.0) is None


def test_a_policy_of_two_retries_allows_two_failures_and_not_three():
    policy = Retry(max_retries=2)
    assert [next_delay(policy, n, ValueError(), 0.0) for n in (1, 2, 3)] == [0.0, 0.0, None]


def test_delays_grow_by_the_factor_up_to_the_limit():
    policy = Retry(max_retries=9, delay=1.0, backoff_factor=3.0, max_delay=20.0)
    assert [next_delay(policy, n, ValueError(), 0.0) for n in (1, 2, 3, 4, 5)] == [1.0, 3.0, 9.0, 20.0, 20.0]


def test_a_factor_of_one_keeps_the_delay():
    policy = Retry(max_retries=9, delay=2.5, backoff_factor=1)
    assert [next_delay(policy, n, ValueError(), 0.0) for n in (1, 5, 9)] == [2.5, 2.5, 2.5]


@pytest.mark.parametrize("failures", [64, 400, 5000])
def test_no_number_of_failures_makes_a_delay_overflow(failures: int):
    policy = Retry(max_retries=10_000, delay=0.1, backoff_factor=1e6, max_delay=60.0)
    assert next_delay(policy, failures, ValueError(), 0.0) == 60.0


def test_no_delay_stays_no_delay_however_large_the_factor():
    policy = Retry(max_retries=10_000, delay=0.0, backoff_factor=1e6)
    assert next_delay(policy, 5000, ValueError(), 0.0) == 0.0


def test_jitter_takes_off_its_share_of_the_delay():
    policy = Retry(max_retries=3, delay=8.0, jitter=0.25)
    assert next_delay(policy, 1, ValueError(), 0.0) == 8.0
    assert next_delay(policy, 1, ValueError(), 0.5) == 7.0
    assert next_delay(policy, 1, ValueError(), 1.0) == 6.0


def test_only_errors_named_by_retry_on_are_tried_again():
    policy = Retry(max_retries=1, retry_on=(ConnectionError,))
    assert next_delay(policy, 1, ConnectionResetError(), 0.0) == 0.0
    assert next_delay(policy, 1, ValueError(), 0.0) is None


def test_give_up_on_wins_over_retry_on():
    policy = Retry(max_retries=1, retry_on=(OSError,), give_up_on=(FileNotFoundError,))
    assert next_delay(policy, 1, PermissionError(), 0.0) == 0.0
    assert next_delay(policy, 1, FileNotFoundError(), 0.0) is None


def test_one_exception_type_may_stand_without_a_tuple():
    policy = Retry(max_retries=1, retry_on=OSError, give_up_on=FileNotFoundError)  # type: ignore[arg-type]
    assert next_delay(policy, 1, OSError(), 0.0) == 0.0
    assert next_delay(policy, 1, FileNotFoundError(), 0.0) is None


def test_non_retryable_is_never_tried_again():
    class Refused(NonRetryable):
        pass

    assert next_delay(Retry(max_retries=5), 1, NonRetryable(), 0.0) is None
    assert next_delay(Retry(max_retries=5, retry_on=(Refused,)), 1, Refused(), 0.0) is None


def test_interrupts_are_no_reason_to_try_again():
    assert next_delay(Retry(max_retries=5), 1, KeyboardInterrupt(), 0.0) is None


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("from a TaskGroup", errors)


def test_a_group_is_tried_again_when_every_part_is():
    policy = Retry(max_retries=1, retry_on=(ConnectionError,))
    assert next_delay(policy, 1, group(ConnectionResetError(), ConnectionAbortedError()), 0.0) == 0.0
    assert next_delay(policy, 1, group(ConnectionResetError(), ValueError()), 0.0) is None


def test_a_group_that_holds_a_non_retryable_at_any_depth_is_not_tried_again():
    assert next_delay(Retry(max_retries=1), 1, group(ValueError(), KeyError()), 0.0) == 0.0
    assert next_delay(Retry(max_retries=1), 1, group(ValueError(), group(NonRetryable())), 0.0) is None


def test_a_group_that_holds_what_the_policy_gives_up_on_is_not_tried_again():
    policy = Retry(max_retries=1, give_up_on=(KeyError,))
    assert next_delay(policy, 1, group(ValueError(), KeyError()), 0.0) is None


def test_retry_on_may_name_the_group_itself():
    policy = Retry(max_retries=1, retry_on=(ExceptionGroup,))
    assert next_delay(policy, 1, ExceptionGroup("g", [ValueError()]), 0.0) == 0.0
    assert next_delay(policy, 1, ExceptionGroup("g", [NonRetryable()]), 0.0) is None
