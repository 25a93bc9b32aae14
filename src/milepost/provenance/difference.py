"""How two runs differ: inputs, code, outputs, durations, and where they part."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from milepost.graph import changed_code, compare_definitions
from milepost.ledger import Ledger
from milepost.store import Execution
from milepost.values import decode_plain

__all__ = ["Difference", "StepDifference", "compare_runs"]


@dataclass(frozen=True, slots=True)
class StepDifference:
    """A step of two runs. Of a run that has no such step, everything is None; durations are seconds.

    Attributes:
        differs: What is not the same: ``status``, ``output``, ``error``, ``code``; empty where nothing is.
    """

    label: str
    status: tuple[str | None, str | None]
    output_hash: tuple[str | None, str | None]
    duration: tuple[float | None, float | None]
    differs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two runs side by side.

    Attributes:
        run_ids: The two.
        workflows: What they ran.
        statuses: How they stand.
        durations: Seconds from start to end, None for one that has not ended.
        inputs: Inputs that differ, by name, as plain JSON; a missing one is None.
        graph: How the second's graph differs from the first's, in sentences.
        code: The steps whose code differs.
        steps: Every step of either, in the order in which they began.
        parts_at: The first step whose outcome differs, None where none does.
    """

    run_ids: tuple[str, str]
    workflows: tuple[str, str]
    statuses: tuple[str, str]
    durations: tuple[float | None, float | None]
    inputs: dict[str, tuple[Any, Any]]
    graph: tuple[str, ...]
    code: tuple[str, ...]
    steps: tuple[StepDifference, ...]
    parts_at: str | None

    @property
    def is_same(self) -> bool:
        """Whether the two had the same inputs, graph, code and outcomes."""
        return not (self.inputs or self.graph or self.code or self.parts_at) and self.statuses[0] == self.statuses[1]


def compare_runs(ledger: Ledger, run_id: str, other_id: str) -> Difference:
    """Return how two runs differ.

    Raises:
        RunNotFound: One of them is not there.

    Example:
        >>> from milepost import Dag, Ledger
        >>> with Dag("doubling") as dag:
        ...     _ = dag.node(lambda n: 2 * n, label="double")
        >>> ledger = Ledger.open(":memory:")
        >>> one, other = (dag.run(n=n, ledger=ledger).run_id for n in (1, 2))
        >>> found = compare_runs(ledger, one, other)
        >>> found.inputs, found.parts_at
        ({'n': (1, 2)}, 'double')
    """
    one, other = ledger.require_run(run_id), ledger.require_run(other_id)
    documents = [None if run.hash is None else ledger.get_definition(run.run_id) for run in (one, other)]
    first, second = documents
    graph: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    if first is not None and second is not None and first != second:
        graph = tuple(compare_definitions(first, second))
        code = tuple(changed_code(first, second))
    given = [_plain_inputs(ledger.get_payload(run.run_id).inputs) for run in (one, other)]
    names = dict.fromkeys([*given[0], *given[1]])
    inputs = {
        name: (given[0].get(name), given[1].get(name)) for name in names if given[0].get(name) != given[1].get(name)
    }
    steps = _compare_steps(ledger, (run_id, other_id), code)
    parted = (step.label for step in steps if set(step.differs) & {"status", "output", "error"})
    return Difference(
        (run_id, other_id),
        (one.workflow, other.workflow),
        (one.status.value, other.status.value),
        (_duration(one.started_at, one.finished_at), _duration(other.started_at, other.finished_at)),
        inputs,
        graph,
        code,
        steps,
        next(parted, None),
    )


def _plain_inputs(text: str) -> dict[str, Any]:
    found = decode_plain(text)
    return found if isinstance(found, dict) else {"inputs": found}


def _duration(started_at: int | None, finished_at: int | None) -> float | None:
    return None if started_at is None or finished_at is None else (finished_at - started_at) / 1e6


def _compare_steps(ledger: Ledger, run_ids: tuple[str, str], code: tuple[str, ...]) -> tuple[StepDifference, ...]:
    found = [{step.label: step for step in ledger.store.list_executions(run_id)} for run_id in run_ids]
    steps = []
    for label in dict.fromkeys([*found[0], *found[1]]):
        a, b = found[0].get(label), found[1].get(label)
        differs = [name for name in ("status", "output", "error") if _aspect(a, name) != _aspect(b, name)]
        steps.append(
            StepDifference(
                label,
                (None if a is None else a.status, None if b is None else b.status),
                (None if a is None else a.output_hash, None if b is None else b.output_hash),
                (
                    None if a is None else _duration(a.started_at, a.finished_at),
                    None if b is None else _duration(b.started_at, b.finished_at),
                ),
                (*differs, *(["code"] if label in code else [])),
            )
        )
    return tuple(steps)


def _aspect(step: Execution | None, name: str) -> Any:
    if step is None:
        return None
    if name == "status":  # a copied output is as good as a made one
        return "completed" if step.status == "skipped" else step.status
    return step.output_hash if name == "output" else json.dumps([step.error_type, step.error_message])
