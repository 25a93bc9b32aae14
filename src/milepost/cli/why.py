"""``milepost why``: the exact gate that a run waits at."""

from __future__ import annotations

from milepost.cli.options import AsJson, LedgerUrl, RunName

__all__ = ["why"]


def why(name: RunName, ledger: LedgerUrl = None, as_json: AsJson = False) -> None:
    """Say why a run does not move: the exact gate that it waits at, and what opens it."""
    from milepost.cli.console import STYLES, command_lines, console, print_json, styled, symbol
    from milepost.cli.documents import gate_document
    from milepost.cli.ledgers import ledger_words, open_existing

    opened = open_existing(ledger)
    run = opened.find_run(name)
    gate = opened.why(run.run_id)
    if as_json:
        about = {"ledger": opened.url, "run_id": run.run_id, "workflow": run.workflow, "status": run.status.value}
        print_json({**about, **gate_document(gate)})
        return
    out = console()
    heading = f"{symbol(run.status)} Run {run.run_id} of {run.workflow}: {run.status.value}"
    out.print(styled(heading, f"bold {STYLES[run.status.value]}"), soft_wrap=True)
    for found in (gate, *gate.also):
        out.print(styled(f"  {'' if found is gate else 'And then: '}{found.message}"), soft_wrap=True)
        if found.remedy:
            out.print(styled(f"    {command_lines(found.remedy, ledger_words(ledger))}", "dim"), soft_wrap=True)
