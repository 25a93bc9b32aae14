"""Verbs take their options as arguments of the same names and types, and the async ones take what the others take."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest

from milepost import Dag
from milepost.dag.face import options_of
from milepost.pipeline import Pipeline
from milepost.runtime.run import RunOptions
from milepost.runtime.scheduling import ScheduleOptions
from milepost.runtime.submission import SubmitOptions

REPLAYED = {"nodes", "changed", "downstream", "run_id", "new_run_id", "durability"}
VERBS = [  # with the arguments that are no options, or none of the same meaning
    (Dag.run, RunOptions, {"inputs", "more_inputs"}),
    (Dag.resume, RunOptions, {"run_id"}),
    (Dag.replay, RunOptions, REPLAYED),
    (Dag.rollback, RunOptions, {"run_id", "to", "dry_run", "skip_missing"}),
    (Dag.submit, SubmitOptions, {"inputs", "ledger", "conn"}),
    (Dag.submit_many, SubmitOptions, {"inputs", "ledger", "conn"}),
    (Dag.schedule, ScheduleOptions, {"inputs", "ledger"}),
    (Pipeline.run.__func__, RunOptions, {"params", "include", "last_attempt", "ledger"}),
]


@pytest.mark.parametrize(("verb", "kind", "own"), VERBS, ids=lambda value: getattr(value, "__qualname__", ""))
def test_the_options_of_a_verb_have_the_names_and_the_types_of_what_they_become(verb, kind, own):
    taken, options = get_type_hints(verb), get_type_hints(kind)
    names = set(inspect.signature(verb).parameters) - {"self", "cls"}
    assert own <= names
    assert {name: taken[name] for name in names - own} == {name: options.get(name) for name in names - own}


@pytest.mark.parametrize("name", ["run", "resume", "replay", "rollback"])
def test_an_async_verb_takes_what_the_other_takes(name):
    verb, twin = inspect.signature(getattr(Dag, name)), inspect.signature(getattr(Dag, f"{name}_async"))
    assert twin == verb


def test_a_pipelines_async_run_takes_what_its_run_takes():
    assert inspect.signature(Pipeline.run_async) == inspect.signature(Pipeline.run)


def test_options_are_taken_by_name_and_others_go_before_them():
    arguments = {"run_id": "old", "tags": {"a": 1}, "inputs": {}, "self": None}
    assert options_of(RunOptions, arguments, run_id="new") == RunOptions(run_id="new", tags={"a": 1})
