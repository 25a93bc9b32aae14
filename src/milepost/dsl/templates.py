"""Templates and conditions: Jinja2 expressions in a sandbox, native values, bounded work. Never ``eval``.

What is allowed: names, attributes and items of data, comparisons, arithmetic, the functions and filters
listed here. Statements, calls of anything else, attributes that begin with an underscore, and results
beyond the limits are refused. Text that came out of data is never read as a template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.sandbox import SandboxedEnvironment

from milepost.errors import NonRetryable

__all__ = [
    "Reference",
    "TemplateFailed",
    "evaluate",
    "evaluate_condition",
    "evaluate_items",
    "is_template",
    "references",
]

_LONGEST_SOURCE: Final = 20_000  # characters of one template
_SIZED: Final = (str, bytes, list, tuple)
_LARGEST: Final = 1_000_000  # characters or elements of one result
_MOST_RANGE: Final = 100_000
_DOLLAR: Final = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*\}")
_PIECE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_QUOTED_OR_PIECE: Final = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\{\{.*?\}\}""", re.DOTALL)


class TemplateFailed(NonRetryable, ValueError):
    """A template cannot be read, names what is not there, or asks for more than it may."""

    def __init__(self, text: str, reason: str) -> None:
        """Say which template, and why."""
        self.text = text
        self.reason = reason
        shown = text if len(text) <= 80 else f"{text[:80]}…"
        super().__init__(f"{shown!r}: {reason}.")


@dataclass(frozen=True, slots=True)
class Reference:
    """A name that a template asks for, and the first field of it that it asks for."""

    name: str
    field: str | None = None


class _Generator(NativeCodeGenerator):
    """Leaves constants to run time, so that ``{{ 3 }}`` is the number and not its text."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Any, finalize: Any) -> Any:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)


def _joined(values: Iterable[Any]) -> Any:
    found = list(values)
    if len(found) == 1:
        return found[0]
    return "".join([str(value) for value in found])


class _Environment(SandboxedEnvironment):
    """The sandbox: data in, data out."""

    code_generator_class = _Generator
    intercepted_binops = frozenset({"**", "*", "%", "+"})

    def __init__(self) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, autoescape=False, cache_size=0)
        self.globals = dict(_FUNCTIONS)
        self.filters = dict(_FILTERS)
        self.tests = {
            name: self.tests[name]
            for name in (
                "defined",
                "undefined",
                "none",
                "number",
                "string",
                "sequence",
                "mapping",
                "boolean",
                "in",
                "eq",
                "ne",
                "lt",
                "le",
                "gt",
                "ge",
            )
        }
        self.tests["None"] = self.tests["none"]

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return a field: of a mapping its item, of anything else data that is no method."""
        if isinstance(obj, jinja2.Undefined):
            str(obj)  # raises, and says which name
        if isinstance(obj, Mapping):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if attribute.startswith("_") or not self.is_safe_attribute(obj, attribute, None):
            raise SecurityError(f"the attribute {attribute!r} is not data")
        value = getattr(obj, attribute, self.undefined(obj=obj, name=attribute))
        if callable(value) and not isinstance(value, jinja2.Undefined):
            raise SecurityError(f"the attribute {attribute!r} is not data")
        return value

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an item; a text names a field as an attribute does."""
        if isinstance(argument, str) and not isinstance(obj, Mapping):
            return self.getattr(obj, argument)
        try:
            return obj[argument]
        except (LookupError, TypeError):
            return self.undefined(obj=obj, name=argument)

    def is_safe_callable(self, obj: Any) -> bool:
        """Return whether a template may call this: only the functions listed here."""
        return any(obj is allowed for allowed in _FUNCTIONS.values())

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Do arithmetic that cannot grow without bound."""
        if operator == "**":
            if not (_is_small(left, 10**6) and _is_small(right, 64)):
                raise SecurityError("powers are limited to small numbers")
        elif operator == "%" and not isinstance(left, (int, float)):
            raise SecurityError("'%' is for numbers")
        elif operator == "+":
            if isinstance(left, _SIZED) and isinstance(right, _SIZED) and len(left) + len(right) > _LARGEST:
                raise SecurityError("the sum is too long")
        elif operator == "*":
            for text, count in ((left, right), (right, left)):
                if isinstance(text, (str, bytes, list, tuple)) and (
                    not isinstance(count, int) or len(text) * count > _LARGEST
                ):
                    raise SecurityError("the repetition is too long")
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > 10_000:
                raise SecurityError("the number is too large")
        return super().call_binop(context, operator, left, right)

    def _parse(self, source: str, name: Any, filename: Any) -> nodes.Template:
        template = super()._parse(source, name, filename)
        for node in template.body:
            if not isinstance(node, nodes.Output):
                raise jinja2.TemplateSyntaxError("only {{ expressions }} are allowed", node.lineno)
        _rewrite_outputs(template)
        return template


def _rewrite_outputs(node: nodes.Node) -> None:
    """Let ``task.output`` mean the output of a task, whatever it is."""
    for field, value in node.iter_fields():
        children = value if isinstance(value, list) else [value]
        changed = []
        for child in children:
            if isinstance(child, nodes.Node):
                if isinstance(child, nodes.Getattr) and child.attr == "output" and isinstance(child.node, nodes.Name):
                    child = nodes.Filter(child.node, "output_of", [], [], None, None, lineno=child.lineno)  # noqa: PLW2901
                _rewrite_outputs(child)
            changed.append(child)
        setattr(node, field, changed if isinstance(value, list) else changed[0])


def _is_small(value: Any, limit: int) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= limit


def _range(*args: int) -> list[int]:
    found = range(*args)
    if len(found) > _MOST_RANGE:
        raise SecurityError(f"range() is limited to {_MOST_RANGE:,} elements")
    return list(found)


def _join(value: Iterable[Any], separator: str = "") -> str:
    parts = [str(part) for part in value]
    if sum(map(len, parts)) + len(separator) * len(parts) > _LARGEST:
        raise SecurityError("the text is too long")
    return separator.join(parts)


def _output_of(value: Any) -> Any:
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises, and says which name
    return value["output"] if isinstance(value, Mapping) and "output" in value else value


def _default(value: Any, other: Any = "", only_none: bool = False) -> Any:
    return other if isinstance(value, jinja2.Undefined) or (only_none and value is None) else value


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "range": _range,
    "length": len,
    "len": len,
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "abs": abs,
    "min": min,
    "max": max,
    "round": round,
    "sum": sum,
}
_FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "length": len,
    "count": len,
    "int": int,
    "float": float,
    "string": str,
    "abs": abs,
    "round": round,
    "sum": sum,
    "min": min,
    "max": max,
    "sort": sorted,
    "list": list,
    "first": lambda value: next(iter(value)),
    "last": lambda value: list(value)[-1],
    "upper": lambda value: str(value).upper(),
    "lower": lambda value: str(value).lower(),
    "trim": lambda value: str(value).strip(),
    "join": _join,
    "tojson": lambda value: json.dumps(value, default=str),
    "keys": lambda value: list(value.keys()),
    "values": lambda value: list(value.values()),
    "default": _default,
    "output_of": _output_of,
}
_ENVIRONMENT: Final = _Environment()


def is_template(text: str) -> bool:
    """Return whether a text holds a template."""
    return "{{" in text or "${" in text


def references(text: str, *, is_condition: bool = False) -> list[Reference]:
    """Return what a text asks for, in the order it does.

    Raises:
        TemplateFailed: It cannot be read.

    Example:
        >>> references("{{raw.rows}} of {{inputs.day}}")
        [Reference(name='raw', field='rows'), Reference(name='inputs', field='day')]
    """
    tree = _parsed(_source_of(text, is_condition))
    fields = {id(node.node): node.attr for node in tree.find_all(nodes.Getattr) if isinstance(node.node, nodes.Name)}
    found = [
        Reference(node.name, fields.get(id(node))) for node in tree.find_all(nodes.Name) if node.name not in _FUNCTIONS
    ]
    return list(dict.fromkeys(found))


def evaluate(value: Any, names: Mapping[str, Any]) -> Any:
    """Return a value with every template in it replaced: one that is the whole text by its value, others as text.

    Raises:
        TemplateFailed: A template names what is not there, or asks for more than it may.

    Example:
        >>> evaluate(["{{n + 1}}", "n={{n}}"], {"n": 2})
        [3, 'n=2']
    """
    if isinstance(value, str):
        return _run(_source_of(value, is_condition=False), value, names) if is_template(value) else value
    if isinstance(value, list):
        return [evaluate(item, names) for item in value]
    if isinstance(value, dict):
        return {key: evaluate(item, names) for key, item in value.items()}
    return value


def evaluate_condition(text: str, names: Mapping[str, Any]) -> bool:
    """Return whether a condition holds.

    Raises:
        TemplateFailed: As :func:`evaluate`.

    Example:
        >>> evaluate_condition("{{score}} > 0.8 and '{{name}}!' == 'ada!'", {"score": 0.9, "name": "ada"})
        True
    """
    return bool(_run(_source_of(text, is_condition=True), text, names))


def evaluate_items(text: str, names: Mapping[str, Any]) -> list[Any]:
    """Return the list that a loop goes over.

    Raises:
        TemplateFailed: It is no list, or as :func:`evaluate`.

    Example:
        >>> evaluate_items("{{range(2)}}", {}), evaluate_items('["a", "b"]', {})
        ([0, 1], ['a', 'b'])
    """
    value = evaluate(text, names)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise TemplateFailed(text, "items must be a list, or text that is a JSON list, not other text") from None
    if not isinstance(value, (list, tuple, range)):
        raise TemplateFailed(text, f"items must be a list, not a {type(value).__name__}")
    return list(value)


def _source_of(text: str, is_condition: bool) -> str:
    if len(text) > _LONGEST_SOURCE:
        raise TemplateFailed(text, f"a template may have {_LONGEST_SOURCE:,} characters")
    text = _DOLLAR.sub(r"{{\1}}", text)
    if not is_condition:
        return text.strip() if _PIECE.fullmatch(text.strip()) else text
    return "{{ (" + _QUOTED_OR_PIECE.sub(_as_expression, text) + ") }}"


def _as_expression(found: re.Match[str]) -> str:
    text = found.group()
    if text.startswith("{{"):
        return f"({text[2:-2]})"
    if "{{" not in text:
        return text
    quote = text[0]
    parts = _PIECE.split(text[1:-1])
    return "(" + " ~ ".join(f"({part})" if i % 2 else f"{quote}{part}{quote}" for i, part in enumerate(parts)) + ")"


def _parsed(source: str) -> nodes.Template:
    try:
        return _ENVIRONMENT.parse(source)
    except jinja2.TemplateError as error:
        raise TemplateFailed(source, f"it cannot be read: {error.message}") from None
    except RecursionError:
        raise TemplateFailed(source, "it is nested too deeply") from None


@lru_cache(maxsize=4096)
def _compiled(source: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(source)


def _run(source: str, text: str, names: Mapping[str, Any]) -> Any:
    try:
        template = _compiled(source)
        context = template.new_context(dict(names), shared=False)
        value = _joined(template.root_render_func(context))
        if isinstance(value, jinja2.Undefined):
            str(value)
    except TemplateFailed:
        raise
    except jinja2.UndefinedError as error:
        raise TemplateFailed(text, f"{error.message}. It must name an input, a variable or a result") from None
    except jinja2.TemplateError as error:
        raise TemplateFailed(text, str(error.message)) from None
    except RecursionError:
        raise TemplateFailed(text, "it is nested too deeply") from None
    except Exception as error:
        raise TemplateFailed(text, f"{type(error).__name__}: {error}") from None
    if isinstance(value, (str, bytes, Sequence)) and len(value) > _LARGEST and not _is_plain_name(source):
        told = f"its result has {len(value):,} characters or elements; {_LARGEST:,} are the limit"
        raise TemplateFailed(text, told)
    return value


def _is_plain_name(source: str) -> bool:
    """Return whether a template only hands a value on, however large."""
    return re.fullmatch(r"\{\{\s*[\w.]+\s*\}\}", source) is not None
