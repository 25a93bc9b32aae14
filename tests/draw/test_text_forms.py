"""Mermaid and plain text: labels stay labels, and every line says what it should."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost import RunStatus, StepStatus
from milepost.draw import Picture, PictureEdge, PictureNode, mermaid, text
from milepost.draw.looks import brief, clip, display_width, duration_text, plain

NODES = (
    PictureNode("load", status=StepStatus.COMPLETED),
    PictureNode("parse", "map", StepStatus.RUNNING, done=3, total=9, failed=1),
    PictureNode("report", status=StepStatus.PENDING),
)
EDGES = (PictureEdge("load", "parse"), PictureEdge("parse", "report", is_traversed=False))
RUN = Picture("index", NODES, EDGES, "r1", RunStatus.RUNNING)


def test_mermaid_draws_shapes_arrows_and_classes():
    assert mermaid(RUN).splitlines()[:9] == [
        "---",
        'title: "index: run r1 running"',
        "---",
        "flowchart TD",
        '    n0["✓ load"]',
        '    n1[["▶ parse: 3/9"]]',
        '    n2["· report"]',
        "    n0 --> n1",
        "    n1 -.-> n2",
    ]
    assert "    class n1 running" in mermaid(RUN).splitlines()


def test_mermaid_of_a_graph_has_no_classes():
    drawing = mermaid(Picture("g", (PictureNode("a"), PictureNode("b", "map", total=4))))
    assert "class" not in drawing
    assert '    n1[["b: map of 4"]]' in drawing


@given(st.text(min_size=1, max_size=60), st.text(max_size=60))
def test_no_label_can_end_its_quotes_or_its_line_in_mermaid(label, name):
    lines = mermaid(Picture(name, (PictureNode(label),))).splitlines()
    assert len(lines) == 5
    assert isinstance(json.loads(lines[1].removeprefix("title: ")), str)
    quoted = re.fullmatch(r'    n0\["(.*)"\]', lines[4])
    assert quoted is not None
    assert not re.search(r'["`<>&{}|\\]', quoted[1])
    assert not re.search(r"#(?!\d+;)", quoted[1])  # each # begins an entity of ours


def test_text_tells_status_counts_and_what_a_step_waits_for():
    assert text(RUN) == (
        "index: run r1 running\n  ✓ load\n  ▶ parse   3/9 1 failed  ← load\n  · report                ← parse\n"
    )


def test_text_can_do_without_anything_beyond_ascii():
    assert text(RUN, is_ascii=True).isascii()


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6, unique=True))
def test_each_step_takes_one_line_of_text_whatever_its_label(labels):
    lines = text(Picture("g", tuple(PictureNode(label) for label in labels))).split("\n")
    assert len(lines) == len(labels) + 2
    assert not {unicodedata.category(c) for line in lines for c in line} & {"Cc", "Cs", "Zl", "Zp"}


def test_control_characters_and_turned_text_become_harmless():
    assert plain("a\x1b]0;title\x07b") == "a�]0;title�b"
    assert plain("abc\u202edef") == "abc�def"
    assert plain("tab\tand\nline") == "tab and line"
    assert plain("日本語 👩‍🚀") == "日本語 👩‍🚀"


def test_wide_characters_count_twice_when_a_label_is_cut():
    assert display_width("日本") == 4
    assert clip("日本語テキスト", 7) == "日本語…"
    assert clip("short", 5) == "short"
    assert clip("日本語テキスト", 14) == "日本語テキスト"
    assert clip("日本語テキスト", 13) == "日本語テキス…"
    assert clip("e\u0301" * 4, 3) == "e\u0301" * 2 + "…"
    assert clip("e\u0301" * 3, 3) == "e\u0301" * 3
    assert (clip("ab", 1), clip("ab", 0)) == ("…", "…")


@pytest.mark.parametrize("part", ["x y", "日本\n", "\x1b[31m", "\u0301"])
def test_a_text_of_any_length_becomes_one_short_line(part: str):
    line = brief(part * 1_000_000, 40)
    assert line.endswith("…")
    assert line.isprintable() or part == "\u0301"
    assert display_width(line) <= 41


def test_durations_have_the_unit_a_reader_expects():
    assert [duration_text(s) for s in (0, 0.00994, 0.00996, 0.9996, 59.94, 59.96, 3599.6, 86399, 86400)] == [
        "0.0 ms",
        "9.9 ms",
        "10 ms",
        "1.0 s",
        "59.9 s",
        "1 min 0 s",
        "1 h 0 min",
        "23 h 59 min",
        "1 d 0 h",
    ]
