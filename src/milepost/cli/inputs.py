"""The inputs of a run as they are typed: ``--input name=value`` and ``--inputs FILE``.

A typed value is a text, and becomes what the parameter's annotation asks for: ``n=4`` the number 4 where
``n`` is an int, the text "4" where it is a str. Where a text cannot become it (a list, a dict, a model), or
where there is no annotation, a value that is JSON is read as JSON: ``names=["a","b"]``, ``limit=null``.
Values from a file have the types that YAML or JSON gives them. The Dag then validates all of them.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from milepost.cli.target import Flow
from milepost.errors import ConfigurationError, InputError
from milepost.runtime.validation import validator_of

__all__ = ["parse_tags", "read_inputs", "refuse_constant"]


def read_inputs(dag: Flow, typed: Sequence[str], file: str | None) -> dict[str, Any]:
    """Return the inputs by name; a typed one goes before one of the file.

    Args:
        dag: Its annotations say what a typed text becomes.
        typed: Texts of the form ``name=value``.
        file: A YAML or JSON file, ``-`` for stdin, or None.

    Raises:
        InputError: A text is not of that form, a name comes twice, or the file cannot be read.
    """
    annotations = dag.inputs
    values = {} if file is None else _read_file(file)
    for name, text in _pairs(typed, "--input", InputError).items():
        values[name] = _value_of(text, annotations.get(name, inspect.Parameter.empty))
    return values


def parse_tags(typed: Sequence[str]) -> dict[str, str]:
    """Return tags given as ``name=value``; their values stay texts.

    Raises:
        ConfigurationError: A text is not of that form, or a name comes twice.
    """
    return _pairs(typed, "--tag", ConfigurationError)


def _pairs(typed: Sequence[str], option: str, failure: type[Exception]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in typed:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise failure(f"{option} must be name=value, not {text!r}.")
        if name in pairs:
            raise failure(f"{option} {name!r} is given twice. Give it once; a list is JSON: {name}='[1, 2]'.")
        pairs[name] = value
    return pairs


def _value_of(text: str, annotation: Any) -> Any:
    if annotation not in (inspect.Parameter.empty, Any, object) and _takes(annotation, text):
        return text
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except ValueError:
        return text


def _takes(annotation: Any, text: str) -> bool:
    """Return whether a text can become what an annotation asks for."""
    from pydantic import ValidationError

    validate = validator_of(annotation)
    if validate is None:
        return False
    try:
        validate(text)
    except ValidationError:
        return False
    return True


def _read_file(file: str) -> dict[str, Any]:
    try:
        text = (sys.stdin.read() if sys.stdin else "") if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"--inputs {file!r} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--inputs {file!r} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    values = _parse(file, text)
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise InputError(f"--inputs {file!r} must be a mapping of input names to values, such as `source: src`.")
    return dict(values)


def _parse(file: str, text: str) -> Any:
    if file.lower().endswith(".json"):
        try:
            return json.loads(text, parse_constant=refuse_constant)
        except json.JSONDecodeError as error:
            raise InputError(f"--inputs {file}:{error.lineno}:{error.colno} is not JSON: {error.msg}.") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"--inputs {file!r} is not JSON: {error}.") from error
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else repr(file)
        raise InputError(f"--inputs {where} is not YAML: {error.problem or error.context}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"--inputs {file!r} is not YAML: {' '.join(str(error).split())}.") from error


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which are no JSON."""
    raise ValueError(f"{name} is not JSON")
