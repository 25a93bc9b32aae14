"""The timeline: one axis, a bar for each attempt, and no room for the time in which nobody worked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from milepost import StepStatus
from milepost.draw import Picture, PictureNode, Span, timeline, timeline_rows
from milepost.draw.looks import display_width

DONE, FAILED, RUNNING, CANCELLED = (
    StepStatus.COMPLETED,
    StepStatus.FAILED,
    StepStatus.RUNNING,
    StepStatus.CANCELLED,
)
SECOND = 1_000_000


def node(label: str, *spans: Span) -> PictureNode:
    return PictureNode(label, status=spans[-1].status if spans else StepStatus.PENDING, spans=spans)


def test_each_attempt_has_a_bar_of_its_own():
    picture = Picture("g", (node("a", Span(0, SECOND, FAILED), Span(SECOND, 4 * SECOND, DONE)),))
    row = timeline_rows(picture, now=0, width=50)[1]
    assert [(bar.start, bar.length, bar.status) for bar in row.bars] == [(0, 10, FAILED), (10, 30, DONE)]
    assert row.duration == "4.0 s"


def test_a_gap_takes_no_room():
    hour = 3600 * SECOND
    spans = (Span(0, SECOND, CANCELLED), Span(hour, hour + SECOND, DONE))
    picture = Picture("g", (node("a", *spans),), gaps=((SECOND, hour),))
    axis, row = timeline_rows(picture, now=0, width=47)
    assert axis.axis.endswith("2.0 s")
    assert [bar.length for bar in row.bars] == [19, 18]


def test_a_step_that_runs_reaches_to_now():
    picture = Picture("g", (node("a", Span(0, SECOND, DONE)), node("b", Span(SECOND, None, RUNNING))))
    _, first, second = timeline_rows(picture, now=2 * SECOND, width=60)
    assert first.bars[0].start + first.bars[0].length == second.bars[0].start
    assert second.duration == "1.0 s"


def test_steps_that_never_started_are_left_out_and_without_any_there_is_no_timeline():
    assert timeline(Picture("g", (node("a"),)), now=0) == ""
    lines = timeline(Picture("g", (node("a", Span(0, 1, DONE)), node("b"))), now=0).splitlines()
    assert len(lines) == 2


def test_only_the_longest_steps_are_shown_when_there_are_many():
    nodes = [node(f"s{i}", Span(0, (i + 1) * SECOND, DONE)) for i in range(10)]
    lines = timeline(Picture("g", tuple(nodes)), now=0, limit=3).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["s7", "s8", "s9"]
    assert lines[4] == "… and 7 shorter steps"


def test_more_attempts_than_columns_still_end_with_the_last_one():
    spans = [Span(i, i + 1, FAILED) for i in range(500)]
    row = timeline_rows(Picture("g", (node("a", *spans, Span(500, 501, DONE)),)), now=0, width=40)[1]
    assert row.bars[-1].status == DONE


def test_a_clock_that_ran_back_does_not_break_the_drawing():
    picture = Picture("g", (node("a", Span(10 * SECOND, SECOND, DONE)), node("b", Span(0, SECOND, DONE))))
    assert len(timeline(picture, now=0).splitlines()) == 3


moments = st.integers(0, 10**10)


@given(
    st.lists(
        st.tuples(st.text(max_size=50), st.lists(st.tuples(moments, moments | st.none()), max_size=5)), max_size=6
    ),
    st.integers(20, 140),
)
def test_bars_keep_their_order_and_their_room_whatever_happened(steps, width):
    nodes = []
    for label, times in steps:
        spans = [Span(a, b, StepStatus.COMPLETED if b is not None else RUNNING) for a, b in sorted(times, key=str)]
        nodes.append(node(label, *sorted(spans, key=lambda span: span.start)))
    rows = timeline_rows(Picture("g", tuple(nodes)), now=10**10, width=width, is_ascii=True)
    for row in rows[1:]:
        assert all(bar.length >= 1 for bar in row.bars)
        ends = [0, *(bar.start + bar.length for bar in row.bars)]
        assert all(bar.start >= end for bar, end in zip(row.bars, ends, strict=False))
        assert ends[-1] <= len(row.axis)
        assert len({display_width(row.label) for row in rows}) == 1
