"""Every mistake that a pipeline can have: its code, component, field and remedy; all of them at once."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic import BaseModel

from milepost.pipeline import (
    CompilationError,
    Mistake,
    MistakeCode,
    ParallelProcessGroup,
    ParallelStepGroup,
    Pipeline,
    Process,
    Step,
    iter_all_steps,
    iter_processes,
)


class Params(BaseModel):
    n: int
    path: str = "."


class Words(Step[Params]):
    result = "words"

    def execute(self, params: Params) -> list[str]:
        return []


class Size(Step[Params]):
    result = "size"

    def execute(self, params: Params, *, words: list[str]) -> int:
        return len(words)


def process_of(name: str, *steps: object) -> type[Process[Params]]:
    """Return a process with these steps."""

    class Made(Process[Params]):
        pass

    Made.__name__, Made.steps = name, list(steps)
    return Made


def pipeline_of(*steps: object) -> type[Pipeline[Params]]:
    """Return a pipeline of one process with these steps."""
    return pipeline_with(process_of("Work", *steps))


def pipeline_with(*listed: object) -> type[Pipeline[Params]]:
    """Return a pipeline of these processes."""

    class Job(Pipeline[Params]):
        processes = list(listed)

    return Job


def mistakes_of(pipeline: type[Pipeline[Params]]) -> list[tuple[str, str, str | None]]:
    """Return code, component and field of each mistake."""
    with pytest.raises(CompilationError) as caught:
        pipeline.compile()
    assert all(mistake.message and mistake.remedy for mistake in caught.value.mistakes)
    return [(mistake.code.value, mistake.component, mistake.field) for mistake in caught.value.mistakes]


def the_mistake_of(pipeline: type[Pipeline[Params]]) -> Mistake:
    """Return the only mistake."""
    with pytest.raises(CompilationError) as caught:
        pipeline.compile()
    (mistake,) = caught.value.mistakes
    return mistake


def test_plans_are_frozen_and_name_the_classes() -> None:
    other = process_of("Other", type("Alone", (Words,), {"result": None}))
    work = process_of("Work", Words, [Size, type("Twin", (Size,), {"result": "twin"})])
    plan = pipeline_with([work, other]).compile()
    (group,) = plan.nodes
    assert isinstance(group, ParallelProcessGroup)
    assert [process.process_type for process in iter_processes(plan)] == [work, other]
    assert isinstance(group.plans[0].nodes[1], ParallelStepGroup)
    assert [step.label for step in iter_all_steps(plan)] == ["Work.Words", "Work.Size", "Work.Twin", "Other.Alone"]
    assert (plan.pipeline_type.__name__, plan.params_type) == ("Job", Params)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.nodes = ()  # type: ignore[misc]


def test_all_mistakes_are_told_at_once() -> None:
    class Wrong(Step[Params]):
        result = "not a name"

        def execute(self, job: Params, *, nothing: int) -> None: ...

    class Slow(Words):
        result = "slow"
        timeout = -1

    assert mistakes_of(pipeline_of(Wrong, Slow, 7)) == [
        ("INVALID_STEP_ITEM", "Work", "steps"),
        ("INVALID_RESULT_NAME", "Work.Wrong", "result"),
        ("INVALID_PARAMS_NAME", "Work.Wrong", "execute"),
        ("RESULT_NOT_PRODUCED", "Work.Wrong", "nothing"),
        ("INVALID_STEP_OPTION", "Work.Slow", None),
    ]


def test_the_message_names_code_component_field_and_remedy() -> None:
    with pytest.raises(CompilationError, match=r'RESULT_NOT_PRODUCED in Work.Size, words: .*Set result = "words"'):
        pipeline_of(Size).compile()


def test_a_class_without_params_is_told_how_to_declare_them() -> None:
    class Bare(Step):  # type: ignore[type-arg]
        def execute(self, params: Params) -> None: ...

    mistake = the_mistake_of(pipeline_of(Bare))
    assert mistake.code == MistakeCode.MISSING_GENERIC_PARAM
    assert mistake.remedy == "Write: class Bare(Step[Params])."


def test_a_subclass_inherits_the_params_of_its_base() -> None:
    class Longer(Words):
        pass

    (step,) = iter_all_steps(pipeline_of(Longer).compile())
    assert step.params_type is Params


def test_params_must_be_a_pydantic_model() -> None:
    class Numbered(Step[int]):  # type: ignore[type-var]
        def execute(self, params: int) -> None: ...

    assert the_mistake_of(pipeline_of(Numbered)).code == MistakeCode.INVALID_PARAMS_TYPE


def test_the_annotation_of_params_is_checked() -> None:
    class Numbered(Step[Params]):
        def execute(self, params: int) -> None: ...

    mistake = the_mistake_of(pipeline_of(Numbered))
    assert (mistake.code, mistake.field) == (MistakeCode.INVALID_PARAMS_TYPE, "params")


def test_compatible_params_are_compared_by_type_and_not_by_name_alone() -> None:
    class Other(BaseModel):
        n: str

    class Reading(Step[Other]):
        def execute(self, params: Other) -> None: ...

    mistake = the_mistake_of(pipeline_of(Reading))
    assert (mistake.code, mistake.field) == (MistakeCode.INVALID_PARAMS_TYPE, "n")


def test_fields_that_the_pipeline_lacks_are_named() -> None:
    class Other(BaseModel):
        paht: str

    class Reading(Step[Other]):
        def execute(self, params: Other) -> None: ...

    mistake = the_mistake_of(pipeline_of(Reading))
    assert (mistake.code, mistake.field) == (MistakeCode.MISSING_PARAMS_FIELDS, "paht")
    assert "Did you mean 'path'?" in mistake.remedy


@pytest.mark.parametrize("execute", [None, staticmethod(lambda params: None), classmethod(lambda cls, params: None)])
def test_a_step_needs_a_plain_method_to_execute(execute: object) -> None:
    class Idle(Step[Params]):
        pass

    Idle.execute = execute
    assert the_mistake_of(pipeline_of(Idle)).code == MistakeCode.MISSING_EXECUTE


def test_a_parameter_that_nothing_can_be_handed_to_is_a_mistake() -> None:
    class Wide(Step[Params]):
        def execute(self, params: Params, more: int, *rest: int, **others: int) -> None: ...

    codes = mistakes_of(pipeline_of(Wide))
    assert codes == [("INVALID_SIGNATURE", "Work.Wide", name) for name in ("more", "rest", "others")]


def test_a_step_over_elements_needs_a_parameter_for_one() -> None:
    class Each(Step[Params]):
        over = "words"

        def execute(self, params: Params) -> None: ...

    assert mistakes_of(pipeline_of(Words, Each)) == [("INVALID_SIGNATURE", "Work.Each", "over")]


def test_a_step_cannot_go_over_what_has_no_elements_or_other_ones() -> None:
    class Each(Step[Params]):
        over = "size"

        def execute(self, params: Params, part: int) -> None: ...

    class Wrong(Step[Params]):
        over = "words"

        def execute(self, params: Params, part: int) -> None: ...

    assert mistakes_of(pipeline_of(Words, Size, Each, Wrong)) == [
        ("RESULT_TYPE_MISMATCH", "Work.Each", "over"),
        ("RESULT_TYPE_MISMATCH", "Work.Wrong", "part"),
    ]


@pytest.mark.parametrize("limit", [0, True, "two"])
def test_concurrency_must_be_a_number_of_one_or_more(limit: object) -> None:
    class Each(Step[Params]):
        over = "words"
        concurrency = limit  # type: ignore[assignment]

        def execute(self, params: Params, part: str) -> None: ...

    assert mistakes_of(pipeline_of(Words, Each)) == [("INVALID_STEP_OPTION", "Work.Each", "concurrency")]


@pytest.mark.parametrize("listed", [[[[Words]]], [Words()], ["Words"], [Step], [Process]])
def test_a_process_lists_step_classes_and_flat_groups_alone(listed: list[object]) -> None:
    codes = mistakes_of(pipeline_of(*listed))
    assert codes == [("INVALID_STEP_ITEM", "Work", "steps")]


@pytest.mark.parametrize("listed", [[Words], [[[Process]]], [None]])
def test_a_pipeline_lists_process_classes_and_flat_groups_alone(listed: list[object]) -> None:
    assert mistakes_of(pipeline_with(*listed)) == [("INVALID_PROCESS_ITEM", "Job", "processes")]


def test_a_list_that_is_none_is_told() -> None:
    class Single(Process[Params]):
        steps = Words  # type: ignore[assignment]

    assert mistakes_of(pipeline_with(Single)) == [("INVALID_STEP_ITEM", "Single", "steps")]


def test_nothing_to_run_is_a_mistake_wherever_it_is() -> None:
    class Empty(Process[Params]):
        pass

    assert mistakes_of(pipeline_with(Empty, [])) == [
        ("NOTHING_TO_RUN", "Job", "processes"),
        ("NOTHING_TO_RUN", "Empty", "steps"),
    ]


def test_one_name_twice_in_a_list_is_a_mistake() -> None:
    class Quiet(Step[Params]):
        def execute(self, params: Params) -> None: ...

    class Once(Process[Params]):
        steps = [Quiet, [Quiet]]

    assert mistakes_of(pipeline_with(Once, Once))[:2] == [
        ("DUPLICATE_PROCESS", "Job", "processes"),
        ("DUPLICATE_STEP", "Once", "steps"),
    ]


def test_one_result_of_two_steps_is_a_mistake_also_in_parallel_processes() -> None:
    again = type("Again", (Words,), {})
    left = process_of("Left", Words)
    right = process_of("Right", again)
    assert mistakes_of(pipeline_with([left, right])) == [("DUPLICATE_RESULT", "Right.Again", "result")]


@pytest.mark.parametrize("name", ["", "a b", 3, "params", "self"])
def test_a_result_needs_a_name_that_a_parameter_can_have(name: object) -> None:
    step = type("Odd", (Words,), {"result": name})
    assert mistakes_of(pipeline_of(step)) == [("INVALID_RESULT_NAME", "Work.Odd", "result")]


def test_a_result_of_a_later_step_or_of_the_same_group_cannot_be_taken() -> None:
    for listed in ([Size, Words], [[Words, Size]]):
        mistake = the_mistake_of(pipeline_of(*listed))
        assert mistake.code == MistakeCode.RESULT_NOT_PRODUCED
        assert "Work.Words does, and runs later or beside it" in mistake.remedy


def test_members_of_a_parallel_group_of_processes_do_not_see_each_other() -> None:
    left = process_of("Left", Words)
    right = process_of("Right", Size)
    assert mistakes_of(pipeline_with([left, right])) == [("RESULT_NOT_PRODUCED", "Right.Size", "words")]
    assert pipeline_with(left, right).compile().nodes


def test_a_result_of_another_type_cannot_be_taken() -> None:
    class Wrong(Step[Params]):
        def execute(self, params: Params, *, words: int) -> None: ...

    assert mistakes_of(pipeline_of(Words, Wrong)) == [("RESULT_TYPE_MISMATCH", "Work.Wrong", "words")]


def test_an_edit_of_a_class_counts_the_next_time() -> None:
    pipeline = pipeline_of(Words)
    pipeline.compile()
    pipeline.processes[0].steps = [Size]
    assert the_mistake_of(pipeline).code == MistakeCode.RESULT_NOT_PRODUCED


def test_a_step_is_made_without_arguments() -> None:
    class Made(Words):
        def __init__(self, size: int, depth: int = 1) -> None:
            self.size = size * depth

    assert mistakes_of(pipeline_of(Made)) == [("INVALID_SIGNATURE", "Work.Made", "__init__")]
