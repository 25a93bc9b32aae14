"""Pipelines of processes and steps, declared as classes and run durably."""

from milepost.pipeline.declare import Process, Step
from milepost.pipeline.pipeline import Pipeline
from milepost.pipeline.plan import (
    ParallelProcessGroup,
    ParallelStepGroup,
    PipelinePlan,
    ProcessPlan,
    StepPlan,
    iter_all_steps,
    iter_processes,
    iter_steps_in_process,
)
from milepost.pipeline.problems import CompilationError, IncludeInvalid, Mistake, MistakeCode

__all__ = [
    "CompilationError",
    "IncludeInvalid",
    "Mistake",
    "MistakeCode",
    "ParallelProcessGroup",
    "ParallelStepGroup",
    "Pipeline",
    "PipelinePlan",
    "Process",
    "ProcessPlan",
    "Step",
    "StepPlan",
    "iter_all_steps",
    "iter_processes",
    "iter_steps_in_process",
]
