"""``milepost run`` and ``milepost resume``: lines, exit codes, and what the ledger then holds."""

from __future__ import annotations

import pytest

from milepost import Ledger, RunStatus
from milepost.cli.console import command

LEAVING = """
def leave() -> None:
    sys.exit(CODE)

dag = Dag("leaving")
dag.node(leave)
"""


def test_a_run_completes_and_says_so(place):
    result = place.run("run", "job.py:dag", "--run-id", "r1")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "Run r1 of 'tens'"
    assert any("work completed in" in line and line.endswith("4/4 elements") for line in lines)
    assert "Run r1 completed in" in lines[-1]
    assert lines[-1].endswith(": 3 steps, 4 map elements.")
    with Ledger.open("milepost.db") as ledger:
        assert ledger.get_output("r1", "total") == 60
        assert ledger.get_payload("r1").target == f"{place.folder}/job.py:dag"


def test_options_reach_the_run(place):
    place.write("inputs.yaml", "count: 9\n")
    words = ["--input", "count=2", "--inputs", "inputs.yaml", "--tag", "team=data", "--tag", "n=1"]
    options = ["--ledger", "sqlite:///other.db", "--durability", "process", "--max-concurrency", "2", "--run-id", "r1"]
    assert place.run("run", "job.py:dag", *words, *options).exit_code == 0
    with Ledger.open("other.db") as ledger:
        assert ledger.get_inputs("r1") == {"count": 2}
        assert ledger.get_tags("r1") == {"team": "data", "n": "1"}


def test_the_ledger_of_the_environment_is_used_where_none_is_named(place, monkeypatch):
    monkeypatch.setenv("MILEPOST_LEDGER", "env.db")
    assert place.run("run", "job.py:dag").exit_code == 0
    assert (place.folder / "env.db").exists()
    assert not (place.folder / "milepost.db").exists()


def test_a_failed_run_names_its_first_failure_on_one_line_and_what_to_do(place):
    place.write("broken", "")
    result = place.run("run", "job.py:dag", "--run-id", "r1", "--ledger", "my runs.db")
    assert result.exit_code == 1
    first, second, third = result.stderr.splitlines()
    assert "Run r1 failed after" in first
    assert first.endswith("in step 'work[2]': ValueError: two is [bad] second line")
    assert second.split("  ")[-1] == f"{command('show', 'r1', 'work[2]')} --ledger 'my runs.db'"
    assert third.split("  ")[-1] == f"{command('resume', 'r1')} --ledger 'my runs.db'"


@pytest.mark.parametrize("code", [0, 3])
def test_a_step_that_calls_sys_exit_ends_the_run_as_cancelled_whatever_its_code(place, code):
    place.write("leaving.py", f"import sys\nfrom milepost import Dag\n{LEAVING.replace('CODE', str(code))}")
    for verb in (["run", "leaving.py:dag", "--run-id", "r1"], ["resume", "r1"]):
        result = place.run(*verb)
        assert result.exit_code == 1
        first, second = result.stderr.splitlines()
        assert first.endswith(f"Run r1 is recorded as cancelled: step 'leave' called sys.exit({code})")
        assert second.split("  ")[-1] == command("resume", "r1")
    with Ledger.open("milepost.db") as ledger:
        assert ledger.require_run("r1").status is RunStatus.CANCELLED


def test_a_step_that_calls_sys_exit_is_told_of_a_ledger_in_memory_too(place):
    place.write("leaving.py", f"import sys\nfrom milepost import Dag\n{LEAVING.replace('CODE', '3')}")
    result = place.run("run", "leaving.py:dag", "--ledger", ":memory:")
    assert result.exit_code == 1
    assert "is recorded as cancelled: a step called sys.exit(3)" in result.stderr


def test_a_failed_run_goes_on_when_its_cause_is_mended(place):
    broken = place.write("broken", "")
    assert place.run("run", "job.py:dag", "--run-id", "r1").exit_code == 1
    broken.unlink()
    result = place.run("resume", "r1")
    assert result.exit_code == 0
    assert result.stdout.startswith("Resuming run r1 of 'tens'\n")
    assert "4/4 elements, 2 of them completed before" in result.stdout
    assert place.effects == [0, 1, 2, 2, 3]


def test_a_run_is_resumed_by_prefix_and_as_the_latest(place):
    broken = place.write("broken", "")
    for name in ("first-1", "second-2"):
        place.run("run", "job.py:dag", "--run-id", name)
    broken.unlink()
    assert "Resuming run first-1" in place.run("resume", "fir").stdout
    assert "Resuming run second-2" in place.run("resume", "latest").stdout


def test_a_completed_run_is_not_resumed_even_when_its_file_is_gone(place):
    place.run("run", "job.py:dag", "--run-id", "r1")
    (place.folder / "job.py").unlink()
    result = place.run("resume", "r1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: Run r1 is completed: it cannot be resumed.")


def test_a_changed_graph_is_refused_and_the_run_left_as_it_was(place):
    broken = place.write("broken", "")
    place.run("run", "job.py:dag", "--run-id", "r1")
    broken.unlink()
    with (place.folder / "job.py").open("a") as job:
        job.write("dag.node(find, label='extra')\n")
    result = place.finish("resume", "r1")
    assert result.returncode == 2
    assert "step 'extra' is new" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    with Ledger.open("milepost.db") as ledger:
        assert ledger.require_run("r1").status == RunStatus.FAILED


def test_a_dag_that_moved_is_named_with_target_and_found_from_then_on(place):
    broken = place.write("broken", "")
    place.write(
        "here.py",
        "import os\nfrom milepost import Dag\n"
        "def f(n: int) -> int:\n    assert not os.path.exists('broken')\n    return n\n"
        "dag = Dag('g')\ndag.node(f, n=1)\n",
    )
    place.finish("run", "here.py:dag", "--run-id", "r1")
    (place.folder / "here.py").rename(place.folder / "moved.py")
    missing = place.finish("resume", "r1")
    assert missing.returncode == 3
    assert "If the Dag of run r1 has moved, name it with --target." in missing.stderr
    assert place.finish("resume", "r1", "--target", "moved.py:dag").returncode == 1
    broken.unlink()
    assert place.finish("resume", "r1").returncode == 0


def test_a_run_that_does_not_say_where_its_dag_is_asks_for_it(place):
    place.run("run", "job.py:dag", "--run-id", "r1")
    with Ledger.open("milepost.db") as ledger:
        ledger.store._writer.execute("UPDATE run_payloads SET target = NULL")
        ledger.store._writer.execute("UPDATE runs SET status = 'failed'")
    result = place.run("resume", "r1")
    assert result.exit_code == 2
    assert "Name it with --target file.py:dag, or --target file.py:function where" in result.stderr


def test_resume_all_of_one_run_that_cannot_go_on_fails_as_it_does_among_others(place, wait_for):
    place.write("hold", "")
    process = place.start("run", "job.py:dag", "--run-id", "r1")
    wait_for(lambda: place.effects == [0, 1, 2])
    process.kill()
    process.communicate()
    (place.folder / "job.py").unlink()
    result = place.finish("resume", "--all")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: There is no file")


def test_resume_all_with_nothing_to_do_says_so(place):
    place.run("run", "job.py:dag")
    result = place.run("resume", "--all")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "No run to resume: no process died in the middle of one.\n"


def test_an_output_that_cannot_be_stored_fails_the_run_with_one_line(place):
    place.write("odd.py", "from milepost import Dag\ndef odd():\n    return object()\ndag = Dag('g')\ndag.node(odd)\n")
    result = place.run("run", "odd.py:dag")
    assert result.exit_code == 1
    assert (
        "in step 'odd': ValueNotStorable: A value of type builtins.object, returned by step 'odd', cannot be stored"
        in result.stderr
    )


def test_inputs_are_checked_before_a_ledger_is_made(place):
    for words in (["--input", "count=x"], ["--input", "cuont=1"], ["--tag", "x"], ["--max-concurrency", "0"]):
        assert place.run("run", "job.py:dag", *words).exit_code == 2
    assert not (place.folder / "milepost.db").exists()


@pytest.mark.parametrize("where", ["first", "last"])
def test_debug_shows_the_traceback_wherever_it_stands(place, where):
    words = ["run", "job.py:nope"]
    quiet = place.run(*words)
    loud = place.run("--debug", *words) if where == "first" else place.run(*words, "--debug")
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr
    assert quiet.exit_code == loud.exit_code == 3
    assert loud.stderr.splitlines()[-1] == quiet.stderr.strip()


def test_a_ledger_in_memory_serves_a_run_that_need_not_last(place):
    assert place.run("run", "job.py:dag", "--ledger", ":memory:").exit_code == 0
    assert place.run("runs", "--ledger", ":memory:").exit_code == 2


MOVED = """
import os
from dataclasses import dataclass
from enum import Enum
from milepost import Dag, StepContext

class Size(Enum):
    SMALL = 1

@dataclass
class Item:
    number: int
    size: Size

def find(first: Item) -> list[Item]:
    return [first, Item(2, Size.SMALL)]

def work(ctx: StepContext, item: Item) -> Item:
    saved = ctx.load("seen")
    ctx.save("seen", item)
    if item.number == 2 and not os.path.exists("mended"):
        raise OSError("not yet")
    return saved or item

def total(items: list[Item]) -> Item:
    return Item(sum(item.number for item in items), items[-1].size)

dag = Dag("moved")
dag.node(total, items=dag.map(work, dag.node(find), concurrency=1))
"""


def test_a_run_goes_on_when_its_file_has_another_name_though_its_values_are_of_classes_in_it(place):
    before = place.write("before.py", MOVED)
    first = '{"number": 1, "size": 1}'
    failed = place.finish("run", "before.py:dag", "--run-id", "r1", "--input", f"first={first}")
    assert failed.returncode == 1
    before.rename(place.folder / "after.py")
    place.write("mended", "")
    result = place.finish("resume", "r1", "--target", "after.py:dag")
    assert (result.returncode, result.stderr) == (0, "")
    shown = place.run("show", "r1", "total", "--json")
    assert '"number": 3' in shown.stdout
