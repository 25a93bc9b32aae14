"""The example of the seed, as written: built, written, loaded, and run by workers on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from postgres import new_schema, server_url

from milepost import Ledger, Worker
from milepost.dsl import RetryPolicy, Workflow, WorkflowBuilder, task_function

SEEN: list[tuple[str, Any]] = []


@task_function("etl.extract_data")
def extract_data() -> list[int]:
    SEEN.append(("extract", None))
    return [1, 2, 3]


@task_function("etl.transform_data")
def transform_data(rows: list[int]) -> list[int]:
    SEEN.append(("transform", rows))
    return [2 * row for row in rows]


@task_function("etl.process_part_a")
def process_part_a(rows: list[int]) -> int:
    SEEN.append(("a", rows))
    return sum(rows)


@task_function("etl.process_part_b")
def process_part_b(rows: list[int]) -> int:
    SEEN.append(("b", rows))
    return max(rows)


@task_function("etl.load_data")
def load_data(*loaded: Any) -> list[Any]:
    SEEN.append(("load", loaded))
    return list(loaded)


def build() -> Workflow:
    # Create a complex ETL workflow with Highway DSL
    return (
        WorkflowBuilder("data_pipeline")
        .set_schedule("0 2 * * *")  # Daily at 2 AM
        .set_start_date(datetime.now())  # noqa: DTZ005 - as the seed has it: local time
        .add_tags("etl", "production")
        .set_max_active_runs(1)
        .set_default_retry_policy(RetryPolicy(max_retries=3, delay=timedelta(seconds=30), backoff_factor=2.0))
        .task("extract", "etl.extract_data", result_key="raw_data")
        .task("transform", "etl.transform_data", args=["{{raw_data}}"], result_key="transformed_data")
        .parallel(
            "process_branches",
            {
                "branch_a": lambda w: w.task("process_a", "etl.process_part_a", args=["{{transformed_data}}"]),
                "branch_b": lambda w: w.task("process_b", "etl.process_part_b", args=["{{transformed_data}}"]),
            },
        )
        .task("load", "etl.load_data", args=["{{transformed_data}}"])
        .build()
    )


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Ledger]:
    url = str(tmp_path / "runs.db") if request.param == "sqlite" else new_schema(server_url())
    SEEN.clear()
    with Ledger.open(url) as opened:
        yield opened


def test_the_seeds_pipeline_runs_from_its_yaml_and_loads_after_both_branches(ledger: Ledger) -> None:
    loaded = Workflow.from_yaml(build().to_yaml())
    finished = loaded.run(ledger=ledger)
    assert finished.result() == [[2, 4, 6]]
    names = [name for name, _ in SEEN]
    assert names[:2] == ["extract", "transform"]
    assert sorted(names[2:4]) == ["a", "b"]
    assert names[4] == "load"


def test_what_the_branches_made_is_there_under_every_name_for_workers(ledger: Ledger) -> None:
    workflow = build()
    workflow.tasks["process_branches"].branch_workflows["branch_a"].tasks["process_a"].result_key = "sum_of_a"
    workflow.tasks["load"].args = ["{{process_a}}", "{{sum_of_a}}", "{{process_b}}", "{{process_branches}}"]
    handle = workflow.check().submit(ledger=ledger)
    Worker([workflow.for_worker()], ledger=ledger, heartbeat_process=False).run_until_idle()
    assert handle.result(10) == [12, 12, 6, {"branch_a": 12, "branch_b": 6}]
    assert ledger.get_payload(handle.run_id).tags == '{"etl": true, "production": true}'


def test_its_schedule_starts_runs_that_know_their_interval(ledger: Ledger) -> None:
    workflow = build().set_schedule("* * * * *").set_start_date(datetime(2026, 1, 1))  # noqa: DTZ001
    workflow.tasks["load"].args = ["{{ds}}"]
    schedule = workflow.check().add_schedule(ledger=ledger)
    assert (schedule.cron, schedule.timezone, schedule.max_active) == ("* * * * *", "UTC", 1)
    worker = Worker([workflow.for_worker()], ledger=ledger, heartbeat_process=False)
    ledger.trigger_schedule(schedule.name)
    worker.run_until_idle()
    (run,) = [run for run in ledger.list_runs() if run.status.value == "completed"]
    assert run.created_by == "schedule:data_pipeline"
    (started,) = ledger.get_output(run.run_id, "load")
    assert started.tzinfo is not None
