"""Schedules from the command line: added, looked at, paused, run outside their time, and refused in one line."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from milepost import Ledger, RunStatus, Worker
from milepost.cli.target import load_target
from milepost.clock import to_datetime

JOB = """
from datetime import date
from pathlib import Path
from milepost import Dag

def report(day: date, folder: Path = Path("out")) -> str:
    return f"{day} in {folder}"

dag = Dag("report")
dag.node(report)
"""
NIGHTLY = ("--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--input", "day={data_interval_start:%Y-%m-%d}")


@pytest.fixture
def jobs(place: Any) -> Any:
    place.write("jobs.py", JOB)
    return place


def add(jobs: Any, name: str = "nightly", *words: str) -> Any:
    done = jobs.run("schedule", "add", name, "jobs.py", *(words or NIGHTLY))
    assert done.exit_code == 0, done.output
    return done


def ledger() -> Ledger:
    return Ledger.open("milepost.db")


# --- adding --------------------------------------------------------------------------------------


def test_a_schedule_is_added_and_tells_when_it_fires_and_who_runs_it(jobs: Any):
    done = add(jobs)
    assert re.fullmatch(
        r"Schedule 'nightly' added: 30 2 \* \* \* \(Europe/Berlin\)\.\n"
        r"Next tick: \d{4}-\d\d-\d\d 0[23]:[03]0 \+0[12]:00\.\n"
        r"A worker starts its runs: milepost worker jobs\.py\n",
        done.output,
    )
    made = ledger().require_schedule("nightly")
    assert made.target == f"{jobs.folder / 'jobs.py'}:dag"


def test_added_again_it_stays_as_it_is(jobs: Any):
    add(jobs)
    before = ledger().require_schedule("nightly")
    assert "Schedule 'nightly' is there already, as it is: 30 2 * * *" in add(jobs).output
    assert ledger().require_schedule("nightly") == before


def test_every_option_reaches_the_schedule(jobs: Any):
    jobs.write("inputs.yaml", "day: '{data_interval_end:%Y-%m-%d}'\n")
    options = ("--start", "2026-05-01T12:00", "--catch-up", "--max-active", "2", "--queue", "night", "--priority", "-3")
    add(jobs, "s", "--every", "1h30m", "--timezone", "Asia/Tokyo", *options, "--inputs", "inputs.yaml")
    made = ledger().require_schedule("s")
    assert (made.every, made.cron) == (5_400_000_000, None)
    assert to_datetime(made.start_at) == datetime(2026, 5, 1, 3, tzinfo=UTC)
    assert (made.catch_up, made.max_active, made.queue, made.priority) == (True, 2, "night", -3)
    assert made.next_at == made.start_at


def test_typed_inputs_become_what_the_annotations_ask_for(jobs: Any):
    add(jobs, "s", *NIGHTLY, "--input", "folder=out/{schedule}")
    assert jobs.run("schedule", "trigger", "s").exit_code == 0
    opened = ledger()
    Worker([load_target("jobs.py").dag], ledger=opened, heartbeat_process=False).run_until_idle()
    run = opened.last_run_of_schedule("s")
    assert run is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\d in out/s", opened.get_result(run.run_id))


# --- looking -------------------------------------------------------------------------------------


def test_a_list_shows_the_next_ticks_and_the_last_run_of_each(jobs: Any):
    add(jobs)
    add(jobs, "often", "--every", "90s", "--input", "day=2026-05-01")
    jobs.run("schedule", "trigger", "often")
    Worker([load_target("jobs.py").dag], ledger=ledger(), heartbeat_process=False).run_until_idle()
    done = jobs.run("schedule", "list")
    heading, nightly, often = done.output.splitlines()
    assert heading.split() == ["SCHEDULE", "WHEN", "WORKFLOW", "NEXT", "TICKS", "LAST", "RUN"]
    assert re.match(
        r"nightly +30 2 \* \* \* \(Europe/Berlin\) +report +\d{4}-.+ \+0\d:00, \d{4}-.+ +none yet$", nightly
    )
    assert re.match(r"often +every 1m30s +report +\d{4}-.+ UTC, \d{4}-.+ UTC +. completed .+  [0-9a-f-]{36}$", often)


def test_a_list_says_who_is_paused_who_is_late_and_who_never_fires_again(jobs: Any):
    for name in ("paused", "late", "over"):
        add(jobs, name, "--every", "1h", "--input", "day=2026-05-01")
    opened = ledger()
    opened.pause_schedule("paused")
    with opened.store.transaction() as tx:  # type: ignore[attr-defined]
        tx._connection.execute("UPDATE schedules SET next_at = 1000000 WHERE name = 'late'")
        tx._connection.execute("UPDATE schedules SET next_at = NULL WHERE name = 'over'")
    lines = jobs.run("schedule", "list").output.splitlines()[1:]
    assert [re.split("  +", line)[3] for line in lines] == [
        "due since 1970-01-01 00:00:01 UTC",
        "none any more",
        "paused",
    ]


def test_show_tells_everything_of_one(jobs: Any):
    add(jobs, "s", *NIGHTLY, "--max-active", "1", "--catch-up")
    jobs.run("schedule", "pause", "s")
    lines = jobs.run("schedule", "show", "s", "--ticks", "3").output.splitlines()
    facts = dict(re.split("  +", line, maxsplit=1) for line in lines if "  " in line and not line.startswith(" "))
    assert facts["when"] == "30 2 * * * (Europe/Berlin)"
    assert facts["inputs"] == "day='{data_interval_start:%Y-%m-%d}'"
    assert (facts["missed ticks"], facts["runs at once"], facts["last run"]) == ("made up for", "1", "none yet")
    assert "paused since" in facts
    assert lines[-4] == "Next ticks, if it is resumed now:"
    assert all(re.fullmatch(r"  \d{4}-\d\d-\d\d \d\d:\d\d \+0\d:00", line) for line in lines[-3:])


def test_the_documents_hold_what_is_promised(jobs: Any):
    add(jobs)
    jobs.run("schedule", "trigger", "nightly")
    (listed,) = json.loads(jobs.run("schedule", "list", "--json").output)["schedules"]
    shown = json.loads(jobs.run("schedule", "show", "nightly", "--json").output)["schedule"]
    assert shown == listed
    assert (shown["cron"], shown["every"], shown["timezone"]) == ("30 2 * * *", None, "Europe/Berlin")
    assert shown["inputs"] == {"day": "{data_interval_start:%Y-%m-%d}"}
    assert len(shown["next_ticks"]) == 5
    assert shown["next_ticks"][0] == shown["next_at"]
    assert shown["last_run"]["status"] == "pending"


def test_nothing_to_list_is_said(jobs: Any):
    ledger().close()
    done = jobs.run("schedule", "list")
    assert (done.exit_code, done.output) == (0, f"No schedules in {jobs.folder / 'milepost.db'}.\n")


# --- pausing and removing ------------------------------------------------------------------------


def test_pause_resume_and_remove_say_what_they_did(jobs: Any):
    add(jobs)
    assert jobs.run("schedule", "pause", "nightly").output == "Schedule 'nightly' is paused.\n"
    assert jobs.run("schedule", "pause", "nightly").output == "Schedule 'nightly' is paused already.\n"
    assert jobs.run("schedule", "resume", "nightly").output.startswith("Schedule 'nightly' fires again. Next tick: 20")
    assert jobs.run("schedule", "resume", "nightly").output.startswith("Schedule 'nightly' was not paused.")
    assert jobs.run("schedule", "remove", "nightly").output == "Schedule 'nightly' removed.\n"
    assert ledger().list_schedules() == []


# --- outside its time ----------------------------------------------------------------------------


def test_a_run_by_hand_tells_its_id(jobs: Any):
    add(jobs, "s", *NIGHTLY, "--queue", "night")
    done = jobs.run("schedule", "trigger", "s")
    run = ledger().last_run_of_schedule("s")
    assert run is not None
    assert done.output == f"Run {run.run_id} submitted to queue 'night'.\n"
    assert run.status == RunStatus.PENDING


def test_a_backfill_is_shown_first_and_submitted_once(jobs: Any):
    add(jobs)
    past = ("schedule", "backfill", "nightly", "--from", "2025-10-25", "--to", "2025-10-28")
    done = jobs.run(*past, "--dry-run")
    assert done.output.splitlines() == [
        "Would start a run for each of 3 ticks of 'nightly' that has had none.",
        "  2025-10-25 02:30 +02:00",
        "  2025-10-26 02:30 +02:00",
        "  2025-10-27 02:30 +01:00",
    ]
    assert len(json.loads(jobs.run(*past, "--dry-run", "--json").output)["ticks"]) == 3
    assert ledger().list_runs() == []
    assert jobs.run(*past).output == "Submitted 3 runs to queue 'default'.\n"
    longer = ("schedule", "backfill", "nightly", "--from", "2025-10-24T02:30", "--to", "2025-10-28T00:00:00+00:00")
    assert jobs.run(*longer).output == "Submitted 1 run to queue 'default'. 3 of 4 ticks had their runs before.\n"
    again = json.loads(jobs.run(*longer, "--json").output)["runs"]
    assert [run["is_new"] for run in again] == [False] * 4
    assert again[0]["tick"] == "2025-10-24T00:30:00.000000+00:00"


def test_a_backfill_without_an_end_goes_up_to_now(jobs: Any):
    add(jobs, "s", "--every", "1h", "--input", "day=2026-05-01")
    start = datetime.now(UTC) - timedelta(hours=3)
    assert jobs.run("schedule", "backfill", "s", "--from", start.isoformat()).output.startswith("Submitted 3 runs")


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("show nightl", 3, "No schedule 'nightl'. Did you mean 'nightly'?"),
        ("pause nightl", 3, "Did you mean 'nightly'?"),
        ("resume nightl", 3, "Did you mean 'nightly'?"),
        ("remove nightl", 3, "Did you mean 'nightly'?"),
        ("trigger nightl", 3, "Did you mean 'nightly'?"),
        ("backfill nightl --from 2026-01-01", 3, "Did you mean 'nightly'?"),
        ("lst", 2, "No such command 'lst'. Did you mean 'list'?"),
        ("add x jobs.py --every 1h --ledger :memory:", 2, "A ledger in memory ends with its process. Name a file"),
        ("add x jobs.py", 2, "A schedule has a cron line or an interval"),
        ("add x jobs.py --every 1h --cron *", 2, "A schedule has a cron line or an interval"),
        ("add x jobs.py --cron *", 2, "'*' is not a cron line (Wrong number of fields). Use five fields"),
        ("add x jobs.py --every 0.5s", 2, "An interval (every) must be from 1 second to 100 years"),
        ("add x jobs.py --every often", 2, "--every must be a span such as 45s, 30m, 2h"),
        (
            "add x jobs.py --every 1h --timezone Berlin/Europe",
            2,
            "'Berlin/Europe' is not a time zone this system knows",
        ),
        ("add x jobs.py --every 1h --start tomorrow", 2, "--start must be a date or a time such as 2026-05-31"),
        ("add x jobs.py --every 1h", 2, "missing input 'day' (date, for step 'report')"),
        ("add x jobs.py --every 1h --input day={tick}", 2, "'{tick}' in '{tick}' is no value of a tick"),
        ("add x jobs.py --every 1h --input day=2026-05-01 --max-active 0", 2, "max_active must be a whole number"),
        ("add x nowhere.py --every 1h", 3, "There is no file 'nowhere.py'"),
        ("add x! jobs.py --every 1h --input day=2026-05-01", 2, "'x!' is not a schedule name"),
        (
            "add nightly jobs.py --every 1h --input day=2026-05-01",
            2,
            "'nightly' exists already with something else: its",
        ),
        ("backfill nightly --from 2026-01-02 --to 2026-01-01", 2, "A backfill ends after it starts"),
        ("backfill nightly --from then", 2, "--from must be a date or a time"),
        ("list --ledger other.db", 3, "There is no ledger 'other.db'"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_and_what_to_do(jobs: Any, words: str, code: int, told: str):
    add(jobs)
    done = jobs.run("schedule", *words.split())
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ")
    assert told in done.stderr
    assert [schedule.name for schedule in ledger().list_schedules()] == ["nightly"]


def test_a_cron_line_that_never_fires_is_refused_and_no_ledger_is_made(jobs: Any):
    done = jobs.run("schedule", "add", "x", "jobs.py", "--cron", "0 0 30 2 *", "--input", "day=2026-05-01")
    assert (done.exit_code, "never fires: no such day exists" in done.stderr) == (2, True)
    done = jobs.run("schedule", "add", "x", "jobs.py", "--every", "1h")
    assert done.exit_code == 2
    assert not (jobs.folder / "milepost.db").exists()
