"""The inputs of a scheduled run: a template that each tick fills.

A template is a run's inputs as stored text in which texts may name values of the tick: ``{schedule}``,
``{data_interval_start}``, ``{data_interval_end}``. Texts alone are filled, in dicts and lists; what is
stored with a type of its own is a constant. Filling needs none of the user's classes, so that any worker can
fire any schedule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from milepost.errors import ConfigurationError, did_you_mean
from milepost.values import encode

__all__ = ["PLACEHOLDERS", "check_template", "fill_template"]

PLACEHOLDERS: Final = ("data_interval_start", "data_interval_end", "schedule")

_TAG: Final = "$"
# {{name}} is the text {name}; {name:FORMAT} formats as datetimes do. Other braces mean nothing.
_PART: Final = re.compile(r"\{\{(?P<literal>\w+)\}\}|\{(?P<name>[^\W\d]\w*)(?::(?P<format>[^{}]*))?\}")


def fill_template(template: str, values: Mapping[str, datetime | str]) -> str:
    """Return inputs as stored text, with the tick's values in their places.

    A text that is nothing but one placeholder becomes the value itself, a datetime; inside a longer text, or
    with a format, a value becomes text.

    Args:
        template: The template as ``encode`` wrote it.
        values: What each placeholder stands for.

    Example:
        >>> fill_template('{"day":"of {schedule}","n":3}', {"schedule": "nightly"})
        '{"day":"of nightly","n":3}'
    """
    filled = _fill(json.loads(template), values)
    return json.dumps(filled, separators=(",", ":"))


def check_template(template: str) -> None:
    """Refuse a template that names what no tick has.

    Raises:
        ConfigurationError: A placeholder is unknown, its format is none, or it is inside a value that is
            stored with a type of its own and so would never be filled.
    """
    for text, is_constant in _texts(json.loads(template), is_constant=False):
        for part in _PART.finditer(text):
            name = part["name"]
            if name is None or (is_constant and name not in PLACEHOLDERS):
                continue
            if name not in PLACEHOLDERS:
                known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
                raise ConfigurationError(
                    f"{part[0]!r} in {text!r} is no value of a tick.{did_you_mean(name, PLACEHOLDERS)} "
                    f"There are {known}; for the text itself write {{{part[0]}}}."
                )
            if is_constant:
                raise ConfigurationError(
                    f"{part[0]!r} in {text!r} is inside a value that is not plain, where it would stay as it is. "
                    "Use texts, lists and dicts: the run's annotations turn them into what they should be."
                )


def _texts(tree: Any, *, is_constant: bool) -> Iterator[tuple[str, bool]]:
    if isinstance(tree, str):
        yield tree, is_constant
    elif isinstance(tree, list):
        for item in tree:
            yield from _texts(item, is_constant=is_constant)
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from _texts(item, is_constant=is_constant or _TAG in tree)


def _fill(tree: Any, values: Mapping[str, datetime | str]) -> Any:
    if isinstance(tree, str):
        return _fill_text(tree, values)
    if isinstance(tree, list):
        return [_fill(item, values) for item in tree]
    if isinstance(tree, dict) and _TAG not in tree:
        return {name: _fill(item, values) for name, item in tree.items()}
    return tree


def _fill_text(text: str, values: Mapping[str, datetime | str]) -> Any:
    whole = _PART.fullmatch(text)
    if whole is not None and whole["format"] is None and whole["name"] in values:
        return json.loads(encode(values[whole["name"]]))
    return _PART.sub(lambda part: _shown(part, values), text)


def _shown(part: re.Match[str], values: Mapping[str, datetime | str]) -> str:
    if part["literal"] is not None:
        return f"{{{part['literal']}}}"
    value = values.get(part["name"])
    if value is None:
        return part[0]
    if part["format"] is not None:
        return format(value, part["format"])
    return value.isoformat() if isinstance(value, datetime) else value
