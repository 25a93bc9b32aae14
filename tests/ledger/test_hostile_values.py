"""What user code says can be anything; the ledger records it, or refuses it at the line that said it."""

from __future__ import annotations

import time

import pytest

from milepost import Dag, Ledger, RunStatus, StepContext

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
    assert attempt.error_message == text.encode(errors="backslashreplace").decode().replace("\0", r"\x00")
    assert list(ledger.check()) == []


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
