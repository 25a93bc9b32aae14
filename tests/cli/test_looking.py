"""The reading commands: runs, show, graph, doctor, gc and cancel, for people and as JSON."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from milepost import Ledger


@pytest.fixture
def recorded(place):
    """Return a folder whose ledger has a completed run `good` and a failed run `bad`."""
    place.run("run", "job.py:dag", "--run-id", "good", "--tag", "team=data")
    broken = place.write("broken", "")
    place.run("run", "job.py:dag", "--run-id", "bad", "--input", "count=5")
    broken.unlink()
    return place


def document(result) -> dict:
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


# --- runs ----------------------------------------------------------------------------------------


def test_runs_lists_the_newest_first_with_its_failure(recorded):
    result = recorded.run("runs")
    heading, first, second = result.stdout.splitlines()
    assert heading.split() == ["RUN", "WORKFLOW", "STATUS", "CREATED", "DURATION"]
    assert first.split()[:4] == ["bad", "tens", "✗", "failed"]
    assert first.endswith("work[2]: ValueError: two is [bad] second line")
    assert second.split()[:4] == ["good", "tens", "✓", "completed"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["bad", "good"]),
        (["--status", "failed"], ["bad"]),
        (["--workflow", "tens", "--limit", "1"], ["bad"]),
        (["--since", "1h"], ["bad", "good"]),
        (["--since", "2001-01-01"], ["bad", "good"]),
        (["--since", "2999-01-01"], []),
        (["--status", "running"], []),
    ],
)
def test_runs_can_be_narrowed(recorded, words, expected):
    found = document(recorded.run("runs", "--json", *words))
    assert [run["run_id"] for run in found["runs"]] == expected


def test_runs_as_json_keeps_its_promised_keys(recorded):
    found = document(recorded.run("runs", "--json"))
    assert found["ledger"] == f"{recorded.folder}/milepost.db"
    bad = found["runs"][0]
    assert list(bad) == [
        "run_id",
        "workflow",
        "version",
        "kind",
        "status",
        "is_interrupted",
        "attempt",
        "created_at",
        "started_at",
        "finished_at",
        "duration",
        "owner",
        "lease_until",
        "cancel_requested_at",
        "pause_requested_at",
        "parent_run_id",
        "parent_step",
        "replay_of",
        "queue",
        "priority",
        "available_at",
        "max_attempts",
        "rescues",
        "idempotency_key",
        "correlation_id",
        "created_by",
        "error",
    ]
    assert bad["error"] == {"step": "work[2]", "type": "ValueError", "message": "two is [bad]\nsecond line"}
    started, finished = (datetime.fromisoformat(bad[name]) for name in ("started_at", "finished_at"))
    assert started.utcoffset().total_seconds() == 0
    assert bad["duration"] == pytest.approx((finished - started).total_seconds())


def test_runs_of_an_empty_ledger_says_that_there_are_none(place):
    Ledger.open("milepost.db").close()
    assert place.run("runs").stdout == f"No runs in {place.folder}/milepost.db.\n"
    assert place.run("runs", "--status", "failed").stdout.startswith("No such runs in")
    assert place.run("runs", "--workflow", "any").exit_code == 0


def test_runs_says_when_there_may_be_more(recorded):
    assert recorded.run("runs", "--limit", "2").stdout.endswith("(the newest 2; --limit shows more)\n")


# --- show ----------------------------------------------------------------------------------------


def test_show_folds_maps_but_shows_what_failed_in_them(recorded):
    text = recorded.run("show", "bad").stdout
    assert "✗ Run bad of tens: failed" in text
    assert f"target    {recorded.folder}/job.py:dag" in text
    assert "inputs    count=5" in text
    assert "in work[2]: ValueError: two is [bad] second line" in text
    steps = [line.split() for line in text.splitlines()]
    assert ["✓", "find", "completed"] in [words[:3] for words in steps]
    assert any(words[:5] == ["✗", "work", "failed", "2/5,", "1"] for words in steps)
    assert any(words[:4] == ["└", "✗", "work[2]", "failed"] for words in steps)
    assert ["·", "total", "pending"] in [words[:3] for words in steps]
    assert "work[0]" not in text
    assert "0 s" in text.split("total", 1)[1]  # the timeline follows the tree


def test_show_all_unfolds_every_element(recorded):
    text = recorded.run("show", "good", "--all").stdout
    assert [f"work[{i}]" in text for i in range(4)] == [True] * 4
    assert "tags      team=data" in text


def test_show_hides_all_but_a_few_failures_of_a_map(place):
    place.write(
        "many.py",
        "import threading\nfrom milepost import Dag\nmeet = threading.Barrier(6)\n"
        "def work(n: int) -> int:\n    meet.wait()\n    raise ValueError(n)\n"
        "dag = Dag('g')\ndag.map(work, [1, 2, 3, 4, 5, 6])\n",
    )
    place.run("run", "many.py:dag", "--run-id", "m")
    text = place.run("show", "m").stdout
    assert text.count("ValueError") == 4 + 1  # the heading, the map and three of its elements
    assert "3 more failed (--all shows every element)" in text


def test_show_as_json_has_the_run_its_attempts_steps_and_edges(recorded):
    found = document(recorded.run("show", "bad", "--json"))
    assert list(found) == ["ledger", "run", "attempts", "waits", "steps", "edges"]
    assert found["run"]["inputs"] == {"count": 5}
    assert found["run"]["target"] == f"{recorded.folder}/job.py:dag"
    assert "Traceback" in found["run"]["traceback"]
    assert [(step["label"], step["status"]) for step in found["steps"]] == [
        ("find", "completed"),
        ("work", "failed"),
        ("total", "pending"),
    ]
    work = found["steps"][1]
    assert work["counts"] == {"done": 2, "total": 5, "running": 0, "failed": 1, "retries": 0}
    assert work["elements"] is None
    assert found["edges"] == [
        {"upstream": "find", "downstream": "work", "is_traversed": True},
        {"upstream": "work", "downstream": "total", "is_traversed": False},
    ]
    assert [attempt["status"] for attempt in found["attempts"]] == ["failed"]


def test_show_all_as_json_has_every_element(recorded):
    found = document(recorded.run("show", "bad", "--json", "--all"))
    elements = found["steps"][1]["elements"]
    assert [(element["label"], element["status"]) for element in elements] == [
        ("work[0]", "completed"),
        ("work[1]", "completed"),
        ("work[2]", "failed"),
    ]


def test_show_of_a_step_has_its_input_output_and_traceback(recorded):
    good = recorded.run("show", "good", "work[3]").stdout
    assert "✓ attempt 1: completed" in good
    assert "output    30" in good
    assert '"item": 3' in good
    bad = recorded.run("show", "bad", "work[2]").stdout
    assert "error     ValueError: two is [bad]\n            second line\n" in bad
    assert 'raise ValueError("two is [bad]' in bad
    found = document(recorded.run("show", "bad", "work[2]", "--json"))
    assert list(found) == ["ledger", "run_id", "label", "kind", "attempts"]
    assert found["attempts"][0]["error"]["type"] == "ValueError"


def test_show_finds_runs_by_prefix_and_as_latest(recorded):
    assert document(recorded.run("show", "goo", "--json"))["run"]["run_id"] == "good"
    assert document(recorded.run("show", "latest", "--json"))["run"]["run_id"] == "bad"


def test_a_prefix_of_several_runs_is_refused_with_their_names(place):
    for name in ("run-a", "run-b"):
        place.run("run", "job.py:dag", "--run-id", name)
    result = place.run("show", "run-")
    assert result.exit_code == 2
    assert result.stderr == "Error: 'run-' is the beginning of several runs: run-a, run-b. Write more of it.\n"


# --- very long messages ------------------------------------------------------------------------


@pytest.fixture
def verbose(place):
    """Return a folder whose run `long` failed with a message of a million characters."""
    place.write(
        "verbose.py",
        "from milepost import Dag\n\n"
        "def talk():\n    raise ValueError('x y\\n' * 250_000)\n\n"
        "dag = Dag('verbose')\ndag.node(talk)\n",
    )
    return place, place.run("run", "verbose.py:dag", "--run-id", "long")


def test_a_very_long_message_is_one_short_line_wherever_runs_are_told(verbose):
    place, result = verbose
    assert max(map(len, result.stderr.splitlines())) < 700
    for words in (["runs"], ["show", "long"]):
        told = place.run(*words).stdout
        assert "ValueError: x y x y" in told
        assert max(map(len, told.splitlines())) < 700
    assert len(place.run("graph", "long", "--format", "svg").stdout) < 5000


def test_a_very_long_message_is_cut_in_lists_of_json_and_whole_as_recorded_in_a_step(verbose):
    place, _ = verbose
    (run,) = document(place.run("runs", "--json"))["runs"]
    shown = document(place.run("show", "long", "--json"))
    for message in (
        run["error"]["message"],
        shown["run"]["error"]["message"],
        shown["attempts"][0]["error"]["message"],
        shown["steps"][0]["error"],
    ):
        assert message.startswith(("x y\n", "ValueError: x y\n"))
        assert len(message) < 2100
    (attempt,) = document(place.run("show", "long", "talk", "--json"))["attempts"]
    assert len(attempt["error"]["message"]) > 65_000


def test_a_step_shows_the_beginning_of_a_very_long_message_line_by_line(verbose):
    place, _ = verbose
    lines = place.run("show", "long", "talk").stdout.splitlines()
    start = lines.index("  error     ValueError: x y")
    assert lines[start + 1] == "            x y"
    assert lines[start + 2] == "            x y"
    assert any(line.endswith("characters in all)") for line in lines)
    assert any("more lines: --json has them" in line for line in lines)
    assert len(lines) < 1000


# --- graph ---------------------------------------------------------------------------------------


def test_a_target_is_drawn_without_a_ledger(place):
    result = place.run("graph", "job.py:dag")
    assert result.stdout == "tens\n  find\n  work   map  ← find\n  total       ← work\n"
    assert not (place.folder / "milepost.db").exists()


def test_a_run_is_drawn_with_its_statuses(recorded):
    assert "✗ work" in recorded.run("graph", "bad").stdout
    assert "class n1 failed" in recorded.run("graph", "bad", "--format", "mermaid").stdout
    assert ET.fromstring(recorded.run("graph", "good", "--format", "svg").stdout).tag.endswith("svg")


def test_the_format_follows_from_the_file(recorded):
    for name, beginning in (("a.svg", "<svg"), ("a.mmd", "---"), ("a.txt", "tens: run bad failed")):
        assert recorded.run("graph", "bad", "-o", name).exit_code == 0
        assert (recorded.folder / name).read_text(encoding="utf-8").startswith(beginning)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-o", "a.png"], "--output 'a.png' ends in no format that can be drawn. Name a file that ends in .svg, .mmd"),
        (["-o", "a.png", "--format", "svg"], "--output 'a.png' ends in no format that can be drawn."),
        (["-o", "a.odd"], "--output 'a.odd' ends in no format that can be drawn."),
        (["-o", "a.svg", "--format", "text"], "--output 'a.svg' is svg by its name, --format says text."),
    ],
)
def test_a_picture_is_not_written_under_the_name_of_another_format(recorded, words, complaint):
    result = recorded.run("graph", "bad", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {complaint}")
    assert not (recorded.folder / words[1]).exists()


def test_a_format_may_be_written_to_a_file_whose_name_says_nothing(recorded):
    for name in ("notes.md", "drawing"):
        assert recorded.run("graph", "bad", "--format", "mermaid", "-o", name).exit_code == 0
        assert (recorded.folder / name).read_text(encoding="utf-8").startswith("---")


def test_graph_as_json(recorded):
    found = document(recorded.run("graph", "job.py:dag", "--json"))
    assert (found["name"], found["run_id"], found["status"]) == ("tens", None, None)
    found = document(recorded.run("graph", "bad", "--json"))
    assert (found["run_id"], found["status"]) == ("bad", "failed")
    assert [node["status"] for node in found["nodes"]] == ["completed", "failed", "pending"]


def test_a_run_whose_id_looks_like_a_target_is_still_a_run(place):
    place.run("run", "job.py:dag", "--run-id", "job:dag")
    assert document(place.run("graph", "job:dag", "--json"))["run_id"] == "job:dag"


# --- doctor, gc, cancel --------------------------------------------------------------------------


def test_doctor_finds_nothing_in_a_sound_ledger(recorded):
    result = recorded.run("doctor")
    assert result.exit_code == 0
    assert "1 completed, 1 failed" in result.stdout
    assert result.stdout.endswith("Nothing is wrong.\n")
    assert document(recorded.run("doctor", "--json")) == {
        "ledger": f"{recorded.folder}/milepost.db",
        "is_healthy": True,
        "runs": {"completed": 1, "failed": 1},
        "problems": [],
    }


def test_doctor_counts_what_still_stands_in_the_wal(recorded):
    with Ledger.open("milepost.db") as ledger:
        ledger.delete_runs(older_than=timedelta(0))  # a connection is open: nothing is moved out of the WAL
        size = sum((recorded.folder / f"milepost.db{end}").stat().st_size for end in ("", "-wal"))
        told = recorded.run("doctor").stdout
    assert f"milepost.db, {size / 1000:,.0f} kB: no runs" in told


def test_an_empty_file_is_said_to_be_empty(place):
    place.write("empty.db", "")
    result = place.run("runs", "--ledger", "empty.db")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "empty.db is not a Milepost ledger: it is empty." in result.stderr


def test_doctor_explains_a_changed_output_with_a_remedy(recorded):
    with Ledger.open("milepost.db") as ledger:
        ledger.store._writer.execute("UPDATE steps SET output = '61' WHERE label = 'total'")
    result = recorded.run("doctor")
    assert result.exit_code == 1
    assert "output_changed  good total" in result.stdout
    assert "Remedy: Somebody changed the row" in result.stdout
    as_json = recorded.run("doctor", "--json")
    assert as_json.exit_code == 1
    (problem,) = json.loads(as_json.stdout)["problems"]
    assert list(problem) == ["code", "subject", "message", "remedy"]


def test_doctor_tells_damage_from_a_file_that_is_something_else(place):
    place.finish("run", "job.py:dag", "--ledger", "whole.db")
    data = bytearray((place.folder / "whole.db").read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 512] = b"\xff" * 512
    (place.folder / "damaged.db").write_bytes(data)
    damaged = place.run("doctor", "--ledger", "damaged.db")
    assert damaged.exit_code == 1, damaged.stderr
    assert "damaged  " in damaged.stdout
    place.write("text.db", "hello")
    assert place.run("doctor", "--ledger", "text.db").exit_code == 2


def test_gc_deletes_by_age_and_a_dry_run_only_counts(recorded):
    assert recorded.run("gc").stdout == "Deleted 0 runs that finished more than 30d ago.\n"
    assert recorded.run("gc", "--older-than", "0s", "--dry-run").stdout.startswith("Would delete 2 runs")
    assert len(document(recorded.run("runs", "--json"))["runs"]) == 2
    assert recorded.run("gc", "--older-than", "0s").stdout.startswith("Deleted 2 runs")
    assert document(recorded.run("runs", "--json"))["runs"] == []


def test_a_run_that_has_ended_cannot_be_cancelled(recorded):
    result = recorded.run("cancel", "good")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: Run good is completed: it cannot be cancelled.\n"


def test_json_stays_json_on_a_terminal_that_knows_only_ascii(place):
    place.write("wide.py", "from milepost import Dag\ndag = Dag('größe 日本')\ndag.node(abs, x=1, label='schön')\n")
    place.run("run", "wide.py:dag", "--run-id", "w")
    import os

    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    found = place.finish("show", "w", "--json", env=env)
    assert json.loads(found.stdout)["run"]["workflow"] == "größe 日本"
    assert place.finish("show", "w", env=env).returncode == 0


def test_every_key_of_the_documents_is_in_the_reference(recorded):
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")

    def keys(value):
        if isinstance(value, dict):
            for name, part in value.items():
                yield name
                # What is in inputs and outputs is the user's, and the doctor's runs are counted by status.
                if name not in ("inputs", "tags", "input", "output") and (name != "runs" or isinstance(part, list)):
                    yield from keys(part)
        elif isinstance(value, list):
            for part in value:
                yield from keys(part)

    for words in (["runs"], ["show", "bad", "--all"], ["show", "bad", "work[2]"], ["graph", "bad"], ["doctor"]):
        found = set(keys(json.loads(recorded.run(*words, "--json").stdout)))
        assert len(found) > 3
        assert [name for name in found if f"`{name}`" not in reference] == []


UNDOABLE = """
from milepost import Dag, step

def take_back(item: int) -> None:
    print(f"back {item}")

@step(undo=take_back)
def put(item: int) -> int:
    return item

@step
def count(items: list[int]) -> int:
    return len(items)

dag = Dag("undoable")
dag.node(count, items=dag.map(put, range(3)))
"""


def test_rollback_undoes_the_steps_of_a_run_and_names_those_that_say_nothing(place):
    place.write("undoable.py", UNDOABLE)
    assert place.run("run", "undoable.py:dag").exit_code == 0
    refused = place.run("rollback", "latest")
    assert refused.exit_code != 0
    assert "of 'count' nobody says how to undo it" in " ".join(refused.output.split())
    dry = place.run("rollback", "latest", "--skip-missing", "--dry-run")
    assert dry.output.splitlines() == [
        "  count: has no undo",
        "  put: would be undone",
        "  put[2] .. put[0], 3 elements: would be undone",
    ]
    done = place.run("rollback", "latest", "--skip-missing")
    assert done.output.splitlines()[:3] == ["back 2", "back 1", "back 0"]
    assert done.output.splitlines()[-1].endswith("is rolled back.")
    again = place.run("rollback", "latest", "--skip-missing")
    assert again.output.strip().endswith("has nothing to undo.")
    unknown = place.run("rollback", "latest", "--to", "putt")
    assert unknown.exit_code == 3
    assert "putt" in unknown.output


def test_lineage_diff_and_invalidate_tell_the_story_of_an_output(place, recorded):
    traced = place.run("lineage", "good", "--node", "work")
    assert traced.output.splitlines()[0].startswith("work of run good: completed")
    assert "    find: completed" in traced.output.splitlines()
    assert "    total: completed" in traced.output.splitlines()
    assert json.loads(place.run("lineage", "good", "--json").output)["lineage"][0]["label"] == "total"
    marked = place.run("invalidate", "good", "find", "--reason", "stale")
    assert marked.output.splitlines() == [
        "The output of find of run good is marked as bad: stale",
        "  run good of tens, completed: work, total",
    ]
    assert "marked as bad: stale" in place.run("lineage", "good", "--node", "find").output
    different = place.run("diff", "good", "bad")
    assert "input count: nothing -> 5" in different.output
    assert different.output.splitlines()[-1] == "They part at find."
    assert json.loads(place.run("diff", "good", "good", "--json").output)["is_same"] is True
    for words in (["lineage", "good", "--node", "wrok"], ["invalidate", "good", "wrok"], ["diff", "good", "nowhere"]):
        assert place.run(*words).exit_code == 3, words
