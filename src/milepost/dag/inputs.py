"""Inputs that are given node by node, as the inputs of a run by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milepost.dag.build import Built
from milepost.errors import InputError, did_you_mean
from milepost.runtime.conform import show

__all__ = ["inputs_by_name", "inputs_of_call"]


def inputs_by_name(built: Built, given: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """Return ``{label: {parameter: value}}`` as inputs: by name, or as ``label.parameter`` where nodes differ.

    Raises:
        InputError: A label or a parameter is unknown.
    """
    if given is not None and not isinstance(given, Mapping):
        raise InputError(
            f"source_inputs must be a dict of dicts by label, such as {{'load': {{'n': 4}}}}, not {given!r}."
        )
    complaints = []
    values: dict[str, dict[str, Any]] = {}
    for label, parameters in (given or {}).items():
        known = [param for param, labels in built.holders.items() if label in labels]
        if label not in built.graph:
            complaints.append(f"there is no node {label!r}{did_you_mean(label, built.graph.labels)}")
        elif not isinstance(parameters, Mapping):
            complaints.append(f"the inputs of node {label!r} must be a dict by parameter, not {show(parameters)}")
        else:
            for param, value in parameters.items():
                if param in known:
                    values.setdefault(param, {})[label] = value
                else:
                    told = ", ".join(known) or "none"
                    complaints.append(
                        f"node {label!r} has no open parameter {param!r} (it has: {told}){did_you_mean(param, known)}"
                    )
    if complaints:
        raise InputError(f"{name!r} cannot run with these inputs: {'; '.join(complaints)}.")
    found: dict[str, Any] = {}
    for param, by_label in values.items():
        first = next(iter(by_label.values()))
        if len(by_label) == len(built.holders[param]) and all(value is first for value in by_label.values()):
            found[param] = first
        else:
            found |= {f"{label}.{param}": value for label, value in by_label.items()}
    return found


def inputs_of_call(built: Built, given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the keywords of a call as inputs: by name, or a dict under a node's label for that node alone."""
    by_label = {
        key: value
        for key, value in given.items()
        if key not in built.inputs and key in built.graph and isinstance(value, Mapping)
    }
    return {
        **{key: value for key, value in given.items() if key not in by_label},
        **inputs_by_name(built, by_label, name),
    }
