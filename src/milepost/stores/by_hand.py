"""The verbs of those who record runs by hand, for every dialect."""

from __future__ import annotations

import json
from typing import Any, Final

from milepost.states import TERMINAL_RUN, RunStatus
from milepost.store import Execution, HandRun
from milepost.stores.queueing import QueueVerbs
from milepost.stores.transaction import Transaction, repeatable

__all__ = ["ByHandVerbs"]

_OF_RUN: Final = ""
_TOLD: Final = "by hand"


class ByHandVerbs(QueueVerbs):
    """Record what somebody else executes."""

    @repeatable
    def hand_begin_step(
        self,
        run_id: str,
        label: str,
        *,
        seq: int,
        kind: str,
        status: str,
        input_text: str | None,
        output: str | None,
        output_hash: str | None,
        now: int,
    ) -> bool:
        """Record that a node has started, or was skipped: a new attempt."""
        begun = self.execute_alone(
            "hand_begin_step",
            lock=run_id,  # two starts of one node are two attempts
            run_id=run_id,
            label=label,
            seq=seq,
            kind=kind,
            status=status,
            input=input_text,
            output=output,
            output_hash=output_hash,
            now=now,
            finished_at=None if output is None else now,
        )
        if begun:
            return True
        # This very start, whose answer was lost?
        return bool(self._rows("hand_find_start", run_id=run_id, label=label, seq=seq, now=now))

    @repeatable
    def hand_complete_step(
        self,
        run_id: str,
        label: str,
        output: str,
        output_hash: str,
        now: int,
        *,
        edges: tuple[tuple[str, str], ...] = (),
    ) -> bool:
        """Record that the last attempt of a node has completed, with edges in the same transaction."""
        asked: dict[str, Any] = {
            "run_id": run_id,
            "label": label,
            "output": output,
            "output_hash": output_hash,
            "now": now,
        }
        if not edges:
            return self.execute_alone("hand_complete_step", **asked) == 1
        with self.transaction() as tx:
            if not tx.execute("hand_complete_step", **asked):
                return False
            for upstream, downstream in edges:
                tx.execute("hand_insert_edge", run_id=run_id, upstream=upstream, downstream=downstream, now=now)
        return True

    @repeatable
    def hand_fail_step(
        self, run_id: str, label: str, error: str, now: int, *, run: tuple[RunStatus, str] | None = None
    ) -> bool:
        """Record that the last attempt of a node has failed; with ``run`` (status, owner), end its run as well."""
        if run is None:
            return self.execute_alone("hand_fail_step", run_id=run_id, label=label, error=error, now=now) == 1
        with self.transaction() as tx:
            tx.rows("hand_lock_run", run_id=run_id)  # at once: shared first, two of us would wait for each other
            if not tx.execute("hand_fail_step", run_id=run_id, label=label, error=error, now=now):
                return False
            self._set_status(tx, run_id, run[0], is_end=True, owner=run[1], now=now)
        return True

    @repeatable
    def hand_insert_edge(self, run_id: str, upstream: str, downstream: str, now: int) -> bool:
        """Record an edge, once."""
        with self.transaction() as tx:
            return tx.execute("hand_insert_edge", run_id=run_id, upstream=upstream, downstream=downstream, now=now) == 1

    @repeatable
    def hand_set_status(
        self, run_id: str, status: RunStatus, *, is_end: bool, owner: str, now: int, result: str | None = None
    ) -> bool:
        """Set the status of a run; with ``is_end`` also when it finished."""
        with self.transaction() as tx:
            is_set = self._set_status(tx, run_id, status, is_end=is_end, owner=owner, now=now)
            if is_set and result is not None:
                tx.execute("hand_save_result", run_id=run_id, result=result)
        return is_set

    def _set_status(
        self, tx: Transaction, run_id: str, status: RunStatus, *, is_end: bool, owner: str, now: int
    ) -> bool:
        tx.rows("hand_lock_run", run_id=run_id)
        rows = tx.rows("hand_get_run", run_id=run_id)
        if not rows:
            return False
        run = HandRun(*rows[0])
        if run.is_executed:
            return False
        is_running = run.status == RunStatus.RUNNING
        epoch = run.lease_epoch
        # What is told of the end of a run may differ from what the ledger must say: a run that goes on has none.
        told = run.finished_at if run.told is None or run.told_epoch != epoch else json.loads(run.told)["finished_at"]
        finished_at = None
        if status == RunStatus.RUNNING:
            if not is_running:
                tx.execute("hand_take_run", run_id=run_id, owner=owner)
                epoch += 1
                tx.write_rows("insert_attempt", [(run_id, epoch, run.attempt + 1, owner, now)])
        else:
            is_over = status in TERMINAL_RUN
            finished_at = None if not is_over else now if is_end or run.finished_at is None else run.finished_at
            tx.execute("hand_end_run", run_id=run_id, status=status.value, finished_at=finished_at)
            tx.execute("hand_end_attempt", run_id=run_id, lease_epoch=epoch, status=status.value, now=now)
        told = now if is_end else told
        if told != finished_at or run.told is not None:
            value = json.dumps({"finished_at": told})
            tx.execute("hand_save", run_id=run_id, label=_OF_RUN, name=_TOLD, value=value, lease_epoch=epoch, now=now)
        return True

    @repeatable
    def hand_save(self, run_id: str, label: str, name: str, value: str, now: int) -> bool:
        """Save a value beside a run, whoever holds it."""
        with self.transaction() as tx:
            rows = tx.rows("hand_get_run", run_id=run_id)
            if not rows:
                return False
            epoch = HandRun(*rows[0]).lease_epoch
            tx.execute("hand_save", run_id=run_id, label=label, name=name, value=value, lease_epoch=epoch, now=now)
        return True

    def hand_get_run(self, run_id: str) -> HandRun | None:
        """Return a run, or None."""
        rows: list[tuple[Any, ...]] = self._rows("hand_get_run", run_id=run_id)
        return HandRun(*rows[0]) if rows else None

    def list_saved(self, run_id: str, name: str) -> list[tuple[str, str]]:
        """Return (label, value) of what is saved under a name beside the steps of a run."""
        return [(label, value) for label, value in self._rows("list_saved", run_id=run_id, name=name)]

    def list_replays(self, run_id: str) -> list[str]:
        """Return the runs that replay a run, oldest first."""
        return [found for (found,) in self._rows("list_replays", run_id=run_id)]

    def list_executions(self, run_id: str, *, payloads: bool = False) -> list[Execution]:
        """Return the last attempt of each node in the order of their starts; elements of maps among them."""
        rows = self._rows("list_executions", run_id=run_id, label=None, payloads=int(payloads))
        return [Execution(*row) for row in rows]

    def get_execution(self, run_id: str, label: str) -> Execution | None:
        """Return the last attempt of one node with its payloads, or None."""
        rows: list[tuple[Any, ...]] = self._rows("list_executions", run_id=run_id, label=label, payloads=1)
        return Execution(*rows[0]) if rows else None
