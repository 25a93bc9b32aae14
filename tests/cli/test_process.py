"""The command line as a process: killed, interrupted, terminated, watched on a terminal, read by nobody."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from milepost import Ledger, RunStatus

DYING = """
def work():
    if os.path.exists("mended"):
        raise ValueError("no")
    os.kill(os.getpid(), 9)

dag = Dag("dying")
dag.node(work)
"""


def status_of(place, run_id: str, ledger: str = "milepost.db") -> str:
    with Ledger.open(place.folder / ledger, read_only=True) as opened:
        return opened.require_run(run_id).status.value


@pytest.fixture
def held(place, wait_for):
    """Start a run `r1` and return it at the moment when element 2 has begun and waits."""
    place.write("hold", "")
    process = place.start("run", "job.py:dag", "--run-id", "r1")
    wait_for(lambda: place.effects == [0, 1, 2])
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def let_go(place) -> None:
    (place.folder / "hold").unlink()


# --- kill -9 -------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_from_its_completed_steps(place, held):
    held.kill()
    held.wait()
    let_go(place)
    looked = place.finish("show", "r1", "--json")
    assert json.loads(looked.stdout)["run"]["is_interrupted"] is True
    assert "interrupted" in place.finish("runs").stdout
    result = place.finish("resume", "--all")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Resuming run r1 of 'tens'\n")
    assert place.effects == [0, 1, 2, 2, 3]
    assert status_of(place, "r1") == "completed"


def test_doctor_finds_a_killed_run_and_says_how_to_go_on(place, held):
    held.kill()
    held.wait()
    result = place.finish("doctor")
    assert result.returncode == 1
    assert "interrupted_run  r1" in result.stdout
    assert "resume r1`" in result.stdout
    (place.folder / "job.py").unlink()
    assert "job.py is gone" in place.finish("doctor").stdout


def test_a_killed_run_whose_dag_a_function_built_asks_for_the_target_and_goes_on_with_it(place):
    place.write(
        "built.py",
        "import os\nfrom milepost import Dag\n\n"
        "def work():\n    if not os.path.exists('mended'): os.kill(os.getpid(), 9)\n\n"
        "def build():\n    dag = Dag('built')\n    dag.node(work)\n    return dag\n\n"
        "if __name__ == '__main__':\n    build().run(run_id='r1')\n",
    )
    subprocess.run([sys.executable, "built.py"], cwd=place.folder, timeout=60)
    assert "go on with it: milepost" in place.finish("show", "r1").stdout.replace(sys.executable + " -m ", "")
    assert "resume r1 --target file.py:dag\n" in place.finish("show", "r1").stdout
    refused = place.finish("resume", "r1")
    assert refused.returncode == 2
    assert "Name it with --target file.py:dag, or --target file.py:function" in refused.stderr
    place.write("mended", "")
    assert place.finish("resume", "r1", "--target", "built.py:build").returncode == 0


def test_resume_all_takes_up_every_run_though_their_files_share_a_name(place, wait_for):
    runs = []
    for folder in ("one", "two"):
        job = (place.folder / "job.py").read_text().replace('"tens"', f'"{folder}"')
        place.write(f"{folder}/job.py", job)
        place.write(f"{folder}/hold", "")
        process = place.start(
            "run", "job.py:dag", "--run-id", folder, "--ledger", "../shared.db", cwd=place.folder / folder
        )
        runs.append(process)
        log = place.folder / folder / "effects.log"
        wait_for(lambda log=log: log.exists() and log.read_text() == "0\n1\n2\n")
    for process in runs:
        process.kill()
        process.communicate()
    result = place.finish("resume", "--all", "--ledger", "shared.db")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("2 runs to resume.\n")
    assert "Resuming run one of 'one'" in result.stdout
    assert "Resuming run two of 'two'" in result.stdout
    assert [status_of(place, name, "shared.db") for name in ("one", "two")] == ["completed", "completed"]
    assert place.effects == [2, 3, 2, 3]


def test_the_hints_of_resume_all_are_lines_as_its_own_user_types_them(place):
    place.write("dying.py", "import os\nfrom milepost import Dag\n\n" + DYING)
    milepost = os.path.join(os.path.dirname(sys.executable), "milepost")
    runs = [[milepost, "run", "dying.py:dag", "--run-id", name] for name in ("a", "b")]
    for line in runs:
        subprocess.run(line, cwd=place.folder, timeout=60, capture_output=True)
    place.write("mended", "")
    path = f"{os.path.dirname(milepost)}:{os.environ['PATH']}"
    result = subprocess.run(
        [milepost, "resume", "--all"],
        cwd=place.folder,
        timeout=60,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    assert result.returncode == 1
    hints = [line.split(":  ")[1] for line in result.stderr.splitlines() if ":  " in line]
    assert sorted(hints) == [
        "milepost resume a",
        "milepost resume b",
        "milepost show a work",
        "milepost show b work",
    ]


def test_the_command_line_can_be_run_as_a_module_and_names_itself_so(place):
    place.write("dying.py", "import os\nfrom milepost import Dag\n\n" + DYING)
    place.write("mended", "")
    result = place.finish("run", "dying.py:dag", "--run-id", "a")
    assert f"Go on with it:  {sys.executable} -m milepost resume a\n" in result.stderr
    again = subprocess.run(
        result.stderr.split("Go on with it:  ")[1], shell=True, cwd=place.folder, capture_output=True, text=True
    )
    assert "Resuming run a of 'dying'" in again.stdout


def test_a_step_that_may_not_start_again_is_not_said_to_go_on_with_a_resume(place):
    place.write(
        "paying.py",
        "import os\nfrom milepost import Dag, step\n\n"
        "@step(at_most_once=True)\ndef pay(): os.kill(os.getpid(), 9)\n\n"
        "dag = Dag('paying')\ndag.node(pay)\n",
    )
    place.finish("run", "paying.py:dag", "--run-id", "r1")
    result = place.finish("resume", "r1")
    assert result.returncode == 1
    first, second = result.stderr.splitlines()
    assert "in step 'pay': AtMostOnceInterrupted: " in first
    assert first.endswith("check its effect by hand, then start a new run.")
    assert "What happened:" in second


def test_one_run_that_cannot_go_on_does_not_stop_the_others(place, wait_for):
    place.write("hold", "")
    for name in ("a", "b"):
        (place.folder / "effects.log").unlink(missing_ok=True)
        place.write(f"{name}.py", (place.folder / "job.py").read_text())
        process = place.start("run", f"{name}.py:dag", "--run-id", name)
        wait_for(lambda: place.effects == [0, 1, 2])
        process.kill()
        process.communicate()
    let_go(place)
    (place.folder / "a.py").unlink()
    result = place.finish("resume", "--all")
    assert result.returncode == 1
    assert "There is no file" in result.stderr
    assert status_of(place, "b") == "completed"
    assert status_of(place, "a") == "running"


# --- Ctrl-C and SIGTERM --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code", "kind"), [(signal.SIGINT, 130, "KeyboardInterrupt"), (signal.SIGTERM, 143, "Terminated")]
)
def test_an_interrupted_run_is_recorded_as_cancelled_and_says_how_to_go_on(place, held, number, code, kind):
    held.send_signal(number)
    out, err = held.communicate(timeout=30)
    assert held.returncode == code
    first, second = err.splitlines()
    assert first.endswith("Run r1 was interrupted and is recorded as cancelled.")
    assert "Go on with it:" in second
    assert second.endswith("resume r1")
    assert out.startswith("Run r1 of 'tens'\n")
    with Ledger.open(place.folder / "milepost.db", read_only=True) as ledger:
        run = ledger.require_run("r1")
        assert (run.status, run.error_type) == (RunStatus.CANCELLED, kind)
    let_go(place)
    assert place.finish("resume", "--all").stdout.startswith("No run to resume")
    assert place.finish("resume", "r1").returncode == 0
    assert place.effects == [0, 1, 2, 2, 3]


def test_sigterm_to_resume_all_reaches_the_run_that_it_executes(place, wait_for):
    place.write("hold", "")
    for name in ("a", "b"):
        (place.folder / "effects.log").unlink(missing_ok=True)
        process = place.start("run", "job.py:dag", "--run-id", name)
        wait_for(lambda: place.effects == [0, 1, 2])
        process.kill()
        process.communicate()
    both = place.start("resume", "--all")
    wait_for(lambda: place.effects == [0, 1, 2, 2])
    both.terminate()
    _, err = both.communicate(timeout=30)
    assert both.returncode == 143
    assert "Run a was interrupted and is recorded as cancelled." in err
    assert [status_of(place, name) for name in ("a", "b")] == ["cancelled", "running"]


def test_ctrl_c_before_the_run_begins_says_so(place):
    place.write("slow.py", "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    result = place.finish("run", "slow.py:dag")
    assert result.returncode == 130
    assert not (place.folder / "milepost.db").exists()


def test_an_interrupt_in_the_moments_before_the_first_step_is_recorded_all_the_same(place):
    place.write(
        "eager.py",
        "import os, signal\nfrom milepost import Dag\n"
        "class Eager(Dag):\n"
        "    def run(self, *, on_start, **options):\n"
        "        def start(progress):\n"
        "            on_start(progress)\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "        return super().run(on_start=start, **options)\n"
        "dag = Eager('g')\ndag.node(abs, x=1)\n",
    )
    result = place.finish("run", "eager.py:dag", "--run-id", "r1")
    assert result.returncode == 130
    assert "Run r1 was interrupted and is recorded as cancelled." in result.stderr
    assert status_of(place, "r1") == "cancelled"


# --- another process -----------------------------------------------------------------------------


def test_a_run_in_another_process_is_busy_until_it_is_cancelled_from_here(place, held):
    busy = place.finish("resume", "r1")
    assert busy.returncode == 1
    assert "Run r1 is being executed by process" in busy.stderr
    nothing = place.finish("resume", "--all")
    assert nothing.returncode == 0
    assert "Run r1 is being executed by process" in nothing.stdout
    assert "running 2/4" in place.finish("show", "r1").stdout
    asked = place.finish("cancel", "r1")
    assert asked.returncode == 0
    assert "Run r1 was asked to stop; process" in asked.stdout
    _, err = held.communicate(timeout=30)
    assert held.returncode == 1
    assert "Run r1 was cancelled after" in err
    assert status_of(place, "r1") == "cancelled"


SLOW = """
import time
from milepost import Dag, Retry, StepContext, step

def copy(ctx: StepContext):
    while True:
        ctx.progress(18, 50, "loading")
        time.sleep(0.01)

@step(retry=Retry(delay=60))
def call():
    raise OSError("no route")

copying, calling = Dag("copying"), Dag("calling")
copying.node(copy)
calling.node(call)
"""


@pytest.mark.parametrize(
    ("dag", "told"),
    [
        ("copying", r"▶ copy  running\s+18/50 loading\n"),
        ("calling", r"✗ call  failed  \S+ ms  attempt 1, perhaps tried again  OSError: no route\n"),
    ],
)
def test_a_run_tells_how_far_a_step_is_and_that_a_failed_one_may_be_tried_again(place, wait_for, dag, told):
    place.write("slow.py", SLOW)
    process = place.start("run", f"slow.py:{dag}", "--run-id", "r1")
    try:
        wait_for((place.folder / "milepost.db").exists)
        wait_for(lambda: re.search(told, place.finish("show", "r1").stdout))
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert "perhaps tried again" not in place.finish("show", "r1").stdout


def test_a_killed_run_can_be_cancelled_with_nobody_executing_it(place, held):
    held.kill()
    held.wait()
    assert place.finish("cancel", "r1").stdout == "Run r1 is cancelled; nobody was executing it.\n"
    assert status_of(place, "r1") == "cancelled"


# --- terminals and pipes -------------------------------------------------------------------------


def on_terminal(place, *words: str) -> tuple[int, str]:
    """Run on a pseudo-terminal of 100 columns and return the exit code and everything that was drawn."""
    import fcntl
    import struct
    import termios

    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"}
    env.pop("NO_COLOR", None)
    process = place.start(*words, stdout=inner, stderr=inner, stdin=inner, env=env)
    os.close(inner)
    drawn = bytearray()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([outer], [], [], 0.2)[0]:
            try:
                data = os.read(outer, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            drawn += data
    os.close(outer)
    return process.wait(timeout=30), drawn.decode()


def test_on_a_terminal_a_run_is_drawn_live(place):
    code, drawn = on_terminal(place, "run", "job.py:dag", "--run-id", "r1")
    assert code == 0
    assert "\x1b[?25l" in drawn  # the cursor is hidden while the display moves,
    assert "\x1b[?25h" in drawn  # and shown again
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    assert "✓  work" in text
    assert "━" in text
    assert "4/4" in text
    assert "tens: 3/3 steps" in text
    assert "Run r1 completed in" in text


def test_tables_on_a_terminal_fit_its_width(place):
    place.write("broken", "")
    place.finish("run", "job.py:dag", "--run-id", "r" + "x" * 35)
    _, drawn = on_terminal(place, "runs")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "r" + "x" * 35 in text


def test_a_reader_who_leaves_changes_neither_the_run_nor_its_exit_code(place):
    place.write("hold", "")
    process = place.start("run", "job.py:dag", "--run-id", "r1")
    assert process.stdout is not None
    assert process.stdout.readline() == "Run r1 of 'tens'\n"
    process.stdout.close()
    let_go(place)
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=30) == 0
    assert status_of(place, "r1") == "completed"


def test_a_run_without_any_stdout_completes(place):
    line = f'"{sys.executable}" -m milepost run job.py:dag --run-id r1 >&- 2>&-'
    assert subprocess.run(["/bin/sh", "-c", line], cwd=place.folder, timeout=60).returncode == 0
    assert status_of(place, "r1") == "completed"


def test_help_loads_no_database_and_no_user_interface_that_it_does_not_need(place):
    code = (
        "import sys\nfrom milepost.cli import app\n"
        "print([name for name in ('sqlite3', 'yaml', 'rich.live', 'pydantic') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert shown.stdout == "[]\n"
