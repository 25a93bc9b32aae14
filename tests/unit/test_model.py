"""Plain data that refuses what could never work, at the line that wrote it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from milepost.errors import ConfigurationError
from milepost.model import Retry, StepAttempt, StepKind, Storage, check_run_id, new_run_id, progress_text
from milepost.states import StepStatus

# --- run ids -------------------------------------------------------------------------------------


def test_a_new_run_id_is_a_version_7_uuid_of_its_moment():
    parsed = uuid.UUID(new_run_id(1_700_000_000_123_456))
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert parsed.int >> 80 == 1_700_000_000_123


def test_ids_made_later_sort_later_and_ids_of_one_moment_differ():
    moments = [0, 1_000, 1_700_000_000_000_000, 1_700_000_000_001_000, 4_000_000_000_000_000]
    ids = [new_run_id(moment) for moment in moments]
    assert ids == sorted(ids)
    assert len({new_run_id(5) for _ in range(1000)}) == 1000


def test_ids_of_one_millisecond_sort_by_its_microseconds():
    ids = [new_run_id(1_700_000_000_000_000 + micros) for micros in range(1000)]
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    "run_id", ["a", "0", "nightly-2024.01.31_b:7", "x" * 128, "018bcfe5-6800-7000-8000-000000000000"]
)
def test_a_proper_run_id_is_returned_as_it_is(run_id: str):
    assert check_run_id(run_id) == run_id


@pytest.mark.parametrize(
    "run_id", ["", "-a", ".a", "a b", "a/b", "a\n", "ä", "x" * 129, "a\0", "../a", "a;drop table runs", None, 7]
)
def test_any_other_run_id_is_refused_with_the_rule(run_id: Any):
    with pytest.raises(ConfigurationError, match=r"is not a run id\. Use 1 to 128 letters"):
        check_run_id(run_id)


def test_the_word_for_the_newest_run_is_no_run_id():
    with pytest.raises(ConfigurationError, match="'latest' is no run id: it stands for the newest run"):
        check_run_id("latest")


# --- progress ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ((18, 50, "loading"), "18/50 loading"),
        ((18, 50, None), "18/50"),
        ((None, 50, None), "0/50"),
        ((18, None, ""), "18"),
        ((0, None, None), "0"),
        ((None, None, "loading"), "loading"),
        ((None, None, None), None),
    ],
)
def test_progress_is_told_in_words(said: tuple[int | None, int | None, str | None], told: str | None):
    assert progress_text(*said) == told


# --- retry policies ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"max_retries": True},
        {"max_retries": "3"},
        {"delay": -0.1},
        {"delay": float("nan")},
        {"delay": "1"},
        {"delay": None},
        {"max_delay": -1},
        {"max_delay": "5m"},
        {"delay": 600},
        {"backoff_factor": 0.5},
        {"backoff_factor": float("nan")},
        {"backoff_factor": "2"},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": "much"},
        {"retry_on": "ValueError"},
        {"retry_on": (ValueError, "KeyError")},
        {"retry_on": ValueError()},
        {"give_up_on": (int,)},
        {"give_up_on": None},
    ],
)
def test_a_policy_that_could_never_work_is_refused_by_the_name_of_its_option(options: dict[str, Any]):
    ((name, value),) = options.items()
    with pytest.raises(ConfigurationError) as caught:
        Retry(**options)
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)


def test_the_borders_of_a_policy_are_allowed():
    Retry(max_retries=0, delay=0, backoff_factor=1, max_delay=0, jitter=1)
    Retry(max_retries=1000, delay=1e9, max_delay=1e9, jitter=0, retry_on=(), give_up_on=(BaseException,))


def test_policies_of_equal_values_are_equal_and_can_be_keys():
    one, same = Retry(retry_on=OSError), Retry(retry_on=(OSError,))  # type: ignore[arg-type]
    assert one == same
    assert len({one, same}) == 1


# --- rows ----------------------------------------------------------------------------------------


def attempt(finished_at: int | None) -> StepAttempt:
    return StepAttempt(
        "r", "a", 1, 1, 1, StepKind.STEP, None, StepStatus.RUNNING, None, None, Storage.INLINE, None,
        None, None, None, None, None, None, 1_000_000, finished_at,
    )  # fmt: skip


def test_a_duration_is_seconds_and_none_while_the_attempt_runs():
    assert attempt(3_500_000).duration == 2.5
    assert attempt(1_000_000).duration == 0.0
    assert attempt(None).duration is None
