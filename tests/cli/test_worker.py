"""``milepost worker`` as the process that it is: it executes, drains, is replaced, and ends with the right code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading

import pytest
from postgres import new_schema, server_url

from milepost import Ledger

JOBS = '''
import os
import time
from milepost import Dag, StepContext, step

@step
def hold(ctx: StepContext, n: int = 0) -> int:
    """Wait as long as the file `hold` is there."""
    ctx.logger.info("begun")
    while os.path.exists("hold"):
        ctx.heartbeat()
        time.sleep(0.01)
    return n

@step
def stubborn() -> int:
    """The same, deaf to whoever asks it to stop."""
    while os.path.exists("hold"):
        time.sleep(0.01)
    return 1

holding = Dag("holding")
holding.node(hold)
deaf = Dag("deaf")
deaf.node(stubborn)
also_holding = holding
'''


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request, place, monkeypatch):
    """Return a folder with jobs.py, whose default ledger is empty and in SQLite, or in PostgreSQL."""
    if request.param == "postgres":
        monkeypatch.setenv("MILEPOST_LEDGER", new_schema(server_url()))
    place.write("jobs.py", JOBS)
    return place


class Running:
    """A worker process and the lines that it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        self.lines += (line.rstrip("\n") for line in iter(self.process.stderr.readline, ""))

    def has(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in list(self.lines))

    def wait(self) -> int:
        code = self.process.wait(60)
        self._reader.join(10)
        return code


@pytest.fixture
def start(shop):
    """Return what starts a worker; it is killed where a test leaves it."""
    running = []

    def begin(*words, **options):
        running.append(Running(shop.start("worker", *words, **options)))
        return running[-1]

    yield begin
    (shop.folder / "hold").unlink(missing_ok=True)
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
        one.wait()
        one.process.stdout.close()
        one.process.stderr.close()


def status(shop, run_id="latest"):
    return json.loads(shop.run("show", run_id, "--json").stdout)["run"]["status"]


def workers(shop, *words):
    return {one["worker_id"]: one for one in json.loads(shop.run("workers", "--json", *words).stdout)["workers"]}


def test_a_worker_executes_what_is_submitted_says_so_and_drains_on_sigterm(shop, start, wait_for):
    worker = start("jobs.py", "--worker-id", "w1", "--concurrency", "3")
    wait_for(lambda: worker.has("worker w1 takes 'deaf', 'holding' from default, 3 at once"))
    (shop.folder / "hold").touch()
    run_id = shop.run("submit", "jobs.py:holding").stdout.strip()
    wait_for(lambda: worker.has("step 'hold': begun"))
    assert workers(shop)["w1"]["runs"] == [run_id]
    assert "Worker w1 (process " in shop.run("why", run_id).stdout
    worker.process.send_signal(signal.SIGTERM)
    wait_for(lambda: worker.has("stopping: 1 running runs get 30 s to finish"))
    (shop.folder / "hold").unlink()
    assert worker.wait() == 0, worker.lines
    assert status(shop, run_id) == "completed"
    assert workers(shop) == {}
    assert workers(shop, "--all")["w1"]["state"] == "stopped"
    assert worker.has(rf"^\d\d:\d\d:\d\d run {run_id} of 'holding' claimed$")
    assert worker.has(rf"^\d\d:\d\d:\d\d run {run_id} step 'hold': begun$")
    assert worker.has(rf"^\d\d:\d\d:\d\d run {run_id} completed after ")
    assert worker.process.stdout.read() == ""


def test_told_twice_a_worker_hands_back_at_once_what_does_not_listen(shop, start, wait_for):
    (shop.folder / "hold").touch()
    worker = start("jobs.py:deaf", "--drain", "1h")
    shop.run("submit", "jobs.py:deaf")
    wait_for(lambda: worker.has("of 'deaf' claimed"))
    worker.process.send_signal(signal.SIGTERM)
    wait_for(lambda: worker.has("get 3600 s to finish"))
    worker.process.send_signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.lines
    assert worker.has("handed back after .* the worker was stopped")
    assert status(shop) == "pending"
    assert "claim" not in shop.run("show", "latest").stdout


def test_two_workers_of_one_id_cannot_live_at_once(shop, start, wait_for):
    first = start("jobs.py", "--worker-id", "w1")
    wait_for(lambda: "w1" in workers(shop) if shop.run("workers").exit_code == 0 else False)
    second = shop.finish("worker", "jobs.py", "--worker-id", "w1")
    assert second.returncode == 2
    assert re.search(r"^Error: A worker 'w1' lives already \(process \d+ on ", second.stderr, re.MULTILINE)
    first.process.kill()  # ... but the id of one that died is free at once
    first.wait()
    third = start("jobs.py", "--worker-id", "w1")
    wait_for(lambda: third.has("worker w1 takes"))
    third.process.send_signal(signal.SIGINT)
    assert third.wait() == 0, third.lines


def test_several_processes_replace_the_one_that_dies_and_stop_together(shop, start, wait_for):
    (shop.folder / "hold").touch()
    many = start("jobs.py:holding", "--worker-id", "w", "--processes", "2", "--concurrency", "1")
    runs = [shop.run("submit", "jobs.py:holding", "--input", f"n={n}").stdout.strip() for n in range(2)]
    wait_for(lambda: len([one for one in workers(shop).values() if one["runs"]]) == 2)
    before = workers(shop)
    assert set(before) == {"w-1", "w-2"}
    victim = before["w-1"]
    os.kill(int(victim["owner"].partition("@")[0]), signal.SIGKILL)
    wait_for(lambda: many.has(r"worker w-1 died with SIGKILL; it is started again in 0\.5 s"))
    wait_for(lambda: many.has(rf"run {victim['runs'][0]} was rescued after its worker died"))
    wait_for(lambda: workers(shop)["w-1"]["owner"] != victim["owner"])
    (shop.folder / "hold").unlink()
    wait_for(lambda: [status(shop, run_id) for run_id in runs] == ["completed"] * 2)
    assert many.has(r"^\d\d:\d\d:\d\d \[w-[12]\] run ")  # each line says whose it is
    many.process.send_signal(signal.SIGTERM)
    assert many.wait() == 0, many.lines
    assert workers(shop) == {}


def test_processes_whose_supervisor_is_killed_drain(shop, start, wait_for):
    many = start("jobs.py", "--worker-id", "w", "--processes", "2")
    wait_for(lambda: many.has(r"\[w-1\] worker w-1 takes") and many.has(r"\[w-2\] worker w-2 takes"))
    wait_for(lambda: len(workers(shop)) == 2)
    many.process.kill()
    wait_for(lambda: workers(shop) == {})
    assert {one["state"] for one in workers(shop, "--all").values()} == {"stopped"}


def test_a_worker_process_that_can_never_work_ends_all_of_them(place):
    place.write("jobs.py", JOBS)
    place.write(
        "once.py",
        "import os\nif os.path.exists('seen'): raise ValueError('gone')\nopen('seen', 'w').close()\n" + JOBS,
    )
    done = place.finish("worker", "once.py", "--processes", "2")
    assert done.returncode == 2
    assert "The target 'once.py' cannot be loaded: once.py:2: ValueError: gone." in done.stderr
    assert "died" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["none.py"], 3, "There is no file 'none.py'."),
        (["empty.py"], 3, "'empty.py' has no Dag at the top of the module."),
        (["jobs.py:hold"], 2, "'hold' in 'jobs.py' is of type Step, not a Dag."),
        (["jobs.py", "twin.py"], 2, "Two workflows are named 'holding'."),
        (["jobs.py", "--queue", "no name"], 2, "'no name' is not a queue name."),
        (["jobs.py", "--worker-id", "no name"], 2, "'no name' is not a worker name."),
        (["jobs.py", "--worker-id", "w" * 62, "--processes", "2"], 2, "is not a worker name."),
        (["jobs.py", "--concurrency", "0"], 2, "Invalid value for '--concurrency'"),
        (["jobs.py", "--processes", "0"], 2, "Invalid value for '--processes'"),
        (["jobs.py", "--drain", "-1"], 2, "--drain must be 0 or more seconds"),
        (["jobs.py", "--ledger", ":memory:"], 2, "A ledger in memory ends with its process."),
        (["jobs.py", "--ledger", "folder"], 2, "it is a folder"),
        ([], 2, "Missing argument 'TARGET...'"),
    ],
)
def test_a_worker_that_cannot_work_says_so_in_one_line(place, words, code, complaint):
    place.write("jobs.py", JOBS)
    place.write("twin.py", "from milepost import Dag\ndag = Dag('holding')\ndag.node(lambda: 1, label='one')\n")
    place.write("empty.py", "")
    (place.folder / "folder").mkdir()
    result = place.run("worker", *words)
    assert complaint in result.stderr
    assert (result.exit_code, result.stdout) == (code, "")
    assert len(result.stderr.splitlines()) == 1


def test_a_worker_takes_every_dag_of_a_module_once(place):
    from milepost.cli.target import load_targets

    place.write("jobs.py", JOBS)
    assert [(found.dag.name, found.text) for found in load_targets("jobs.py")] == [
        ("holding", f"{place.folder}/jobs.py:holding"),
        ("deaf", f"{place.folder}/jobs.py:deaf"),
    ]
    assert [found.dag.name for found in load_targets("jobs:deaf")] == ["deaf"]


def test_where_the_users_module_logs_the_lines_go_there(place):
    place.write(
        "jobs.py", "import logging\nlogging.basicConfig(format='USER %(message)s', level=logging.INFO)\n" + JOBS
    )
    Ledger.open("milepost.db").close()
    process = place.start("worker", "jobs.py", "--worker-id", "w1")
    line = process.stderr.readline()
    while "takes" not in line:
        assert line, "it ended without a word"
        line = process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert line.startswith("USER worker w1 takes")
