"""``include=``: which steps of a pipeline a run is narrowed to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from milepost.errors import did_you_mean
from milepost.pipeline.plan import PipelinePlan, iter_all_steps, iter_processes
from milepost.pipeline.problems import IncludeInvalid
from milepost.runtime.conform import show

__all__ = ["labels_of"]


def labels_of(plan: PipelinePlan, include: Iterable[Any]) -> frozenset[str] | None:
    """Return the labels of the steps that an include names, None where those are all.

    Args:
        plan: The whole plan.
        include: Names or classes of processes, which stay whole, and of steps: ``"Load"``, ``"Read"``, ``"Load.Read"``.

    Raises:
        IncludeInvalid: It names nothing, something unknown, or drops what an included step needs.
    """
    name = plan.pipeline_type.__name__
    if isinstance(include, (str, bytes)) or not isinstance(include, Iterable):
        raise IncludeInvalid(name, [f"include must be a list of names of processes and steps, not {show(include)}"])
    steps = list(iter_all_steps(plan))
    known: dict[str, set[str]] = {}
    for process in iter_processes(plan):
        title = process.process_type.__name__
        known.setdefault(title, set()).update(step.label for step in steps if step.process == title)
    for step in steps:
        known.setdefault(step.step_type.__name__, set()).add(step.label)
        known[step.label] = {step.label}
    complaints: list[str] = []
    labels: set[str] = set()
    listed = list(include)
    for item in listed:
        wanted = item.__name__ if isinstance(item, type) else item
        found = known.get(wanted) if isinstance(wanted, str) else None
        if found is None:
            near = did_you_mean(wanted, known).strip() if isinstance(wanted, str) else ""
            told = near.rstrip("?").replace("Did", "did") + "?" if near else f"it has {', '.join(known)}"
            complaints.append(f"there is no process or step {show(wanted)} ({told})")
        else:
            labels |= found
    if not listed:
        complaints.append("it names nothing; leave it out to run everything")
    makers = {step.result: step.label for step in steps if step.result is not None}
    complaints += [
        f"step {step.label!r} needs {need!r}, which {makers[need]!r} makes: include that as well"
        for step in steps
        if step.label in labels
        for need in step.needs
        if makers[need] not in labels
    ]
    if complaints:
        raise IncludeInvalid(name, complaints)
    return None if len(labels) == len(steps) else frozenset(labels)
