"""Pipelines as a program sees them: what runs, in which order, and what the ledger says afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from milepost import Ledger, Retry, RunFailed, StepContext, Worker
from milepost.errors import InputError
from milepost.pipeline import IncludeInvalid, Pipeline, Process, Step


class Params(BaseModel, frozen=True):
    n: int
    fails: bool = False


class Count(Step[Params]):
    result = "numbers"

    def execute(self, params: Params) -> list[int]:
        return list(range(params.n))


class Double(Step[Params]):
    result = "doubled"
    over = "numbers"
    concurrency = 2

    def execute(self, params: Params, number: int) -> int:
        return 2 * number


class Add(Step[Params]):
    result = "total"

    async def execute(self, params: Params, *, doubled: list[int]) -> int:
        if params.fails:
            raise ValueError("asked to fail")
        await asyncio.sleep(0)
        return sum(doubled)


class Tell(Step[Params]):
    result = "told"

    def execute(self, params: Params, *, ctx: StepContext, total: int = -1) -> str:
        return f"{ctx.label}: {total}"


class Prepare(Process[Params]):
    steps = [Count]


class Compute(Process[Params]):
    steps = [[Double], Add]


class Report(Process[Params]):
    steps = [Tell]


class Numbers(Pipeline[Params]):
    processes = [Prepare, Compute, Report]


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger.open(":memory:") as opened:
        yield opened


def test_results_pass_to_later_steps_by_their_declared_names(ledger: Ledger) -> None:
    run = Numbers.run(Params(n=4), ledger=ledger)
    assert run.result() == "Report.Tell: 12"
    stored = ledger.require_run(run.run_id)
    assert (stored.workflow, stored.kind) == ("Numbers", "pipeline")


def test_an_async_run_does_the_same(ledger: Ledger) -> None:
    assert asyncio.run(Numbers.run_async({"n": 4}, ledger=ledger)).result() == "Report.Tell: 12"


def test_a_worker_executes_what_is_submitted(ledger: Ledger) -> None:
    handle = Numbers.submit(Params(n=3), ledger=ledger, idempotency_key="k")
    narrowed = Numbers.submit({"n": 3}, ledger=ledger, include=["Report"])
    Worker([Numbers], ledger=ledger, heartbeat_process=False).run_until_idle()
    assert handle.result() == "Report.Tell: 6"
    assert narrowed.result() == "Report.Tell: -1"


def test_correlation_id_and_attempt_are_kept_with_the_run(ledger: Ledger) -> None:
    run = Numbers.run(Params(n=1), ledger=ledger, correlation_id="job-7", attempt=3, last_attempt=False)
    stored = ledger.require_run(run.run_id)
    assert (stored.correlation_id, stored.attempt) == ("job-7", 3)
    assert ledger.get_payload(run.run_id).headers == '{"last_attempt": false}'


def test_a_run_that_failed_goes_on_from_its_completed_steps(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Numbers.run(Params(n=3, fails=True), ledger=ledger)
    with pytest.raises(RunFailed, match="asked to fail"):
        run.result()
    assert ledger.require_run(run.run_id).error_step == "Compute.Add"
    calls: list[str] = []
    monkeypatch.setattr(Count, "execute", lambda self, params: calls.append("Count"))
    monkeypatch.setattr(Add, "execute", lambda self, params, *, doubled: sum(doubled))
    assert Numbers.resume(run.run_id, ledger=ledger).result() == "Report.Tell: 6"
    assert calls == []


def test_a_narrowed_run_stays_narrowed_when_it_goes_on(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Numbers.run(Params(n=3, fails=True), ledger=ledger, include=[Prepare, "Compute"])
    monkeypatch.setattr(Add, "execute", lambda self, params, *, doubled: sum(doubled))
    assert Numbers.resume(run.run_id, ledger=ledger).result() == 6
    assert {step.label for step in ledger.list_steps(run.run_id) if "[" not in step.label} == {
        "Prepare.Count",
        "Compute.Double",
        "Compute.Add",
    }


def test_processes_of_a_group_run_side_by_side_and_the_next_one_waits_for_both(ledger: Ledger) -> None:
    meeting = threading.Barrier(2, timeout=10)
    order: list[str] = []

    class Left(Step[Params]):
        def execute(self, params: Params) -> None:
            meeting.wait()
            order.append("side")

    class Right(Left):
        pass

    class Last(Step[Params]):
        def execute(self, params: Params) -> None:
            order.append("last")

    class A(Process[Params]):
        steps = [Left]

    class B(Process[Params]):
        steps = [Right]

    class C(Process[Params]):
        steps = [Last]

    class Both(Pipeline[Params]):
        processes = [[A, B], C]

    assert Both.run(Params(n=0), ledger=ledger).status == "completed"
    assert order == ["side", "side", "last"]


def test_each_attempt_gets_an_instance_of_its_own_and_is_retried_by_the_policy(ledger: Ledger) -> None:
    seen: list[Step[Params]] = []

    class Flaky(Step[Params]):
        retry = Retry(max_retries=2)

        def execute(self, params: Params) -> int:
            seen.append(self)
            if len(seen) < 3:
                raise OSError("not yet")
            return len(seen)

    class Once(Process[Params]):
        steps = [Flaky]

    class Trying(Pipeline[Params]):
        processes = [Once]

    assert Trying.run(Params(n=0), ledger=ledger).result() == 3
    assert len({id(step) for step in seen}) == 3


def test_a_step_may_take_a_part_of_the_params(ledger: Ledger) -> None:
    class Part(BaseModel):
        n: float

    class Half(Step[Part]):
        def execute(self, params: Part) -> tuple[str, float]:
            return type(params).__name__, params.n / 2

    class Halving(Process[Params]):
        steps = [Half]

    class Halves(Pipeline[Params]):
        processes = [Halving]

    assert Halves.run(Params(n=3), ledger=ledger).result() == ("Part", 1.5)


def test_an_interrupt_in_a_step_is_recorded_with_its_type_and_raised_again(ledger: Ledger) -> None:
    class Interrupted(Step[Params]):
        def execute(self, params: Params) -> None:
            raise KeyboardInterrupt

    class Alone(Process[Params]):
        steps = [Interrupted]

    class Stopped(Pipeline[Params]):
        processes = [Alone]

    with pytest.raises(KeyboardInterrupt):
        Stopped.run(Params(n=0), ledger=ledger, run_id="stopped")
    assert ledger.require_run("stopped").error_type == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("include", "words"),
    [
        ([], "names nothing"),
        (["Prepair"], "did you mean 'Prepare'"),
        ("Prepare", "must be a list"),
        (["Compute"], "'Compute.Double' needs 'numbers', which 'Prepare.Count' makes"),
        ([7], "no process or step 7"),
    ],
)
def test_an_include_that_cannot_run_is_an_error_before_a_run_exists(
    ledger: Ledger, include: list[str], words: str
) -> None:
    with pytest.raises(IncludeInvalid, match=words):
        Numbers.run(Params(n=1), ledger=ledger, include=include)
    assert ledger.list_runs() == []


@pytest.mark.parametrize(
    ("params", "words"),
    [({"n": "many"}, "n"), ({}, "n"), ({"n": 1, "m": 2}, "unknown field 'm'"), (None, "n"), (7, "not 7")],
)
def test_params_that_do_not_fit_are_an_error_before_a_run_exists(ledger: Ledger, params: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Numbers.run(params, ledger=ledger)
    assert ledger.list_runs() == []


def test_a_run_can_be_found_again_from_the_command_line() -> None:
    assert Numbers.runnable()._locate() == f"{Path(__file__).resolve()}:Numbers"


def test_params_with_an_alias_or_a_field_called_params_are_taken_as_pydantic_takes_them(ledger: Ledger) -> None:
    class Odd(BaseModel, frozen=True):
        params: int
        size: int = Field(alias="count", default=1)

    class Show(Step[Odd]):
        def execute(self, params: Odd) -> tuple[int, int]:
            return params.params, params.size

    class Showing(Process[Odd]):
        steps = [Show]

    class Odds(Pipeline[Odd]):
        processes = [Showing]

    assert Odds.run({"params": 5, "count": 2}, ledger=ledger).result() == (5, 2)
    assert Odds.run({"params": 5}, ledger=ledger).result() == (5, 1)
    assert Odds.runnable().run({"params": 5}, ledger=ledger).result() == (5, 1)
    with pytest.raises(InputError, match="unknown field 'size'"):
        Odds.run({"params": 5, "size": 2}, ledger=ledger)
