"""Progress as lines and as a display: what is told, when, and how fast it says it goes."""

from __future__ import annotations

import io

from rich.console import Console

from milepost import Dag, StepStatus
from milepost.cli.follow import Follower
from milepost.cli.lines import ProgressLines
from milepost.cli.live import LiveView
from milepost.cli.pace import Pace
from milepost.runtime import NodeProgress, Progress

PENDING, RUNNING, COMPLETED, FAILED = (
    StepStatus.PENDING,
    StepStatus.RUNNING,
    StepStatus.COMPLETED,
    StepStatus.FAILED,
)
SECOND = 1_000_000


def step(label="load", status=PENDING, **values) -> NodeProgress:
    return NodeProgress(label, "step", status, **values)


def map_(label="parse", status=RUNNING, **values) -> NodeProgress:
    return NodeProgress(label, "map", status, **{"total": 0, "started_at": SECOND, **values})


# --- pace ----------------------------------------------------------------------------------------


def test_a_pace_counts_only_what_it_saw_being_done():
    pace = Pace()
    pace.look(100.0, 500)  # done before: an earlier attempt
    assert pace.rate is None
    pace.look(102.0, 520)
    assert pace.rate == 10
    assert pace.seconds_left(620) == 10


def test_a_pace_says_nothing_before_it_knows():
    pace = Pace()
    pace.look(0.0, 0)
    pace.look(0.1, 90)
    assert pace.rate is None
    assert pace.seconds_left(100) is None


def test_a_pace_follows_a_change_of_speed():
    pace = Pace()
    for second in range(100):
        pace.look(float(second), second * 10)
    for second in range(100, 130):
        pace.look(float(second), 990 + second - 99)
    assert pace.rate is not None
    assert 0.9 < pace.rate < 1.1


# --- lines ---------------------------------------------------------------------------------------


def test_a_step_has_a_line_when_it_starts_and_one_when_it_ends():
    lines = ProgressLines()
    assert lines.look([step()], 0) == []
    assert lines.look([step(status=RUNNING, started_at=SECOND)], 1) == ["load started"]
    assert lines.look([step(status=RUNNING, started_at=SECOND)], 100) == []
    done = step(status=COMPLETED, started_at=SECOND, finished_at=3 * SECOND, done=1)
    assert lines.look([done], 101) == ["load completed in 2.0 s"]
    assert lines.look([done], 102) == []


def test_a_step_that_was_quick_has_one_line():
    lines = ProgressLines()
    lines.look([step()], 0)
    done = step(status=FAILED, started_at=SECOND, finished_at=SECOND, failed=1, retries=2)
    assert lines.look([done], 1) == ["load failed in 0.0 ms, 2 retried"]


def test_a_map_has_a_line_every_five_seconds_with_rate_and_time_left():
    lines = ProgressLines()
    lines.look([map_(status=PENDING)], 0)
    assert lines.look([map_(total=100)], 10) == ["parse started: 100 elements"]
    assert lines.look([map_(total=100, done=20)], 14) == []
    assert lines.look([map_(total=100, done=50, failed=1, retries=3)], 15) == [
        "parse 50/100, 10.0/s, 5.0 s left, 1 failed, 3 retried"
    ]
    assert lines.look([map_(total=100, done=60)], 16) == []
    done = map_(total=100, done=100, status=COMPLETED, finished_at=9 * SECOND)
    assert lines.look([done], 17) == ["parse completed in 8.0 s, 100/100 elements"]


def test_what_was_completed_before_a_resumption_is_summed_up():
    lines = ProgressLines()
    nodes = [step("a", COMPLETED, done=1), step("b", COMPLETED, done=1), map_(status=PENDING, done=30)]
    assert lines.look(nodes, 0) == ["2 steps completed before"]
    assert lines.look([*nodes[:2], map_(done=33, total=100)], 1) == [
        "parse started: 100 elements, 30 of them completed before"
    ]


def test_a_long_step_tells_its_message_when_it_changes():
    lines = ProgressLines()
    lines.look([step()], 0)
    lines.look([step(status=RUNNING, started_at=SECOND)], 0)
    assert lines.look([step(status=RUNNING, started_at=SECOND, message="epoch 1")], 6) == ["load: epoch 1"]
    assert lines.look([step(status=RUNNING, started_at=SECOND, message="epoch 1")], 20) == []


def test_no_label_can_break_out_of_its_line():
    lines = ProgressLines()
    lines.look([step("a\nb\x1b[2J")], 0)
    assert lines.look([step("a\nb\x1b[2J", RUNNING, started_at=SECOND)], 0) == ["a b�[2J started"]


# --- the display ---------------------------------------------------------------------------------


def frame(nodes, *, rows=20, is_over=False, view=None, clock=0.0, now=3 * SECOND, width=100) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)
    view = view or LiveView("index")
    console.print(view.draw(nodes, now=now, clock=clock, rows=rows, is_over=is_over))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_frame_has_a_row_for_each_step_and_one_for_the_run():
    nodes = [
        step("load", COMPLETED, started_at=0, finished_at=2 * SECOND),
        map_(total=10, done=4, failed=1, retries=2),
        step("report"),
    ]
    lines = frame(nodes)
    assert "load" in lines[0]
    assert "2.0 s" in lines[0]
    assert "4/10" in lines[1]
    assert "1 failed" in lines[1]
    assert "2 retried" in lines[1]
    assert "report" in lines[2]
    assert lines[3] == "index: 1/3 steps, 0 s"


def test_a_frame_tells_the_speed_of_a_map_and_the_time_left():
    view = LiveView("index")
    frame([map_(total=100, done=10)], view=view, clock=0.0)
    lines = frame([map_(total=100, done=20)], view=view, clock=2.0)
    assert "5.0/s, 16 s left" in lines[0]


def test_a_frame_of_many_steps_shows_what_runs_and_counts_the_rest():
    nodes = [step(f"s{i}", COMPLETED, started_at=0, finished_at=i) for i in range(50)]
    nodes += [step("now", RUNNING, started_at=0), *[step(f"t{i}") for i in range(50)]]
    lines = frame(nodes, rows=5)
    assert len(lines) == 7
    assert any("now" in line for line in lines)
    assert "and 96 more steps: 50 completed, 46 pending" in lines[5]
    assert lines[6].startswith("index: 50/101 steps")


def test_the_last_frame_shows_nothing_moving():
    lines = frame([step("load", RUNNING, started_at=0)], is_over=True)
    assert lines[0].split()[0] in ("■", "#")


def test_brackets_and_escapes_in_labels_are_just_text():
    lines = frame([step("[red]x[/red]\x1b[2J", RUNNING, started_at=0, message="[b]m")])
    assert "[red]x[/red]�[2J" in lines[0]
    assert "[b]m" in lines[0]


def test_a_narrow_terminal_loses_columns_not_lines():
    assert len(frame([map_("a_rather_long_label_for_a_map", total=10, done=4)], width=30)) == 2


# --- following -----------------------------------------------------------------------------------


def test_a_display_that_breaks_does_not_break_the_run(capsys, monkeypatch):
    follower = Follower()
    monkeypatch.setattr(follower, "_start", lambda: 1 / 0)
    dag = Dag("g")
    dag.node(abs, x=-1)
    run = dag.run(ledger=":memory:", on_start=follower.begin)
    follower.end()
    assert run.result() == 1
    assert "The progress cannot be shown (ZeroDivisionError" in capsys.readouterr().err


def test_following_ends_with_how_the_run_stands_at_last(capsys):
    follower = Follower()
    dag = Dag("g")
    dag.node(abs, x=-1)
    dag.run(ledger=":memory:", on_start=follower.begin)
    follower.end()
    follower.end()
    assert capsys.readouterr().out.count("abs completed in") == 1


def test_progress_begins_with_every_step_pending():
    dag = Dag("g")
    dag.node(abs, x=-1)
    assert [node.status for node in Progress("r", "g", dag.build()).snapshot()] == [PENDING]
