"""Rows of the table: a measured rate or cost, the floor it is held against, the budget."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

REPEATS = 5  # the median of so many counts


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``is_met`` is None where the budget names no limit."""

    work: str
    measured: str
    floor: str
    ratio: str
    budget: str
    is_met: bool | None


def against_floor(
    work: str, at_least: float | None, measure: Callable[[], float], floor: Callable[[], float], unit: str = "steps/s"
) -> Row:
    """Measure work and floor by turns; the ratio is the median of the ratios of neighbours.

    Taking turns matters more than repeating: a disk's speed drifts by more than the budget's margin.
    Without a limit the ratio is only shown.
    """
    measure()  # warm: caches, the grown write-ahead log, compiled statements
    pairs = [(measure(), floor()) for _ in range(REPEATS)]
    ratio = statistics.median(rate / base for rate, base in pairs)
    return Row(
        work=work,
        measured=f"{statistics.median(rate for rate, _ in pairs):,.0f} {unit}",
        floor=f"{statistics.median(base for _, base in pairs):,.0f} /s",
        ratio=f"{ratio:.2f} x",
        budget="" if at_least is None else f"{at_least:g} x",
        is_met=None if at_least is None else ratio >= at_least,
    )


def at_least(work: str, limit: float, measure: Callable[[], float], unit: str) -> Row:
    """Hold the median of a rate against a lower limit."""
    measure()
    rate = statistics.median(measure() for _ in range(REPEATS))
    return Row(work, f"{rate:,.0f} {unit}", "", "", f"{limit:,.0f} {unit}", rate >= limit)


def at_most(work: str, limit: float, measure: Callable[[], float], unit: str, *, repeats: int = REPEATS) -> Row:
    """Hold the median of a cost against an upper limit."""
    cost = statistics.median(measure() for _ in range(repeats))
    return Row(work, f"{cost:,.1f} {unit}", "", "", f"{limit:,.0f} {unit}", cost <= limit)


def within(work: str, limits: dict[int, float], costs: Sequence[float], unit: str) -> Row:
    """Hold percentiles of many costs against a limit for each."""
    steps = statistics.quantiles(costs, n=100)
    found = {percent: steps[percent - 1] for percent in limits}
    return Row(
        work,
        ", ".join(f"p{percent} {cost:,.1f}" for percent, cost in found.items()) + f" {unit}",
        "",
        "",
        ", ".join(f"p{percent} {limit:g}" for percent, limit in limits.items()) + f" {unit}",
        all(found[percent] <= limit for percent, limit in limits.items()),
    )


def flat(work: str, within: float, costs: dict[str, float], unit: str) -> Row:
    """Hold the spread of a cost over sizes against a factor."""
    factor = max(costs.values()) / min(costs.values())
    digits = 1 if min(costs.values()) > 10 else 2
    shown = ", ".join(f"{size}: {cost:,.{digits}f}" for size, cost in costs.items())
    return Row(work, f"{shown} {unit}", "", f"{factor:.2f} x", f"{within:g} x", factor <= within)


def show(rows: Iterable[Row], console: Console) -> None:
    """Print the table."""
    table = Table(title="Milepost's speed budget", title_justify="left")
    for name in ("work", "measured", "floor", "ratio", "budget", "met"):
        table.add_column(name, justify="left" if name == "work" else "right", overflow="fold")
    for row in rows:
        met = "" if row.is_met is None else "yes" if row.is_met else "NO"
        table.add_row(row.work, row.measured, row.floor, row.ratio, row.budget, met)
    console.print(table)


def as_dict(row: Row) -> dict[str, object]:
    """Return a row as plain data."""
    return asdict(row)
