"""The verbs of workflow runs, and of queues as things that are made and removed, for every dialect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from milepost.errors import ConfigurationError, InvalidTransition
from milepost.model import Run
from milepost.states import TERMINAL_RUN, WORKFLOW_TRANSITIONS, RunStatus
from milepost.store import NewWorkflowRun, StatusReport, WorkflowFilter
from milepost.stores.hands import HandVerbs
from milepost.stores.leasing import DELETIONS
from milepost.stores.reading import to_run
from milepost.stores.rows import PayloadRow
from milepost.stores.transaction import Transaction, repeatable

__all__ = ["TrackingVerbs"]


class TrackingVerbs(HandVerbs):
    """Record workflow runs and what becomes of them; make, empty and remove queues."""

    # --- workflow runs -----------------------------------------------------------------------

    @repeatable
    def create_workflow_run(self, new: NewWorkflowRun, *, conn: Any = None) -> None:
        """Record a workflow run."""
        with self.transaction(conn) as tx:
            created = tx.execute(
                "insert_workflow_run",
                run_id=new.run_id,
                workflow=new.workflow,
                version=new.version,
                created_by=new.created_by,
                now=new.now,
            )
            if not created:
                return  # this very call, whose answer was lost: the id is new at each
            payload = PayloadRow(new.run_id, new.inputs, None, new.tags_text, new.headers, "{}")
            tx.write_rows("insert_payload", [payload])
            for name, value in new.tags:
                tx.execute("insert_run_tag", run_id=new.run_id, name=name, value=value)
            self._insert_report(tx, StatusReport(run_id=new.run_id, status="pending", now=new.now))

    @repeatable
    def report_status(self, report: StatusReport, *, conn: Any = None) -> Run | None:
        """Change a workflow run's status; return it as it was found, None where there is none."""
        with self.transaction(conn) as tx:
            rows = tx.rows("lock_run", run_id=report.run_id)
            if not rows:
                return None
            run = to_run(rows[0])
            if run.kind != "workflow":
                return None
            if run.hash is not None or run.queue is not None:
                remedy = f"See how it stands: `milepost show {run.run_id}`."
                raise InvalidTransition(
                    f"Workflow run {run.run_id}", "executed by the engine", "be reported on", remedy
                )
            if tx.rows("last_report", run_id=report.run_id) == [(report.status, report.now)]:
                return run  # this very call, whose answer was lost
            self._report(tx, run, report)
        return run

    def _report(self, tx: Transaction, run: Run, report: StatusReport) -> None:
        status = RunStatus(report.status)
        if status not in WORKFLOW_TRANSITIONS[run.status]:
            legal = ", ".join(sorted(WORKFLOW_TRANSITIONS[run.status]))
            raise InvalidTransition(
                f"Workflow run {run.run_id}", run.status.value, f"become {status.value}", f"Legal here: {legal}."
            )
        finished_at = None
        if status in TERMINAL_RUN:
            kept = run.finished_at if status == run.status else None
            finished_at = report.completed_at or kept or report.now
        elif report.completed_at is not None:
            raise ConfigurationError(
                f"completed_at is for a workflow run that is over, not for status {status.value!r}. Leave it out."
            )
        tx.execute(
            "report_status",
            run_id=run.run_id,
            status=status.value,
            started_at=report.started_at,
            derived_start=report.now if status == RunStatus.RUNNING else None,
            finished_at=finished_at,
            error_type=report.error_type if status != RunStatus.COMPLETED else None,
            error_message=report.error_message if status != RunStatus.COMPLETED else None,
        )
        given = {"result": report.result, "error": report.error, "task_count": report.task_count}
        tx.execute("report_payload", run_id=run.run_id, **given)
        self._insert_report(tx, report)

    def _insert_report(self, tx: Transaction, report: StatusReport) -> None:
        given = {"result": report.result, "error": report.error, "now": report.now}
        tx.execute("insert_report", run_id=report.run_id, status=report.status, **given)

    def list_workflow_runs(self, filter_: WorkflowFilter, *, conn: Any = None) -> list[Run]:
        """Return a page of workflow runs, newest first."""
        return [to_run(row) for row in self.look("list_workflow_runs", conn=conn, **asdict(filter_))]

    # --- queues ------------------------------------------------------------------------------

    @repeatable
    def create_queue(self, name: str, *, now: int, conn: Any = None) -> None:
        """Remember a queue's name."""
        with self.transaction(conn) as tx:
            tx.execute("insert_queue", name=name, now=now)

    @repeatable
    def drop_queue(self, name: str, *, now: int, conn: Any = None) -> None:
        """Delete a queue with its events and its finished tasks."""
        with self.transaction(conn) as tx:
            if any(queue == name for queue, *_ in tx.rows("count_tasks")):
                raise ConfigurationError(
                    f"Queue {name!r} has tasks that are not finished. Cancel them, or let them end, and drop it then."
                )
            while self._delete_tasks(tx, name, now + 1, 1000):
                pass
            while self._delete_events(tx, name, now + 1, 1000, force=True):
                pass
            tx.execute("delete_queue", name=name)

    @repeatable
    def delete_tasks(self, queue: str, *, before: int, limit: int, conn: Any = None) -> int:
        """Delete finished tasks of a queue with all that belongs to them, oldest first; return how many."""
        with self.transaction(conn) as tx:
            return self._delete_tasks(tx, queue, before, limit)

    def _delete_tasks(self, tx: Transaction, queue: str, before: int, limit: int) -> int:
        tops = [run_id for (run_id,) in tx.rows("list_finished_tasks", queue=queue, before=before, limit=limit)]
        family: Sequence[str] = tops
        for top in tops:
            family = [*family, *(run_id for (run_id,) in tx.rows("list_descendants", run_id=top))]
        if family:
            texts = json.dumps(list(dict.fromkeys(family)))
            for name in DELETIONS:
                tx.execute(name, texts=texts)
        return len(tops)

    @repeatable
    def delete_queue_events(self, scope: str, *, before: int, limit: int, force: bool, conn: Any = None) -> int:
        """Delete events of a queue that no unfinished task of it may still ask for; return how many."""
        with self.transaction(conn) as tx:
            return self._delete_events(tx, scope, before, limit, force=force)

    def _delete_events(self, tx: Transaction, scope: str, before: int, limit: int, *, force: bool) -> int:
        statement = "list_any_old_events" if force else "list_old_events"
        names = [name for (name,) in tx.rows(statement, scope=scope, before=before, limit=limit)]
        for name in names:
            tx.execute("delete_event", scope=scope, name=name)
        return len(names)
