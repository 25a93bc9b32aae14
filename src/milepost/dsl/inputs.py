"""The inputs that a workflow declares: their types, defaults, and the check of what a run is given."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from milepost.dsl.plain import Plain, plain
from milepost.dsl.policies import Part
from milepost.errors import ConfigurationError, InputError, did_you_mean

__all__ = ["PYTHON_TYPES", "InputField", "check_inputs", "input_field"]

TypeName = Literal["any", "string", "integer", "number", "boolean", "list", "object", "datetime"]
PYTHON_TYPES: Final[dict[str, Any]] = {
    "any": Any,
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "list": list[Any],
    "object": dict[str, Any],
    "datetime": datetime,
}
_NAMES: Final[dict[Any, TypeName]] = {
    Any: "any",
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "list",
    dict: "object",
    datetime: "datetime",
}


class InputField(Part):
    """One input of a workflow's runs."""

    type: TypeName = "any"
    """What it must be."""
    required: bool = True
    """Whether a run must be given it."""
    default: Plain = None
    """What it is where a run is not given it."""
    description: str = ""
    """What it is for."""


def input_field(given: Any) -> Any:
    """Return the declaration that a type or a default stands for.

    Example:
        >>> input_field(str).type, input_field(10).default
        ('string', 10)
    """
    if isinstance(given, InputField):
        return given
    if isinstance(given, Mapping) and set(given) <= set(InputField.model_fields):
        found = dict(given)
        if "default" in found and "required" not in found:
            found["required"] = False
        return found
    if isinstance(given, type) or given is Any:
        if given not in _NAMES:
            raise ConfigurationError(f"An input can be str, int, float, bool, list, dict or datetime, not {given!r}.")
        return InputField(type=_NAMES[given])
    name: TypeName = _NAMES.get(type(given), "any")
    return InputField(type=name, required=False, default=plain(given))


@cache
def _adapter(name: TypeName) -> TypeAdapter[Any]:
    return TypeAdapter(PYTHON_TYPES[name])


def check_inputs(workflow: str, declared: Mapping[str, InputField], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a run's inputs, checked against the declarations, defaults filled in.

    Raises:
        InputError: Some are missing, unknown or of the wrong type: all of them.
    """
    if given is not None and not (isinstance(given, Mapping) and all(isinstance(key, str) for key in given)):
        raise InputError(f"inputs must be a mapping of names to values, such as {{'n': 4}}, not {given!r}.")
    given = dict(given or {})
    if not declared:
        return given
    complaints, values = [], {}
    for name in given:
        if name not in declared and name not in _BY_SCHEDULE:
            complaints.append(f"unknown input {name!r} (known: {', '.join(declared)}){did_you_mean(name, declared)}")
    for name, field in declared.items():
        if name not in given:
            if field.required:
                complaints.append(f"missing input {name!r} ({field.type})")
            values[name] = field.default
            continue
        try:
            values[name] = _adapter(field.type).validate_python(given[name])
        except ValidationError:
            complaints.append(f"input {name!r} must be a {field.type}, not {given[name]!r}")
    if complaints:
        raise InputError(f"Workflow {workflow!r}: {'; '.join(complaints)}.")
    return {**{name: given[name] for name in _BY_SCHEDULE if name in given}, **values}


_BY_SCHEDULE: Final = ("data_interval_start", "data_interval_end")
