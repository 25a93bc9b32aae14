"""What the engine runs for a step class: a function with the signature of its ``execute``."""

from __future__ import annotations

import inspect
from typing import Any

from milepost.pipeline.declare import Step
from milepost.runtime.steps import MISSING
from milepost.runtime.steps import Step as RuntimeStep

__all__ = ["OPTIONS", "Signature", "body_of", "read_signature"]

OPTIONS = ("retry", "timeout", "at_most_once", "pure", "transient", "executor")
PARAMS = "params"


class Signature:
    """What ``execute`` takes and returns.

    Attributes:
        first: The first parameter after ``self``, None where there is none.
        element: The parameter of an element, None where it has none.
        takes: The parameters that are results of earlier steps.
        context: The name of the parameter that asks for a StepContext, or None.
        stray: Parameters that nothing can be handed to, as they are written.
        returns: The annotation of what it returns.
    """

    def __init__(self, step_type: type[Step[Any]]) -> None:
        """Read the signature.

        Raises:
            ConfigurationError: It cannot be read.
        """
        execute = step_type.execute
        raw = RuntimeStep(execute)
        known = {parameter.name: parameter for parameter in raw.parameters}
        self.returns = raw.returns
        self.context = raw.context_parameter
        self.plain = inspect.signature(execute)
        self.first = None
        self.element = None
        self.takes = []
        self.stray = []
        own = list(self.plain.parameters.values())[1:]
        for place, parameter in enumerate(own):
            if parameter.name == self.context:
                continue
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                self.stray.append(parameter.name)
            elif place == 0:
                self.first = known[parameter.name]
            elif parameter.kind is parameter.KEYWORD_ONLY:
                self.takes.append(known[parameter.name])
            elif (
                step_type.over is not None and self.element is None and parameter.kind is not parameter.POSITIONAL_ONLY
            ):
                self.element = known[parameter.name]
            else:
                self.stray.append(parameter.name)


def read_signature(step_type: type[Step[Any]]) -> Signature:
    """Return what ``execute`` of a step takes and returns."""
    return Signature(step_type)


def body_of(step_type: type[Step[Any]], params_type: Any) -> RuntimeStep[..., Any]:
    """Return the engine's step for a class.

    Args:
        step_type: The class.
        params_type: The params of the run that it gets, from which it takes its own.

    Raises:
        ConfigurationError: An option has a value that cannot work.
    """
    execute = step_type.execute
    hints = RuntimeStep(execute)
    body: Any

    if inspect.iscoroutinefunction(execute):

        async def body_async(params: Any, **given: Any) -> Any:
            return await step_type.perform(params, **given)

        body = body_async
    else:

        def body_sync(params: Any, **given: Any) -> Any:
            return step_type.perform(params, **given)

        body = body_sync

    annotations = {parameter.name: parameter.annotation for parameter in hints.parameters}
    annotations = {name: found for name, found in annotations.items() if found is not MISSING and name != "self"}
    annotations[PARAMS] = params_type
    signature = inspect.signature(execute)
    parameters = [
        parameter.replace(annotation=annotations.get(parameter.name, parameter.annotation))
        for parameter in list(signature.parameters.values())[1:]
    ]
    if hints.context_parameter is not None:
        annotations[hints.context_parameter] = hints.context_class
    if hints.returns is not MISSING:
        annotations["return"] = hints.returns
    body.__signature__ = signature.replace(parameters=parameters, return_annotation=hints.returns)
    body.__annotations__ = annotations
    body.__module__ = step_type.__module__
    body.__qualname__ = f"{step_type.__qualname__}.perform"  # how another process finds it
    body.__wrapped__ = execute  # whose code tells whether it changed
    body.__doc__ = step_type.__doc__
    options = {name: getattr(step_type, name) for name in OPTIONS}
    return RuntimeStep(body, name=step_type.__name__, **options)
