"""What a schedule may be, and what is refused before anything is written."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from milepost import Dag, Ledger, RunFailed, RunHandle, RunStatus, Worker
from milepost.errors import ConfigurationError, InputError, MilepostError, ScheduleExists, ValueNotStorable


def make(fn: Any, name: str = "report") -> Dag:
    dag = Dag(name)
    dag.node(fn)
    return dag


def work(ledger: Ledger, *dags: Dag) -> int:
    return Worker(dags, ledger=ledger, heartbeat_process=False).run_until_idle()


# --- what is there afterwards --------------------------------------------------------------------


def test_a_schedule_is_kept_with_all_that_was_said_of_it(place: Any, dag: Dag):
    start = datetime(2026, 6, 1, 12, tzinfo=UTC)
    made = dag.schedule(
        "s",
        cron="30  2 * * *",
        timezone="Europe/Berlin",
        start_at=start,
        catch_up=True,
        max_active=3,
        inputs={"day": "{data_interval_end}"},
        queue="night",
        priority=-2,
        ledger=place.ledger,
        target="jobs.py:dag",
    )
    assert place.ledger.get_schedule("s") == place.ledger.require_schedule("s") == made
    assert (made.workflow, made.kind, made.queue, made.priority, made.max_active) == ("report", "dag", "night", -2, 3)
    assert (made.cron, made.every, made.timezone, made.target) == ("30 2 * * *", None, "Europe/Berlin", "jobs.py:dag")
    assert place.next() == "2026-06-02T00:30:00"
    place.clock.set("2026-06-02T00:30:00+00:00")
    place.fire()
    (run,) = place.runs()
    assert (run.queue, run.priority, run.workflow, run.kind) == ("night", -2, "report", "dag")
    assert place.ledger.get_payload(run.run_id).target == "jobs.py:dag"
    assert place.ledger.get_definition(run.run_id) == dag.build().definition


def test_an_interval_without_a_start_ticks_on_whole_seconds_one_interval_from_now(place: Any, dag: Dag):
    place.clock.set("2026-05-01T00:00:00.7+00:00")
    dag.schedule("s", every=timedelta(minutes=15), ledger=place.ledger)
    assert place.next() == "2026-05-01T00:15:00"


def test_schedules_are_listed_by_name_and_their_next_ticks_in_their_zone(place: Any, dag: Dag):
    dag.schedule("b", cron="0 2 * * *", timezone="Asia/Tokyo", ledger=place.ledger)
    dag.schedule("a", every=3600, ledger=place.ledger)
    assert [schedule.name for schedule in place.ledger.list_schedules()] == ["a", "b"]
    assert [tick.isoformat() for tick in place.ledger.next_ticks("b", 2)] == [
        "2026-05-02T02:00:00+09:00",
        "2026-05-03T02:00:00+09:00",
    ]
    assert place.ledger.next_ticks("b", 0) == []


# --- adding it again -----------------------------------------------------------------------------


def test_a_program_may_declare_its_schedules_whenever_it_starts(place: Any, dag: Dag):
    first = dag.schedule("s", every=60, inputs={"day": "{schedule}"}, ledger=place.ledger)
    place.clock.pass_(hours=3, seconds=7)
    assert dag.schedule("s", every=60.0, inputs={"day": "{schedule}"}, ledger=place.ledger) == first
    assert place.ledger.get_schedule("s") == first


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"every": 61}, "its interval"),
        ({"every": None, "cron": "0 * * * *"}, "its cron line, its interval"),
        ({"queue": "other"}, "its queue"),
        ({"inputs": {"day": "x"}}, "its inputs"),
        ({"catch_up": True}, "whether it catches up"),
        ({"start_at": datetime(2026, 5, 1, 1, tzinfo=UTC)}, "its start"),
        ({"timezone": "Asia/Tokyo"}, "its time zone"),
    ],
)
def test_another_schedule_of_the_same_name_is_refused_with_what_differs(
    place: Any, dag: Dag, changes: dict[str, Any], told: str
):
    dag.schedule("s", every=60, ledger=place.ledger)
    with pytest.raises(ScheduleExists, match=f"'s' exists already with something else: {told}. .*remove it first"):
        dag.schedule("s", **{"every": 60, "ledger": place.ledger, **changes})


def test_a_schedule_of_another_workflow_is_another_schedule(place: Any, dag: Dag):
    dag.schedule("s", every=60, ledger=place.ledger)
    with pytest.raises(ScheduleExists, match="its workflow"):
        make(lambda: 1, "other").schedule("s", every=60, ledger=place.ledger)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "give cron= or every=, and not both"),
        ({"cron": "0 2 * * *", "every": 60}, "give cron= or every=, and not both"),
        ({"cron": "0 2 * *"}, "'0 2 . .' is not a cron line .*five fields"),
        ({"cron": "0 0 30 2 *"}, "never fires: no such day exists"),
        ({"cron": "0 2 * * *", "timezone": "Europe/Berlni"}, "Did you mean 'Europe/Berlin'"),
        ({"every": 0.9}, "must be from 1 second to 100 years"),
        ({"every": timedelta(milliseconds=999)}, "must be from 1 second"),
        ({"every": -1}, "must be from 1 second"),
        ({"every": float("inf")}, "must be from 1 second"),
        ({"every": float("nan")}, "must be from 1 second"),
        ({"every": True}, "must be from 1 second"),
        ({"every": "1h"}, "must be from 1 second"),
        ({"every": timedelta(days=40_000)}, "to 100 years"),
        ({"every": 60, "max_active": 0}, "max_active must be a whole number of 1 or more, not 0"),
        ({"every": 60, "priority": 1.5}, "priority must be a whole number"),
        ({"every": 60, "queue": "no queue"}, "is not a queue name"),
        ({"every": 60, "catch_up": "yes"}, "catch_up must be True or False"),
        ({"every": 60, "start_at": datetime(2026, 5, 1)}, "start_at must be an aware datetime"),  # noqa: DTZ001
        ({"every": 60, "start_at": "2026-05-01"}, "start_at must be an aware datetime"),
        ({"every": 60, "start_at": datetime(9500, 1, 1, tzinfo=UTC)}, "start_at must be from 1970 to 9000"),
    ],
)
def test_what_can_not_work_is_refused_before_anything_is_written(
    ledger: Ledger, dag: Dag, given: dict[str, Any], told: str
):
    with pytest.raises(ConfigurationError, match=told):
        dag.schedule("s", **given, ledger=ledger)
    assert ledger.list_schedules() == []


@pytest.mark.parametrize("name", ["", "two words", "1st", "a" * 64, None])
def test_a_name_that_breaks_the_rule_is_refused(ledger: Ledger, dag: Dag, name: Any):
    with pytest.raises(ConfigurationError, match="is not a schedule name"):
        dag.schedule(name, every=60, ledger=ledger)


def day_of(day: date, folder: Path) -> str:
    return f"{type(day).__name__} {day} in {type(folder).__name__} {folder}"


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (None, "missing input 'day'"),
        ({"day": "{data_interval_end:%Y-%m-%d}", "folder": "out", "more": 1}, "unknown input 'more'"),
        ({"day": "{data_interval_end:%d.%m.%Y}", "folder": "out"}, "input 'day' must be date"),
        ({"day": "{data_interval_end}", "folder": "out"}, "input 'day' must be date"),  # it has a time
    ],
)
def test_inputs_that_would_not_fit_are_refused_at_once(ledger: Ledger, inputs: Any, told: str):
    with pytest.raises(InputError, match=f"Schedule 's' at its tick 20.*{told}"):
        make(day_of).schedule("s", cron="30 2 * * *", inputs=inputs, ledger=ledger)
    assert ledger.list_schedules() == []


@pytest.mark.parametrize(
    ("template", "error", "told"),
    [
        ("{data_intervall_end}", ConfigurationError, "Did you mean 'data_interval_end'"),
        ("{schedule:%Y}", ConfigurationError, "The inputs of schedule 's' cannot be filled: Invalid format"),
        (object(), ValueNotStorable, "cannot be stored"),
        (Path("{schedule}"), ConfigurationError, "is inside a value that is not plain"),
    ],
)
def test_a_template_that_could_never_be_filled_is_refused(
    ledger: Ledger, template: Any, error: type[MilepostError], told: str
):
    with pytest.raises(error, match=told):
        make(lambda value: value).schedule("s", every=60, inputs={"value": template}, ledger=ledger)


# --- what reaches the run ------------------------------------------------------------------------


def test_what_is_filled_in_becomes_what_the_annotations_ask_for(place: Any):
    dag = make(day_of)
    inputs = {"day": "{data_interval_start:%Y-%m-%d}", "folder": "out/{schedule}"}
    dag.schedule("s", cron="0 0 * * *", timezone="Europe/Berlin", inputs=inputs, ledger=place.ledger)
    place.clock.set("2026-05-01T22:00:00+00:00")
    place.fire()
    (run,) = place.runs()
    assert place.ledger.get_inputs(run.run_id) == {"day": "2026-05-01", "folder": "out/s"}  # nobody looked yet
    work(place.ledger, dag)
    assert place.ledger.get_result(run.run_id) == f"date 2026-05-01 in {type(Path()).__name__} out/s"
    assert place.ledger.get_inputs(run.run_id) == {"day": date(2026, 5, 1), "folder": Path("out/s")}


def test_a_run_whose_inputs_no_longer_fit_the_code_fails_with_the_reason_and_goes_on_once_they_do(place: Any):
    make(lambda day: day).schedule("s", every=60, inputs={"day": "today"}, ledger=place.ledger)
    place.clock.pass_(minutes=1)
    place.fire()
    (run,) = place.runs()

    def takes_date(day: date) -> int:
        return day.year

    def takes_text(day: str) -> str:
        return day.upper()

    dag = Dag("report")
    dag.node(takes_date, label="<lambda>")
    work(place.ledger, dag)
    with pytest.raises(RunFailed, match=r"InputError: 'report' cannot run with these inputs: input 'day' must be date"):
        RunHandle(place.ledger, run.run_id).result()
    with pytest.raises(InputError):
        dag.resume(run.run_id, ledger=place.ledger)
    mended = Dag("report")
    mended.node(takes_text, label="<lambda>")
    assert mended.resume(run.run_id, ledger=place.ledger).result() == "TODAY"


def test_a_run_that_nobody_took_yet_can_be_executed_by_hand(place: Any):
    dag = make(day_of)
    dag.schedule("s", every=60, inputs={"day": "2026-01-02", "folder": "a"}, ledger=place.ledger)
    run = place.ledger.trigger_schedule("s")
    assert dag.resume(run.run_id, ledger=place.ledger).result().startswith("date 2026-01-02")
    assert place.ledger.get_inputs(run.run_id)["day"] == date(2026, 1, 2)


def test_a_run_of_a_workflow_that_no_worker_knows_waits_for_one_that_does(place: Any, dag: Dag):
    dag.schedule("s", every=60, ledger=place.ledger)
    place.clock.pass_(minutes=1)
    other = make(lambda: 1, "other")
    place.fire()
    work(place.ledger, other)
    (run,) = place.runs()
    assert run.status == RunStatus.PENDING
    place.clock.pass_(minutes=5)
    work(place.ledger, dag)
    assert place.ledger.require_run(run.run_id).status == RunStatus.COMPLETED


def test_a_schedule_runs_the_code_that_the_worker_has_not_the_code_it_was_added_with(place: Any, dag: Dag):
    dag.schedule("s", every=60, ledger=place.ledger)
    newer = Dag("report")
    newer.node(lambda: "newer", label="another step")
    place.clock.pass_(minutes=1)
    place.fire()
    work(place.ledger, newer)
    assert place.ledger.get_result(place.runs()[0].run_id) == "newer"
