"""The commands put together, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from milepost.cli.cancel import cancel
from milepost.cli.demo import demo
from milepost.cli.diff import diff
from milepost.cli.doctor import doctor
from milepost.cli.emit import emit
from milepost.cli.failures import DEBUG, INTERRUPTED, report
from milepost.cli.gc import gc
from milepost.cli.graph import graph
from milepost.cli.lineage import invalidate, lineage
from milepost.cli.migrate import migrate
from milepost.cli.pause import pause
from milepost.cli.queues import queues
from milepost.cli.replay import replay
from milepost.cli.resume import resume
from milepost.cli.rollback import rollback
from milepost.cli.run import run
from milepost.cli.runs import runs
from milepost.cli.schedule import schedules
from milepost.cli.show import show
from milepost.cli.submit import submit
from milepost.cli.why import why
from milepost.cli.worker import worker
from milepost.cli.workers import workers
from milepost.cli.workflow import workflow

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """Knows what to do with errors: one line on stderr, an exit code, and a traceback only for --debug."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; Ctrl-C outside a run ends it without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Parse, run, and exit with the code that the outcome stands for."""
        given = list(sys.argv[1:] if args is None else args)
        # Users add --debug at the end of the line that failed, so it counts anywhere.
        if "--debug" in given:
            os.environ[DEBUG] = "1"  # of the environment, so that the processes of `resume --all` have it too
            given = [word for word in given if word != "--debug"]
        _make_streams_safe()
        try:
            code = super().main(
                given,
                prog_name=prog_name or "milepost",
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except Exception as error:
            code = report(error)
        sys.exit(code or 0)


app = typer.Typer(
    name="milepost",
    cls=_Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 completed, 1 failed, 2 usage, 3 not found, 4 paused, 130 interrupted (143 by SIGTERM).",
)


@app.callback()
def start(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere on the line.")] = False,
) -> None:
    """Durable runs for Python: kill the process anywhere, and the run goes on from its last completed step."""
    if version:
        from milepost import __version__

        print(f"milepost {__version__}")
    elif ctx.invoked_subcommand is None:
        print(ctx.get_help())


_COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    *(run, submit, worker, resume, replay, runs, show, why, pause, cancel, rollback, emit, workers),
    *(graph, lineage, diff, invalidate, gc, doctor, migrate, demo),
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(queues, name="queues")
app.add_typer(schedules, name="schedule")
app.add_typer(workflow, name="workflow")


def main() -> None:
    """Run the command line and exit."""
    app()


def _make_streams_safe() -> None:
    # Started without stdout or stderr (`>&-`, some service managers), Python has None in their place.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    # A name that this terminal's encoding lacks must cost a character, not the command.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
