"""What a map goes over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from milepost.errors import ConfigurationError, ValueNotStorable
from milepost.values import encode

__all__ = ["flatten", "list_elements"]


def list_elements(label: str, over: Any) -> tuple[Sequence[Any], list[Any] | None]:
    """Return what a map goes over, and the keys of a dict.

    It is a copy where another step that holds the same object could change it meanwhile.
    """
    if isinstance(over, Mapping):
        keys = list(over)
        _check_keys(label, keys)
        return [over[key] for key in keys], keys
    if not isinstance(over, Sequence) or isinstance(over, (str, bytes, bytearray)):
        raise ConfigurationError(
            f"Map {label!r} needs a list, tuple, range or dict to go over, not {type(over).__name__}. "
            "Let the upstream step return one (sort a set, list() a generator)."
        )
    return over if type(over) in (tuple, range) else list(over), None


def _check_keys(label: str, keys: list[Any]) -> None:
    """Refuse keys that cannot name elements: a restart finds an element again by its key's repr."""
    try:
        encode(keys)
    except ValueNotStorable as error:
        raise ConfigurationError(
            f"Map {label!r} goes over a dict with a key of type {error.type_name}, which cannot be stored. "
            "Use texts, numbers or other plain data as keys."
        ) from error
    seen: set[str] = set()
    for name in map(repr, keys):
        if name in seen:
            raise ConfigurationError(
                f"Map {label!r} goes over a dict with two keys that both read {name}: their elements would bear the "
                "same label. Give them keys that differ in text."
            )
        seen.add(name)


def flatten(outputs: Iterable[Any]) -> list[Any]:
    """Return as one list what lists hold; None adds nothing, and anything else is a list of itself.

    Example:
        >>> flatten([[1, 2], [], None, 3, [[4]]])
        [1, 2, 3, [4]]
    """
    flat: list[Any] = []
    for output in outputs:
        if isinstance(output, list):
            flat += output
        elif output is not None:
            flat.append(output)
    return flat
