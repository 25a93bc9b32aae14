"""SVG: well-formed whatever the labels hold, self-contained, readable, telling the status twice."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from milepost import Dag, Ledger, RunStatus, StepStatus
from milepost.draw import Picture, PictureEdge, PictureNode, picture_of_run, svg
from milepost.draw.looks import LOOKS, plain

SVG = "{http://www.w3.org/2000/svg}"


def parse(text: str) -> ET.Element:
    return ET.fromstring(text)


def titles(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}title")]


def boxes(root: ET.Element) -> list[tuple[float, float, float, float]]:
    """Return (left, top, right, bottom) of each node's front box: the last outlined rect of its group."""
    found = []
    for group in root.iter(f"{SVG}g"):
        rects = [rect for rect in group.findall(f"{SVG}rect") if rect.get("stroke")]
        if rects:
            left, top, width, height = (float(rects[-1].get(name, "0")) for name in ("x", "y", "width", "height"))
            found.append((left, top, left + width, top + height))
    return found


@given(st.lists(st.text(max_size=40), min_size=1, max_size=8, unique=True), st.text(max_size=40))
def test_any_label_gives_well_formed_xml_that_names_every_step(labels, name):
    edges = tuple(PictureEdge(labels[0], label, is_traversed=False) for label in labels[1:])
    picture = Picture(name, tuple(PictureNode(label, error=label) for label in labels), edges)
    root = parse(svg(picture))
    told = "\n".join(titles(root))
    for label in labels:
        assert " ".join(plain(label).split()).replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd") in " ".join(
            told.split()
        )


def test_labels_cannot_smuggle_markup_in():
    text = svg(Picture('"><script>alert(1)</script>', (PictureNode("<img src=x onerror=alert(1)>&amp;"),)))
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;amp;" in text


def test_the_drawing_needs_nothing_from_outside_and_carries_no_ids():
    text = svg(Picture("g", (PictureNode("a"), PictureNode("b")), (PictureEdge("a", "b"),)))
    assert not re.search(r"\b(href|url\(|style=|class=|id=|script)", text)
    root = parse(text)
    assert root.get("role") == "img"
    assert root[0].tag == f"{SVG}title"
    assert root[1].text == "2 steps."


def test_a_run_is_coloured_and_signed_by_status():
    nodes = tuple(PictureNode(status.value, status=status) for status in StepStatus)
    text = svg(Picture("g", nodes, run_id="r1", status=RunStatus.FAILED))
    for status in StepStatus:
        assert LOOKS[status].fill in text
    root = parse(text)
    assert titles(root)[0] == "g: run r1 failed"
    assert "failed, step, failed" in titles(root)
    assert "✗" in "".join(root.itertext())


def test_a_map_shows_its_counts_and_how_far_it_is():
    node = PictureNode("parse", "map", StepStatus.RUNNING, done=30, total=120, failed=2)
    text = svg(Picture("g", (node,)))
    assert "30/120 2 failed" in text
    assert "parse, map, running, 30 of 120 done, 2 failed" in titles(parse(text))
    assert "map of 120" in svg(Picture("g", (PictureNode("parse", "map", total=120),)))


def test_fifty_steps_are_drawn_without_boxes_on_top_of_each_other():
    nodes = tuple(PictureNode(f"step_number_{i}", "map" if i % 5 == 0 else "step") for i in range(50))
    edges = [PictureEdge(nodes[i // 2].label, nodes[i].label) for i in range(1, 50)]
    edges += [PictureEdge(nodes[i].label, nodes[49].label) for i in range(30, 45)]
    root = parse(svg(Picture("big", nodes, tuple(edges))))
    found = boxes(root)
    assert len(found) == 50
    for i, (left, top, right, bottom) in enumerate(found):
        assert left >= 0
        assert right <= float(root.get("width", "0"))
        assert bottom <= float(root.get("height", "0"))
        for other in found[i + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_a_wide_graph_turns_to_the_right_and_a_deep_one_stays_downwards():
    fan = [PictureNode("source"), *(PictureNode(f"branch_{i}") for i in range(30))]
    wide = parse(svg(Picture("g", tuple(fan), tuple(PictureEdge("source", node.label) for node in fan[1:]))))
    assert float(wide.get("width", "0")) < 600
    chain = [PictureNode(f"link_{i}") for i in range(30)]
    pairs = itertools.pairwise(chain)
    deep = parse(svg(Picture("g", tuple(chain), tuple(PictureEdge(a.label, b.label) for a, b in pairs))))
    assert float(deep.get("width", "0")) < 600


def test_an_edge_not_taken_is_dashed():
    nodes = (PictureNode("a"), PictureNode("b"))
    assert "dasharray" in svg(Picture("g", nodes, (PictureEdge("a", "b", is_traversed=False),)))
    assert "dasharray" not in svg(Picture("g", nodes, (PictureEdge("a", "b"),)))


def test_a_picture_without_nodes_is_still_a_drawing():
    assert parse(svg(Picture("empty", ()))).tag == f"{SVG}svg"


def test_a_recorded_run_is_drawn(ledger: Ledger):
    dag = Dag("sums")
    dag.node(sum, label="total", iterable=dag.map(abs, [1, -2], label="work"))
    run = dag.run(ledger=ledger)
    assert run.status == RunStatus.COMPLETED
    told = "\n".join(titles(parse(svg(picture_of_run(ledger, run.run_id)))))
    assert f"sums: run {run.run_id} completed" in told
    assert "work, map, completed, 2 of 2 done" in told
