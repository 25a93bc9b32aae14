"""The verbs of leases and of retention, for every dialect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from milepost.errors import StoreConflict
from milepost.model import Attempt, Run
from milepost.stores.reading import to_run
from milepost.stores.rows import AttemptRow
from milepost.stores.transaction import TASKS, Transacting, repeatable

__all__ = ["DELETIONS", "LeaseVerbs"]

_DELETE_ROWS: Final = 20_000  # rows after which a transaction that deletes runs lets others write


class LeaseVerbs(Transacting):
    """Take runs over, keep them, end them from outside, delete them."""

    @repeatable
    def claim_run(
        self,
        run: Run,
        *,
        owner: str,
        now: int,
        lease_until: int,
        attempt: int,
        target: str | None,
        reason: tuple[str, str],
    ) -> Run:
        """Take a run over from the state that was read."""
        parameters = {
            "run_id": run.run_id,
            "owner": owner,
            "now": now,
            "lease": lease_until - now,
            "lease_until": lease_until,
            "attempt": attempt,
            "target": target,
            "error_type": reason[0],
            "error_message": reason[1],
            "expected_status": run.status.value,
            "expected_epoch": run.lease_epoch,
        }
        with self.transaction() as tx:
            if not tx.execute("claim_run", **parameters):
                claims = [Attempt(*row) for row in tx.rows("list_attempts", run_id=run.run_id)]
                if claims and (claims[-1].lease_epoch, claims[-1].owner, claims[-1].started_at, claims[-1].status) == (
                    run.lease_epoch + 1,
                    owner,
                    now,
                    "running",
                ):
                    return to_run(tx.rows("get_run", run_id=run.run_id)[0])  # this very claim, whose answer was lost
                raise StoreConflict(
                    f"Run {run.run_id} was taken by somebody else at the same moment. "
                    f"See who holds it: `milepost show {run.run_id}`."
                )
            for name in ("close_attempts", "cancel_open_steps", "close_paused_steps", "set_target"):
                tx.execute(name, **parameters)
            tx.write_rows("insert_attempt", [AttemptRow(run.run_id, run.lease_epoch + 1, attempt, owner, now)])
            return to_run(tx.rows("get_run", run_id=run.run_id)[0])

    @repeatable
    def heartbeat(self, owner: str, leases: Sequence[tuple[str, int]], *, now: int, lease: int) -> set[tuple[str, int]]:
        """Extend leases given as (run_id, lease_epoch); return those that were lost."""
        lost = set()
        with self.transaction() as tx:
            for run_id, epoch in sorted(leases):
                if not tx.execute(
                    "heartbeat",
                    run_id=run_id,
                    lease_epoch=epoch,
                    owner=owner,
                    now=now,
                    lease=lease,
                    lease_until=now + lease,
                ):
                    lost.add((run_id, epoch))
        return lost

    def list_stop_requests(self, owner: str) -> list[tuple[str, int, bool]]:
        """Return (run_id, lease_epoch, whether to cancel) of this owner's runs that are asked to cancel or to pause."""
        return [
            (run_id, epoch, bool(cancels)) for run_id, epoch, cancels in self._rows("list_stop_requests", owner=owner)
        ]

    @repeatable
    def request_cancel(self, run_id: str, now: int) -> bool:
        """Note that a run should stop; return whether it was still open."""
        with self.transaction() as tx:
            return bool(tx.execute("request_cancel", run_id=run_id, now=now))

    @repeatable
    def request_pause(self, run_id: str, now: int) -> bool:
        """Note that a run should pause; return whether it was running."""
        with self.transaction() as tx:
            return bool(tx.execute("request_pause", run_id=run_id, now=now))

    @repeatable
    def cancel_unowned(self, run: Run, now: int, reason: tuple[str, str]) -> bool:
        """End a run that nobody executes; return whether it was still as it was read."""
        parameters = {
            "run_id": run.run_id,
            "expected_epoch": run.lease_epoch,
            "now": now,
            "error_type": reason[0],
            "error_message": reason[1],
        }
        with self.transaction() as tx:
            is_ended = bool(tx.execute("cancel_unowned", **parameters))
            if is_ended:
                tx.execute("close_attempts", **parameters)
                tx.execute("cancel_open_steps", **parameters)
        return is_ended

    @repeatable
    def delete_runs(self, before: int, limit: int) -> int:
        """Delete up to ``limit`` runs that finished before a time, each with all that belongs to it."""
        deleted = rows = 0
        with self.transaction() as tx:
            for (top,) in tx.rows("list_expired_runs", before=before, limit=limit):
                family = json.dumps([top, *(run_id for (run_id,) in tx.rows("list_family", root_run_id=top))])
                rows += sum(tx.execute(name, texts=family) for name in DELETIONS)
                deleted += 1
                if rows > _DELETE_ROWS:
                    break
            if deleted:
                tx.lock_table("definitions")
                tx.execute("delete_unused_definitions")
        return deleted

    @repeatable
    def wake_workers(self) -> None:
        """Tell workers to look at their queues."""
        with self.transaction() as tx:
            tx.notify(TASKS)


DELETIONS: Final = (
    "delete_steps",
    "delete_edges",
    "delete_checkpoints",
    "delete_waits",
    "delete_attempts",
    "delete_run_tags",
    "delete_status_reports",
    "delete_payloads",
    "delete_runs",
)
