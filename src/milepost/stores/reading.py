"""The reading verbs of a store: one text for every dialect."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from milepost.model import Attempt, Checkpoint, Edge, Run, RunPayload, StepAttempt
from milepost.states import TERMINAL_RUN, RunStatus, StepStatus
from milepost.store import RunFilter, StepRow

__all__ = ["ReadingVerbs", "to_run", "to_step"]

_PAGE: Final = 500  # rows fetched at a time by the iterators


class ReadingVerbs:
    """Answers every reading verb of :class:`milepost.store.Store` from named statements.

    A dialect says how a statement is run: :meth:`_rows`.
    """

    def _rows(self, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a named statement outside any transaction and return its rows."""
        raise NotImplementedError(statement)

    def _row(self, statement: str, /, **parameters: Any) -> tuple[Any, ...] | None:
        found = self._rows(statement, **parameters)
        return found[0] if found else None

    def get_run(self, run_id: str) -> Run | None:
        """Return the run, or None."""
        row = self._row("get_run", run_id=run_id)
        return to_run(row) if row else None

    def get_run_payload(self, run_id: str) -> RunPayload | None:
        """Return inputs, target and tags of a run, or None."""
        row = self._row("get_run_payload", run_id=run_id)
        return RunPayload(*row) if row else None

    def get_definition(self, definition_hash: str) -> str | None:
        """Return a stored definition, or None."""
        row = self._row("get_definition", hash=definition_hash)
        return row[0] if row else None

    def list_runs(self, filter_: RunFilter) -> list[Run]:
        """Return a page of runs, newest first."""
        before_at, before_id = filter_.before or (None, None)
        status = filter_.status
        is_over = None if status is None else status in TERMINAL_RUN
        rows = self._rows(
            "list_runs",
            status=status.value if status else None,
            is_over=is_over or None,
            is_open=is_over is False or None,
            workflow=filter_.workflow,
            since=filter_.since,
            parent_run_id=filter_.parent_run_id,
            created_by=filter_.created_by,
            is_top=filter_.is_top or None,
            before_at=before_at,
            before_id=before_id,
            limit=filter_.limit,
        )
        return [to_run(row) for row in rows]

    def list_running(self) -> list[Run]:
        """Return every run that is marked running."""
        return [to_run(row) for row in self._rows("list_running")]

    def find_run_ids(self, prefix: str, limit: int) -> list[str]:
        """Return run ids that begin with a text."""
        rows = self._rows("find_run_ids", prefix=prefix, prefix_end=prefix + "\U0010ffff", limit=limit)
        return [run_id for (run_id,) in rows]

    def list_workflows(self) -> list[str]:
        """Return the names of all workflows that have runs."""
        return [name for (name,) in self._rows("list_workflows")]

    def list_attempts(self, run_id: str) -> list[Attempt]:
        """Return the claims of a run, oldest first."""
        return [Attempt(*row) for row in self._rows("list_attempts", run_id=run_id)]

    def list_steps(self, run_id: str) -> list[StepAttempt]:
        """Return every attempt of every step in order of start, without payloads."""
        return [to_step(row) for row in self._rows("list_steps", run_id=run_id)]

    def list_unsettled_steps(self, run_id: str) -> list[StepAttempt]:
        """Return the last attempts that run, or that failed and were not followed by another."""
        return [to_step(row) for row in self._rows("list_unsettled_steps", run_id=run_id)]

    def count_elements(self, run_id: str, map_label: str) -> int:
        """Return how many elements of a map have completed."""
        return int(self._rows("count_elements", run_id=run_id, parent=map_label, **_range_of(map_label))[0][0])

    def get_step(self, run_id: str, label: str) -> list[StepAttempt]:
        """Return every attempt of one step with its payloads, oldest first."""
        return [to_step(row) for row in self._rows("get_step", run_id=run_id, label=label)]

    def list_step_rows(self, run_id: str) -> list[StepRow]:
        """Return what a restart needs to know of every attempt."""
        return [StepRow(*row) for row in self._rows("list_step_summaries", run_id=run_id)]

    def get_output(self, run_id: str, label: str) -> tuple[str | None, str] | None:
        """Return (output text, storage) of a completed step, or None where it has not completed."""
        row = self._row("get_output", run_id=run_id, label=label)
        return (row[0], row[1]) if row else None

    def list_element_outputs(self, run_id: str, map_label: str) -> Iterable[tuple[str, str | None, str]]:
        """Return (label, output text, storage) of a map's completed elements."""
        rows = self._rows(
            "list_element_outputs",
            run_id=run_id,
            parent=map_label,
            **_range_of(map_label),
        )
        return [(label, output, storage) for label, output, storage in rows]

    def max_seq(self, run_id: str) -> int:
        """Return the highest sequence number among a run's steps, or 0."""
        row = self._row("max_seq", run_id=run_id)
        return int(row[0]) if row else 0

    def list_edges(self, run_id: str) -> list[Edge]:
        """Return the traversed edges of a run."""
        return [Edge(*row) for row in self._rows("list_edges", run_id=run_id)]

    def get_checkpoint(self, run_id: str, label: str, name: str) -> str | None:
        """Return a saved value's text, or None."""
        row = self._row("get_checkpoint", run_id=run_id, label=label, name=name)
        return row[0] if row else None

    def list_checkpoints(self, run_id: str) -> list[Checkpoint]:
        """Return everything that user code saved in a run."""
        return [Checkpoint(*row) for row in self._rows("list_checkpoints", run_id=run_id)]

    def count_steps(self, run_id: str) -> dict[str, int]:
        """Return how many attempts of a run's steps are in each state, maps themselves left out."""
        return dict(self._rows("count_steps", run_id=run_id))

    def list_outputs(self) -> Iterable[tuple[str, str, int, str, str | None]]:
        """Yield (run_id, label, attempt, output, output_hash) of every stored output."""
        key: tuple[str, str, int] = ("", "", 0)
        while True:
            rows = self._rows("list_outputs_after", run_id=key[0], label=key[1], attempt=key[2], limit=_PAGE)
            for row in rows:
                yield row[0], row[1], row[2], bytes(row[3]).decode(errors="replace"), row[4]
            if len(rows) < _PAGE:
                return
            key = rows[-1][:3]


def _range_of(map_label: str) -> dict[str, str]:
    """Return between which labels those of a map's elements are."""
    return {"first": f"{map_label}[", "last": f"{map_label}\\"}  # the character after "["


def to_run(row: tuple[Any, ...]) -> Run:
    """Make a run of a row: positional, in the order of its fields, of which status is the sixth."""
    fields: list[Any] = list(row)
    fields[5] = RunStatus(fields[5])
    return Run(*fields)


def to_step(row: tuple[Any, ...]) -> StepAttempt:
    """Make a step's attempt of a row; its status is the eighth field."""
    fields: list[Any] = list(row)
    fields[7] = StepStatus(fields[7])
    return StepAttempt(*fields)
