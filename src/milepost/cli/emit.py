"""``milepost emit``: an event for the runs that wait for it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from milepost.cli.options import LedgerUrl

__all__ = ["emit"]


def emit(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The event's name.", show_default=False)],
    payload: Annotated[
        str,
        typer.Option("--payload", metavar="JSON", help="What the waiting steps return."),
    ] = "null",
    scope: Annotated[
        str, typer.Option("--scope", metavar="NAME", help="Where it is emitted: the name of a queue.")
    ] = "default",
    ledger: LedgerUrl = None,
) -> None:
    """Emit an event and wake the runs that wait for it. The first emit of a name stands."""
    from milepost.cli.ledgers import open_existing
    from milepost.cli.times import iso

    value = _parse(payload)
    opened = open_existing(ledger, read_only=False)
    if opened.emit_event(event, value, scope=scope):
        print(f"Event {event!r} is emitted.")
        return
    first = opened.get_event(event, scope=scope)
    when = "" if first is None else f" at {iso(first.emitted_at)}"
    print(f"Event {event!r} was emitted before{when}: that one stands, and nothing has changed.")


def _parse(payload: str) -> Any:
    from milepost.cli.inputs import refuse_constant
    from milepost.errors import ConfigurationError

    try:
        return json.loads(payload, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--payload is not JSON: {error}. Quotes belong to a text: '\"yes\"'.") from None
