"""The report for people: page.html, filled in. It needs no other file and no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from .imports import Rank
from .source import Module

ROWS = 25  # of the long tables; report.json has everything


class Share(float):
    """A part of a whole, shown in percent and as a bar."""


def sum_up(modules: Sequence[Module]) -> dict[str, int]:
    """Add up what modules hold."""
    return {
        "modules": len(modules),
        "unusable": sum(module.error is not None for module in modules),
        "lines": sum(module.lines for module in modules),
        "classes": sum(len(module.classes) for module in modules),
        "functions": sum(len(module.functions) for module in modules),
        "documentable": sum(module.documentable for module in modules),
        "documented": sum(module.documented for module in modules),
    }


def render(
    source: Path, modules: Sequence[Module], cycles: Sequence[Sequence[str]], ranks: Sequence[Rank], picture: str
) -> str:
    """Return the page; ``picture`` is SVG text."""
    total = sum_up(modules)
    lines = {module.name: module.lines for module in modules}
    heaviest = ranks[0].weight if ranks else 1.0
    page = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return page.substitute(
        {name: f"{count:,}" for name, count in total.items()},
        source=escape(str(source)),
        coverage=f"{_coverage(total):.0%}",
        cycle_count=len(cycles),
        picture=picture,
        ranks=_rows(
            (place, rank.module, Share(rank.weight / heaviest), rank.imported_by, lines[rank.module])
            for place, rank in enumerate(ranks[:ROWS], 1)
        ),
        cycles=_rows((len(group), ", ".join(group)) for group in cycles),
        packages=_rows(
            (name, Share(sums["lines"] / max(total["lines"], 1)), *list(sums.values())[:5], Share(_coverage(sums)))
            for name, sums in _by_package(modules)[:ROWS]
        ),
        errors=_rows((module.path, module.error) for module in modules if module.error),
    )


def _by_package(modules: Sequence[Module]) -> list[tuple[str, dict[str, int]]]:
    packages: dict[str, list[Module]] = {}
    for module in modules:
        packages.setdefault(module.name.partition(".")[0], []).append(module)
    sums = [(name, sum_up(inside)) for name, inside in packages.items()]
    return sorted(sums, key=lambda item: (-item[1]["lines"], item[0]))


def _coverage(sums: Mapping[str, int]) -> float:
    return sums["documented"] / max(sums["documentable"], 1)


def _rows(rows: Iterable[Sequence[object]]) -> str:
    return "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)


def _cell(value: object) -> str:
    if isinstance(value, Share):
        return f'<td class="bar" style="--share: {value:.1%}">{value:.1%}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{escape(str(value))}</td>"
