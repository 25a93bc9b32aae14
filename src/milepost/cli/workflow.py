"""``milepost workflow``: check, show, draw, run, submit, schedule and convert workflow files."""

from __future__ import annotations

import json
import sys
import warnings
from typing import TYPE_CHECKING, Annotated

import typer

from milepost.cli.options import Durability, Inputs, InputsFile, LedgerUrl, MaxConcurrency, Queue, RunId, Tags

if TYPE_CHECKING:
    from milepost.dsl import Workflow
    from milepost.dsl.problems import WorkflowProblem

__all__ = ["workflow"]

workflow = typer.Typer(
    name="workflow",
    help="Check, show, draw, run, submit, schedule and convert workflow files.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

File = Annotated[str, typer.Argument(metavar="FILE", help="A workflow: YAML or JSON.", show_default=False)]
Modules = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-module",
        metavar="MODULE",
        help="A module whose functions the workflow may call; may be repeated. It is looked for beside the file, too.",
        show_default=False,
    ),
]
Lenient = Annotated[bool, typer.Option("--lenient", help="Take unknown ids and keys of older files as warnings.")]


@workflow.command()
def validate(file: File, modules: Modules = None, lenient: Lenient = False) -> None:
    """Check a workflow file, and that its functions are there; every mistake with its line."""
    from milepost.cli.target import import_modules
    from milepost.dsl.functions import missing_functions
    from milepost.dsl.problems import WorkflowInvalid
    from milepost.dsl.structure import functions_of

    try:
        found, told = _load(file, lenient=lenient)
    except WorkflowInvalid as error:
        _print_problems(file, error.problems)
        raise typer.Exit(1) from None
    for warning in told:
        print(f"{file}: warning: {warning}", file=sys.stderr)
    import_modules(file, modules or [])
    missing = missing_functions(functions_of(dict(found.tasks)))
    for line in missing:
        print(f"{file}: {line}", file=sys.stderr)
    if missing:
        raise typer.Exit(1)
    print(f"{file}: {found.name} {found.version} is valid: {len(found.tasks)} nodes.")


@workflow.command()
def show(file: File, lenient: Lenient = False) -> None:
    """Show what a workflow file says: its nodes in order, and what each waits for."""
    from milepost.dsl.structure import block_of

    found, _ = _load(file, lenient=lenient)
    print(f"{found.name} {found.version}" + (f": {found.description}" if found.description else ""))
    if found.schedule:
        print(f"  schedule {found.schedule} ({found.timezone})" + (", paused" if found.is_paused else ""))
    for name, field in found.inputs.items():
        print(f"  input {name}: {field.type}" + ("" if field.required else f" = {field.default!r}"))
    block = block_of(dict(found.tasks))
    for name, node in block.nodes.items():
        after = ", ".join(block.needs[name])
        print(f"  {name}  {node.operator_type.value}" + (f"  after {after}" if after else ""))


@workflow.command()
def graph(
    file: File,
    form: Annotated[
        str, typer.Option("--format", metavar="mermaid|dot|svg", help="Mermaid, Graphviz or SVG.")
    ] = "mermaid",
    lenient: Lenient = False,
) -> None:
    """Draw a workflow file; a run of it is drawn by `milepost graph RUN`."""
    from milepost.errors import ConfigurationError

    found, _ = _load(file, lenient=lenient)
    forms = {"mermaid": found.to_mermaid, "dot": found.to_graphviz, "svg": found.to_svg}
    if form not in forms:
        raise ConfigurationError(f"--format must be mermaid, dot or svg, not {form!r}.")
    print(forms[form](), end="")


@workflow.command()
def run(
    file: File,
    inputs: Inputs = None,
    inputs_file: InputsFile = None,
    modules: Modules = None,
    ledger: LedgerUrl = None,
    run_id: RunId = None,
    durability: Durability = "power",
    tags: Tags = None,
    max_concurrency: MaxConcurrency = None,
) -> None:
    """Run a workflow file, each node recorded; kill it anywhere and `milepost resume` goes on."""
    from milepost.cli.run import run as run_target

    run_target(_target(file, modules), inputs, inputs_file, ledger, run_id, durability, tags, max_concurrency)


@workflow.command()
def submit(
    file: File,
    inputs: Inputs = None,
    inputs_file: InputsFile = None,
    modules: Modules = None,
    queue: Queue = "default",
    tags: Tags = None,
    ledger: LedgerUrl = None,
) -> None:
    """Put a run of a workflow file into a queue and print its id; `milepost worker FILE` executes it."""
    from milepost.cli.submit import submit as submit_target

    submit_target(_target(file, modules), inputs, inputs_file, queue=queue, tags=tags, ledger=ledger)


@workflow.command()
def schedule(
    file: File,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The schedule's name.", show_default=False)
    ] = None,
    modules: Modules = None,
    ledger: LedgerUrl = None,
) -> None:
    """Add the schedule that a workflow file states to the ledger."""
    from milepost.cli.ledgers import refuse_memory
    from milepost.cli.target import load_target

    refuse_memory(ledger)
    target = load_target(_target(file, modules))
    found = target.dag.workflow.add_schedule(name, ledger=ledger, target=target.text)
    print(f"Schedule {found.name}: {found.cron} ({found.timezone}). Workers of {file} fire it.")


@workflow.command()
def schema(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A workflow, for the schema of its inputs.")
    ] = None,
) -> None:
    """Print the JSON Schema of workflow files, or of the inputs of one."""
    from milepost.dsl.schema import file_schema, inputs_schema

    found = file_schema() if file is None else inputs_schema(_load(file)[0])
    print(json.dumps(found, indent=2))


@workflow.command()
def convert(
    file: File,
    to: Annotated[str, typer.Option("--to", metavar="json|yaml|python", help="What it becomes.")] = "json",
    lenient: Lenient = False,
) -> None:
    """Print a workflow file in another form."""
    from milepost.dsl.as_python import to_python
    from milepost.errors import ConfigurationError

    found, _ = _load(file, lenient=lenient)
    if to == "json":
        print(found.to_json())
    elif to == "yaml":
        print(found.to_yaml(), end="")
    elif to == "python":
        print(to_python(found), end="")
    else:
        raise ConfigurationError(f"--to must be json, yaml or python, not {to!r}.")


def _load(file: str, *, lenient: bool = False) -> tuple[Workflow, list[str]]:
    from milepost.dsl.files import load_workflow

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = load_workflow(file, lenient=lenient)
    return found, [str(warning.message) for warning in told]


def _target(file: str, modules: list[str] | None) -> str:
    return f"{file}:{','.join(modules)}" if modules else file


def _print_problems(file: str, problems: tuple[WorkflowProblem, ...]) -> None:
    from milepost.dsl.problems import place

    for problem in problems:
        spot = file if problem.line is None else f"{file}:{problem.line}:{problem.column}"
        where = place(problem.path)
        print(f"{spot}: {where}: {problem.message}" if where else f"{spot}: {problem.message}", file=sys.stderr)
    count = len(problems)
    print(f"{count} mistake{'' if count == 1 else 's'}.", file=sys.stderr)
