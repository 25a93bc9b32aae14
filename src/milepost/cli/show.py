"""``milepost show``: one run, its steps and when they ran; or one step and all its attempts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from milepost.cli.options import AsJson, LedgerUrl, RunName
from milepost.cli.tasks import TASK

if TYPE_CHECKING:
    from rich.text import Text

    from milepost.draw import Picture, PictureNode
    from milepost.ledger import Ledger
    from milepost.model import Attempt, Run, RunPayload

__all__ = ["show"]

_FOLDED: Final = 3  # failed elements of a folded map that are shown all the same
_TIMELINE_ROWS: Final = 40
_NOTE_COLUMNS: Final = 200
_VALUE_COLUMNS: Final = 2000
_CLAIMS: Final = 6  # the last claims of a run that are shown
_LONGEST_MESSAGE: Final = 2000  # characters of an error's message that are shown
_TRACE_LINES: Final = 200


def show(
    name: RunName,
    label: Annotated[
        str | None,
        typer.Argument(metavar="STEP", help="A step's label, such as parse[17]: all its attempts.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show every element of every map.")] = False,
    ledger: LedgerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show a run: its steps, what failed and why, and a timeline. With STEP: its input, output and errors."""
    from milepost.cli.ledgers import ledger_words, open_existing

    opened = open_existing(ledger)
    run = opened.find_run(name)
    if label is not None:
        _show_step(opened, run, label, as_json=as_json)
    elif as_json:
        _print_document(opened, run, every=every)
    else:
        _show_run(opened, run, ledger_words(ledger), every=every)


# --- a run ---------------------------------------------------------------------------------------


def _print_document(opened: Ledger, run: Run, *, every: bool) -> None:
    from milepost.cli.console import print_json
    from milepost.cli.documents import (
        attempt_document,
        edge_documents,
        node_document,
        plain_value,
        run_document,
        wait_document,
    )
    from milepost.cli.tasks import stage_documents
    from milepost.draw import picture_of_run
    from milepost.runtime import is_interrupted

    payload = opened.get_payload(run.run_id)
    picture = picture_of_run(opened, run.run_id, is_interrupted=is_interrupted(opened, run))
    print_json(
        {
            "ledger": opened.url,
            "run": {
                **run_document(opened, run),
                "inputs": plain_value(payload.inputs),
                "tags": json.loads(payload.tags),
                "target": payload.target,
                "traceback": payload.error_traceback,
            },
            "attempts": [attempt_document(attempt) for attempt in opened.list_attempts(run.run_id)],
            "waits": [wait_document(wait) for wait in opened.list_waits(run.run_id)],
            "steps": [node_document(node, with_elements=every) for node in picture.nodes],
            "edges": edge_documents(picture),
            **({"stages": stage_documents(opened, run)} if run.kind == TASK else {}),
        }
    )


def _show_run(opened: Ledger, run: Run, words: list[str], *, every: bool) -> None:
    from milepost.cli.console import console, is_unicode, print_columns
    from milepost.draw import picture_of_run, timeline_rows
    from milepost.runtime import is_interrupted
    from milepost.states import RunStatus

    is_dead = is_interrupted(opened, run)
    picture = picture_of_run(opened, run.run_id, is_interrupted=is_dead)
    out = console()
    for line in _heading(opened, run, picture, words, is_dead=is_dead):
        out.print(line, soft_wrap=True)
    out.print()
    is_open = run.status == RunStatus.RUNNING and not is_dead
    print_columns(row for node in picture.nodes for row in _tree(node, every=every, is_open=is_open))
    if run.kind == TASK:
        _show_stages(opened, run)
    width = min(out.width, 100)
    rows = timeline_rows(picture, now=opened.clock.now(), width=width, limit=_TIMELINE_ROWS, is_ascii=not is_unicode())
    if rows:
        out.print()
    for row in rows:
        out.print(_coloured(row), soft_wrap=True)


def _show_stages(opened: Ledger, run: Run) -> None:
    from milepost.cli.console import print_columns
    from milepost.cli.tasks import history_rows, stage_documents, stage_rows

    documents = stage_documents(opened, run)
    if documents:  # else their states are in files
        print()
        print_columns(stage_rows(documents), ["stage", "status", "attempts", "last"])
        print()
        print_columns(history_rows(documents), ["history", "stage", "change", "attempt", "took", "message"])


def _heading(opened: Ledger, run: Run, picture: Picture, words: list[str], *, is_dead: bool) -> Iterator[Text]:
    from milepost.cli.console import STYLES, command, styled, symbol
    from milepost.cli.documents import plain_value
    from milepost.cli.times import ago_text
    from milepost.draw.looks import brief, clip, duration_text
    from milepost.runtime import describe_owner

    now = opened.clock.now()
    style = "yellow" if is_dead else STYLES[run.status.value]
    word = "interrupted" if is_dead else run.status.value
    yield styled(f"{symbol(run.status)} Run {run.run_id} of {run.workflow}: {word}", f"bold {style}")
    payload = opened.get_payload(run.run_id)
    claims = opened.list_attempts(run.run_id)
    if run.started_at is not None:
        taken = (run.finished_at or now) - run.started_at - sum(end - begin for begin, end in picture.gaps)
        when = f"  started   {ago_text(run.started_at, now)}"
        if not is_dead:
            when += f", {'took' if run.finished_at else 'running for'} {duration_text(max(0, taken) / 1e6)}"
        if len(claims) > 1:
            when += f", resumed {len(claims) - 1} time{'' if len(claims) == 2 else 's'}"
        yield styled(when)
    if run.parent_run_id is not None:
        where = "" if run.parent_step is None else f", step {run.parent_step}"
        yield styled(f"  inside    run {run.parent_run_id}{where}")
    if run.replay_of is not None:
        yield styled(f"  replay of {run.replay_of}{_replay_text(payload)}")
    if run.queue is not None:
        yield styled(f"  queue     {_queue_text(run)}")
    if payload.target:
        yield styled(f"  target    {payload.target}")
    for title, values in (("inputs", plain_value(payload.inputs)), ("tags", json.loads(payload.tags))):
        if values:
            told = _told(values, 300)
            if isinstance(values, dict):  # a task by hand may have any
                told = ", ".join(f"{name}={_told(value)}" for name, value in values.items())
            yield styled(f"  {title.ljust(8)}  {clip(told, 300)}")
    saved = [one for one in opened.list_checkpoints(run.run_id) if not one.label]  # by hand
    if saved:
        told = ", ".join(f"{one.name}={_told(plain_value(one.value))}" for one in saved)
        yield styled(f"  saved     {clip(told, 300)}")
    if is_dead:
        owner = describe_owner(run.lease_owner or "nobody")
        place = [] if payload.target else ["--target", "file.py:dag"]
        again = f"go on with it: {command('resume', run.run_id, *place, *words)}"
        if run.queue is not None:
            again = "any live worker rescues it"
        yield styled(f"  {owner} is gone; {again}", "yellow")
    elif run.lease_owner is not None:
        asked = ", asked to stop" if run.cancel_requested_at is not None else ""
        yield styled(f"  executed by {describe_owner(run.lease_owner)}{asked}")
    if run.error_type is not None:
        where = f"in {run.error_step}: " if run.error_step else ""
        yield styled(f"  {where}{run.error_type}: {brief(run.error_message or '', 500)}", style)
    if run.finished_at is None and run.lease_owner is None:
        gate = opened.why(run.run_id)
        yield styled(f"  waits     {gate.message}", style)
        for other in gate.also:
            yield styled(f"            And then: {other.message}", style)
    if len(claims) > 1:
        yield from _claims(opened, run, claims)


def _replay_text(payload: RunPayload) -> str:
    """Return what a replay was asked to run again."""
    told = json.loads(payload.headers).get("replay") or {}
    what = ["what changed"] * bool(told.get("changed")) + list(told.get("nodes", ())) * (not told.get("changed"))
    alone = "" if told.get("downstream", True) else ", and nothing downstream of it"
    return f": {', '.join(what)}{alone}" if what else ""


def _queue_text(run: Run) -> str:
    parts = [run.queue or ""]
    if run.priority:
        parts.append(f"priority {run.priority}")
    if run.max_attempts > 1:
        parts.append(f"attempt {run.attempt} of {run.max_attempts}")
    if run.rescues:
        parts.append("rescued" if run.rescues == 1 else f"rescued {run.rescues} times")
    return ", ".join(parts)


def _claims(opened: Ledger, run: Run, claims: list[Attempt]) -> Iterator[Text]:
    """Yield who executed a run, claim by claim, and how each of them ended."""
    from milepost.cli.console import STYLES, styled
    from milepost.cli.times import ago_text
    from milepost.draw.looks import brief, duration_text
    from milepost.runtime import describe_owner

    now = opened.clock.now()
    names = {worker.owner: worker.worker_id for worker in opened.list_workers()} if run.queue is not None else {}
    hidden = len(claims) - _CLAIMS
    if hidden > 0:
        yield styled(f"  {hidden} earlier claims", "dim")
    for claim in claims[-_CLAIMS:]:
        name = names.get(claim.owner)
        who = describe_owner(claim.owner) if name is None else f"{name} ({describe_owner(claim.owner)})"
        attempt = f", attempt {claim.attempt}" if run.max_attempts > 1 else ""
        line = styled(f"  claim {claim.lease_epoch}   {who}, {ago_text(claim.started_at, now)}{attempt}: ")
        took = ""
        if claim.finished_at is not None:
            took = f" after {duration_text((claim.finished_at - claim.started_at) / 1e6)}"
        line.append_text(styled(f"{claim.status}{took}", STYLES[claim.status]))
        if claim.error_type is not None:
            line.append_text(styled(f" ({claim.error_type}: {brief(claim.error_message or '', 200)})", "dim"))
        yield line


def _tree(node: PictureNode, *, every: bool, is_open: bool) -> Iterator[list[Text]]:
    from milepost.cli.console import is_unicode, styled
    from milepost.states import StepStatus

    yield _row(node, is_open=is_open)
    failed = [element for element in node.elements if element.status == StepStatus.FAILED]
    shown = node.elements if every else failed[:_FOLDED]
    branch, last = ("├ ", "└ ") if is_unicode() else ("|-", "`-")
    hidden = 0 if every else len(failed) - len(shown)
    for place, element in enumerate(shown):
        is_last = place == len(shown) - 1 and not hidden
        yield _row(element, last if is_last else branch, is_open=is_open)
    if hidden:
        yield [styled(f"{last}{hidden} more failed (--all shows every element)", "dim"), *[styled("")] * 4]


def _row(node: PictureNode, depth: str = "", *, is_open: bool) -> list[Text]:
    from milepost.cli.console import STYLES, styled, symbol
    from milepost.draw.looks import brief, duration_text
    from milepost.states import StepStatus

    assert node.status is not None
    style = STYLES[node.status.value]
    first = styled(depth, "dim")
    first.append(f"{symbol(node.status)} ", style)
    first.append_text(styled(node.label, "" if node.status == StepStatus.COMPLETED else style))
    tries = ""
    if node.is_map and node.retries:
        tries = f"{node.retries} retried"
    elif node.attempts > 1 and not node.is_map:
        tries = f"attempt {node.attempts}"
    if is_open and node.status == StepStatus.FAILED and not node.is_map:
        tries = f"attempt {node.attempts}, perhaps tried again"  # the ledger does not know the step's policy
    counts = node.counts
    if node.failed:
        counts += f", {node.failed} failed"
    took = "" if node.duration is None else duration_text(node.duration)
    error = brief(node.error, _NOTE_COLUMNS) if node.error and node.status != StepStatus.COMPLETED else ""
    note = error or (brief(node.progress or "", _NOTE_COLUMNS) if node.status == StepStatus.RUNNING else "")
    return [
        first,
        styled(f"{node.status.value} {counts}".rstrip(), style),
        styled(took),
        styled(tries, "yellow"),
        styled(note, style if error else "dim"),
    ]


def _coloured(row: Any) -> Text:
    from milepost.cli.console import STYLES, styled

    line = styled(row.label)
    column = 0
    for bar in row.bars:
        line.append(" " * (bar.start - column))
        line.append(bar.text, STYLES[bar.status.value])
        column = bar.start + bar.length
    line.append(f"{row.axis[column:]}  {row.duration}", "dim")
    line.rstrip()
    return line


# --- a step --------------------------------------------------------------------------------------


def _show_step(opened: Ledger, run: Run, label: str, *, as_json: bool) -> None:
    from milepost.cli.console import STYLES, console, print_json, styled, symbol
    from milepost.cli.documents import step_attempt_document
    from milepost.draw.looks import duration_text
    from milepost.errors import StepNotFound
    from milepost.runtime.landing import cut

    rows = opened.get_step(run.run_id, label)
    if not rows:
        known = {step.label for step in opened.list_steps(run.run_id)}
        raise StepNotFound(run.run_id, label, known)
    documents = [step_attempt_document(row) for row in rows]
    if as_json:
        print_json(
            {
                "ledger": opened.url,
                "run_id": run.run_id,
                "label": label,
                "kind": rows[0].kind,
                "attempts": documents,
            }
        )
        return
    out = console()
    out.print(styled(f"Step {label} of run {run.run_id} ({run.workflow})", "bold"), soft_wrap=True)
    for row, document in zip(rows, documents, strict=True):
        took = "" if row.duration is None else f" after {duration_text(row.duration)}"
        style = STYLES[row.status.value]
        out.print(
            styled(f"{symbol(row.status)} attempt {row.attempt}: {row.status.value}{took}", style), soft_wrap=True
        )
        for name in ("input", "output", "progress"):
            if document[name] is not None:
                out.print(styled(f"  {name.ljust(8)}  {_told(document[name], _VALUE_COLUMNS)}"), soft_wrap=True)
        if row.error_type is not None:
            told = f"{row.error_type}: {row.error_message}" if row.error_message else row.error_type
            first, *others = cut(told, _LONGEST_MESSAGE).splitlines()
            out.print(styled(f"  error     {first}", style), soft_wrap=True)
            for line in others:
                out.print(styled(f"            {line}", style), soft_wrap=True)
            for line in _trace_lines(row.error_traceback or ""):
                out.print(styled(f"    {line}", "dim"), soft_wrap=True)


def _trace_lines(trace: str) -> Iterator[str]:
    """Yield the lines of a traceback: its beginning and its end where it is very long."""
    from milepost.draw.looks import clip

    lines = trace.splitlines()
    half = _TRACE_LINES // 2
    if len(lines) > _TRACE_LINES:
        lines[half:-half] = [f"... {len(lines) - 2 * half} more lines: --json has them ..."]
    for line in lines:
        yield clip(line, 500)


def _told(value: Any, columns: int = 80) -> str:
    from milepost.draw.looks import clip

    return clip(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), columns)
