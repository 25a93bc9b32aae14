"""Staged tasks on the command line: their engines, found by target, and their stages, as the ledger has them."""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from milepost.errors import ConfigurationError, MilepostError, TargetNotFound, did_you_mean

if TYPE_CHECKING:
    from rich.text import Text

    from milepost.ledger import Ledger
    from milepost.model import Run
    from milepost.stages import TaskEngine

__all__ = ["TASK", "history_rows", "load_engine", "stage_documents", "stage_rows"]

TASK: Final = "task"  # the kind of the runs that staged tasks are

_STATUS_STYLES: Final = {
    "RUNNING": "blue",
    "COMPLETE": "green",
    "ERROR": "red",
    "CANCELED": "yellow",
    "RETRY": "magenta",
}


def load_engine(opened: Ledger, run: Run, target: str | None) -> TaskEngine[Any]:
    """Return the engine of a task: what its target names, or what the function it names returns.

    A function is called with those of ``task_id`` and ``ledger`` that it has parameters for.

    Raises:
        TargetNotFound: There is no such file, module or name.
        ConfigurationError: Nobody says where the engine is made, or what is there makes another one.
    """
    place = target if target is not None else opened.get_payload(run.run_id).target
    if place is None:
        raise ConfigurationError(
            f"Task {run.run_id} does not say where its engine is made. Name a function that returns its TaskEngine: "
            "--target file.py:build; or give the engine that target=."
        )
    from milepost.cli.target import import_target

    with contextlib.redirect_stdout(sys.stderr):
        module, name, _, _ = import_target(place)
        found = getattr(module, name, None) if name else None
        if found is None:
            near = did_you_mean(name, vars(module))
            raise TargetNotFound(f"{place!r} names nothing that makes a TaskEngine.{near} Write file.py:build.")
        engine = _build(found, place, opened, run)
    if engine.task_id != run.run_id:
        raise ConfigurationError(
            f"{place!r} makes the engine of task {engine.task_id!r}, not of {run.run_id!r}. "
            "Let the function take task_id and hand it on."
        )
    return engine


def _build(found: Any, place: str, opened: Ledger, run: Run) -> TaskEngine[Any]:
    from milepost.stages import TaskEngine

    if callable(found):
        known = {"task_id": run.run_id, "ledger": opened}
        parameters = inspect.signature(found).parameters
        missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in known and p.kind < 2]
        if missing:
            raise ConfigurationError(
                f"{place!r} needs {', '.join(map(repr, missing))}: it is called with task_id and ledger only. "
                "Give the others defaults."
            )
        try:
            found = found(**{name: value for name, value in known.items() if name in parameters})
        except MilepostError:
            raise
        except Exception as error:
            raise ConfigurationError(f"{place!r} raised {type(error).__qualname__}: {error}. Mend it.") from error
    if not isinstance(found, TaskEngine):
        raise ConfigurationError(f"{place!r} is of type {type(found).__name__}, not a TaskEngine. Name what makes one.")
    return found


def stage_documents(opened: Ledger, run: Run) -> list[dict[str, Any]]:
    """Return the stored states of a task's stages in their order, as plain data.

    A stage whose step runs is RUNNING, whatever was stored of it before.
    """
    definition = opened.get_definition(run.run_id)
    labels = [node["label"] for node in json.loads(definition)["nodes"]] if definition else []
    states = {c.label: json.loads(c.value) for c in opened.list_checkpoints(run.run_id) if c.name == "state"}
    running = {step.label for step in opened.list_steps(run.run_id) if step.status == "running"}
    documents = []
    for label in labels:
        if label in states:
            state = states[label]
            if label in running and state["status"] != "RUNNING":
                state["status"] = "RUNNING"
                state["attempts"] += 1
            documents.append(state)
    return documents


def stage_rows(documents: list[dict[str, Any]]) -> list[list[Text]]:
    """Return a row for each stage: name, status, attempts, and what its history says last."""
    from milepost.cli.console import styled

    rows = []
    for state in documents:
        status, attempts = state["status"], state["attempts"]
        last = state["history"][-1]["message"] if state["history"] else ""
        rows.append(
            [
                styled(state["stage_name"]),
                styled(status, _STATUS_STYLES.get(status, "dim")),
                styled(f"{attempts} attempt{'' if attempts == 1 else 's'}"),
                styled(" ".join(last.split())),
            ]
        )
    return rows


def history_rows(documents: list[dict[str, Any]]) -> list[list[Text]]:
    """Return a row for each entry of every stage's history, in the order of their ends."""
    from datetime import datetime

    from milepost.cli.console import styled

    entries = [(entry, state["stage_name"]) for state in documents for entry in state["history"]]
    entries.sort(key=lambda found: datetime.fromisoformat(found[0]["end_ts"]))
    return [
        [
            styled(entry["end_ts"][:19].replace("T", " "), "dim"),
            styled(name),
            styled(f"{entry['begin_status']} -> {entry['end_status']}"),
            styled(f"attempt {entry['attempt']}"),
            styled(f"{entry['run_time_seconds']:.2f} s"),
            styled(" ".join(entry["message"].split())),
        ]
        for entry, name in entries
    ]
