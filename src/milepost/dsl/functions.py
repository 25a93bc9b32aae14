"""The functions that workflows may call: registered by name, or in modules that the user allowed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from milepost.dsl.builder import WAIT_FOR_BRANCHES
from milepost.errors import ConfigurationError, did_you_mean

__all__ = ["FunctionNotFound", "allow_module", "resolve_function", "task_function"]

F = TypeVar("F", bound=Callable[..., Any])

REGISTERED: dict[str, Callable[..., Any]] = {}
_MODULES: set[str] = set()


class FunctionNotFound(ConfigurationError, LookupError):
    """A workflow names a function that is not registered, nor in a module that was allowed."""


def task_function(name: str) -> Callable[[F], F]:
    """Register a function under the dotted name by which workflows call it.

    Raises:
        ConfigurationError: Another function has the name.

    Example:
        >>> @task_function("demo.shout")
        ... def shout(text: str) -> str:
        ...     return text.upper()
        >>> resolve_function("demo.shout")("hey")
        'HEY'
    """
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ConfigurationError(f"A function is registered under a name such as 'etl.load', not {name!r}.")

    def register(fn: F) -> F:
        known = REGISTERED.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (fn.__module__, fn.__qualname__):
            raise ConfigurationError(f"Two functions are registered as {name!r}. Give one of them another name.")
        REGISTERED[name] = fn
        return fn

    return register


def allow_module(*names: str) -> None:
    """Let workflows call the functions that these modules define, and those of modules inside them."""
    _MODULES.update(names)


def resolve_function(name: str) -> Callable[..., Any]:
    """Return the function of a dotted name.

    Raises:
        FunctionNotFound: It is not registered, and in no module that was allowed.
    """
    found = REGISTERED.get(name)
    if found is not None:
        return found
    module, _, attribute = name.rpartition(".")
    if any(module == allowed or module.startswith(f"{allowed}.") for allowed in _MODULES):
        return _imported(name, module, attribute)
    near = did_you_mean(name, REGISTERED)
    raise FunctionNotFound(
        f"No function is registered as {name!r}.{near} Register it with @task_function({name!r}), or allow its module."
    )


def _imported(name: str, module: str, attribute: str) -> Callable[..., Any]:
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        raise FunctionNotFound(f"The module of {name!r} cannot be imported: {error}.") from error
    found = None if attribute.startswith("_") else getattr(loaded, attribute, None)
    origin = getattr(found, "__module__", None)
    if not callable(found) or origin is None or not any(origin == m or origin.startswith(f"{m}.") for m in _MODULES):
        raise FunctionNotFound(f"{module!r} defines no function {attribute!r} of its own.")
    imported: Callable[..., Any] = found
    return imported


def missing_functions(names: Iterable[str]) -> list[str]:
    """Return, for each name that cannot be resolved, why."""
    told = []
    for name in dict.fromkeys(names):
        try:
            resolve_function(name)
        except FunctionNotFound as error:
            told.append(str(error))
    return told


@task_function(WAIT_FOR_BRANCHES)
def _wait_for_branches(results: Any, timeout_seconds: float | None = None) -> Any:
    """Return a parallel's results, which are there: it completes when all its branches have."""
    return results
