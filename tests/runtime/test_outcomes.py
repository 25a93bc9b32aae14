"""How runs end: what they return, what is recorded, and what the first failure means for the rest."""

from __future__ import annotations

import threading
from typing import Annotated, Any

import pytest

from milepost import Dag, Ledger, RunFailed, RunStatus, StepContext, StepStatus, graph, step
from milepost.errors import OutputMismatch, StepNotFound, ValueNotRestorable, ValueNotStorable
from milepost.runtime import steps
from milepost.values import text

PATIENCE = 10.0


def number() -> int:
    return 20


async def number_later() -> int:
    return 22


def add(a: int, b: int) -> int:
    return a + b


def sum_dag() -> Dag:
    dag = Dag("sum")
    dag.node(add, a=dag.node(number), b=dag.node(number_later))
    return dag


# --- completed -----------------------------------------------------------------------------------


def test_a_run_of_sync_and_async_steps_completes_with_the_output_of_its_last_step(way, ledger: Ledger):
    run = way.run(sum_dag(), ledger=ledger)
    assert run.status is RunStatus.COMPLETED
    assert run.result() == 42
    assert run.outputs == {"add": 42}
    assert run.error is run.exception is run.failed_step is None
    assert run.output("number_later") == 22
    assert ledger.require_run(run.run_id).status is RunStatus.COMPLETED


def test_every_step_is_recorded_with_its_output_and_the_edges_it_took(way, ledger: Ledger):
    run = way.run(sum_dag(), ledger=ledger)
    steps = ledger.list_steps(run.run_id)
    assert {s.label: (s.status, s.attempt) for s in steps} == {
        "number": (StepStatus.COMPLETED, 1),
        "number_later": (StepStatus.COMPLETED, 1),
        "add": (StepStatus.COMPLETED, 1),
    }
    assert all(s.finished_at is not None and s.finished_at >= s.started_at for s in steps)
    assert {(e.upstream, e.downstream) for e in ledger.list_edges(run.run_id)} == {
        ("number", "add"),
        ("number_later", "add"),
    }
    assert [s.input for s in ledger.get_step(run.run_id, "add")] == [
        '{"a":{"step":"number"},"b":{"step":"number_later"}}'
    ]
    assert list(ledger.check()) == []


def test_several_final_steps_make_a_result_by_label(way, ledger: Ledger):
    dag = Dag("two")
    dag.node(number)
    dag.node(number_later, label="later")
    assert way.run(dag, ledger=ledger).result() == {"number": 20, "later": 22}


def test_outputs_of_earlier_steps_are_read_from_the_ledger_when_asked_for(way, ledger: Ledger):
    run = way.run(sum_dag(), ledger=ledger)
    assert "number" not in run.outputs
    assert len(run.outputs) == 1
    with pytest.raises(KeyError):
        run.outputs["number"]
    assert run.output("number") == 20
    with pytest.raises(StepNotFound, match="Did you mean 'number'"):
        run.output("numbr")


def test_the_output_of_a_final_map_is_read_from_the_ledger_once(way, ledger: Ledger):
    dag = Dag("map")
    dag.map(abs, [-1, -2], label="m")
    run = way.run(dag, ledger=ledger)
    assert run.outputs["m"] == [1, 2]
    assert run.outputs["m"] is run.outputs["m"]


def test_a_step_that_returns_nothing_completes_with_none(way, ledger: Ledger):
    def quiet() -> None:
        pass

    dag = Dag("quiet")
    dag.node(quiet)
    run = way.run(dag, ledger=ledger)
    assert run.result() is None
    assert dict(run.outputs) == {"quiet": None}


def test_times_are_recorded_in_order(way, ledger: Ledger):
    run = way.run(sum_dag(), ledger=ledger)
    assert run.started_at is not None
    assert run.started_at <= run.finished_at
    assert run.record.created_at <= run.record.started_at <= run.record.finished_at  # type: ignore[operator]


def test_a_run_may_be_kept_in_memory(way):
    run = way.run(sum_dag(), ledger=":memory:")
    assert run.result() == 42
    assert run.output("number") == 20


# --- failed --------------------------------------------------------------------------------------


class Broken(Exception):
    pass


def fail() -> int:
    raise Broken("the reason")


async def fail_later() -> int:
    raise Broken("the reason")


@pytest.mark.parametrize("body", [fail, fail_later])
def test_a_failed_run_is_returned_and_its_result_raises_from_the_steps_own_exception(body, way, ledger: Ledger):
    dag = Dag("failing")
    failing = dag.node(body, label="bad")
    dag.node(abs, label="after", bind={"x": failing})
    run = way.run(dag, ledger=ledger)
    assert run.status is RunStatus.FAILED
    assert (run.failed_step, run.error) == ("bad", "Broken: the reason")
    with pytest.raises(RunFailed, match="failed in step 'bad': Broken: the reason") as caught:
        run.result()
    assert type(caught.value.__cause__) is Broken
    assert caught.value.__cause__ is run.exception
    assert f"milepost resume {run.run_id}" in str(caught.value)
    assert "raise Broken" in caught.value.error_traceback
    assert dict(run.outputs) == {}
    assert [(s.label, s.status) for s in ledger.list_steps(run.run_id)] == [("bad", StepStatus.FAILED)]
    assert "raise Broken" in ledger.list_steps(run.run_id)[0].error_traceback  # type: ignore[operator]
    stored = ledger.require_run(run.run_id)
    assert (stored.error_step, stored.error_type, stored.error_message) == ("bad", "Broken", "the reason")


def how_to_go_on(**options: Any) -> str:
    dag = Dag("failing")
    dag.node(fail)
    run = dag.run(run_id="r1", **options)
    with pytest.raises(RunFailed) as caught:
        run.result()
    return str(caught.value).rpartition("go on from the completed steps: ")[2]


def test_a_failed_run_says_the_command_line_that_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MILEPOST_LEDGER", raising=False)
    assert how_to_go_on(target="job.py:dag") == "`milepost resume r1`."
    with_ledger = f"--ledger '{tmp_path}/my runs.db'`."
    assert how_to_go_on(target="job.py:dag", ledger="my runs.db") == f"`milepost resume r1 {with_ledger}"
    monkeypatch.setenv("MILEPOST_LEDGER", "runs.db")
    assert how_to_go_on(target="job.py:dag", ledger="runs.db") == "`milepost resume r1`."


def test_a_run_that_does_not_know_where_its_dag_is_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MILEPOST_LEDGER", str(tmp_path / "runs.db"))
    assert how_to_go_on() == "`milepost resume r1 --target file.py:dag`."


def test_a_run_in_memory_names_no_command_line_that_could_not_find_it():
    assert how_to_go_on(ledger=":memory:") == "`dag.resume('r1', ledger=...)`."


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("", "Broken. Mend"),
        ("ends.", "Broken: ends. Mend"),
        ("really?", "Broken: really? Mend"),
        ("no", "Broken: no. Mend"),
    ],
)
def test_a_failure_is_told_in_whole_sentences(message: str, told: str, ledger: Ledger):
    def bad() -> None:
        raise Broken(*([message] if message else []))

    dag = Dag("failing")
    dag.node(bad)
    run = dag.run(ledger=ledger)
    assert run.error == told.removesuffix(" Mend").removesuffix("." if message != "ends." else "")
    with pytest.raises(RunFailed) as caught:
        run.result()
    assert f"failed in step 'bad': {told} the cause" in str(caught.value)


def test_outputs_of_final_steps_that_completed_before_the_failure_are_there(way, ledger: Ledger):
    done = threading.Event()

    def good() -> str:
        done.set()
        return "made"

    def bad() -> None:
        assert done.wait(PATIENCE)
        raise Broken

    dag = Dag("half")
    dag.node(good)
    dag.node(bad)
    run = way.run(dag, ledger=ledger)
    assert run.status is RunStatus.FAILED
    assert dict(run.outputs) == {"good": "made"}


def test_siblings_that_run_when_a_step_fails_finish_and_are_recorded_and_nothing_new_starts(way, ledger: Ledger):
    both_run = threading.Barrier(2)
    has_failed = threading.Event()
    ran: list[str] = []

    def bad() -> None:
        both_run.wait(PATIENCE)
        has_failed.set()
        raise Broken("first")

    def sibling() -> str:
        both_run.wait(PATIENCE)
        assert has_failed.wait(PATIENCE)
        return "finished"

    def later(x: str) -> None:
        ran.append("later")

    dag = Dag("siblings")
    dag.node(bad)
    dag.node(later, x=dag.node(sibling))
    run = way.run(dag, ledger=ledger)
    assert run.failed_step == "bad"
    assert run.output("sibling") == "finished"
    assert ran == []
    assert {s.label for s in ledger.list_steps(run.run_id)} == {"bad", "sibling"}


def test_the_first_failure_is_the_runs_failure_and_the_second_is_recorded_too(way, ledger: Ledger, eventually):
    both_run = threading.Barrier(2)

    def first() -> None:
        both_run.wait(PATIENCE)
        raise Broken("first")

    def second(ctx: StepContext) -> None:
        both_run.wait(PATIENCE)
        eventually(lambda: [s for s in ledger.get_step(ctx.run_id, "first") if s.status == "failed"])
        raise KeyError("second")

    dag = Dag("two failures")
    dag.node(first)
    dag.node(second)
    run = way.run(dag, ledger=ledger)
    assert (run.failed_step, run.error) == ("first", "Broken: first")
    assert {s.label: s.error_type for s in ledger.list_steps(run.run_id)} == {"first": "Broken", "second": "KeyError"}


# --- exceptions of every kind --------------------------------------------------------------------


def run_of(body: Any, way: Any, ledger: Ledger, **options: Any) -> Any:
    dag = Dag("one")
    dag.node(step(**options)(body), label="it")
    return way.run(dag, ledger=ledger)


def test_an_exception_whose_text_cannot_be_made_is_recorded_all_the_same(way, ledger: Ledger):
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def body() -> None:
        raise Mute

    run = run_of(body, way, ledger)
    assert run.error.endswith("Mute: <no message: RuntimeError in __str__>")


def test_an_exception_with_half_a_character_is_recorded_in_letters_that_can_be_stored(way, ledger: Ledger):
    def body() -> None:
        raise FileNotFoundError(b"caf\xe9.txt".decode("utf-8", "surrogateescape"))

    run = run_of(body, way, ledger)
    assert run.error == r"FileNotFoundError: caf\udce9.txt"
    assert run.status is RunStatus.FAILED


def test_an_exception_group_is_recorded_with_what_is_in_it(way, ledger: Ledger):
    def body() -> None:
        raise ExceptionGroup("both", [ValueError("one"), KeyError("two")])

    run = run_of(body, way, ledger)
    assert run.error == "ExceptionGroup: both (2 sub-exceptions)"
    trace = ledger.list_steps(run.run_id)[0].error_traceback
    assert trace is not None
    assert "ValueError: one" in trace
    assert "KeyError: 'two'" in trace


def test_an_exception_that_is_no_exception_subclass_fails_the_step(way, ledger: Ledger):
    class Odd(BaseException):
        pass

    def body() -> None:
        raise Odd("odd")

    assert run_of(body, way, ledger, retries=3).error.endswith("Odd: odd")
    assert len(ledger.list_steps(ledger.list_runs()[0].run_id)) == 1


def test_a_very_long_message_is_recorded_by_its_beginning_and_says_that_it_was_cut(way, ledger: Ledger):
    def body() -> None:
        raise Broken("x y " * 250_000)

    run = run_of(body, way, ledger)
    (recorded,) = ledger.get_step(run.run_id, "it")
    assert recorded.error_message == ledger.require_run(run.run_id).error_message
    assert recorded.error_message.startswith("x y x y")
    assert recorded.error_message.endswith("… (cut here: 1,000,000 characters in all)")
    assert len(recorded.error_message) < 66_000
    assert str(run.exception) == "x y " * 250_000
    assert "in body" in recorded.error_traceback
    assert "(cut here:" in recorded.error_traceback
    assert len(recorded.error_traceback) < 263_000


def test_a_very_long_progress_message_is_cut(way, ledger: Ledger):
    def body(ctx: StepContext) -> str | None:
        ctx.progress(1, 2, "x" * 3000)
        return ctx._flight.progress[2]

    assert run_of(body, way, ledger).result() == "x" * 2000 + "… (cut here: 3,000 characters in all)"


# --- values that cannot be -----------------------------------------------------------------------


class Unstorable:
    pass


def test_a_value_that_cannot_be_stored_fails_the_step_once_naming_step_and_type(way, ledger: Ledger):
    calls: list[int] = []

    def body() -> Any:
        calls.append(1)
        return [Unstorable()]

    run = run_of(body, way, ledger, retries=5)
    assert len(calls) == 1
    assert isinstance(run.exception, ValueNotStorable)
    assert "Unstorable at $[0], returned by step 'it', cannot be stored" in run.error
    assert "transient=True" in run.error
    (recorded,) = ledger.list_steps(run.run_id)
    assert recorded.status is StepStatus.FAILED


@pytest.mark.parametrize(
    "value", [b"x" * 1_500_000, "\u00e9" * 1_000_000, ["x" * 1_000_000] * 2, {"a": "x" * 2_000_000}]
)
def test_an_output_that_is_too_big_fails_the_step_once_naming_step_and_size(value, way, ledger, monkeypatch):
    calls: list[int] = []

    def body() -> Any:
        calls.append(1)
        return value

    dag = Dag("one")
    dag.node(step(retries=5)(body), label="it")
    monkeypatch.setattr(text, "LARGEST_TEXT", 1_000_000)
    run = way.run(dag, ledger=ledger)
    assert len(calls) == 1
    assert (run.status, run.failed_step) == (RunStatus.FAILED, "it")
    assert "returned by step 'it', cannot be stored: it takes 2 MB as text, and the most is 1 MB" in run.error
    assert run.error.endswith("Write it to a file and hand on the file's path.")
    monkeypatch.undo()
    assert way.resume(dag, run.run_id, ledger=ledger).result() == value


def test_an_output_that_just_fits_is_stored_whole(way, ledger, monkeypatch):
    monkeypatch.setattr(text, "LARGEST_TEXT", 250)
    run = run_of(lambda: "\u00e9" * 124, way, ledger)  # two bytes each, and two quotes
    assert run.result() == ledger.get_output(run.run_id, "it") == "\u00e9" * 124


def test_a_bound_value_too_big_for_the_steps_row_is_handed_over_and_not_recorded(way, ledger, monkeypatch):
    monkeypatch.setattr(graph, "_LONGEST_VALUE", 100)
    dag = Dag("d")
    dag.node(len, label="it", obj="x" * 101)
    run = way.run(dag, ledger=ledger)
    assert run.result() == 101
    assert ledger.get_step(run.run_id, "it")[0].input == '{"obj":{"unstored":"str"}}'


@pytest.mark.parametrize(
    ("annotation", "value", "told"),
    [
        (int, "x", "Step 'it' is annotated to return int but returned str 'x'"),
        (list[int], [1, "x"], "list [1, 'x'], where [1] is str 'x', not int"),
        (None, 5, "to return None but returned int 5"),
        (int | None, 1.5, "to return int | None but returned float 1.5"),
    ],
)
def test_a_value_that_the_annotation_denies_fails_the_step_once(annotation, value, told, way, ledger: Ledger):
    calls: list[int] = []

    def body() -> Any:
        calls.append(1)
        return value

    body.__annotations__["return"] = annotation
    run = run_of(body, way, ledger, retries=5)
    assert len(calls) == 1
    assert isinstance(run.exception, OutputMismatch)
    assert told in run.error


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class BadInstanceCheck(type):
    def __instancecheck__(cls, other: object) -> bool:
        raise RuntimeError("no check")


class NeverChecked(metaclass=BadInstanceCheck):
    pass


@pytest.mark.parametrize(
    ("annotation", "kind"), [(int, "OutputMismatch"), (list[int], "OutputMismatch"), (NeverChecked, "ValueNotStorable")]
)
@pytest.mark.parametrize("is_alone", [True, False])
def test_a_value_whose_own_methods_raise_fails_the_step_and_not_the_driver(
    annotation, kind, is_alone, way, ledger: Ledger
):
    def body() -> Any:
        return BadRepr()

    body.__annotations__["return"] = annotation
    dag = Dag("bad values")
    dag.node(body, label="it")
    if not is_alone:
        dag.node(number)
    run = way.run(dag, ledger=ledger)
    assert run.failed_step == "it"
    assert run.error.startswith(kind)


class Unspeakable:
    def __repr__(self) -> str:
        raise ValueError("no words")


def test_an_annotation_that_cannot_be_put_in_words_is_kept_all_the_same(way, ledger: Ledger):
    def number_unspeakably() -> Annotated[int, Unspeakable()]:
        return 20

    dag = Dag("unspeakable")
    dag.node(number_unspeakably)
    assert way.run(dag, ledger=ledger).result() == 20


def test_a_check_that_cannot_be_made_fails_the_step_and_not_the_driver(way, ledger: Ledger, monkeypatch):
    def refuse(name: str, annotation: Any) -> None:
        raise ArithmeticError(f"no check for {name}")

    monkeypatch.setattr(steps, "return_check", refuse)
    run = way.run(sum_dag(), ledger=ledger)
    assert run.status is RunStatus.FAILED
    assert isinstance(run.exception, ArithmeticError)


def test_a_sync_step_that_returns_a_coroutine_is_told_to_be_async(way, ledger: Ledger):
    run = run_of(lambda: number_later(), way, ledger)  # noqa: PLW0108 - a function that is not itself async
    assert "Step 'it' returned a coroutine that nobody awaits. Make its function an async def" in run.error


def test_a_generator_is_no_value(way, ledger: Ledger):
    def body():
        yield 1

    assert "generator, returned by step 'it', cannot be stored" in run_of(body, way, ledger).error


def test_a_transient_output_is_there_in_this_process_and_nowhere_else(way, ledger: Ledger):
    run = run_of(Unstorable, way, ledger, transient=True)
    assert isinstance(run.result(), Unstorable)
    with pytest.raises(ValueNotRestorable, match="step 'it' is transient"):
        ledger.get_output(run.run_id, "it")
