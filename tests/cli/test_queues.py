"""Submitting, looking at queues, pausing, events and why: the same lines on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest
from postgres import new_schema, server_url

from milepost import Ledger, Worker
from milepost.cli.target import load_targets
from milepost.model import WorkerInfo

JOBS = """
from milepost import Dag

def greet(name: str) -> str:
    return f"hello {name}"

def fail() -> None:
    raise ValueError("two\\nlines")

greeting = Dag("greeting")
greeting.node(greet)
broken = Dag("broken")
broken.node(fail)
order = Dag("order")
paid = order.wait_event("paid", timeout=600)
order.node(lambda payload: payload, label="ship", payload=paid)
nap = Dag("nap")
nap.sleep(3600)
"""


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request, place, monkeypatch):
    """Return a folder with jobs.py whose default ledger is empty and in SQLite, or in PostgreSQL."""
    if request.param == "postgres":
        monkeypatch.setenv("MILEPOST_LEDGER", new_schema(server_url()))
    place.write("jobs.py", JOBS)
    return place


def submit(shop, *words):
    result = shop.run("submit", *words)
    assert result.exit_code == 0, result.stderr
    return result.stdout.strip()


def work(*targets):
    """Let a worker of this process execute what is due."""
    with Ledger.open() as ledger:
        dags = [found.dag for target in targets for found in load_targets(target)]
        return Worker(dags, ledger=ledger, heartbeat_process=False).run_until_idle()


def enter(worker_id, **changes):
    """Enter a worker of another machine as alive."""
    now = time.time_ns() // 1000
    fields = {
        "worker_id": worker_id,
        "owner": "17@elsewhere#0a0a-1",
        "queues": ("default",),
        "workflows": ("greeting",),
        "concurrency": 4,
        "lease": 30_000_000,
        "started_at": now,
        "heartbeat_at": now,
        "stopped_at": None,
    }
    with Ledger.open() as ledger:
        assert ledger.store.register_worker(WorkerInfo(**{**fields, **changes}), owner_gone=None) is None


# --- submitting ----------------------------------------------------------------------------------


def test_submit_prints_the_id_and_a_worker_executes_the_run(shop):
    run_id = submit(shop, "jobs.py:greeting", "--input", "name=ada")
    assert re.fullmatch(r"[0-9a-f-]{36}", run_id)
    assert "pending" in shop.run("runs").stdout
    assert work("jobs.py") == 1
    found = json.loads(shop.run("show", run_id, "--json").stdout)
    assert found["run"]["status"] == "completed"
    assert found["run"]["target"] == f"{shop.folder}/jobs.py:greeting"
    assert found["run"]["queue"] == "default"


def test_submit_takes_where_when_and_how_often(shop):
    words = [
        "--queue",
        "mail",
        "--priority",
        "-3",
        "--delay",
        "2h",
        "--max-attempts",
        "4",
        "--key",
        "k",
        "--tag",
        "a=b",
    ]
    run_id = submit(shop, "jobs.py:greeting", "--input", "name=ada", "--run-id", "mine", *words)
    run = json.loads(shop.run("show", run_id, "--json").stdout)["run"]
    told = {name: run[name] for name in ("run_id", "queue", "priority", "max_attempts", "idempotency_key", "tags")}
    assert told == {
        "run_id": "mine",
        "queue": "mail",
        "priority": -3,
        "max_attempts": 4,
        "idempotency_key": "k",
        "tags": {"a": "b"},
    }
    assert run["available_at"] > run["created_at"]
    shown = shop.run("show", run_id).stdout
    assert "  queue     mail, priority -3, attempt 1 of 4" in shown
    assert "  waits     It is due at " in shown


def test_a_key_used_again_gives_the_first_run_and_says_so(shop):
    first = submit(shop, "jobs.py:greeting", "--input", "name=ada", "--key", "k")
    again = shop.run("submit", "jobs.py:greeting", "--input", "name=ada", "--key", "k")
    assert (again.exit_code, again.stdout) == (0, f"{first}\n")
    assert again.stderr == "The key 'k' was used before: this is its run, and nothing was submitted.\n"
    other = shop.run("submit", "jobs.py:greeting", "--input", "name=bo", "--key", "k")
    assert other.exit_code == 2
    assert other.stderr.startswith(f"Error: The idempotency key 'k' belongs to run {first} of queue 'default'")


def test_submit_and_wait_shows_the_result_and_has_the_exit_code_of_the_run(shop):
    with Ledger.open() as ledger:
        dags = [found.dag for found in load_targets("jobs.py")]
        worker = Worker(dags, ledger=ledger, heartbeat_process=False)
        thread = threading.Thread(target=worker.run)
        thread.start()
        good = shop.run("submit", "jobs.py:greeting", "--input", "name=ada", "--wait")
        bad = shop.run("submit", "jobs.py:broken", "--wait")
        worker.stop()
        thread.join(30)
    run_id, completed, result = good.stdout.splitlines()
    assert good.exit_code == 0
    assert re.fullmatch(rf"✓ Run {run_id} completed .* after it was submitted\.", completed)
    assert result == '  Result:  "hello ada"'
    assert bad.exit_code == 1
    assert "failed in step 'fail': ValueError: two lines" in bad.stderr
    assert f"milepost show {bad.stdout.strip()} fail" in bad.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--delay", "-5"], "--delay must be 0 or more seconds, or a span such as 30s or 2h, not '-5'"),
        (["--delay", "soon"], "--delay must be a span such as"),
        (["--delay", "nan"], "--delay must be 0 or more seconds"),
        (["--queue", "no name"], "'no name' is not a queue name."),
        (["--queue", ""], "'' is not a queue name."),
        (["--max-attempts", "0"], "max_attempts must be a whole number of 1 or more, not 0."),
        (["--priority", "high"], "Invalid value for '--priority'"),
        (["--key", ""], "idempotency_key must be a text that is not empty"),
        (["--run-id", "no spaces"], "'no spaces' is not a run id."),
        (["--input", "nme=x"], "unknown input 'nme'"),
        (["--ledger", ":memory:"], "A ledger in memory ends with its process."),
    ],
)
def test_what_cannot_be_submitted_is_refused_in_one_line(place, words, complaint):
    place.write("jobs.py", JOBS)
    result = place.run("submit", "jobs.py:greeting", "--input", "name=ada", *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert complaint in line
    assert not (place.folder / "milepost.db").exists()


# --- why -----------------------------------------------------------------------------------------


def test_why_names_the_gate_and_what_opens_it(shop):
    run_id = submit(shop, "jobs.py:greeting", "--input", "name=ada", "--queue", "mail")
    shown = shop.run("why", run_id)
    assert shown.exit_code == 0
    heading, gate, remedy = shown.stdout.splitlines()
    assert heading == f"· Run {run_id} of greeting: pending"
    assert gate == "  No live worker takes from queue 'mail': no worker lives at all."
    assert remedy == "    Start one: `milepost worker TARGET --queue mail`."
    document = json.loads(shop.run("why", "latest", "--json").stdout)
    assert list(document) == [
        *("ledger", "run_id", "workflow", "status"),
        *("code", "message", "remedy", "facts", "also"),
    ]
    assert document["code"] == "no_worker"
    assert document["facts"] == {"queue": "mail", "workflow": "greeting"}


def test_why_says_what_comes_after_the_first_gate_and_gives_times_as_iso(shop):
    submit(shop, "jobs.py:nap")
    assert work("jobs.py:nap") == 1
    shop.run("queues", "pause", "default")
    lines = shop.run("why", "latest").stdout.splitlines()
    assert lines[1].startswith("  Step 'sleep' sleeps until ")
    assert lines[2].startswith("  And then: Its queue 'default' is paused since ")
    assert lines[3] == "    Let its tasks be taken again: `milepost queues resume default`."
    document = json.loads(shop.run("why", "latest", "--json").stdout)
    assert [gate["code"] for gate in document["also"]] == ["queue_paused", "no_worker"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", document["facts"]["waits"][0]["wake_at"])


def test_the_remedy_names_the_ledger_that_was_named(place):
    place.write("jobs.py", JOBS)
    submit(place, "jobs.py:order", "--ledger", "my runs.db")
    with Ledger.open("my runs.db") as ledger:
        Worker(
            [found.dag for found in load_targets("jobs.py")], ledger=ledger, heartbeat_process=False
        ).run_until_idle()
    shown = place.run("why", "latest", "--ledger", "my runs.db").stdout
    assert "`milepost emit paid --ledger 'my runs.db'`" in shown


def test_why_of_a_run_that_is_not_there(shop):
    submit(shop, "jobs.py:nap")
    result = shop.run("why", "nothing")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("Error: No run 'nothing' in this ledger.")


# --- events --------------------------------------------------------------------------------------


def test_emit_wakes_who_waits_and_the_first_emit_stands(shop):
    run_id = submit(shop, "jobs.py:order")
    assert work("jobs.py:order") == 1
    assert "  waits     Step 'paid' waits for event 'paid' since " in shop.run("show", run_id).stdout
    emitted = shop.run("emit", "paid", "--payload", '{"amount": 10}')
    assert (emitted.exit_code, emitted.stdout) == (0, "Event 'paid' is emitted.\n")
    again = shop.run("emit", "paid", "--payload", "11")
    assert again.exit_code == 0
    assert again.stdout.startswith("Event 'paid' was emitted before at 20")
    assert work("jobs.py:order") == 1
    document = json.loads(shop.run("show", run_id, "--json").stdout)
    assert document["run"]["status"] == "completed"
    (wait,) = document["waits"]
    assert (wait["step"], wait["kind"], wait["event"], wait["outcome"]) == ("paid", "event", "paid", "emitted")
    step = json.loads(shop.run("show", run_id, "ship", "--json").stdout)
    assert step["attempts"][0]["output"] == {"amount": 10}


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["paid", "--payload", "yes"], 2, "--payload is not JSON: Expecting value"),
        (["paid", "--payload", "NaN"], 2, "--payload is not JSON: NaN is not JSON"),
        (["", "--payload", "1"], 2, "'' is not an event name."),
        (["paid", "--scope", "no scope"], 2, "'no scope' is not a scope name."),
        (["paid", "--ledger", "none.db"], 3, "There is no ledger 'none.db'"),
    ],
)
def test_an_event_that_cannot_be_emitted_is_refused_in_one_line(place, words, code, complaint):
    Ledger.open("milepost.db").close()
    result = place.run("emit", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


# --- queues and workers --------------------------------------------------------------------------


def test_queues_show_depth_age_and_who_takes_from_them(shop):
    for queue in ("default", "default", "mail"):
        submit(shop, "jobs.py:greeting", "--input", "name=ada", "--queue", queue)
    enter("w1")
    lines = shop.run("queues", "list").stdout.splitlines()
    assert lines[0].split() == ["QUEUE", "PENDING", "RUNNING", "SUSPENDED", "OLDEST", "WORKERS"]
    assert [line.split()[:4] for line in lines[1:]] == [["default", "2", "0", "0"], ["mail", "1", "0", "0"]]
    document = json.loads(shop.run("queues", "--json").stdout)
    default, mail = document["queues"]
    assert list(default) == ["name", "pending", "running", "suspended", "oldest_at", "paused_at", "workers"]
    assert (default["pending"], default["workers"]) == (2, ["w1"])
    assert (mail["pending"], mail["workers"], mail["paused_at"]) == (1, [], None)
    assert shop.run("queues", "list", "--json").stdout == shop.run("queues", "--json").stdout


def test_a_paused_queue_lets_nothing_be_taken_until_it_is_resumed(shop):
    submit(shop, "jobs.py:greeting", "--input", "name=ada")
    assert shop.run("queues", "pause", "default").stdout == "Queue 'default' is paused.\n"
    assert "paused just now" in shop.run("queues").stdout
    assert work("jobs.py") == 0
    assert shop.run("queues", "resume", "default").stdout == "Queue 'default' is resumed.\n"
    assert shop.run("queues", "resume", "default").stdout == "Queue 'default' was not paused.\n"
    assert work("jobs.py") == 1
    assert shop.run("queues").stdout.startswith("No queue of ")


def test_workers_say_who_lives_what_they_know_and_what_they_run(shop):
    run_id = submit(shop, "jobs.py:greeting", "--input", "name=ada")
    now = time.time_ns() // 1000
    enter("live")
    enter("silent", owner="18@elsewhere#0a0a-1", heartbeat_at=now - 40_000_000, started_at=now - 40_000_000)
    enter("done", owner="19@elsewhere#0a0a-1")
    with Ledger.open() as ledger:
        ledger.store.stop_worker("done", "19@elsewhere#0a0a-1", now)
        claim = {"owner": "17@elsewhere#0a0a-1", "now": now, "lease": 30_000_000, "limit": 1}
        assert len(ledger.store.claim_tasks(["default"], **claim)) == 1
    lines = shop.run("workers").stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["WORKER", "STATE", "RUNS"],
        ["silent", "silent", "0/4"],
        ["live", "alive", "1/4"],
    ]
    assert "process 17 on elsewhere" in lines[2]
    found = json.loads(shop.run("workers", "--all", "--json").stdout)["workers"]
    assert {worker["worker_id"]: worker["state"] for worker in found} == {
        "silent": "silent",
        "live": "alive",
        "done": "stopped",
    }
    (live,) = [worker for worker in found if worker["worker_id"] == "live"]
    assert list(live) == [
        *("worker_id", "state", "owner", "queues", "workflows", "concurrency", "runs"),
        *("started_at", "heartbeat_at", "stopped_at"),
    ]
    assert live["runs"] == [run_id]
    assert live["workflows"] == ["greeting"]


def test_doctor_leaves_a_run_whose_worker_died_to_the_workers(shop):
    run_id = submit(shop, "jobs.py:greeting", "--input", "name=ada")
    with Ledger.open() as ledger:
        claim = {"owner": "17@elsewhere#0a0a-1", "now": time.time_ns() // 1000, "lease": -1, "limit": 1}
        assert ledger.store.claim_tasks(["default"], **claim)
    doctor = shop.run("doctor")
    assert doctor.exit_code == 1
    assert f"Remedy: Any live worker rescues it; see whether one lives: `milepost why {run_id}`." in doctor.stdout
    assert "its worker is gone; any live one rescues it" in shop.run("runs").stdout
    assert "process 17 on elsewhere is gone; any live worker rescues it" in shop.run("show", run_id).stdout


def test_gc_forgets_events_and_workers_that_nobody_needs(shop):
    now = time.time_ns() // 1000
    enter("live")
    enter("dead", owner="18@elsewhere#0a0a-1", heartbeat_at=now - 90_000_000, started_at=now - 90_000_000)
    shop.run("emit", "old")
    told = shop.run("gc", "--older-than", "0s").stdout.splitlines()
    assert told == [
        "Deleted 0 runs that finished more than 0s ago.",
        "Deleted 1 event that no unfinished run may ask for.",
        "Forgot 1 worker that stopped or died.",
    ]
    assert [worker["worker_id"] for worker in json.loads(shop.run("workers", "--json").stdout)["workers"]] == ["live"]


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["queues", "pause", "no name"], 2, "'no name' is not a queue name."),
        (["queues", "resume", "9lives"], 2, "'9lives' is not a queue name."),
        (["queues", "--json", "pause", "mail"], 2, "Write options after the command: milepost queues pause"),
        (["queues", "pase", "mail"], 2, "No such command 'pase'."),
        (["queues", "pause"], 2, "Missing argument 'NAME'."),
        (["queues", "--ledger", "none.db"], 3, "There is no ledger 'none.db'"),
        (["queues", "pause", "mail", "--ledger", "none.db"], 3, "There is no ledger 'none.db'"),
        (["workers", "--ledger", "none.db"], 3, "There is no ledger 'none.db'"),
        (["why", "latest", "--ledger", "none.db"], 3, "There is no ledger 'none.db'"),
    ],
)
def test_what_cannot_be_looked_at_or_paused_is_refused_in_one_line(place, words, code, complaint):
    Ledger.open("milepost.db").close()
    result = place.run(*words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_every_key_of_these_documents_is_in_the_reference(shop, request):
    reference = (request.config.rootpath / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    submit(shop, "jobs.py:greeting", "--input", "name=ada")
    enter("w1")

    def keys(value):
        if isinstance(value, dict):
            for name, part in value.items():
                yield name
                if name != "facts":  # they differ from code to code
                    yield from keys(part)
        elif isinstance(value, list):
            for part in value:
                yield from keys(part)

    for words in (["why", "latest"], ["workers"], ["queues"]):
        found = set(keys(json.loads(shop.run(*words, "--json").stdout)))
        assert len(found) > 3
        assert [name for name in found if f"`{name}`" not in reference] == []
