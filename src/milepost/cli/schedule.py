"""``milepost schedule``: rules that start runs at times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from milepost.cli.options import AsJson, InputsFile, LedgerUrl, Priority, Queue, Target

if TYPE_CHECKING:
    from milepost.ledger import Ledger
    from milepost.model import Schedule

__all__ = ["schedules"]

schedules = typer.Typer(
    help="Let runs start by themselves: at the ticks of a cron line, or every so often.",
    rich_markup_mode="markdown",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.", show_default=False)]


@schedules.callback()
def start(ctx: typer.Context) -> None:
    """Let runs start by themselves: at the ticks of a cron line, or every so often."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


# --- adding --------------------------------------------------------------------------------------


@schedules.command()
def add(
    name: ScheduleName,
    target: Target,
    cron: Annotated[
        str | None,
        typer.Option(
            metavar="LINE",
            help='When it fires: minute hour day month weekday, such as "30 2 * * *".',
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="When it fires: every 30s, 15m, 6h, 1d.", show_default=False),
    ] = None,
    timezone: Annotated[
        str, typer.Option(metavar="ZONE", help="The time zone of the cron line, such as Europe/Berlin.")
    ] = "UTC",
    start: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="Not before this date or time (of that zone); now if left out.", show_default=False
        ),
    ] = None,
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="Make up for every tick that was missed, not only the newest.")
    ] = False,
    max_active: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="At most so many unfinished runs: further ticks are skipped, or wait with --catch-up.",
            show_default=False,
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=VALUE",
            help="An input of its runs; may be repeated. {data_interval_start}, {data_interval_end} and {schedule} "
            "stand for the tick's own.",
            show_default=False,
        ),
    ] = None,
    file: InputsFile = None,
    queue: Queue = "default",
    priority: Priority = 0,
    ledger: LedgerUrl = None,
) -> None:
    """Add a schedule. Any worker fires it; one that knows the Dag executes its runs."""
    from milepost.cli.console import command
    from milepost.cli.inputs import read_inputs
    from milepost.cli.ledgers import ledger_words, refuse_memory
    from milepost.cli.schedule_view import next_text, when_text
    from milepost.cli.target import load_target
    from milepost.cli.times import parse_moment, parse_span
    from milepost.clock import SystemClock
    from milepost.engine.ticks import check_zone, zone_of
    from milepost.ledger import Ledger

    refuse_memory(ledger)
    zone = zone_of(check_zone(timezone))
    span = None if every is None else parse_span(every, "--every")
    start_at = None if start is None else parse_moment(start, "--start", zone)
    found = load_target(target)
    now = SystemClock().now()
    made = found.dag.schedule(
        name,
        cron=cron,
        every=span,
        timezone=timezone,
        start_at=start_at,
        catch_up=catch_up,
        max_active=max_active,
        inputs=read_inputs(found.dag, inputs or [], file),
        queue=queue,
        priority=priority,
        ledger=ledger,
        target=found.text,
    )
    existed = made.created_at < now
    print(f"Schedule {name!r} {'is there already, as it is' if existed else 'added'}: {when_text(made)}.")
    print(f"Next tick: {next_text(Ledger.open(ledger), made, 1)}.")
    if not existed:
        print(f"A worker starts its runs: {command('worker', target, *ledger_words(ledger))}")


# --- looking -------------------------------------------------------------------------------------


@schedules.command(name="list")
def list_(ledger: LedgerUrl = None, as_json: AsJson = False) -> None:
    """List schedules with their next ticks and their last runs."""
    from milepost.cli.console import print_json
    from milepost.cli.ledgers import open_existing
    from milepost.cli.schedule_view import print_schedules, schedule_document

    opened = open_existing(ledger)
    found = opened.list_schedules()
    if as_json:
        print_json({"ledger": opened.url, "schedules": [schedule_document(opened, one) for one in found]})
    elif found:
        print_schedules(opened, found)
    else:
        print(f"No schedules in {opened.url}.")


@schedules.command()
def show(
    name: ScheduleName,
    ticks: Annotated[int, typer.Option("--ticks", metavar="N", min=0, help="How many of the next ticks.")] = 5,
    ledger: LedgerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show a schedule: its rule, its next ticks, its last run."""
    from milepost.cli.console import print_json
    from milepost.cli.schedule_view import print_schedule, schedule_document

    opened, found = _open(name, ledger, read_only=True)
    if as_json:
        print_json({"ledger": opened.url, "schedule": schedule_document(opened, found, ticks)})
    else:
        print_schedule(opened, found, ticks)


# --- pausing -------------------------------------------------------------------------------------


@schedules.command()
def pause(name: ScheduleName, ledger: LedgerUrl = None) -> None:
    """Let a schedule fire no more until it is resumed; its runs go on."""
    opened, found = _open(name, ledger)
    opened.pause_schedule(name)
    print(f"Schedule {name!r} is paused{'' if found.paused_at is None else ' already'}.")


@schedules.command()
def resume(name: ScheduleName, ledger: LedgerUrl = None) -> None:
    """Let a paused schedule fire again; what it missed is made up for only with --catch-up."""
    from milepost.cli.schedule_view import next_text

    opened, found = _open(name, ledger)
    resumed = opened.resume_schedule(name)
    told = "was not paused" if found.paused_at is None else "fires again"
    print(f"Schedule {name!r} {told}. Next tick: {next_text(opened, resumed, 1)}.")


@schedules.command()
def remove(name: ScheduleName, ledger: LedgerUrl = None) -> None:
    """Remove a schedule; its runs stay, and go on where they have not finished."""
    opened, _ = _open(name, ledger)
    opened.remove_schedule(name)
    print(f"Schedule {name!r} removed.")


# --- outside its time ----------------------------------------------------------------------------


@schedules.command()
def trigger(name: ScheduleName, ledger: LedgerUrl = None) -> None:
    """Start a run of a schedule now, for the interval that ended last."""
    opened, _ = _open(name, ledger)
    run = opened.trigger_schedule(name)
    print(f"Run {run.run_id} submitted to queue {run.queue!r}.")


@schedules.command()
def backfill(
    name: ScheduleName,
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="WHEN", help="The first date or time, of the schedule's zone.", show_default=False
        ),
    ],
    end: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="WHEN", help="Ticks before this date or time; now if left out.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the ticks.")] = False,
    ledger: LedgerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Start a run for every tick of a past interval that has had none."""
    from milepost.cli.console import print_json
    from milepost.cli.schedule_view import print_ticks, run_documents, tick_documents
    from milepost.cli.times import parse_moment
    from milepost.clock import to_datetime
    from milepost.engine.ticks import zone_of

    opened, found = _open(name, ledger, read_only=dry_run)
    zone = zone_of(found.timezone)
    first = parse_moment(start, "--from", zone)
    last = to_datetime(opened.clock.now()) if end is None else parse_moment(end, "--to", zone)
    if dry_run:
        ticks = opened.list_past_ticks(name, first, last)
        if as_json:
            print_json({"ledger": opened.url, "schedule": name, "ticks": tick_documents(ticks)})
        else:
            print_ticks(found, ticks)
        return
    made = opened.backfill_schedule(name, first, last)
    if as_json:
        print_json({"ledger": opened.url, "schedule": name, "runs": run_documents(made)})
        return
    count = sum(run.is_new for run in made)
    others = len(made) - count
    before = (
        f" {others} of {len(made)} ticks had {'its run' if others == 1 else 'their runs'} before." if others else ""
    )
    print(f"Submitted {count} run{'' if count == 1 else 's'} to queue {found.queue!r}.{before}")


def _open(name: str, url: str | None, *, read_only: bool = False) -> tuple[Ledger, Schedule]:
    from milepost.cli.ledgers import open_existing

    opened = open_existing(url, read_only=read_only)
    return opened, opened.require_schedule(name)
