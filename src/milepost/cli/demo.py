"""``milepost demo``: the main job on real input: index a tree of Python source, step by step."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Annotated, Final

import typer

from milepost.cli.options import LedgerUrl

__all__ = ["demo", "find_example"]

_EXAMPLE: Final = Path("examples", "stdlib_index", "job.py")


def demo(
    source: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="The tree of Python source. Default: the standard library.", show_default=False
        ),
    ] = None,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where report.json and report.html go.")] = "demo",
    ledger: LedgerUrl = None,
) -> None:
    """Index the standard library in more than a thousand steps. Kill it in the middle, then `milepost resume --all`."""
    from milepost.cli.console import command
    from milepost.cli.execution import execute
    from milepost.cli.ledgers import ledger_words
    from milepost.cli.target import load_target
    from milepost.errors import InputError

    found = load_target(f"{find_example()}:dag")
    folder = Path(source or sysconfig.get_path("stdlib")).absolute()
    if not folder.is_dir():
        raise InputError(f"--source {source!r} is not a folder. Name one that holds Python files.")
    target = Path(out).absolute()
    goes_on = command("resume", "--all", *ledger_words(ledger))
    print(f"Kill it at any moment (kill -9 {os.getpid()}); it goes on from its last completed step:  {goes_on}")
    code = execute(
        lambda on_start: found.dag.run(
            inputs={"source": folder, "out": target},
            ledger=ledger,
            target=found.text,
            on_start=on_start,
        ),
        ledger=ledger,
    )
    report = target / "report.html"
    if code == 0 and report.is_file():
        print(f"  The report:     {report}")
        print(f"  The run:        {command('show', 'latest', *ledger_words(ledger))}")
    raise typer.Exit(code)


def find_example(package: Path | None = None) -> Path:
    """Return the example's file: in the installed package, else in the repository around it.

    Args:
        package: The folder of the package ``milepost``; this one's if left out.

    Raises:
        NothingThere: It is in neither.
    """
    from milepost.cli.failures import NothingThere

    package = package or Path(__file__).parents[1]
    for folder in (package, package.parents[1]):
        if (folder / _EXAMPLE).is_file():
            return folder / _EXAMPLE
    raise NothingThere(
        f"The example {_EXAMPLE} is neither in {package} nor in {package.parents[1]}. Install milepost again."
    )
