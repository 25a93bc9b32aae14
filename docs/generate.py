"""Write the parts of the documentation that the code can tell better than a person.

``python docs/generate.py`` rewrites, in each page named in ``REGIONS``, what stands between
``<!-- generated: NAME -->`` and ``<!-- end -->``, and the pictures of the state machines. A test
compares what is committed with what this module makes.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import milepost
from milepost import errors, states
from milepost.stores.sql import load_migrations
from state_diagram import draw_states

DOCS: Final = Path(__file__).parent

_ROLE: Final = re.compile(r":\w+:`~?([^`]+)`|``([^`]+)``")


def main() -> None:
    """Rewrite what has changed and name it."""
    for path, text in make_files().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(DOCS.parent)}\n")


def make_files() -> dict[Path, str]:
    """Return every generated file's path and whole text."""
    files = {
        DOCS / f"states-{name}.svg": draw_states(
            {(state.value, verb): target.value for (state, verb), target in table.items()},
            [state.value for state in kind],
            {state.value for state in terminal},
            f"The states of a {name} and the verbs that lead from one to another",
        )
        for name, kind, table, terminal in _MACHINES
    }
    for page, regions in REGIONS.items():
        text = (DOCS / page).read_text(encoding="utf-8")
        for name, make in regions.items():
            before, begin, rest = text.partition(f"<!-- generated: {name} -->\n")
            _, end, after = rest.partition("<!-- end -->")
            if not begin or not end:
                message = f"docs/{page} lacks the region '<!-- generated: {name} -->' ... '<!-- end -->'"
                raise LookupError(message)
            text = before + begin + make() + end + after
        files[DOCS / page] = text
    return files


# --- states --------------------------------------------------------------------------------------

_MACHINES: Final[tuple[tuple[str, type[StrEnum], Mapping[tuple[Any, str], Any], frozenset[Any]], ...]] = (
    ("run", states.RunStatus, states.RUN_TRANSITIONS, states.TERMINAL_RUN),
    ("step", states.StepStatus, states.STEP_TRANSITIONS, states.TERMINAL_STEP),
)


def _transitions(table: Mapping[tuple[Any, str], Any]) -> str:
    rows = [f"| {state.value} | {verb} | {target.value} |" for (state, verb), target in table.items()]
    return "\n".join(["| from | verb | to |", "|---|---|---|", *rows]) + "\n"


# --- errors --------------------------------------------------------------------------------------


def _errors() -> str:
    found = [getattr(errors, name) for name in sorted(errors.__all__)]
    classes = [thing for thing in found if isinstance(thing, type)]
    tree = "\n".join(_branch(errors.MilepostError, classes, 0))
    parts = [f"```text\n{tree}\n```\n"]
    for thing in found:
        parts.append(f"## {thing.__name__}\n\n{_prose(thing)}\n")
        if not isinstance(thing, type):
            continue
        facts = f"Bases: {', '.join(f'`{base.__name__}`' for base in thing.__bases__)}."
        message, names = _sample(thing)
        if names:
            facts += f" Attributes: {', '.join(f'`{name}`' for name in names)}."
        parts.append(f"{facts}\n")
        if message is not None:
            parts.append(f"> {message}\n")
    return "\n" + "\n".join(parts) + "\n"


def _branch(cls: type, classes: list[type], depth: int) -> list[str]:
    others = [base.__name__ for base in cls.__bases__ if base not in classes and base is not Exception]
    lines = ["    " * depth + cls.__name__ + (f" ({', '.join(others)})" if others else "")]
    for child in classes:
        if child.__bases__[0] is cls:
            lines += _branch(child, classes, depth + 1)
    return lines


def _sample(cls: Any) -> tuple[str | None, list[str]]:
    """Return the sentence an error makes of placeholders, and the names of its facts."""
    if cls.__init__ is Exception.__init__ or "__init__" not in vars(cls):
        return None, []
    values = {
        parameter.name: _placeholder(parameter)
        for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]
        if parameter.default in (parameter.empty, "")
    }
    error = cls(**values)
    return str(error), sorted(vars(error))


def _placeholder(parameter: inspect.Parameter) -> Any:
    word = parameter.name.upper()
    given: dict[str, Any] = {"float": 30.0, "Sequence[str]": (word,)}
    return given.get(str(parameter.annotation), word)


# --- the ledger's schema -------------------------------------------------------------------------


def _schema() -> str:
    parts = []
    for number, name, text in load_migrations("sqlite"):
        blocks = [block.strip() for block in re.split(r"\n\n(?=--|CREATE)", text) if block.strip()]
        opening = [block for block in blocks if not re.search(r"^\w", block, re.MULTILINE)]
        parts.append(f"## Migration {number}: {name.partition('_')[2]}\n")
        for block in blocks:
            comment = " ".join(line.removeprefix("--").strip() for line in block.splitlines() if line.startswith("--"))
            sql = "\n".join(line for line in block.splitlines() if not line.startswith("--"))
            table = re.match(r"CREATE TABLE (\w+)", sql)
            if table is not None:
                parts.append(f"### {table[1]}\n")
            if comment:
                parts.append(f"{comment}\n")
            if block not in opening and sql.strip():
                parts.append(f"```sql\n{sql.strip()}\n```\n")
    return "\n" + "\n".join(parts) + "\n"


# --- what the doctor finds -----------------------------------------------------------------------


def _findings() -> str:
    """Read them from the source: each is made where it is found, by a call of ``Problem``."""
    rows = {}
    for path in sorted(Path(milepost.__file__).parent.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Problem":
                code, message, remedy = (_told(call.args[place]) for place in (0, 2, 3))
                advice = "depends on the case" if remedy == "…" else remedy
                rows.setdefault(code, f"| `{code}` | {message} | {advice} |")
    return "\n".join(["", "| finding | what it says | remedy |", "|---|---|---|", *sorted(rows.values()), "", ""])


def _told(text: ast.expr) -> str:
    if isinstance(text, ast.Constant):
        return str(text.value).replace("|", "\\|")
    if isinstance(text, ast.JoinedStr):
        return "".join(_told(part) if isinstance(part, ast.Constant) else "…" for part in text.values)
    return "…"


# --- the command line ----------------------------------------------------------------------------


def _command_line() -> str:
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from milepost.cli.app import app

    command: Any = get_command(app)
    with command.make_context("milepost", [], resilient_parsing=True) as context:
        text = get_docs_for_click(obj=command, ctx=context, name="milepost")
    groups = {"milepost": command} | {f"milepost {n}": c for n, c in command.commands.items() if hasattr(c, "commands")}
    for name, group in groups.items():
        text = _list_whole(text, name, group)
    body = text.partition("\n")[2].strip()  # the page has a title of its own
    return "\n" + re.sub(r"\n{3,}", "\n\n", body).replace("```console\n$ ", "```text\n") + "\n\n"


def _list_whole(text: str, name: str, group: Any) -> str:
    """Return the page with a group's list of commands as links: as made, it cuts what it says short."""
    before, heading, after = text.partition(f"# `{name}`\n")
    for command, part in group.commands.items():
        anchor = f"{name} {command}".replace(" ", "-")
        line = f"* [`{command}`](#{anchor}): {part.get_short_help_str(limit=1000)}"
        after = re.sub(rf"^\* `{command}`:.*$", lambda _, line=line: line, after, count=1, flags=re.MULTILINE)
    return before + heading + after


# --- shared --------------------------------------------------------------------------------------


def _prose(thing: Any) -> str:
    """Return the first paragraph of a docstring as Markdown."""
    first = inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0]
    return _ROLE.sub(lambda match: f"`{match[1] or match[2]}`", " ".join(first.split()))


REGIONS: Final[dict[str, dict[str, Callable[[], str]]]] = {
    "states.md": {
        "run transitions": lambda: _transitions(states.RUN_TRANSITIONS),
        "step transitions": lambda: _transitions(states.STEP_TRANSITIONS),
    },
    "how-to/check-a-ledger.md": {"findings": _findings},
    "reference/errors.md": {"errors": _errors},
    "reference/stages.md": {"stage transitions": lambda: _transitions(states.STAGE_TRANSITIONS)},
    "reference/schema.md": {"schema": _schema},
    "reference/command-line.md": {"commands": _command_line},
}

if __name__ == "__main__":
    main()
