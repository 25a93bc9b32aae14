"""From the text of a workflow file to plain data, and where in the file each part stands.

Built from the parser's events, so that nothing is constructed that was not asked for: size, depth, the
number of values and what anchors multiply to are bounded while reading.
"""

from __future__ import annotations

import json
from typing import Any, Final

import yaml

from milepost.dsl.problems import Path, WorkflowInvalid, WorkflowProblem

__all__ = ["LARGEST", "read_json", "read_yaml"]

LARGEST: Final = 10 * 2**20  # characters of a file
_MOST_VALUES: Final = 500_000
_DEEPEST: Final = 60
_SAFE_TAGS: Final = {
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map")
}

Lines = dict[Path, tuple[int, int]]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str, what: str = "The workflow") -> tuple[Any, Lines]:
    """Return what a YAML text holds, and the line and column of every part.

    Raises:
        WorkflowInvalid: It is no YAML, too large, too deep, or holds a tag or an anchor that is not safe.
    """
    _check_size(text, what)
    reader = _Reader(text, what)
    try:
        return reader.read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = " ".join(filter(None, (error.context, error.problem)))
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        message = f"this is no YAML: {told}. Quote texts that hold braces or colons"
        raise WorkflowInvalid(what, [WorkflowProblem((), message, line, column)]) from None
    except yaml.YAMLError as error:
        raise WorkflowInvalid(what, [WorkflowProblem((), f"this is no YAML: {error}", 1, 1)]) from None


def read_json(text: str, what: str = "The workflow") -> Any:
    """Return what a JSON text holds.

    Raises:
        WorkflowInvalid: It is no JSON, or too large.
    """
    _check_size(text, what)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        found = WorkflowProblem((), f"this is no JSON: {error.msg}", error.lineno, error.colno)
        raise WorkflowInvalid(what, [found]) from None
    except RecursionError:
        raise WorkflowInvalid(what, [WorkflowProblem((), "it is nested too deeply", 1, 1)]) from None


def _check_size(text: str, what: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"a workflow is read from text, not from {type(text).__name__}")
    if len(text) > LARGEST:
        message = f"it has {len(text):,} characters; {LARGEST:,} are the limit. Move data out of the workflow"
        raise WorkflowInvalid(what, [WorkflowProblem((), message, 1, 1)])


class _Reader:
    """Builds values from events, one after another, without recursion on what the file decides."""

    def __init__(self, text: str, what: str) -> None:
        self._loader = _Loader(text)
        self._what = what
        self._lines: Lines = {}
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._open: set[str] = set()
        self._count = 0

    def read(self) -> tuple[Any, Lines]:
        loader = self._loader
        try:
            loader.get_event()  # stream start
            if loader.check_event(yaml.StreamEndEvent):
                self._refuse((), loader.peek_event(), "the file is empty. Begin with name: and tasks:")
            loader.get_event()  # document start
            value = self._value((), 0)
            loader.get_event()  # document end
            if not loader.check_event(yaml.StreamEndEvent):
                self._refuse((), loader.peek_event(), "a second document begins. One file is one workflow")
            return value, self._lines
        finally:
            loader.dispose()

    def _value(self, path: Path, depth: int) -> Any:
        event = self._loader.get_event()
        mark = event.start_mark
        self._lines.setdefault(path, (mark.line + 1, mark.column + 1))
        if depth > _DEEPEST:
            self._refuse(path, event, f"it is nested deeper than {_DEEPEST} levels")
        self._add(1, path, event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        tag = event.tag
        if tag is not None and tag not in _SAFE_TAGS and tag != "!":
            self._refuse(
                path, event, f"the tag {tag!r} would build an object; a workflow holds plain data. Leave it out"
            )
        before = self._count
        if event.anchor:
            self._open.add(event.anchor)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not self._loader.check_event(yaml.SequenceEndEvent):
                value.append(self._value((*path, len(value)), depth + 1))
            self._loader.get_event()
        else:
            value = self._mapping(path, depth)
        if event.anchor:
            self._open.discard(event.anchor)
            self._anchors[event.anchor] = (value, self._count - before + 1)
        return value

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        loader = self._loader
        value: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not loader.check_event(yaml.MappingEndEvent):
            key_event = loader.peek_event()
            if not isinstance(key_event, yaml.ScalarEvent):
                self._refuse(path, key_event, "a key must be text")
            key = self._scalar(loader.get_event(), path)
            mark = key_event.start_mark
            if key_event.value == "<<" and not key_event.style:
                found = self._value(path, depth + 1)
                for part in found if isinstance(found, list) else [found]:
                    if not isinstance(part, dict):
                        self._refuse(path, key_event, "<< merges mappings")
                    merged = {**part, **merged}
                continue
            if isinstance(key, bool) or not isinstance(key, str):
                key = key_event.value if path[-1:] != ("cases",) else key
            if not isinstance(key, str):
                self._refuse(path, key_event, f'the case {key!r} must be text: write it in quotes, "{key_event.value}"')
            if key in value:
                self._refuse((*path, key), key_event, f"the key {key!r} stands here twice")
            self._lines[(*path, key)] = (mark.line + 1, mark.column + 1)
            value[key] = self._value((*path, key), depth + 1)
        loader.get_event()
        return {**merged, **value} if merged else value

    def _scalar(self, event: Any, path: Path) -> Any:
        if event.style and event.tag in (None, "!"):
            return event.value
        loader = self._loader
        tag = (
            event.tag if event.tag not in (None, "!") else loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        )
        if tag == "tag:yaml.org,2002:str" or tag not in _SAFE_TAGS:
            return event.value
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark, event.style)
        try:
            return loader.yaml_constructors[tag](loader, node)
        except (ValueError, OverflowError, KeyError) as error:
            self._refuse(path, event, f"{event.value!r} cannot be read: {error}")
            raise

    def _alias(self, event: Any, path: Path) -> Any:
        if event.anchor in self._open:
            self._refuse(path, event, f"*{event.anchor} stands inside what it names")
        if event.anchor not in self._anchors:
            self._refuse(path, event, f"*{event.anchor} names no anchor before it")
        value, size = self._anchors[event.anchor]
        self._add(size, path, event)
        return value

    def _add(self, count: int, path: Path, event: Any) -> None:
        self._count += count
        if self._count > _MOST_VALUES:
            self._refuse(path, event, f"with its anchors it holds more than {_MOST_VALUES:,} values")

    def _refuse(self, path: Path, event: Any, message: str) -> None:
        mark = event.start_mark
        raise WorkflowInvalid(self._what, [WorkflowProblem(path, message, mark.line + 1, mark.column + 1)])
