"""What user code says can be anything; the ledger records it, or refuses it at the line that said it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from milepost import Dag, Ledger, RunStatus, StepContext
from milepost.errors import StepCancelled, StoreError
from milepost.stores.sqlite import SQLiteStore

DEADLINE = 20.0  # seconds


@pytest.mark.parametrize("text", ["r\udce9sum\udce9.txt", "nul\0", "\U0010ffff", "\r\n\t\x1b[31m"])
def test_a_failure_whose_message_is_no_valid_text_is_recorded_as_a_failure(ledger: Ledger, text: str) -> None:
    def read() -> None:
        raise FileNotFoundError(text)

    dag = Dag("files")
    dag.node(read)
    run = dag.run(ledger=ledger)
    assert run.status == RunStatus.FAILED
    (attempt,) = ledger.get_step(run.run_id, "read")
    assert attempt.status == "failed"
    assert attempt.error_message == text.encode(errors="backslashreplace").decode()
    assert list(ledger.check()) == []


@pytest.mark.parametrize("said", [{"done": 2**63}, {"total": "many"}, {"done": 0.5}, {"message": b"bytes"}], ids=str)
def test_progress_of_a_wrong_kind_fails_the_step_that_said_it(ledger: Ledger, said: dict[str, Any]) -> None:
    def work(ctx: StepContext) -> None:
        ctx.progress(**said)

    dag = Dag("progress")
    dag.node(work)
    run = dag.run(ledger=ledger)
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert run.error.startswith(f"ConfigurationError: progress({next(iter(said))}=) must be a ")


def test_progress_with_a_message_that_is_no_valid_text_is_kept(ledger: Ledger) -> None:
    def work(ctx: StepContext) -> str | None:
        ctx.progress(1, 2, "r\udce9sum\udce9.txt")
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            (attempt,) = ledger.get_step(ctx.run_id, "work") or (None,)
            if attempt is not None and attempt.progress_message is not None:
                return attempt.progress_message
        return None

    dag = Dag("progress")
    dag.node(work)
    assert dag.run(ledger=ledger).result() == r"r\udce9sum\udce9.txt"


def test_a_defect_in_the_keeper_stops_its_runs_with_the_reason(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise ZeroDivisionError("a defect")

    stopped = threading.Semaphore(0)

    def work(ctx: StepContext) -> None:
        deadline = time.monotonic() + DEADLINE
        try:
            while time.monotonic() < deadline:
                ctx.heartbeat()
        except StepCancelled:
            stopped.release()
            raise

    store = ledger.store
    assert isinstance(store, SQLiteStore)
    monkeypatch.setattr(store, "list_cancel_requests", fail)
    dag = Dag("two")
    dag.node(work, label="first")
    dag.node(work, label="second")
    with pytest.raises(StoreError, match=r"The keeper of run .* failed: ZeroDivisionError") as caught:
        dag.run(ledger=ledger)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert stopped.acquire(timeout=DEADLINE)  # bodies that listen are told that nobody waits for them
    assert stopped.acquire(timeout=DEADLINE)
