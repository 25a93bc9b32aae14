"""Retry strategies and time limits as callers write them, checked before anything is stored."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final

from milepost.engine.policies import next_run_delay
from milepost.errors import ConfigurationError, did_you_mean
from milepost.tracking.plain import seconds

__all__ = ["Limits", "check_cancellation", "check_strategy", "engine_policy", "next_delay"]

_LONGEST: Final = 86_400  # seconds
_KINDS: Final = ("fixed", "exponential", "none")
_BASE: Final = {"fixed": 60, "exponential": 30, "none": 0}

Limits = tuple[int | None, int | None]


def check_strategy(given: Any) -> dict[str, Any] | None:
    """Return a retry strategy as it is stored, None where none is given.

    Raises:
        ConfigurationError: A key is unknown, or a value is out of range.

    Example:
        >>> check_strategy({"kind": "fixed"})
        {'kind': 'fixed'}
    """
    if given is None:
        return None
    known = ("kind", "base_seconds", "factor", "max_seconds")
    strategy = _mapping(given, "retry_strategy", known)
    if strategy.get("kind") not in _KINDS:
        near = did_you_mean(strategy.get("kind"), _KINDS)
        raise ConfigurationError(
            f"retry_strategy: kind must be 'fixed', 'exponential' or 'none', not {strategy.get('kind')!r}.{near}"
        )
    for name in ("base_seconds", "max_seconds"):
        value = strategy.get(name)
        if value is not None and not (_is_number(value) and 0 <= value <= _LONGEST):
            raise ConfigurationError(f"retry_strategy: {name} must be 0 to {_LONGEST} seconds, not {value!r}.")
    factor = strategy.get("factor")
    if factor is not None and not (_is_number(factor) and 1 <= factor <= 1000):
        raise ConfigurationError(f"retry_strategy: factor must be a number from 1 to 1000, not {factor!r}.")
    return {name: value for name, value in strategy.items() if value is not None}


def check_cancellation(given: Any) -> dict[str, Any] | None:
    """Return time limits as they are stored, None where none are given.

    Raises:
        ConfigurationError: A key is unknown, or a value is no number of seconds.
    """
    if given is None:
        return None
    limits = _mapping(given, "cancellation", ("max_delay", "max_duration"))
    for name, value in limits.items():
        if value is not None:
            seconds(value, f"cancellation: {name}")
    return {name: value for name, value in limits.items() if value is not None}


def engine_policy(strategy: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the policy that the engine's own workers go by: theirs, where no strategy was given."""
    if strategy is None:
        return {}
    kind = strategy["kind"]
    return {
        "retry": {
            "delay": float(strategy.get("base_seconds", _BASE[kind])) if kind != "none" else 0.0,
            "backoff_factor": float(strategy.get("factor", 2.0)) if kind == "exponential" else 1.0,
            "max_delay": float(strategy.get("max_seconds", _LONGEST)),
            "jitter": 0.0,
            "retry_on": ["builtins:Exception"],
            "give_up_on": [],
        }
    }


def next_delay(policies: Mapping[str, Any], attempt: int, max_attempts: int) -> float | None:
    """Return the seconds until the next attempt, None where there is none; without a strategy they grow, spread out."""
    return next_run_delay(policies, attempt, max_attempts, Exception(), random.random())


def _mapping(given: Any, name: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{name} must be a dict with {', '.join(known)}, not {given!r}.")
    for key in given:
        if key not in known:
            raise ConfigurationError(f"{name} has no {key!r}.{did_you_mean(key, known)} It takes {', '.join(known)}.")
    return dict(given)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
