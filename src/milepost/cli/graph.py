"""``milepost graph``: a Dag, or a run coloured by status, as a picture."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from milepost.cli.options import AsJson, LedgerUrl

if TYPE_CHECKING:
    from milepost.draw import Picture

__all__ = ["graph"]

_FORMATS: Final = ("text", "mermaid", "svg")
_OF_SUFFIX: Final = {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid", ".txt": "text"}
_OTHERS: Final = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf", ".html", ".dot"})


def graph(
    name: Annotated[
        str,
        typer.Argument(
            metavar="TARGET|RUN",
            help="file.py:dag, pkg.mod:dag, file.py:build, a run id, its unique beginning, or `latest`.",
            show_default=False,
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="text|mermaid|svg",
            help="Default: what --output ends with, else text.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to a file, not to stdout.", show_default=False),
    ] = None,
    ledger: LedgerUrl = None,
    as_json: AsJson = False,
) -> None:
    """Draw a Dag, or a run coloured by the status of its steps."""
    from milepost.cli.console import is_unicode, print_json
    from milepost.cli.documents import edge_documents, node_document
    from milepost.draw import mermaid, svg, text
    from milepost.errors import ConfigurationError, did_you_mean

    if form is not None and form not in _FORMATS:
        near = did_you_mean(form, _FORMATS)
        raise ConfigurationError(f"--format must be text, mermaid or svg, not {form!r}.{near}")
    form = _form_of(output, form)
    if as_json and output:
        raise ConfigurationError("--json prints to stdout. Leave --output out, or redirect: --json > FILE.")
    picture = _picture(name, ledger)
    if as_json:
        print_json(
            {
                "name": picture.name,
                "run_id": picture.run_id,
                "status": None if picture.status is None else picture.status.value,
                "nodes": [node_document(node) for node in picture.nodes],
                "edges": edge_documents(picture),
            }
        )
        return
    if form == "svg":
        drawing = svg(picture)
    elif form == "mermaid":
        drawing = mermaid(picture)
    else:
        drawing = text(picture, is_ascii=output is None and not is_unicode())
    if output is None:
        sys.stdout.write(drawing)
        return
    try:
        Path(output).write_text(drawing, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"--output {output!r} cannot be written: {error.strerror}. Name another file."
        ) from error
    print(f"Wrote {os.path.relpath(output) if not os.path.isabs(output) else output}.")


def _form_of(output: str | None, form: str | None) -> str:
    """Return the format to draw in, and refuse a file whose name says another."""
    from milepost.errors import ConfigurationError

    suffix = Path(output).suffix.lower() if output else ""
    known = _OF_SUFFIX.get(suffix)
    if known is None and (suffix in _OTHERS or (suffix and form is None)):
        raise ConfigurationError(
            f"--output {output!r} ends in no format that can be drawn. Name a file that ends in "
            ".svg, .mmd (mermaid) or .txt."
        )
    if known is not None and form is not None and form != known:
        raise ConfigurationError(
            f"--output {output!r} is {known} by its name, --format says {form}. Leave --format out, or rename the file."
        )
    return form or known or "text"


def _picture(name: str, ledger: str | None) -> Picture:
    from milepost.cli.failures import NothingThere
    from milepost.cli.ledgers import open_existing
    from milepost.cli.target import is_target, load_target
    from milepost.draw import as_picture, picture_of_run
    from milepost.errors import StoreError
    from milepost.runtime import is_interrupted

    looks_like_target = is_target(name)
    try:
        opened = open_existing(ledger)
        # A run id may hold a colon as well, so a run of exactly this name goes first.
        run = opened.get_run(name) if looks_like_target else opened.find_run(name)
    except (NothingThere, StoreError):
        if not looks_like_target:
            raise
        run = None
    if run is None:
        return as_picture(load_target(name).dag.build())
    return picture_of_run(opened, run.run_id, is_interrupted=is_interrupted(opened, run))
