"""A pipeline as workers, queues and the command line know one: its name, its graph, the check of its params."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from milepost.dag.place import find_target, lasting_target
from milepost.dag.replaying import Replaying
from milepost.dag.rolling_back import RollingBack
from milepost.dag.scheduling import Scheduling
from milepost.dag.submitting import Submitting
from milepost.errors import InputError, did_you_mean
from milepost.graph import Graph
from milepost.pipeline.bodies import PARAMS
from milepost.pipeline.wiring import PipelineGraph
from milepost.runtime.conform import show
from milepost.runtime.outcome import FinishedRun
from milepost.runtime.run import RunOptions, resume_graph, resume_graph_async, run_graph, run_graph_async
from milepost.runtime.validation import complaints_of

__all__ = ["RunnablePipeline"]


class RunnablePipeline(Submitting, Scheduling, Replaying, RollingBack):
    """One pipeline, whole or narrowed by ``include``, with the verbs of the other faces."""

    kind = "pipeline"

    def __init__(self, graph: PipelineGraph) -> None:
        """Begin with its graph."""
        self.graph = graph
        self.pipeline_type = graph.plan.pipeline_type
        self.params_type: Any = graph.plan.params_type
        self.name = self.pipeline_type.__name__
        graph.check_inputs = lambda given: self.validate(given, self.name)

    def build(self) -> Graph:
        """Return the graph."""
        return self.graph

    def _build(self) -> RunnablePipeline:
        return self

    @property
    def inputs(self) -> dict[str, Any]:
        """The fields of the params, required ones first: the inputs of a run for the command line."""
        fields = self.params_type.model_fields
        ordered = sorted(fields, key=lambda name: not fields[name].is_required())
        return {fields[name].alias or name: fields[name].annotation for name in ordered}

    def validate(
        self, given: Mapping[str, Any] | None, name: str, more: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the inputs of a run: its params, from an instance or from their fields.

        Raises:
            InputError: They are no such params: everything that is wrong with them.
        """
        fields: Any = {**(given or {}), **(more or {})}
        model = self.params_type
        if fields.keys() == {PARAMS} and (PARAMS not in model.model_fields or isinstance(fields[PARAMS], BaseModel)):
            fields = fields[PARAMS]
        return {PARAMS: self.params(fields)}

    def params(self, given: Any) -> Any:
        """Return params: an instance as it is, a mapping of fields checked and converted."""
        model = self.params_type
        if isinstance(given, model):
            return given
        if given is None:
            given = {}
        if not isinstance(given, Mapping):
            raise InputError(
                f"{self.name!r} cannot run with these params: they must be {model.__name__} or a dict of "
                f"its fields, not {show(given)}."
            )
        by_name = model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name")
        known = {
            name
            for field, info in model.model_fields.items()
            for name in ((info.alias, field) if by_name else (info.alias or field,))
            if name
        }
        unknown = [] if model.model_config.get("extra") == "allow" else [key for key in given if key not in known]
        complaints = [
            f"unknown field {key!r} (known: {', '.join(sorted(known)) or 'none'}){did_you_mean(str(key), known)}"
            for key in unknown
        ]
        try:
            params = model.model_validate({key: value for key, value in given.items() if key not in unknown})
        except ValidationError as error:
            complaints.append(f"{model.__name__}: {complaints_of(error, given)}")
        if complaints:
            raise InputError(f"{self.name!r} cannot run with these params: {'; '.join(complaints)}.")
        return params

    def _locate(self, target: str | None = None) -> str | None:
        return lasting_target(target) or find_target(self.pipeline_type, self.pipeline_type.__module__)

    def run(self, inputs: Any = None, **options: Any) -> FinishedRun:
        """Run it to its end in this thread."""
        values = self.validate(inputs, self.name)
        return run_graph(self.graph, values, self.kind, self._options(options))

    async def run_async(self, inputs: Any = None, **options: Any) -> FinishedRun:
        """Run it to its end on the running loop."""
        values = self.validate(inputs, self.name)
        return await run_graph_async(self.graph, values, self.kind, self._options(options))

    def resume(self, run_id: str, *, target: str | None = None, **options: Any) -> FinishedRun:
        """Go on with a run."""
        return resume_graph(self.graph, run_id, RunOptions(target=lasting_target(target), **options))

    async def resume_async(self, run_id: str, *, target: str | None = None, **options: Any) -> FinishedRun:
        """Go on with a run on the running loop."""
        return await resume_graph_async(self.graph, run_id, RunOptions(target=lasting_target(target), **options))

    def _options(self, given: dict[str, Any]) -> RunOptions:
        last_attempt = given.pop("last_attempt", True)
        if not last_attempt:
            given["headers"] = json.dumps({"last_attempt": False})
        return RunOptions(**{**given, "target": self._locate(given.get("target"))})
