"""What templates may read from the process: environment variables and secrets that were named, and no others."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["allow_environment", "environment", "secrets", "set_secrets"]

_NAMES: set[str] = set()
_SECRETS: list[Callable[[], Mapping[str, Any]]] = []


def allow_environment(*names: str) -> None:
    """Let templates read these environment variables, as ``{{ENV.NAME}}``."""
    _NAMES.update(names)


def set_secrets(provider: Callable[[], Mapping[str, Any]]) -> None:
    """Let templates read secrets, as ``{{secrets.name}}``: asked for when a node starts, and never stored."""
    _SECRETS[:] = [provider]


def environment() -> dict[str, str]:
    """Return the variables that were allowed and are set."""
    return {name: os.environ[name] for name in _NAMES if name in os.environ}


def secrets() -> Mapping[str, Any]:
    """Return the secrets, none where nobody gives them."""
    return _SECRETS[0]() if _SECRETS else {}
