"""Records are processed in order, once, and a later attempt goes on at the first unprocessed one."""

from __future__ import annotations

from typing import Any

import pytest

from milepost import RunFailed
from milepost.errors import RunCancelled
from milepost.stages import (
    FailedRecord,
    RecordStatus,
    SimpleRecordsResult,
    TooManyErrors,
    list_failed_records,
    record_status,
)


def test_counts_add_up_and_each_record_has_its_status(sync_task):
    def refuse_odd(number: int) -> None:
        if number % 2:
            raise ValueError(f"{number} is odd")

    sync_task.plan["b"] = lambda stage: stage.process_records(range(5), refuse_odd, key=lambda n: f"n{n}", batch=2)
    engine = sync_task.engine()
    engine.run()
    result = engine.stage("b").state.result
    assert result == SimpleRecordsResult(total_count=5, success_count=3, fail_count=2, message="2 of 5 records failed")
    statuses = [record_status(sync_task.ledger, "task", "b", n) for n in range(6)]
    good, bad = RecordStatus.SUCCESS, RecordStatus.ERROR
    assert statuses == [good, bad, good, bad, good, RecordStatus.UNPROCESSED]
    assert list_failed_records(sync_task.ledger, "task", "b") == [
        FailedRecord(1, "n1", "ValueError: 1 is odd"),
        FailedRecord(3, "n3", "ValueError: 3 is odd"),
    ]


@pytest.mark.parametrize("sized", [True, False])
def test_a_stage_that_was_stopped_goes_on_at_the_first_unprocessed_record(sync_task, sized):
    seen: list[int] = []

    def work(number: int) -> None:
        seen.append(number)
        if seen == [0, 1, 2, 3, 4, 5, 6]:
            raise SystemExit

    def process(stage: Any) -> SimpleRecordsResult:
        return stage.process_records(range(10) if sized else iter(range(10)), work, batch=4)

    sync_task.plan["b"] = process
    with pytest.raises(SystemExit):
        sync_task.engine().run()
    assert record_status(sync_task.ledger, "task", "b", 5) is RecordStatus.SUCCESS
    assert record_status(sync_task.ledger, "task", "b", 6) is RecordStatus.UNPROCESSED
    again = sync_task.engine()
    again.run()
    assert seen == [0, 1, 2, 3, 4, 5, 6, 6, 7, 8, 9]
    assert again.stage("b").state.result.success_count == 10


def test_a_cancel_stops_between_two_records_and_is_no_error_of_one(sync_task):
    def process(stage: Any) -> None:
        def work(number: int) -> None:
            if number == 3:
                sync_task.ledger.store.request_cancel("task", sync_task.ledger.clock.now())
            if number >= 3:
                while stage.context._flight.stop_reason is None:
                    pass
                stage.context.heartbeat()

        stage.process_records(range(10), work)

    sync_task.plan["b"] = process
    with pytest.raises(RunCancelled):
        sync_task.engine().run()
    assert record_status(sync_task.ledger, "task", "b", 2) is RecordStatus.SUCCESS
    assert record_status(sync_task.ledger, "task", "b", 3) is RecordStatus.UNPROCESSED
    assert list_failed_records(sync_task.ledger, "task", "b") == []


def test_too_many_errors_stop_the_batch_and_say_what_is_left(sync_task):
    def fail(number: int) -> None:
        raise ValueError("bad")

    sync_task.plan["b"] = lambda stage: stage.process_records(range(10), fail, batch=3, max_errors=4)
    with pytest.raises(RunFailed, match="max_errors=4 allows; 4 are not processed") as caught:
        sync_task.engine().run()
    assert isinstance(caught.value.__cause__, TooManyErrors)
    result = caught.value.__cause__.result
    assert (result.total_count, result.fail_count, result.unprocessed_count) == (10, 6, 4)


@pytest.mark.parametrize(
    ("records", "told"),
    [(range(2), "4 records were processed, but now there are only 2"), (range(1, 11), "Record 3 was 3 and is now 4")],
)
def test_other_records_than_the_batch_began_with_are_refused(sync_task, records, told):
    def process(stage: Any) -> None:
        stage.process_records(range(4), str, key=int)
        raise ValueError("once")

    sync_task.plan["b"] = process
    with pytest.raises(RunFailed):
        sync_task.engine().run()
    sync_task.plan["b"] = lambda stage: stage.process_records(records, str, key=int)
    with pytest.raises(RunFailed, match=told):
        sync_task.engine().run()


def test_an_undone_stage_processes_its_records_again(sync_task):
    seen: list[int] = []
    sync_task.plan["b"] = lambda stage: stage.process_records(range(3), seen.append)
    sync_task.engine().run()
    sync_task.engine().rollback("a")
    sync_task.engine().run()
    assert seen == [0, 1, 2, 0, 1, 2]
