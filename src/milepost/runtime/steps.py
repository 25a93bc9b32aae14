"""The ``@step`` decorator and what the drivers need to know of a function."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

from milepost.errors import ConfigurationError
from milepost.graph import Graph
from milepost.model import Retry
from milepost.runtime.code import code_hash
from milepost.runtime.conform import Check, return_check
from milepost.runtime.context import DagContext, StepContext
from milepost.runtime.lazy import lazy
from milepost.values import classes_in

__all__ = ["Parameter", "Step", "as_step", "check_executor", "classes_of", "step"]

P = ParamSpec("P")
R = TypeVar("R")

MISSING: Any = inspect.Parameter.empty
OUTPUT: Final = "output"  # the parameter of an undo that gets what the step made
_CONTEXT_BY_NAME: Final = re.compile(r"([A-Za-z_]\w*\.)*StepContext( *\| *None)?")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a step that a graph can bind. ``annotation`` is MISSING where there is none."""

    name: str
    annotation: Any
    is_optional: bool


class Step(Generic[P, R]):
    """A function with the options of a step. Calling it calls the function, recording nothing.

    Made by :func:`step`; put into a graph with ``Dag.node`` and ``Dag.map``.
    """

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        at_most_once: bool = False,
        pure: bool = False,
        transient: bool = False,
        executor: Executor | None = None,
        undo: Callable[..., Any] | None = None,
    ) -> None:
        """Check the options and look at the function once."""
        if not callable(fn):
            raise ConfigurationError(f"A step must be a function, not {fn!r}. Decorate a def or an async def.")
        self.fn = fn
        self.name = _name_of(fn) if name is None else name
        self.retry = retry
        self.timeout = timeout
        self.at_most_once = at_most_once
        self.pure = pure
        self.transient = transient
        self.executor = executor
        self.undo: Step[..., Any] | None = None if undo is None else as_step(undo)
        functools.update_wrapper(self, fn, updated=())
        self._check_options()
        target = fn.func if isinstance(fn, functools.partial) else fn
        self.is_async = inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(
            getattr(target, "__call__", None)  # noqa: B004 - an object with an async __call__
        )
        if self.is_async and executor is not None:
            raise ConfigurationError(
                f"Step {self.name!r} is async: it runs on the event loop, so executor= cannot apply."
            )
        if self.undo is not None:
            self._check_undo(self.undo)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, as if it were not a step."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        """Return the name."""
        return f"<step {self.name!r}>"

    def make_context(self, session: Any, flight: Any) -> Any:
        """Return what the function gets where it asks for a context."""
        kind = self.context_class
        context = kind(session.ledger, session.run_id, session.lease_epoch, flight)
        if isinstance(context, DagContext):
            context.dag_nsref = session.workflow
        return context

    def with_options(self, **options: Any) -> Step[P, R]:
        """Return a copy with other options (those of :func:`step`).

        Example:
            >>> @step
            ... def load() -> int: ...
            >>> load.with_options(timeout=5).timeout
            5
        """
        own = {
            name: getattr(self, name)
            for name in ("name", "retry", "timeout", "at_most_once", "pure", "transient", "executor", "undo")
        }
        if "retries" in options:
            own["retry"] = None
        return step(**{**own, **options})(self.fn)

    @lazy
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters a graph can bind, in order; a StepContext is not among them."""
        return self._signature[0]

    @lazy
    def returns(self) -> Any:
        """The return annotation, MISSING where there is none."""
        return self._signature[1]

    @lazy
    def context_parameter(self) -> str | None:
        """The name of the parameter that asks for a StepContext, or None."""
        return self._signature[2]

    @lazy
    def context_class(self) -> type[StepContext]:
        """The class that the parameter for the context is annotated with, a StepContext or a subclass."""
        hint = _hints(self.fn).get(self.context_parameter or "")
        found = [kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)]
        return next((kind for kind in found if issubclass(kind, StepContext)), StepContext)

    @lazy
    def positional(self) -> tuple[str, ...]:
        """The parameters that can only be given by position."""
        return self._signature[3]

    @lazy
    def takes_any_keyword(self) -> bool:
        """Whether the function has ``**kwargs``."""
        return self._signature[4]

    @lazy
    def classes(self) -> tuple[type, ...]:
        """The classes that its annotations mention, builtins left out: its values are made of them."""
        annotations = (self.returns, *(parameter.annotation for parameter in self.parameters))
        found = (cls for annotation in annotations for cls in classes_in(annotation) if cls.__module__ != "builtins")
        return tuple(dict.fromkeys(found))

    @lazy
    def code(self) -> str:
        """The hash of its function's source and of its options: a step of the same code would run the same today."""
        names = ("timeout", "at_most_once", "pure", "transient")
        options = {name: getattr(self, name) for name in names}
        if self.retry is not None:
            fields = dataclasses.asdict(self.retry)
            options |= {
                name: [kind.__qualname__ for kind in value] if isinstance(value, tuple) else value
                for name, value in fields.items()
            }
        return code_hash(self.fn, options)

    @lazy
    def check(self) -> Check | None:
        """What every returned value must pass, or None."""
        return None if self.returns is MISSING else return_check(self.name, self.returns)

    @lazy
    def _signature(self) -> tuple[tuple[Parameter, ...], Any, str | None, tuple[str, ...], bool]:
        try:
            signature = inspect.signature(self.fn)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"Step {self.name!r} has no readable signature ({error}). Wrap it in a def that names its parameters."
            ) from error
        hints = _hints(self.fn)
        parameters, positional = [], []
        context, any_keyword = None, False
        for parameter in signature.parameters.values():
            annotation = hints.get(parameter.name, parameter.annotation)
            if parameter.kind is parameter.VAR_KEYWORD:
                any_keyword = True
            elif parameter.kind is parameter.VAR_POSITIONAL:
                continue
            elif _asks_for_context(annotation):
                context = parameter.name
            else:
                if parameter.kind is parameter.POSITIONAL_ONLY:
                    positional.append(parameter.name)
                parameters.append(Parameter(parameter.name, annotation, parameter.default is not parameter.empty))
        returns = hints.get("return", signature.return_annotation)
        return tuple(parameters), returns, context, tuple(positional), any_keyword

    def _check_options(self) -> None:
        name = self.name
        if not isinstance(name, str) or not name.isprintable() or not name.strip() or "[" in name or "]" in name:
            raise ConfigurationError(f"A step's name must be printable text without '[' and ']', not {name!r}.")
        if self.timeout is not None and not (
            isinstance(self.timeout, (int, float)) and not isinstance(self.timeout, bool) and self.timeout > 0
        ):
            raise ConfigurationError(
                f"Step {self.name!r}: timeout must be a number of seconds, more than 0, not {self.timeout!r}. "
                "Leave it out for no limit."
            )
        check_executor(f"Step {self.name!r}: executor", self.executor)
        if self.retry is not None and not isinstance(self.retry, Retry):
            raise ConfigurationError(f"Step {self.name!r}: retry must be a Retry, not {self.retry!r}.")
        if self.at_most_once and self.retry is not None and self.retry.max_retries:
            raise ConfigurationError(
                f"Step {self.name!r} is at_most_once, so it cannot be retried as well. Drop one of the two."
            )
        if self.at_most_once and (self.pure or self.transient):
            other = "pure" if self.pure else "transient"
            raise ConfigurationError(
                f"Step {self.name!r} is at_most_once and {other}, which may run it again. Drop one of the two."
            )

    def _check_undo(self, undo: Step[..., Any]) -> None:
        name = self.name
        if self.pure:
            raise ConfigurationError(f"Step {name!r} is pure, so there is nothing to undo. Drop pure or undo.")
        if undo.executor is not None or undo.at_most_once or undo.transient or undo.undo is not None:
            raise ConfigurationError(
                f"The undo of step {name!r} can have retries and a timeout, and no other options of a step. Drop them."
            )
        if undo.positional:
            raise ConfigurationError(
                f"The undo of step {name!r} gets its arguments by name; {undo.positional[0]!r} has none. Drop the '/'."
            )
        known = {parameter.name for parameter in self.parameters} | {OUTPUT}
        for parameter in undo.parameters:
            if parameter.name not in known and not parameter.is_optional and not self.takes_any_keyword:
                raise ConfigurationError(
                    f"The undo of step {name!r} asks for {parameter.name!r}, which is no parameter of the step. "
                    f"It can have: {', '.join(sorted(known))}."
                )


@overload
def step(fn: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    fn: None = None,
    /,
    *,
    name: str | None = None,
    retries: int | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
    at_most_once: bool = False,
    pure: bool = False,
    transient: bool = False,
    executor: Executor | None = None,
    undo: Callable[..., Any] | None = None,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...


def step(
    fn: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
    at_most_once: bool = False,
    pure: bool = False,
    transient: bool = False,
    executor: Executor | None = None,
    undo: Callable[..., Any] | None = None,
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function (``def`` or ``async def``) a step.

    Args:
        fn: The function; given when the decorator stands without parentheses.
        name: The label its nodes get by default; the function's name if left out.
        retries: Further attempts after a failure: short for ``retry=Retry(max_retries=retries)``.
        retry: The whole policy. Without either, a failure stands.
        timeout: Seconds that one attempt may take. An async body is cancelled; a sync body cannot
            be stopped from outside: its thread is left behind and its late result ignored.
        at_most_once: The start is recorded before the body runs, and a step that was started is
            never started again, not even after a crash.
        pure: No side effects, and the same output for the same input: its result may ride with the
            next commit, and a crash may compute it again.
        transient: The output (a connection, a model in memory) is not stored; on resume the step
            runs again where a later step needs it.
        executor: Where the body runs: any ``concurrent.futures.Executor``. Default: threads.
        undo: What takes back what the step did, when its run is rolled back: a function, or a step with ``retries``
            and ``timeout`` of its own. It gets those of the step's arguments that it has parameters for, by name, and
            the step's output as ``output``.

    Raises:
        ConfigurationError: An option has a value that cannot work, or two contradict each other.

    Example:
        >>> @step(retries=2, timeout=30)
        ... def double(n: int) -> int:
        ...     return 2 * n
        >>> double(4)
        8
    """
    if retries is not None:
        if retry is not None:
            raise ConfigurationError("Give retries= or retry=, not both.")
        retry = Retry(max_retries=retries)

    def decorate(fn: Callable[P, R]) -> Step[P, R]:
        return Step(
            fn.fn if isinstance(fn, Step) else fn,
            name=name,
            retry=retry,
            timeout=timeout,
            at_most_once=at_most_once,
            pure=pure,
            transient=transient,
            executor=executor,
            undo=undo,
        )

    return decorate if fn is None else decorate(fn)


def check_executor(what: str, executor: object) -> None:
    """Refuse what cannot run a step's body.

    Raises:
        ConfigurationError: It has no ``submit`` as executors have it.
    """
    if executor is not None and (isinstance(executor, type) or not callable(getattr(executor, "submit", None))):
        raise ConfigurationError(
            f"{what} must be a concurrent.futures.Executor, such as ProcessPoolExecutor(), not {executor!r}."
        )


def classes_of(graph: Graph) -> tuple[type, ...]:
    """Return the classes that the annotations of a graph's steps mention: whose values its runs store."""
    steps = {id(node.body): node.body for node in graph.nodes}
    return tuple(dict.fromkeys(cls for found in steps.values() for cls in found.classes))


def as_step(source: Step[..., Any] | Callable[..., Any]) -> Step[..., Any]:
    """Return a step as it is, and a plain function as a step with default options."""
    return source if isinstance(source, Step) else Step(source)


def call_by_reference(module: str, qualname: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module-level step's function in another process.

    There the name leads to the Step, not to its function, so the function itself cannot be pickled.
    """
    target: Any = importlib.import_module(module)
    for part in qualname.split("."):
        target = getattr(target, part)
    return (target.fn if isinstance(target, Step) else target)(*args, **kwargs)


def _asks_for_context(annotation: Any) -> bool:
    if isinstance(annotation, str):  # imported for type checkers only, so that nobody can look it up
        return _CONTEXT_BY_NAME.fullmatch(annotation) is not None
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return any(_asks_for_context(part) for part in typing.get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, StepContext)


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    target: Any = fn.func if isinstance(fn, functools.partial) else fn
    if not inspect.isroutine(target) and not isinstance(target, type):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target)
    except Exception:
        return _hints_one_by_one(target)


def _hints_one_by_one(target: Any) -> dict[str, Any]:
    """Return the annotations that can be looked up: one that cannot must not take the others along."""
    hints = {}
    for name, annotation in getattr(target, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints.update(typing.get_type_hints(alone, getattr(target, "__globals__", {})))
        except Exception:
            hints[name] = annotation
    return hints


def _name_of(fn: Callable[..., Any]) -> str:
    if isinstance(fn, functools.partial):
        return _name_of(fn.func)
    name = getattr(fn, "__name__", None) or type(fn).__name__
    return "lambda" if name == "<lambda>" else str(name)
