"""Inputs as typed: texts become what the annotation asks for, and JSON where a text cannot."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from milepost import Dag
from milepost.cli.inputs import parse_tags, read_inputs
from milepost.errors import ConfigurationError, InputError


class Size(BaseModel):
    width: int
    height: int = 1


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int


def validated(annotation: Any, text: str) -> Any:
    """Return what reaches a step whose parameter has this annotation."""

    def body(value):
        return value

    body.__annotations__ = {} if annotation is None else {"value": annotation}
    dag = Dag("g")
    dag.node(body)
    return dag._build().validate(read_inputs(dag, [f"value={text}"], None), "g")["value"]


@pytest.mark.parametrize(
    ("annotation", "text", "expected"),
    [
        (int, "4", 4),
        (float, "4.5", 4.5),
        (bool, "yes", True),
        (bool, "false", False),
        (str, "4", "4"),
        (str, "null", "null"),
        (str, '["a"]', '["a"]'),
        (str, "", ""),
        (str, "a=b", "a=b"),
        (Path, "a/b", Path("a/b")),
        (date, "2026-05-31", date(2026, 5, 31)),
        (Literal["fast", "slow"], "slow", "slow"),
        (Colour, "red", Colour.RED),
        (list[int], "[1, 2]", [1, 2]),
        (list[Path], '["a", "b"]', [Path("a"), Path("b")]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (int | None, "null", None),
        (int | None, "3", 3),
        (Size, '{"width": 3}', Size(width=3)),
        (Point, '{"x": 3}', Point(3)),
        (tuple[int, int], "[1, 2]", (1, 2)),
        (None, "4", 4),
        (None, "true", True),
        (None, "text", "text"),
        (None, "01234", "01234"),
        (None, "NaN", "NaN"),
        (Any, '{"a": [1]}', {"a": [1]}),
    ],
)
def test_a_text_becomes_what_the_parameter_asks_for(annotation, text, expected):
    value = validated(annotation, text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "text"), [(int, "four"), (list[int], "1,2"), (Size, '{"height": 1}'), (bool, "2")]
)
def test_a_text_that_fits_in_no_way_is_refused_by_the_dag_itself(annotation, text):
    with pytest.raises(InputError, match="input 'value'"):
        validated(annotation, text)


def make_dag() -> Dag:
    def body(source: Path, limit: int = 3) -> int:
        return limit

    dag = Dag("g")
    dag.node(body)
    return dag


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("i.yaml", "source: src\nlimit: 4\n"),
        ("i.json", '{"source": "src", "limit": 4}'),
        ("i.txt", '{"source": "src", "limit": 4}'),
    ],
)
def test_a_file_gives_inputs_and_typed_ones_go_before_it(tmp_path, name, text):
    file = tmp_path / name
    file.write_text("\ufeff" + text, encoding="utf-8")
    assert read_inputs(make_dag(), [], str(file)) == {"source": "src", "limit": 4}
    assert read_inputs(make_dag(), ["limit=7"], str(file)) == {"source": "src", "limit": "7"}


def test_inputs_can_come_from_stdin(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("limit: 9\n"))
    assert read_inputs(make_dag(), [], "-") == {"limit": 9}


def test_an_empty_file_gives_no_inputs(tmp_path):
    (tmp_path / "e.yaml").write_text("# nothing\n")
    assert read_inputs(make_dag(), [], str(tmp_path / "e.yaml")) == {}


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("i.yaml", b"a: b: c\n", "i.yaml:1:5 is not YAML: mapping values are not allowed here"),
        ("i.yaml", b"- a\n- b\n", "must be a mapping of input names"),
        ("i.yaml", b"1: a\n", "must be a mapping of input names"),
        ("i.yaml", b"a: !!python/object:os.system x\n", "is not YAML: could not determine a constructor"),
        ("i.yaml", b"a: \x00\n", "is not YAML"),
        ("i.yaml", b"\xff\xfe\xfa", "is not UTF-8 text (byte 0)"),
        ("i.json", b'{"a": 1,}', "i.json:1:9 is not JSON"),
        ("i.json", b'{"a": NaN}', "is not JSON: NaN"),
        ("i.json", b"[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_place(tmp_path, name, data, complaint):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_inputs(make_dag(), [], str(tmp_path / name))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file or directory"):
        read_inputs(make_dag(), [], str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("typed", [["limit"], ["=3"], ["limit=1", "limit=2"]])
def test_typed_inputs_have_one_form_and_come_once(typed):
    with pytest.raises(InputError, match="--input"):
        read_inputs(make_dag(), typed, None)


def test_tags_are_texts():
    assert parse_tags(["team=data", "n=4", "empty="]) == {"team": "data", "n": "4", "empty": ""}
    with pytest.raises(ConfigurationError, match="--tag must be name=value, not 'team'"):
        parse_tags(["team"])
