"""From classes to frozen plans, with all mistakes at once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from milepost.dag.fits import element_of, fits, is_mappable, map_outputs
from milepost.errors import MilepostError, did_you_mean
from milepost.pipeline.bodies import PARAMS, Signature, body_of, read_signature
from milepost.pipeline.declare import Process, Step, params_type_of
from milepost.pipeline.plan import (
    ParallelProcessGroup,
    ParallelStepGroup,
    PipelinePlan,
    ProcessPlan,
    StepPlan,
)
from milepost.pipeline.problems import CompilationError, Mistake, MistakeCode
from milepost.runtime.conform import annotation_name, show
from milepost.runtime.steps import MISSING, Parameter

__all__ = ["compile_pipeline"]

_C = MistakeCode
Results = dict[str, tuple[str, tuple[Any, ...]]]  # by name: who declares it, and the annotations of what it may be
Groups = list[tuple[bool, list[type[Any]]]]  # what a class lists: whether it is a group, and its members


def compile_pipeline(pipeline_type: type[Any]) -> PipelinePlan:
    """Return the plan of a pipeline, from the classes as they are now.

    Raises:
        CompilationError: There are mistakes: all of them.

    Example:
        >>> from milepost.pipeline import Pipeline
        >>> class Empty(Pipeline): ...
        >>> try:
        ...     compile_pipeline(Empty)
        ... except CompilationError as error:
        ...     print([mistake.code.value for mistake in error.mistakes])
        ['MISSING_GENERIC_PARAM', 'NOTHING_TO_RUN']
    """
    return _Compiler(pipeline_type).compile()


class _Compiler:
    def __init__(self, pipeline_type: type[Any]) -> None:
        self._pipeline = pipeline_type
        self._name = pipeline_type.__name__
        self._mistakes: list[Mistake] = []
        self._params: Any = MISSING
        self._declared: dict[str, str] = {}  # names of results anywhere in the pipeline, and who declares them

    def compile(self) -> PipelinePlan:
        self._params = self._params_type(self._pipeline, self._name)
        groups = self._groups(self._pipeline.processes, Process, self._name, "processes", _C.INVALID_PROCESS_ITEM)
        self._check_twice(groups, self._name, "processes", _C.DUPLICATE_PROCESS)
        listed = {
            process: self._groups(process.steps, Step, process.__name__, "steps", _C.INVALID_STEP_ITEM)
            for _, members in groups
            for process in members
        }
        for process, steps in listed.items():
            self._check_twice(steps, process.__name__, "steps", _C.DUPLICATE_STEP)
            self._note_results(process, steps)
        nodes: list[ProcessPlan | ParallelProcessGroup] = []
        visible: Results = {}
        for is_group, members in groups:
            plans, produced = [], []
            for process in members:  # members of a group do not see each other's results
                plan, made = self._process(process, listed[process], visible)
                plans.append(plan)
                produced.append(made)
            visible = {**visible, **{name: found for made in produced for name, found in made.items()}}
            nodes.append(ParallelProcessGroup(tuple(plans)) if is_group and len(plans) > 1 else plans[0])
        if self._mistakes:
            raise CompilationError(f"Pipeline {self._name}", list(dict.fromkeys(self._mistakes)))
        return PipelinePlan(self._pipeline, self._params, tuple(nodes))

    # --- what is listed ----------------------------------------------------------------------

    def _groups(self, listed: Any, kind: type[Any], component: str, field: str, code: MistakeCode) -> Groups:
        noun = kind.__name__.lower()
        if not _is_list(listed):
            self._add(code, component, f"{field} is {show(listed)}.", f"Make it a list of {noun} classes.", field)
            return []
        groups: Groups = []
        for item in listed:
            members = list(item) if _is_list(item) else [item]
            if not members:
                remedy = f"Put {noun} classes into it, or take it out."
                self._add(_C.NOTHING_TO_RUN, component, f"{field} holds an empty group.", remedy, field)
            good = [member for member in members if self._is_member(member, kind, component, field, code)]
            if good:
                groups.append((_is_list(item), good))
        if not listed:
            self._add(_C.NOTHING_TO_RUN, component, f"It lists no {noun}.", f"Set {field} = [...].", field)
        return groups

    def _is_member(self, item: Any, kind: type[Any], component: str, field: str, code: MistakeCode) -> bool:
        noun = kind.__name__.lower()
        if isinstance(item, type) and issubclass(item, kind) and item is not kind:
            return True
        if _is_list(item):
            message = f"{field} holds a list inside a group: {show(item)}."
            remedy = f"A group is flat: move the order into a {'process' if kind is Step else 'pipeline'} of its own."
        elif isinstance(item, kind):
            message = f"{field} holds an instance of {type(item).__name__}."
            remedy = "List the class itself: each execution gets an instance of its own."
        else:
            message = f"{field} holds {show(item)}, which is no {noun} class."
            remedy = f"List subclasses of {kind.__name__}."
        self._add(code, component, message, remedy, field)
        return False

    def _check_twice(self, groups: Groups, component: str, field: str, code: MistakeCode) -> None:
        names = [member.__name__ for _, members in groups for member in members]
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            message = f"{field} lists {name!r} {names.count(name)} times, and a label is unique in a run."
            self._add(code, component, message, f"Give each a name of its own: class {name}Again({name}).", field)

    def _note_results(self, process: type[Any], groups: Groups) -> None:
        for _, members in groups:
            for step in members:
                name, component = step.result, f"{process.__name__}.{step.__name__}"
                if name is None:
                    continue
                if not isinstance(name, str) or not name.isidentifier() or name in (PARAMS, "self"):
                    remedy = "Make it a name that a parameter can have, such as 'words'."
                    self._add(_C.INVALID_RESULT_NAME, component, f"result is {show(name)}.", remedy, "result")
                elif name in self._declared:
                    message = f"{self._declared[name]} declares the result {name!r} as well."
                    remedy = "Give one of the two another name; of a step that is listed twice, by a subclass."
                    self._add(_C.DUPLICATE_RESULT, component, message, remedy, "result")
                else:
                    self._declared[name] = component

    # --- processes and steps -----------------------------------------------------------------

    def _process(self, process: type[Any], groups: Groups, visible: Results) -> tuple[ProcessPlan, Results]:
        params = self._params_type(process, process.__name__)
        self._check_params(params, process.__name__)
        nodes: list[StepPlan | ParallelStepGroup] = []
        made: Results = {}
        for is_group, members in groups:
            seen = {**visible, **made}
            plans = []
            for step in members:
                component = f"{process.__name__}.{step.__name__}"
                plan, outputs = self._step(step, process.__name__, component, seen)
                if isinstance(step.result, str):
                    made[step.result] = component, outputs
                if plan is not None:
                    plans.append(plan)
            if plans:
                nodes.append(ParallelStepGroup(tuple(plans)) if is_group and len(plans) > 1 else plans[0])
        return ProcessPlan(process, params, tuple(nodes)), made

    def _step(
        self, step: type[Any], process: str, component: str, visible: Results
    ) -> tuple[StepPlan | None, tuple[Any, ...]]:
        params = self._params_type(step, component)
        self._check_params(params, component)
        if step.execute is None or not inspect.isfunction(inspect.getattr_static(step, "execute", None)):
            message = "It has no execute()." if step.execute is None else "execute is no plain method."
            self._add(
                _C.MISSING_EXECUTE, component, message, "Write: def execute(self, params, *, ...): ...", "execute"
            )
            return None, (MISSING,)
        try:
            signature = read_signature(step)
        except MilepostError as error:
            self._add(_C.INVALID_SIGNATURE, component, str(error), "Write a def with named parameters.", "execute")
            return None, (MISSING,)
        self._check_first(signature, params, component)
        self._check_init(step, component)
        self._check_stray(step, signature, component)
        takes = [parameter for parameter in signature.takes if self._can_take(parameter, component, visible)]
        outputs = self._outputs(step, signature, component, visible)
        try:
            body = body_of(step, self._params)
        except MilepostError as error:
            self._add(_C.INVALID_STEP_OPTION, component, str(error), "Set it to such a value, or leave it out.")
            return None, outputs
        self._check_concurrency(step, component)
        names = tuple(parameter.name for parameter in takes)
        result = step.result if isinstance(step.result, str) else None
        needs = [parameter.name for parameter in takes if not parameter.is_optional]
        if isinstance(step.over, str):
            needs.append(step.over)
        return StepPlan(step, params, process, names, tuple(needs), result, body), outputs

    def _check_first(self, signature: Signature, params: Any, component: str) -> None:
        first = signature.first
        if first is None or first.name != PARAMS:
            message = "execute() takes no params." if first is None else f"Its first parameter is {first.name!r}."
            remedy = "Write: def execute(self, params, *, ...)."
            self._add(_C.INVALID_PARAMS_NAME, component, message, remedy, "execute")
        elif params is not MISSING and not fits(params, first.annotation):
            message = f"params is annotated {_named(first.annotation)}, and the class takes {_named(params)}."
            remedy = f"Annotate it {_named(params)}."
            self._add(_C.INVALID_PARAMS_TYPE, component, message, remedy, PARAMS)

    def _check_init(self, step: type[Any], component: str) -> None:
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        for name, parameter in inspect.signature(step).parameters.items():
            if parameter.default is parameter.empty and parameter.kind not in variadic:
                message = f"Its instances are made without arguments, and __init__() needs {name!r}."
                remedy = "Drop __init__, or give the parameter a default; what a step works on comes with its params."
                self._add(_C.INVALID_SIGNATURE, component, message, remedy, "__init__")

    def _check_stray(self, step: type[Any], signature: Signature, component: str) -> None:
        for name in signature.stray:
            message = f"Nothing can be handed to its parameter {name!r}."
            remedy = "Results of earlier steps are keyword-only: write them after a *."
            self._add(_C.INVALID_SIGNATURE, component, message, remedy, name)
        if step.over is not None and signature.element is None:
            message = f"It goes over {step.over!r} and has no parameter for the element."
            remedy = "Write: def execute(self, params, element, *, ...)."
            self._add(_C.INVALID_SIGNATURE, component, message, remedy, "over")

    def _check_concurrency(self, step: type[Any], component: str) -> None:
        limit = step.concurrency
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            message = f"concurrency is {show(limit)}."
            self._add(_C.INVALID_STEP_OPTION, component, message, "Make it 1 or more.", "concurrency")
        elif limit is not None and step.over is None:
            message = "concurrency is set, and it goes over nothing."
            self._add(_C.INVALID_STEP_OPTION, component, message, "Set over as well, or drop it.", "concurrency")

    def _can_take(self, parameter: Parameter, component: str, visible: Results) -> bool:
        """Return whether an earlier step declares this result; say so where it has to and none does."""
        name = parameter.name
        if name not in visible:
            if not parameter.is_optional:
                self._miss(name, component, visible, name)
            return False
        producer, outputs = visible[name]
        if not any(fits(output, parameter.annotation) for output in outputs):
            told = " or ".join(map(_named, outputs))
            message = f"{producer} returns {told}, and the parameter is {_named(parameter.annotation)}."
            self._add(_C.RESULT_TYPE_MISMATCH, component, message, "Correct one of the annotations.", name)
        return True

    def _miss(self, name: Any, component: str, visible: Mapping[str, Any], field: str) -> None:
        message = f"No earlier step declares the result {name!r}."
        if isinstance(name, str) and name in self._declared:
            remedy = f"{self._declared[name]} does, and runs later or beside it: list it before, outside this group."
            if self._declared[name] == component:
                remedy = "It declares that itself: take the result of another step."
        else:
            near = did_you_mean(str(name), visible).strip()
            known = ", ".join(visible) or "none"
            remedy = near or f'Set result = "{name}" in the step that makes it (known here: {known}).'
        self._add(_C.RESULT_NOT_PRODUCED, component, message, remedy, field)

    def _outputs(self, step: type[Any], signature: Signature, component: str, visible: Results) -> tuple[Any, ...]:
        """Return the annotations of what the step's result may be; check what it goes over."""
        if step.over is None:
            return (signature.returns,)
        if not isinstance(step.over, str) or step.over not in visible:
            self._miss(step.over, component, visible, "over")
            return (MISSING,)
        producer, over = visible[step.over]
        if not any(map(is_mappable, over)):
            message = f"{producer} returns {' or '.join(map(_named, over))}, which has no elements."
            self._add(_C.RESULT_TYPE_MISMATCH, component, message, "Let it return a list, tuple or dict.", "over")
            return (MISSING,)
        element = signature.element
        if element is not None and not any(fits(element_of(part), element.annotation) for part in over):
            told = " or ".join(_named(element_of(part)) for part in over)
            message = f"The elements of {step.over!r} are {told}, and {element.name!r} is {_named(element.annotation)}."
            self._add(_C.RESULT_TYPE_MISMATCH, component, message, "Correct one of the annotations.", element.name)
        found = [output for part in over for output in map_outputs(part, signature.returns)]
        return tuple(found) or (MISSING,)

    # --- params ------------------------------------------------------------------------------

    def _params_type(self, cls: type[Any], component: str) -> Any:
        params = params_type_of(cls)
        if params is MISSING:
            base = next(kind.__name__ for kind in cls.__mro__ if kind.__module__.startswith("milepost.pipeline"))
            message = "It does not say which params it takes."
            remedy = f"Write: class {cls.__name__}({base}[Params])."
            self._add(_C.MISSING_GENERIC_PARAM, component, message, remedy)
        elif not (isinstance(params, type) and issubclass(params, BaseModel)):
            message = f"Its params are {show(params)}, which is no pydantic model."
            self._add(_C.INVALID_PARAMS_TYPE, component, message, "Derive them from pydantic.BaseModel.", PARAMS)
            return MISSING
        return params

    def _check_params(self, params: Any, component: str) -> None:
        """Check that the pipeline's params can be handed to a component: as such, or field by field."""
        given = self._params
        if params is MISSING or given is MISSING or issubclass(given, params):
            return
        for name, field in params.model_fields.items():
            known = given.model_fields.get(name)
            if known is None and field.is_required():
                message = f"{given.__name__} has no field {name!r}, which {params.__name__} needs."
                remedy = f"Add it to {given.__name__}, or give it a default.{did_you_mean(name, given.model_fields)}"
                self._add(_C.MISSING_PARAMS_FIELDS, component, message, remedy, name)
            elif known is not None and not fits(known.annotation, field.annotation):
                message = (
                    f"Field {name!r} is {_named(known.annotation)} in {given.__name__} and "
                    f"{_named(field.annotation)} in {params.__name__}."
                )
                self._add(_C.INVALID_PARAMS_TYPE, component, message, "Give both the same type.", name)

    def _add(self, code: MistakeCode, component: str, message: str, remedy: str, field: str | None = None) -> None:
        self._mistakes.append(Mistake(code, component, message, remedy, field))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _named(annotation: Any) -> str:
    return "not annotated" if annotation is MISSING else annotation_name(annotation)
