"""What workflows and their nodes may be called, and the names that templates reserve."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["RESERVED", "branch_name", "check_id", "check_result_key", "check_version", "check_workflow_name"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_VERSION: Final = re.compile(r"[a-zA-Z0-9._-]+")
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

RESERVED: Final = frozenset({"inputs", "ds", "run", "item", "index", "workflow", "ENV", "secrets", "result"})
"""Names that templates always mean the same by: no result can be called so."""


def check_workflow_name(name: str) -> str:
    """Return the name, or raise ValueError where it breaks the rule.

    Example:
        >>> check_workflow_name("data_pipeline")
        'data_pipeline'
    """
    if _NAME.fullmatch(name) is None or "__" in name:
        raise ValueError(
            f"workflow name {name!r} must be a lower-case letter, then lower-case letters, digits and single "
            "underscores ('__' separates name, version and step)"
        )
    return name


def check_version(version: str) -> str:
    """Return the version, or raise ValueError where it breaks the rule."""
    if not isinstance(version, str):
        raise ValueError(f'version must be text: write it in quotes, version: "{version}"')  # noqa: TRY004 - pydantic's way
    if _VERSION.fullmatch(version) is None or "__" in version:
        raise ValueError(f"version {version!r} must be letters, digits, '.', '_' and '-', without '__'")
    return version


def check_id(task_id: str) -> str:
    """Return a node's id, or raise ValueError where it breaks the rule.

    Example:
        >>> check_id("Check Me!")
        'Check Me!'
    """
    if not (0 < len(task_id) <= 128 and task_id.isprintable() and task_id == task_id.strip()) or set(task_id) & set(
        "[]/"
    ):
        raise ValueError(
            f"task id {task_id!r} must be 1 to 128 printable characters without '[', ']' and '/', which mark nodes "
            "inside others, and without spaces at its ends"
        )
    return task_id


def check_result_key(key: str) -> str:
    """Return a result key, or raise ValueError where templates could not name it."""
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"result_key {key!r} must be a name: letters, digits and '_', not beginning with a digit")
    if key in RESERVED:
        raise ValueError(f"result_key {key!r} is a name that templates reserve. Choose another")
    return key


def branch_name(task_id: str, branch: str) -> str:
    """Return the name of the workflow that a branch is, whatever the two are called.

    Example:
        >>> branch_name("Fan out!", "b 1")
        'fan_out_b_1'
    """
    text = re.sub(r"[^a-z0-9]+", "_", f"{task_id}_{branch}".lower()).strip("_")
    return text if text[:1].isalpha() else f"b_{text}".rstrip("_")
