"""The picture of a run, from what the ledger holds of it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from milepost.draw.picture import Picture, PictureEdge, PictureNode, Span, as_picture, in_order
from milepost.ledger import Ledger
from milepost.model import Attempt, Run, StepAttempt, StepKind
from milepost.states import StepStatus

__all__ = ["picture_of_run"]

_CHILDREN: Final = 10_000  # runs inside a run that are looked at for the branches they took
DIED: Final = "ProcessDied"  # the error type of what a dead process left open
_MARK: Final = re.compile(r"[:\[]")  # what ends the label of a switch in the place of a run inside it
_ROUND: Final = re.compile(r"\[[^\]]*\]")  # the number of a loop's round in a label
_DONE: Final = (StepStatus.COMPLETED, StepStatus.SKIPPED)


def picture_of_run(ledger: Ledger, run_id: str, *, is_interrupted: bool = False) -> Picture:
    """Return the picture of a run as the ledger has it now.

    When a process died is not recorded: what it left open is closed when somebody takes the run over, perhaps
    a night later. Such an attempt is drawn up to the last thing that its process is known to have done.

    Args:
        ledger: An open ledger.
        run_id: The run's full id.
        is_interrupted: The run is marked running but its process is gone: open attempts end where it did.

    Raises:
        RunNotFound: There is no such run.
    """
    run = ledger.require_run(run_id)
    rows = ledger.list_steps(run_id)
    claims = ledger.list_attempts(run_id)
    last_sign = _last_signs(rows)
    tops: dict[str, list[StepAttempt]] = defaultdict(list)
    elements: dict[str, dict[str, list[StepAttempt]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        (tops if row.parent is None else elements[row.parent])[row.label].append(row)
    traversed = [(edge.upstream, edge.downstream) for edge in ledger.list_edges(run_id)]
    definition = ledger.get_definition(run_id)
    drawn = Picture(run.workflow, ()) if definition is None else as_picture(definition)
    edges = _edges(drawn, traversed)
    known = [node.label for node in drawn.nodes]
    kinds = {node.label: node.kind for node in drawn.nodes}
    _gather_rounds(tops, elements, kinds)
    insides = {node.label: node.inside for node in drawn.nodes if node.inside is not None}
    switches = {label for label, inside in insides.items() if inside.startswith("switch")}
    children = ledger.list_runs(parent_run_id=run_id, limit=_CHILDREN) if switches else []
    taken = _taken(children, switches)
    extra = [label for label in dict.fromkeys([*tops, *elements]) if label not in kinds]
    nodes = []
    for label in (*known, *extra):
        kind = kinds.get(label) or (StepKind.MAP if label in elements else tops[label][0].kind)
        node = _node(label, kind, tops.get(label, ()), last_sign, is_interrupted=is_interrupted)
        if node.is_map:
            parts = elements.get(label, {})
            shown = [
                _node(name, StepKind.ELEMENT, tries, last_sign, is_interrupted=is_interrupted)
                for name, tries in sorted(parts.items(), key=lambda part: _position(label, part[0]))
            ]
            node = _counted(node, shown, tops.get(label, ()))
            if shown and label not in tops:  # a node in a loop: its rounds tell how it stands
                node = replace(node, status=_status_of(shown), spans=tuple(s for part in shown for s in part.spans))
        inside = insides.get(label)
        if inside is not None:
            node = replace(node, inside=_taken_text(taken[label]) if label in taken else inside)
        nodes.append(node)
    ordered = in_order(nodes, edges) if extra else tuple(nodes)
    return Picture(run.workflow, ordered, edges, run_id, run.status, _gaps(claims, rows, last_sign))


def _gather_rounds(
    tops: dict[str, list[StepAttempt]],
    elements: dict[str, dict[str, list[StepAttempt]]],
    kinds: dict[str, str],
) -> None:
    """Draw what a loop's rounds did, ``loop[3]/task``, as parts of the one node that the graph has for it."""
    for label in [name for name in tops if name not in kinds and not name.endswith("]")]:
        node = _ROUND.sub("", label)
        if node in kinds and node not in tops:
            elements[node][label] = tops.pop(label)
            kinds[node] = StepKind.MAP


def _status_of(parts: Sequence[PictureNode]) -> StepStatus:
    found = {part.status for part in parts}
    for status in (StepStatus.RUNNING, StepStatus.FAILED, StepStatus.CANCELLED):
        if status in found:
            return status
    return parts[-1].status or StepStatus.PENDING


def _taken(children: Iterable[Run], switches: Collection[str]) -> dict[str, Counter[str]]:
    """Return for each switch how often it took which branch, from where its runs are: ``way:less``, ``way[3]:less``."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for child in children:
        place = child.parent_step or ""
        for mark in _MARK.finditer(place):  # labels and branches may hold colons of their own
            label = place[: mark.start()]
            if label in switches:
                found[label][place[mark.end() :] if mark[0] == ":" else place.rpartition("]:")[2]] += 1
                break
    return found


def _taken_text(counts: Counter[str]) -> str:
    """Return what a switch took: its branch; of a map, how many elements took which."""
    if list(counts.values()) == [1]:
        return f"switch: {next(iter(counts))}"
    return "switch: " + ", ".join(f"{count} {branch}" for branch, count in sorted(counts.items()))


def _node(
    label: str, kind: str, tries: Sequence[StepAttempt], last_sign: Mapping[int, int], *, is_interrupted: bool
) -> PictureNode:
    if not tries:
        return PictureNode(label, kind, StepStatus.PENDING)
    tries = sorted(tries, key=lambda row: row.attempt)
    telling = next((row for row in reversed(tries) if row.status in _DONE), tries[-1])
    spans = []
    for row in tries:
        end = row.finished_at
        if row.error_type == DIED or (end is None and is_interrupted):
            end = max(row.started_at, last_sign.get(row.lease_epoch, row.started_at))
        spans.append(Span(row.started_at, end, row.status))
    return PictureNode(
        label,
        kind,
        telling.status,
        attempts=len(tries),
        retries=len(tries) - 1,
        error=None if telling.error_type is None else f"{telling.error_type}: {telling.error_message}",
        message=telling.progress_message,
        progress=None if kind == StepKind.MAP else telling.progress,  # of a map, the total of its elements
        spans=tuple(spans),
    )


def _counted(node: PictureNode, elements: Sequence[PictureNode], own: Sequence[StepAttempt]) -> PictureNode:
    totals = [row.progress_total for row in own if row.progress_total is not None]
    return replace(
        node,
        done=sum(element.status in _DONE for element in elements),
        failed=sum(element.status == StepStatus.FAILED for element in elements),
        running=sum(element.status == StepStatus.RUNNING for element in elements),
        retries=sum(element.retries for element in elements),
        total=totals[-1] if totals else None,
        elements=tuple(elements),
    )


def _edges(drawn: Picture, traversed: Iterable[tuple[str, str]]) -> tuple[PictureEdge, ...]:
    taken = dict.fromkeys(traversed)
    edges = [replace(edge, is_traversed=(edge.upstream, edge.downstream) in taken) for edge in drawn.edges]
    known = {(edge.upstream, edge.downstream) for edge in edges}
    return (*edges, *(PictureEdge(*pair) for pair in taken if pair not in known))


def _position(map_label: str, label: str) -> tuple[int, str]:
    key = label[len(map_label) + 1 : -1]
    return (int(key), "") if key.isdecimal() else (0, key)


def _last_signs(rows: Iterable[StepAttempt]) -> dict[int, int]:
    """Return the last thing known of each claim, by its lease epoch."""
    signs: dict[int, int] = {}
    for row in rows:
        moment = row.started_at
        if row.finished_at is not None and row.error_type != DIED:
            moment = max(moment, row.finished_at)
        signs[row.lease_epoch] = max(signs.get(row.lease_epoch, 0), moment)
    return signs


def _gaps(
    claims: Sequence[Attempt], rows: Sequence[StepAttempt], last_sign: Mapping[int, int]
) -> tuple[tuple[int, int], ...]:
    gaps = []
    for before, after in pairwise(claims):
        died = before.error_type == DIED or before.finished_at is None
        end = last_sign.get(before.lease_epoch, before.started_at) if died else before.finished_at
        assert end is not None
        if end < after.started_at:
            gaps.append((end, after.started_at))
    return tuple(gaps)
