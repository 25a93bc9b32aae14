"""Attributes that are computed when first asked for.

``functools.cached_property`` does the same, but in Python 3.11 it holds one lock for all objects of a class
while it computes: two threads that build graphs wait for each other, and a process that forks meanwhile
leaves its child a lock that nobody will ever release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["lazy"]

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801 - used as a decorator
    """Turn a method into an attribute; of two threads that ask at once, both compute, and either value stands."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        """Take the method."""
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> lazy[T]: ...
    @overload
    def __get__(self, owner: object, kind: type) -> T: ...

    def __get__(self, owner: object | None, kind: type) -> lazy[T] | T:
        """Compute the value and put it in the attribute's place."""
        if owner is None:
            return self
        value = owner.__dict__[self._name] = self._compute(owner)
        return value
