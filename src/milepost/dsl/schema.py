"""JSON Schemas: of the file format, so that editors complete and check it; of the inputs of one workflow."""

from __future__ import annotations

from typing import Any

from milepost.dsl.workflow import Workflow

__all__ = ["file_schema", "inputs_schema"]


def file_schema() -> dict[str, Any]:
    """Return the JSON Schema of workflow files.

    Example:
        >>> file_schema()["title"]
        'Milepost workflow'
    """
    schema = Workflow.model_json_schema(mode="validation")
    found = schema.pop("$ref", None)
    if found is not None:  # a workflow holds workflows, so that it stands among the definitions
        schema = {**schema["$defs"]["Workflow"], **schema}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Milepost workflow"}


def inputs_schema(workflow: Workflow) -> dict[str, Any]:
    """Return the JSON Schema of the inputs that a workflow declares."""
    properties: dict[str, Any] = {}
    for name, field in workflow.inputs.items():
        kinds = {"list": "array", "datetime": "string", "any": None}
        kind = kinds.get(field.type, field.type)
        properties[name] = {
            **({} if kind is None else {"type": kind}),
            **({"format": "date-time"} if field.type == "datetime" else {}),
            **({} if field.required else {"default": field.default}),
            **({"description": field.description} if field.description else {}),
        }
    required = [name for name, field in workflow.inputs.items() if field.required]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Inputs of {workflow.name}",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": not workflow.inputs,
    }
