"""Workflow runs: records that group tasks, whoever executes them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from milepost.clock import to_datetime
from milepost.errors import ConfigurationError, WaitTimedOut, WorkflowRunNotFound, did_you_mean
from milepost.ledger import Ledger
from milepost.model import Run, RunPayload, new_run_id
from milepost.states import TERMINAL_RUN, WORKFLOW_TRANSITIONS, RunStatus
from milepost.store import NewWorkflowRun, StatusReport, WorkflowFilter
from milepost.stores.reading import to_run
from milepost.tracking.desk import LOG
from milepost.tracking.ids import REQUIRED, as_id, text_of
from milepost.tracking.looking import Looking
from milepost.tracking.plain import load, moment, name_of, plain, seconds, store, whole
from milepost.tracking.shapes import StatusChange, TaskRow, WorkflowRunRow
from milepost.tracking.tasks import when

__all__ = ["Workflows", "display_name"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_VERSION: Final = re.compile(r"[a-zA-Z0-9._-]+")
_STATUSES: Final = tuple(status.value for status in WORKFLOW_TRANSITIONS)
_FIRST_LOOK: Final = 0.005  # seconds between looks, growing to ...
_LAST_LOOK: Final = 0.25


def display_name(workflow_name: str, version: str, step_name: str) -> str:
    """Return the name under which a step of a workflow is shown.

    Example:
        >>> display_name("data_pipeline", "1.0.0", "extract")
        'data_pipeline__1.0.0__extract'
    """
    return f"{_check_name(workflow_name)}__{_check_version(version)}__{name_of(step_name, 'step_name')}"


class Workflows(Looking):
    """Mixed into :class:`milepost.tracking.Client`."""

    def create_workflow_run(
        self,
        conn: Any = None,
        workflow_name: str = REQUIRED,
        workflow_version: str = REQUIRED,
        inputs: Any = None,
        absurd_run_id: Any = None,
        created_by: str | None = None,
        tags: Any = None,
        workflow_hash: str | None = None,
    ) -> Any:
        """Record a workflow run, pending, and return its id.

        Args:
            conn: A connection (psycopg, sqlite3) whose open transaction is joined; None commits at once.
            workflow_name: ``^[a-z][a-z0-9_]*$``, without ``__``.
            workflow_version: ``^[a-zA-Z0-9._-]+$``, without ``__``.
            inputs: Plain JSON.
            absurd_run_id: The claim that it grew out of, if any.
            created_by: Who did.
            tags: Texts by name, or a list of names; it is found by them.
            workflow_hash: Free text that tells definitions apart.

        Raises:
            ConfigurationError: A name or version breaks its rule; nothing was written.

        Example:
            >>> from milepost.tracking import Client
            >>> client = Client(ledger=":memory:")
            >>> workflow_run_id = client.create_workflow_run(workflow_name="etl", workflow_version="1.0.0")
            >>> client.get_workflow_run(workflow_run_id=workflow_run_id)["status"]
            'pending'
        """
        ledger = self._ledger(conn)
        for name, value in (("created_by", created_by), ("workflow_hash", workflow_hash)):
            if value is not None and not isinstance(value, str):
                raise ConfigurationError(f"{name} must be a text, not {value!r}.")
        shown = plain(tags, "tags")
        if isinstance(shown, list):
            shown = dict.fromkeys(shown, True) if all(isinstance(tag, str) for tag in shown) else 0
        if shown is not None and not isinstance(shown, dict):
            raise ConfigurationError(f"tags must be a dict, or a list of names, not {tags!r}.")
        origin = None if absurd_run_id is None else text_of(absurd_run_id, "absurd_run_id")
        now = ledger.shared_now()
        new = NewWorkflowRun(
            run_id=new_run_id(now),
            workflow=_check_name(workflow_name),
            version=_check_version(workflow_version),
            inputs="null" if inputs is None else store(inputs, "inputs"),
            tags_text="null" if shown is None else json.dumps(shown),
            tags=[(name, json.dumps(value, sort_keys=True)) for name, value in (shown or {}).items()],
            headers=json.dumps({"workflow_hash": workflow_hash, "run_id": origin, "queue": self.queue_name}),
            created_by=created_by,
            now=now,
        )
        ledger.store.create_workflow_run(new, conn=conn)
        LOG.info("workflow run %s of %s created", new.run_id, new.workflow)
        return as_id(new.run_id)

    def update_workflow_run_status(
        self,
        conn: Any = None,
        workflow_run_id: Any = REQUIRED,
        status: str = REQUIRED,
        result: Any = None,
        error: Any = None,
        started_at: datetime | None = None,
        completed_at: datetime | None = None,
        task_count: int | None = None,
    ) -> None:
        """Report how a workflow run stands; None leaves what is there, and times follow from the change.

        From one end to another the later report stands, and both stay in the history. Nothing comes back to life.

        Args:
            conn: A connection whose open transaction is joined; None commits at once, and a failure reported so is
                found whatever becomes of the caller's own transaction.
            workflow_run_id: The workflow run.
            status: ``pending``, ``running``, ``completed``, ``failed`` or ``cancelled``.
            result: Plain JSON.
            error: Plain JSON: what went wrong.
            started_at: When it began; a naive moment is this process's local time.
            completed_at: When it ended.
            task_count: How many tasks it has, where that is not how many are linked.

        Raises:
            WorkflowRunNotFound: There is no such workflow run.
            InvalidTransition: The change is not legal; nothing was written.
            ConfigurationError: The status is unknown.
        """
        if status is REQUIRED:
            raise TypeError("the argument status= is missing")
        if status not in _STATUSES:
            near = did_you_mean(status, _STATUSES)
            raise ConfigurationError(f"status must be one of {', '.join(_STATUSES)}, not {status!r}.{near}")
        ledger = self._ledger(conn)
        told = plain(error, "error")
        kind, message = _error_parts(told)
        report = StatusReport(
            run_id=text_of(workflow_run_id, "workflow_run_id"),
            status=str(status),
            now=ledger.shared_now(),
            result=None if result is None else store(result, "result"),
            error=None if told is None else store(told, "error"),
            error_type=kind,
            error_message=message,
            started_at=moment(started_at, "started_at"),
            completed_at=moment(completed_at, "completed_at"),
            task_count=None if task_count is None else whole(task_count, "task_count", at_least=0),
        )
        if ledger.store.report_status(report, conn=conn) is None:
            raise WorkflowRunNotFound(workflow_run_id)
        LOG.info("workflow run %s is %s", report.run_id, report.status)

    # --- looking -----------------------------------------------------------------------------

    def get_workflow_run(self, conn: Any = None, workflow_run_id: Any = REQUIRED) -> WorkflowRunRow | None:
        """Return a workflow run with its tasks counted and its history, or None. Nothing is locked."""
        ledger = self._ledger(conn)
        wanted = WorkflowFilter(run_id=text_of(workflow_run_id, "workflow_run_id"), limit=1)
        rows = self._rows_of(ledger, conn, ledger.store.list_workflow_runs(wanted, conn=conn))
        return rows[0] if rows else None

    def list_workflow_runs(
        self,
        conn: Any = None,
        workflow_name: str | None = None,
        workflow_version: str | None = None,
        status: str | None = None,
        tag: str | Mapping[str, Any] | None = None,
        created_by: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 50,
        before: Any = None,
    ) -> list[WorkflowRunRow]:
        """Return a page of workflow runs, newest first.

        Args:
            conn: A connection to read on; it sees what its own transaction wrote.
            workflow_name: Only of this name.
            workflow_version: Only of this version.
            status: Only in this status.
            tag: Only with a tag of this name; or of this name and value, as a dict of one.
            created_by: Only of this creator.
            created_after: Only created at or after this moment.
            created_before: Only created before this moment.
            limit: At most this many.
            before: The id of the last one of the page before, to get the next page.
        """
        ledger = self._ledger(conn)
        if status is not None and status not in _STATUSES:
            near = did_you_mean(status, _STATUSES)
            raise ConfigurationError(f"status must be one of {', '.join(_STATUSES)}, not {status!r}.{near}")
        name = value = None
        if isinstance(tag, Mapping):
            if len(tag) != 1:
                raise ConfigurationError(f"tag must be a name, or a dict of one name and its value, not {tag!r}.")
            (name, raw), *_ = tag.items()
            value = json.dumps(plain(raw, "tag"), sort_keys=True)
        last = None
        if before is not None:
            text = text_of(before, "before")
            last = ledger.store.find_task(text, text, conn=conn)
            if last is None:
                raise WorkflowRunNotFound(before)
        wanted = WorkflowFilter(
            workflow=workflow_name,
            version=workflow_version,
            status=status,
            created_by=created_by,
            since=moment(created_after, "created_after"),
            until=moment(created_before, "created_before"),
            tag=tag if isinstance(tag, str) else None,
            tag_name=name,
            tag_value=value,
            before_at=None if last is None else last.created_at,
            before_id=None if last is None else last.run_id,
            limit=whole(limit, "limit"),
        )
        return self._rows_of(ledger, conn, ledger.store.list_workflow_runs(wanted, conn=conn))

    def get_tasks_of_workflow(
        self,
        conn: Any = None,
        workflow_run_id: Any = REQUIRED,
        status: str | None = None,
        limit: int = 1000,
        after: Any = None,
    ) -> list[TaskRow]:
        """Return the tasks of a workflow run as :meth:`get_task_status` does, oldest first.

        Args:
            conn: A connection to read on.
            workflow_run_id: The workflow run.
            status: Only in this state: ``pending``, ``running``, ``sleeping``, ``completed``, ``failed``,
                ``cancelled``.
            limit: At most this many.
            after: The id of the last task of the page before, to get the next page.
        """
        ledger = self._ledger(conn)
        last = None if after is None else self._find_task(ledger, conn, after)
        rows = ledger.store.look(
            "list_linked",
            conn=conn,
            parent_run_id=text_of(workflow_run_id, "workflow_run_id"),
            status="suspended" if status == "sleeping" else status,
            after_at=None if last is None else last.created_at,
            after_id=None if last is None else last.run_id,
            limit=whole(limit, "limit"),
        )
        runs = map(to_run, rows)
        return [self._task_row(ledger, conn, run) for run in runs]

    def wait_for_workflow_run(
        self, conn: Any = None, workflow_run_id: Any = REQUIRED, timeout_seconds: float | None = None
    ) -> WorkflowRunRow:
        """Return a workflow run once it is over.

        Args:
            conn: A connection to read on; in a transaction of SQLite it sees no later change.
            workflow_run_id: The workflow run.
            timeout_seconds: Seconds to wait at most; None waits for ever.

        Raises:
            WorkflowRunNotFound: There is no such workflow run.
            WaitTimedOut: It is not over in time.
        """
        limit = None if timeout_seconds is None else seconds(timeout_seconds, "timeout_seconds") / 1e6
        deadline = None if limit is None else time.monotonic() + limit
        pause = _FIRST_LOOK
        while True:
            found = self.get_workflow_run(conn, workflow_run_id)
            if found is None:
                raise WorkflowRunNotFound(workflow_run_id)
            if found["status"] in TERMINAL_RUN:
                return found
            left = pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise WaitTimedOut(str(workflow_run_id), found["status"])
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LAST_LOOK)

    def _rows_of(self, ledger: Ledger, conn: Any, runs: Sequence[Run]) -> list[WorkflowRunRow]:
        if not runs:
            return []
        look = ledger.store.look
        texts = json.dumps([run.run_id for run in runs])
        payloads = {row[0]: RunPayload(*row) for row in look("list_payloads", conn=conn, texts=texts)}
        counted: dict[str, list[tuple[Any, ...]]] = {}
        for row in look("count_linked", conn=conn, texts=texts):
            counted.setdefault(row[0], []).append(row)
        return [self._workflow_row(ledger, conn, r, payloads[r.run_id], counted.get(r.run_id, [])) for r in runs]

    def _workflow_row(
        self, ledger: Ledger, conn: Any, run: Run, payload: RunPayload, counted: list[tuple[Any, ...]]
    ) -> WorkflowRunRow:
        tracked = ledger.store.look("get_tracked_payload", conn=conn, run_id=run.run_id)[0]
        headers = json.loads(payload.headers)
        tasks = {_state(status): count for _, status, count, _, _ in counted}
        total = sum(tasks.values())
        started = run.started_at or min((row[3] for row in counted if row[3] is not None), default=None)
        over = sum(tasks.get(status.value, 0) for status in TERMINAL_RUN)
        history: list[StatusChange] = [
            {"status": status, "result": load(result), "error": load(error), "reported_at": to_datetime(at)}
            for status, result, error, at in look_reports(ledger, conn, run.run_id)
        ]
        error = load(tracked[1])
        if error is None and run.error_type is not None:
            error = {"type": run.error_type, "message": run.error_message}
        return {
            "workflow_run_id": as_id(run.run_id),
            "workflow_name": run.workflow,
            "workflow_version": run.version,
            "workflow_hash": headers.get("workflow_hash") or run.hash,
            "status": "running" if run.status == RunStatus.SUSPENDED else run.status.value,
            "absurd_run_id": None if headers.get("run_id") is None else as_id(headers["run_id"]),
            "absurd_queue": headers.get("queue") or run.queue,
            "inputs": load(payload.inputs),
            "created_by": run.created_by,
            "tags": json.loads(payload.tags),
            "result": self._result(ledger, conn, run, tracked[0]),
            "error": error,
            "created_at": to_datetime(run.created_at),
            "started_at": when(started),
            "completed_at": when(run.finished_at),
            "task_count": tracked[2] if tracked[2] is not None else total or _count_steps(ledger, run),
            "tasks": tasks,
            "progress": over / total if total else None,
            "history": history,
        }


def _count_steps(ledger: Ledger, run: Run) -> int:
    """Return how many steps a workflow that the engine executes has begun; parts of steps are in brackets."""
    if run.hash is None:
        return 0
    return len({row.label for row in ledger.store.list_step_rows(run.run_id) if not row.label.endswith("]")})


def look_reports(ledger: Ledger, conn: Any, run_id: str) -> list[tuple[Any, ...]]:
    """Return the reports of a workflow run's status, oldest first."""
    return ledger.store.look("list_reports", conn=conn, run_id=run_id)


def _state(status: str) -> str:
    return "sleeping" if status == "suspended" else status


def _check_name(value: Any) -> str:
    if value is REQUIRED:
        raise TypeError("the argument workflow_name= is missing")
    if not isinstance(value, str) or _NAME.fullmatch(value) is None or "__" in value or len(value) > 255:
        raise ConfigurationError(
            f"workflow_name must match ^[a-z][a-z0-9_]*$ and have no '__' (the separator of names that are shown), "
            f"not {value!r}."
        )
    return value


def _check_version(value: Any) -> str:
    if value is REQUIRED:
        raise TypeError("the argument workflow_version= is missing")
    if not isinstance(value, str) or _VERSION.fullmatch(value) is None or "__" in value or len(value) > 255:
        raise ConfigurationError(
            f"workflow_version must match ^[a-zA-Z0-9._-]+$ and have no '__' (the separator of names that are shown), "
            f"not {value!r}."
        )
    return value


def _error_parts(error: Any) -> tuple[str | None, str | None]:
    """Return type and message of an error, for those who look at runs."""
    if error is None:
        return None, None
    if isinstance(error, dict):
        return str(error.get("type") or error.get("name") or "Error"), str(error.get("message") or "")
    return "Error", error if isinstance(error, str) else json.dumps(error)
