"""What a newcomer reads when something went wrong: true, one sentence after the other, nothing altered."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from milepost import Dag, Ledger, step
from milepost.errors import InputError, RunFailed, StepNotFound


def test_a_message_that_ends_in_a_full_stop_gets_no_second_one() -> None:
    message = str(RunFailed("r-1", "load", "OSError", "The disk is gone.", ""))
    assert "OSError: The disk is gone. Mend the cause" in message


def test_all_complaints_about_inputs_come_in_one_sentence_and_quote_values_unaltered() -> None:
    def load(path: int, count: int) -> int:
        return path * count

    dag = Dag("quoting")
    dag.node(load)
    with pytest.raises(InputError) as caught:
        dag.run(path="../data", cuont=1, ledger=":memory:")
    assert str(caught.value) == (
        "'quoting' cannot run with these inputs: unknown input 'cuont' (known: path, count; did you mean 'count'?); "
        "input 'path' must be int, not '../data' "
        "(Input should be a valid integer, unable to parse string as an integer); "
        "missing input 'count' (int, for step 'load')."
    )


def test_the_output_of_a_step_that_failed_is_not_said_to_belong_to_no_step(ledger: Ledger) -> None:
    def fail() -> int:
        raise ValueError("no")

    dag = Dag("failing")
    dag.node(fail)
    run = dag.run(ledger=ledger, run_id="r-1")
    with pytest.raises(StepNotFound, match=r"^Step 'fail' of run r-1 has not completed, so it has no output\."):
        run.output("fail")
    with pytest.raises(StepNotFound, match=r"^Run r-1 has no step 'fial'\. Did you mean 'fail'\?$"):
        run.output("fial")
    with pytest.raises(StepNotFound, match=r"^Run r-1 has no step 'other'\. Its steps: `milepost show r-1`\.$"):
        run.output("other")


def test_an_at_most_once_step_that_failed_is_not_said_to_lack_an_end(ledger: Ledger) -> None:
    @step(at_most_once=True)
    def pay() -> None:
        raise ValueError("declined")

    dag = Dag("paying")
    dag.node(pay)
    dag.run(ledger=ledger, run_id="r-1")
    error = dag.resume("r-1", ledger=ledger).error
    assert error is not None
    assert "was started before, so it will not be started again. See how that ended (`milepost show r-1`)" in error


def test_a_function_that_no_name_leads_to_is_refused_by_a_process_pool_with_the_remedy(
    ledger: Ledger, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    dag = Dag("local")
    dag.node(step(retries=3)(lambda: ran.write_text("ran")), label="local")
    with ProcessPoolExecutor(1) as pool:
        run = dag.run(ledger=ledger, executor=pool)
    assert run.error is not None
    assert run.error.startswith("ConfigurationError: Step 'local' cannot run on its executor: ")
    assert run.error.endswith("Define it with def at the top level of a module.")
    assert len(ledger.list_steps(run.run_id)) == 1
    assert not ran.exists()
