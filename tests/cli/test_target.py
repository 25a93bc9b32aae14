"""Targets: from a text to a Dag, by the name under which its classes are found again."""

from __future__ import annotations

import pytest

from milepost.cli.target import is_target, load_target
from milepost.errors import ConfigurationError, TargetNotFound

DAG = "from milepost import Dag\ndag = Dag('{0}')\ndag.node(abs, x=1)\n"


def test_a_file_is_loaded_and_named_by_its_absolute_path(place):
    found = load_target("job.py:dag")
    assert found.dag.name == "tens"
    assert found.text == f"{place.folder}/job.py:dag"


def test_a_file_in_a_package_is_loaded_under_its_dotted_name(place):
    place.write("pkg_a/__init__.py", "")
    place.write("pkg_a/names.py", "NAME = 'packaged'\n")
    place.write("pkg_a/jobs.py", "from milepost import Dag\nfrom .names import NAME\ndag = Dag(NAME)\n")
    found = load_target("pkg_a/jobs.py:dag")
    assert found.dag.name == "packaged"
    assert found.dag._module == "pkg_a.jobs"
    assert load_target("pkg_a.jobs:dag").dag is found.dag


def test_a_file_sees_its_neighbours_as_it_does_as_a_script(place):
    place.write("sub/neighbour_b.py", "NAME = 'beside'\n")
    place.write("sub/flow_b.py", "from milepost import Dag\nimport neighbour_b\ndag = Dag(neighbour_b.NAME)\n")
    assert load_target("sub/flow_b.py:dag").dag.name == "beside"


def test_a_module_of_the_working_folder_is_stored_as_its_file(place):
    place.write("flow_c.py", DAG.format("c"))
    assert load_target("flow_c:dag").text == f"{place.folder}/flow_c.py:dag"


def test_a_module_that_its_file_would_not_lead_to_keeps_its_name(place):
    place.write("folder_d/flow_d.py", DAG.format("d"))  # no __init__.py: as a file it would be `flow_d`
    assert load_target("folder_d.flow_d:dag").text == "folder_d.flow_d:dag"


def test_without_a_name_the_only_dag_is_taken(place):
    place.write("flow_e.py", "from milepost import Dag\nthing = Dag('e')\nsame = thing\n")
    assert load_target("flow_e.py").dag.name == "e"


def test_a_dag_inside_a_class_can_be_named(place):
    place.write("flow_f.py", "from milepost import Dag\nclass Jobs:\n    nightly = Dag('f')\n")
    assert load_target("flow_f.py:Jobs.nightly").text.endswith("flow_f.py:Jobs.nightly")


def test_classes_stored_by_a_script_are_found_after_loading_it_as_a_module(place):
    from milepost.values import decode

    place.write(
        "flow_g.py", DAG.format("g") + "class Odd(Exception): ...\n" + "import enum\nclass E(enum.Enum): A = 1\n"
    )
    module = __import__("sys").modules
    load_target("flow_g.py:dag")
    assert decode('{"$":"enum","class":"__main__:E","name":"A"}') is module["flow_g"].E.A


def test_what_a_module_prints_does_not_reach_stdout(place, capsys):
    place.write("flow_h.py", "print('loading')\n" + DAG.format("h"))
    load_target("flow_h.py:dag")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "loading\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("jo.py:dag", "There is no file 'jo.py'. Did you mean 'job.py'?"),
        (".:dag", "is neither a module's name nor a Python file"),
        ("./:dag", "'./' is a folder"),
        ("job.py:dagg", "'job.py' has no 'dagg'. Did you mean 'dag'?"),
        ("job.py:zzz", "'job.py' has no 'zzz'. It has: job.py:dag."),
        ("jobb:dag", "There is no module 'jobb'. Did you mean 'job'?"),
        ("no-module:dag", "is neither a module's name nor a Python file"),
        ("two.py", "has several Dags: two.py:a, two.py:b. Name one of them."),
        ("none.py", "'none.py' has no Dag at the top of the module"),
    ],
)
def test_what_is_not_there_is_named_with_what_is_near(place, text, complaint):
    place.write("two.py", "from milepost import Dag\na = Dag('a')\nb = Dag('b')\n")
    place.write("none.py", "x = 1\n")
    with pytest.raises(TargetNotFound) as caught:
        load_target(text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("import os\ndef f(:\n", "bad_x.py:2: SyntaxError: invalid syntax."),
        ("\n\nimport not_there_at_all\n", "bad_x.py:3: ModuleNotFoundError: No module named 'not_there_at_all'."),
        ("def f():\n    return 1 / 0\nf()\n", "bad_x.py:2: ZeroDivisionError: division by zero."),
        ("import sys\nsys.exit(3)\n", "bad_x.py:2: SystemExit: 3."),
        ("from milepost import Dag\nDag('')\n", "bad_x.py:2: ConfigurationError: A Dag's name must be"),
        ("import json\njson.loads('{')\n", "bad_x.py:2: JSONDecodeError:"),
    ],
)
@pytest.mark.parametrize("target", ["bad_x.py:dag", "bad_x:dag"])
def test_an_import_error_names_the_line_of_the_users_own_code(place, source, complaint, target):
    place.write("bad_x.py", source)
    with pytest.raises(ConfigurationError) as caught:
        load_target(target)
    assert complaint in str(caught.value)
    assert not isinstance(caught.value, TargetNotFound)
    assert caught.value.__cause__ is not None


def test_a_failed_import_leaves_nothing_behind(place):
    path = place.write("bad_y.py", "1 / 0\n")
    with pytest.raises(ConfigurationError):
        load_target("bad_y.py:dag")
    path.write_text(DAG.format("mended"))
    assert load_target("bad_y.py:dag").dag.name == "mended"


def test_a_file_with_the_name_of_a_loaded_module_is_refused(place):
    place.write("json.py", DAG.format("x"))
    with pytest.raises(ConfigurationError, match="has the name of the module 'json', which is loaded already"):
        load_target("./json.py:dag")


def test_what_is_no_dag_is_refused_by_its_type(place):
    place.write("flow_i.py", "x = 3\n")
    with pytest.raises(ConfigurationError, match="is of type int, not a Dag"):
        load_target("flow_i.py:x")


FACTORY = """
from milepost import Dag

def build(name: str = "built"){0}:
    print("building")
    dag = Dag(name)
    dag.node(abs, x=1)
    return dag
"""


@pytest.mark.parametrize("promise", ["", " -> Dag", " -> 'Dag'", " -> 'NotKnownHere'", " -> Dag | None", " -> object"])
def test_a_function_that_returns_a_dag_is_called(place, capsys, promise):
    place.write("flow_j.py", FACTORY.format(promise))
    found = load_target("flow_j.py:build")
    assert (found.dag.name, found.text) == ("built", f"{place.folder}/flow_j.py:build")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "building\n")


PIPELINE = """
from pydantic import BaseModel
from milepost.pipeline import Pipeline, Process, Step

class Params(BaseModel):
    n: int = 1

class Count(Step[Params]):
    def execute(self, params: Params) -> int:
        return params.n

class Work(Process[Params]):
    steps = [Count]

def build(){}:
    class Job(Pipeline[Params]):
        processes = [Work]
    return Job
"""
WORKFLOW = """
from milepost.dsl import Workflow, WorkflowBuilder, task_function

@task_function("target.one")
def one():
    return 1

def build(){}:
    return WorkflowBuilder("job").task("one", "target.one").build()
"""


@pytest.mark.parametrize(
    ("source", "promise"),
    [
        (PIPELINE, ""),
        (PIPELINE, " -> type[Pipeline[Params]]"),
        (PIPELINE, " -> type"),
        (WORKFLOW, ""),
        (WORKFLOW, " -> Workflow"),
    ],
)
def test_a_function_may_return_a_pipeline_or_a_workflow_too(place, source, promise):
    place.write("flow_m.py", source.format(promise))
    done = place.finish("run", "flow_m.py:build", "--run-id", "r1")
    assert done.returncode == 0, done.stderr
    assert place.finish("submit", "flow_m.py:build").returncode == 0
    assert "r1" in place.finish("runs").stdout


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("def build(n, m=1, *, k): ...", "'build' in 'flow_k.py' needs 'n', 'k'; as a target, a function is called"),
        ("def build() -> int: open('called', 'w')", "'build' in 'flow_k.py' is a function that returns no Dag."),
        ("def build() -> None: open('called', 'w')", "'build' in 'flow_k.py' is a function that returns no Dag."),
        ("async def build(): open('called', 'w')", "'build' in 'flow_k.py' is a function that returns no Dag."),
        ("@step\ndef build(): open('called', 'w')", "'build' in 'flow_k.py' is of type Step, not a Dag."),
        ("class build:\n    def __init__(self): open('called', 'w')", "'build' in 'flow_k.py' is of type type, not a"),
        ("def build(): return 5", "'build' in 'flow_k.py' returned int, not a Dag."),
        ("def build():\n    return 1 / 0", "'flow_k.py:build' cannot be loaded: flow_k.py:4: ZeroDivisionError"),
        ("def build(): raise SystemExit(3)", "'flow_k.py:build' cannot be loaded: flow_k.py:3: SystemExit: 3."),
    ],
)
def test_a_function_that_makes_no_dag_is_refused_and_not_called_where_that_is_certain(place, source, complaint):
    place.write("flow_k.py", f"from milepost import step\n\n{source}\n")
    with pytest.raises(ConfigurationError) as caught:
        load_target("flow_k.py:build")
    assert complaint in str(caught.value)
    assert not (place.folder / "called").exists()


def test_a_run_of_a_dag_that_a_function_builds_is_resumed_by_the_function(place):
    place.write(
        "flow_l.py",
        "import os\nfrom milepost import Dag\n\n"
        "def work():\n    if not os.path.exists('mended'): raise OSError('broken')\n\n"
        "def build():\n    dag = Dag('built')\n    dag.node(work)\n    return dag\n",
    )
    assert place.run("run", "flow_l.py:build", "--run-id", "r1").exit_code == 1
    place.write("mended", "")
    assert place.run("graph", "flow_l.py:build").stdout == "built\n  work\n"
    assert place.run("resume", "r1").exit_code == 0


@pytest.mark.parametrize(
    ("text", "expected"), [("a.py:b", True), ("m:d", True), ("a.py", True), ("a/b", True), ("r1", False)]
)
def test_a_target_is_told_from_a_run_by_its_form(text, expected):
    assert is_target(text) is expected
