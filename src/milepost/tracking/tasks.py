"""Spawn, claim, complete, fail, cancel and move tasks; how they stand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from milepost.clock import to_datetime
from milepost.errors import ConfigurationError, InvalidTransition, KeyConflict, TaskNotFound
from milepost.ledger import Ledger
from milepost.model import UNCHECKED_INPUTS, Run, RunPayload, Wait, new_run_id
from milepost.names import check_name
from milepost.owner import HAND
from milepost.runtime.maintenance import DIED
from milepost.states import RunStatus
from milepost.store import HandClaim, HandEnd, NewTask, Submitted
from milepost.tracking.desk import LOG, Desk
from milepost.tracking.ids import REQUIRED, as_id, claim_id, text_of
from milepost.tracking.plain import iso_now, load, moment, name_of, plain, seconds, store, whole
from milepost.tracking.policies import Limits, check_cancellation, check_strategy, engine_policy, next_delay
from milepost.tracking.shapes import Claim, Spawned

__all__ = ["Tasks"]

MAX_RESCUES: Final = 5
CANCELLED: Final = ("TaskCancelled", "cancelled on request")
_OPTIONS: Final = ("headers", "retry_strategy", "max_attempts", "cancellation", "idempotency_key")
_SPAWN: Final = ("task_name", "params", *_OPTIONS, "workflow_run_id")
_LINK: Final = "workflow_run_id"


class Tasks(Desk):
    """Mixed into :class:`milepost.tracking.Client`."""

    # --- spawning ----------------------------------------------------------------------------

    def spawn_task(
        self,
        conn: Any = None,
        task_name: str = REQUIRED,
        params: Any = None,
        options: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        retry_strategy: Mapping[str, Any] | None = None,
        max_attempts: int | None = None,
        cancellation: Mapping[str, Any] | None = None,
        workflow_run_id: Any = None,
        idempotency_key: str | None = None,
    ) -> Spawned:
        """Put a task into the queue, and return ``(task_id, run_id, workflow_run_id)``.

        Args:
            conn: A connection (psycopg, sqlite3) whose open transaction is joined; None commits at once.
            task_name: What it is: the name of a workflow, where a Milepost worker is to run it.
            params: Its inputs, plain JSON; UUIDs and moments become texts.
            options: The same five by name in a dict; an argument of its own goes before it.
            headers: Plain JSON beside the params.
            retry_strategy: ``{"kind": "fixed" | "exponential" | "none", "base_seconds", "factor", "max_seconds"}``.
            max_attempts: How often it may be tried (1).
            cancellation: ``{"max_delay", "max_duration"}`` in seconds.
            workflow_run_id: The workflow run it belongs to; else that of ``headers``, else of ``params``.
            idempotency_key: The same key in the same queue is the same task: the first one stands.

        Raises:
            WorkflowRunNotFound: There is no such workflow run; nothing was written.
            KeyConflict: The key was used for another name or other params.
            ConfigurationError: An argument breaks its rule.
            ValueNotStorable: ``params`` or ``headers`` are no JSON.

        Example:
            >>> from milepost.tracking import Client
            >>> client = Client(queue_name="mail", ledger=":memory:")
            >>> task_id, run_id, _ = client.spawn_task(task_name="send", params={"to": "ada"})
            >>> client.get_task_status(task_id=task_id)["state"]
            'pending'
        """
        ledger = self._ledger(conn)
        given = {
            "headers": headers,
            "retry_strategy": retry_strategy,
            "max_attempts": max_attempts,
            "cancellation": cancellation,
            "idempotency_key": idempotency_key,
        }
        task, (start_by, duration) = self._new_task(ledger, task_name, params, options, given, workflow_run_id)
        outcome = ledger.store.spawn_task(task, start_by=start_by, max_duration=duration, conn=conn)
        return self._spawned(ledger, conn, task, outcome)

    def spawn_tasks(self, conn: Any = None, tasks: Iterable[Mapping[str, Any]] = REQUIRED) -> list[Spawned]:
        """Put many tasks into the queue in one round trip and one transaction.

        Args:
            conn: As in :meth:`spawn_task`.
            tasks: The arguments of each as a dict: ``task_name``, ``params`` and whatever else it takes.

        Raises:
            ConfigurationError: As :meth:`spawn_task`; nothing was written.

        Example:
            >>> from milepost.tracking import Client
            >>> client = Client(ledger=":memory:")
            >>> len(client.spawn_tasks(tasks=[{"task_name": "send", "params": {"n": n}} for n in range(3)]))
            3
        """
        if tasks is REQUIRED:
            raise TypeError("the argument tasks= is missing")
        ledger = self._ledger(conn)
        made: list[tuple[NewTask, Limits]] = []
        for one in tasks:
            unknown = [name for name in one if name not in _SPAWN]
            if unknown:
                raise ConfigurationError(f"A task takes {', '.join(_SPAWN)}, not {unknown[0]!r}.")
            given = {name: one.get(name) for name in _OPTIONS}
            name, params, link = one.get("task_name", REQUIRED), one.get("params"), one.get(_LINK)
            made.append(self._new_task(ledger, name, params, None, given, link))
        written = [task for task, _ in made]
        outcomes = ledger.store.spawn_tasks(written, [limits for _, limits in made], conn=conn)
        return [self._spawned(ledger, conn, t, outcome) for t, outcome in zip(written, outcomes, strict=True)]

    def _new_task(
        self,
        ledger: Ledger,
        task_name: str,
        params: Any,
        options: Mapping[str, Any] | None,
        given: Mapping[str, Any],
        link: Any,
    ) -> tuple[NewTask, Limits]:
        for name in options or {}:
            if name not in _OPTIONS:
                raise ConfigurationError(f"options take {', '.join(_OPTIONS)}, not {name!r}.")
        chosen = {name: (options or {}).get(name) if value is None else value for name, value in given.items()}
        task = name_of(task_name, "task_name")
        headers = chosen["headers"]
        if headers is not None and not isinstance(headers, Mapping):
            raise ConfigurationError(f"headers must be a dict, not {headers!r}.")
        attempts = 1 if chosen["max_attempts"] is None else whole(chosen["max_attempts"], "max_attempts")
        strategy, limits = check_strategy(chosen["retry_strategy"]), check_cancellation(chosen["cancellation"])
        key = chosen["idempotency_key"]
        if key is not None:
            name_of(key, "idempotency_key")
        now = ledger.shared_now()
        policies: dict[str, Any] = engine_policy(strategy)
        if strategy is not None:
            policies["retry_strategy"] = strategy
        if limits is not None:
            policies["cancellation"] = limits
        text = json.dumps(policies, separators=(",", ":"))
        mark = UNCHECKED_INPUTS[1:-1]  # whoever executes it looks whether the params fit
        delay, duration = (limits or {}).get("max_delay"), (limits or {}).get("max_duration")
        return NewTask(
            run_id=new_run_id(now),
            workflow=task,
            kind="task_by_hand",
            queue=self.queue_name,
            inputs=store({} if params is None else params, "params"),
            now=now,
            max_attempts=attempts,
            idempotency_key=key,
            headers="{}" if headers is None else store(headers, "headers"),
            policies=f"{{{mark}}}" if text == "{}" else f"{text[:-1]},{mark}}}",
            parent_run_id=_link_of(link, headers, params),
        ), (
            None if delay is None else now + seconds(delay, "max_delay"),
            None if duration is None else seconds(duration, "max_duration"),
        )

    def _spawned(self, ledger: Ledger, conn: Any, task: NewTask, outcome: Submitted) -> Spawned:
        if not outcome.is_same:
            raise KeyConflict(str(task.idempotency_key), task.queue, outcome.run_id)
        run_id, link = claim_id(outcome.run_id, 1), task.parent_run_id
        if not outcome.is_new:
            found = ledger.store.find_task(outcome.run_id, outcome.run_id, conn=conn)
            if found is not None:
                run_id, link = self._claim_id(found), found.parent_run_id
        LOG.info("task %s of %s spawned in queue %s", outcome.run_id, task.workflow, task.queue)
        self._remember(run_id, outcome.run_id)
        return Spawned(as_id(outcome.run_id), run_id, run_id if link is None else as_id(link), is_new=outcome.is_new)

    # --- claiming ----------------------------------------------------------------------------

    def claim_task(
        self, conn: Any = None, worker_id: str | None = None, claim_timeout: float = 30, qty: int = 1
    ) -> list[Claim]:
        """Claim up to ``qty`` due tasks of the queue, and return them as tuples of ten; none waits: ``[]``.

        Args:
            conn: A connection whose open transaction is joined; None commits at once.
            worker_id: Who claims; this client's own name if left out.
            claim_timeout: Seconds until the lease runs out, and somebody else may claim the task; 0 keeps it by a
                heartbeat in the background, until the task is given up or this process dies.
            qty: How many at most.

        Example:
            >>> from milepost.tracking import Client
            >>> client = Client(ledger=":memory:")
            >>> _ = client.spawn_task(task_name="add", params={"a": 1, "b": 2})
            >>> (claim,) = client.claim_task()
            >>> claim.task_name, claim.params, claim.attempt
            ('add', {'a': 1, 'b': 2}, 1)
            >>> client.complete_task(run_id=claim.run_id, result=3)
        """
        ledger = self._ledger(conn)
        owner = HAND + check_name("worker", worker_id or self.worker_id)
        timeout = max(0, seconds(max(0, claim_timeout), "claim_timeout"))
        if isinstance(qty, bool) or not isinstance(qty, int):
            raise ConfigurationError(f"qty must be a whole number, not {qty!r}.")
        found = ledger.store.claim_by_hand(
            self.queue_name,
            owner=owner,
            now=ledger.shared_now(),
            lease=timeout or int(ledger.lease * 1e6),
            limit=max(1, min(qty, 10_000)),
            max_rescues=MAX_RESCUES,
            reason=DIED,
            conn=conn,
        )
        claims = [self._claimed(one) for one in found]
        for one, claim in zip(found, claims, strict=True):
            self._remember(claim.run_id, one.run.run_id)
            LOG.info("task %s claimed as %s by %s", one.run.run_id, claim.run_id, owner)
            if not timeout:
                self._beats.keep(str(claim.run_id), ledger, owner, one.run.run_id, one.run.lease_epoch)
        return claims

    def _claimed(self, claimed: HandClaim) -> Claim:
        run, payload, wait = claimed
        event = None if wait is None else wait.event
        return Claim(
            self._claim_id(run),
            as_id(run.run_id),
            run.attempt,
            run.workflow,
            load(payload.inputs),
            json.loads(payload.policies).get("retry_strategy"),
            run.max_attempts,
            load(payload.headers),
            event,
            None if wait is None or event is None else load(wait.payload),
        )

    def extend_claim(self, conn: Any = None, run_id: Any = REQUIRED, extend_by_seconds: float = REQUIRED) -> None:
        """Let the lease of a claim end so many seconds from now.

        Raises:
            LeaseLost: Somebody else has the task by now.
            TaskCancelled: Somebody asked to cancel it.
        """
        lease = seconds(extend_by_seconds, "extend_by_seconds")

        def write(ledger: Ledger, task_id: str, generation: int) -> Any:
            now = ledger.shared_now()
            return ledger.store.extend_by_hand(task_id, generation, now=now, lease=lease, conn=conn)

        self._guarded(conn, run_id, "be extended", write)

    # --- ends --------------------------------------------------------------------------------

    def complete_task(self, conn: Any = None, run_id: Any = REQUIRED, result: Any = None) -> None:
        """End a claimed task as completed.

        Args:
            conn: A connection whose open transaction is joined; None commits at once.
            run_id: The claim.
            result: Plain JSON; None is kept as ``{}``.

        Raises:
            LeaseLost: Somebody else has the task by now.
            TaskCancelled: Somebody asked to cancel it.
            InvalidTransition: It is not running.
            ValueNotStorable: The result is no JSON; the task is as it was.
        """
        text = store({} if result is None else result, "result")

        def write(ledger: Ledger, task_id: str, generation: int) -> Any:
            now = ledger.shared_now()
            return ledger.store.complete_by_hand(task_id, generation, result=text, now=now, conn=conn)

        self._guarded(conn, run_id, "be completed", write)
        self._beats.forget(str(run_id))
        LOG.info("claim %s completed", run_id)

    def fail_task(
        self, conn: Any = None, run_id: Any = REQUIRED, reason: Any = REQUIRED, retry_at: datetime | None = None
    ) -> None:
        """End an attempt as failed: the next one is due at ``retry_at``, else by the strategy, while attempts remain.

        Args:
            conn: A connection whose open transaction is joined; None commits at once.
            run_id: The claim, running or sleeping.
            reason: A text, an exception, or a dict; with ``"is_retryable": False`` no attempt follows.
            retry_at: When the next attempt is due; a naive moment is this process's local time.
        """
        due = moment(retry_at, "retry_at")

        def write(ledger: Ledger, task_id: str, generation: int) -> Any:
            now = ledger.shared_now()
            told = plain(_reason(reason, now), "reason")
            end = self._failure(ledger, conn, task_id, told, due, now)
            return ledger.store.fail_by_hand(task_id, generation, end, now=now, conn=conn)

        self._guarded(conn, run_id, "fail", write)
        self._beats.forget(str(run_id))
        LOG.info("claim %s failed", run_id)

    def _failure(
        self, ledger: Ledger, conn: Any, task_id: str, reason: dict[str, Any], due: int | None, now: int
    ) -> HandEnd:
        run = ledger.store.find_task(task_id, task_id, conn=conn)
        rows = ledger.store.look("get_run_payload", conn=conn, run_id=task_id)
        if run is None or not rows:
            raise TaskNotFound(as_id(task_id))
        policies = json.loads(RunPayload(*rows[0]).policies)
        delay = next_delay(policies, run.attempt, run.max_attempts)
        is_retried = delay is not None and reason.get("is_retryable") is not False
        at = None
        if is_retried:
            at = due if due is not None else now + int((delay or 0.0) * 1e6)
            limit = (policies.get("cancellation") or {}).get("max_duration")
            if limit is not None and run.started_at is not None and run.started_at + int(limit * 1e6) <= at:
                is_retried = False
        kind = str(reason.get("name") or reason.get("type") or "TaskExecutionError")
        message = str(reason.get("message") or "")
        at = at if at is not None and at > now else None
        return HandEnd(kind, message, store(reason, "reason"), is_retried, at if is_retried else None)

    def cancel_task(self, conn: Any = None, run_id: Any = REQUIRED) -> bool:
        """Cancel a task, named by its own id or by a claim's; return whether it was not over yet.

        One that waits or sleeps is cancelled at once; one that runs is asked to stop, and its holder is told at its
        next durable call.

        Raises:
            TaskNotFound: There is no such task.
        """
        ledger = self._ledger(conn)
        run = self._find_either(ledger, conn, run_id, "run_id")
        if run is None or run.queue is None:
            raise TaskNotFound(run_id)
        now = ledger.shared_now()
        done = ledger.store.cancel_by_hand(run.run_id, now=now, reason=CANCELLED, conn=conn)
        if done is None:
            raise TaskNotFound(run_id)
        LOG.info("task %s: cancel requested", run.run_id)
        return done

    def retry_task(self, conn: Any = None, task_id: Any = REQUIRED, as_copy: bool = False) -> Spawned:
        """Try a failed or cancelled task again: itself, with one more attempt, or as a new task of the same params.

        Raises:
            TaskNotFound: There is no such task.
            InvalidTransition: It has not failed, and was not cancelled.
        """
        ledger = self._ledger(conn)
        run = self._find_task(ledger, conn, task_id)
        if run is None or run.queue is None:
            raise TaskNotFound(task_id)
        if run.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
            raise InvalidTransition(f"Task {run.run_id}", run.status.value, "be tried again")
        if as_copy:
            return self._spawn_copy(ledger, conn, run)
        found = ledger.store.requeue_by_hand(run.run_id, now=ledger.shared_now(), conn=conn)
        if found is None:
            raise TaskNotFound(task_id)
        run_id = claim_id(run.run_id, run.generation + 1)
        link = run_id if run.parent_run_id is None else as_id(run.parent_run_id)
        return Spawned(as_id(run.run_id), run_id, link, is_new=False)

    def _spawn_copy(self, ledger: Ledger, conn: Any, run: Run) -> Spawned:
        payload = RunPayload(*ledger.store.look("get_run_payload", conn=conn, run_id=run.run_id)[0])
        limits = json.loads(payload.policies).get("cancellation") or {}
        now = ledger.shared_now()
        task = NewTask(
            run_id=new_run_id(now),
            workflow=run.workflow,
            kind=run.kind,
            queue=run.queue or self.queue_name,
            inputs=payload.inputs,
            now=now,
            max_attempts=run.max_attempts,
            headers=payload.headers,
            policies=payload.policies,
            parent_run_id=run.parent_run_id,
        )
        delay, duration = limits.get("max_delay"), limits.get("max_duration")
        outcome = ledger.store.spawn_task(
            task,
            start_by=None if delay is None else now + seconds(delay, "max_delay"),
            max_duration=None if duration is None else seconds(duration, "max_duration"),
            conn=conn,
        )
        return self._spawned(ledger, conn, task, outcome)

    def schedule_task(self, conn: Any = None, run_id: Any = REQUIRED, wake_at: datetime = REQUIRED) -> None:
        """Let a task be due at a moment: one that waits is moved there, one that runs is suspended until then.

        Raises:
            TaskNotFound: There is no such task.
            InvalidTransition: It is over.
        """
        at = moment(wake_at, "wake_at")
        if at is None:
            raise ConfigurationError("wake_at must be a datetime, not None.")

        def write(ledger: Ledger, task_id: str, generation: int) -> Any:
            now = ledger.shared_now()
            return ledger.store.move_by_hand(task_id, generation, wake_at=at, now=now, conn=conn)

        self._guarded(conn, run_id, "be moved", write)
        self._beats.forget(str(run_id))


def _reason(reason: Any, now: int) -> dict[str, Any]:
    if reason is REQUIRED:
        raise TypeError("the argument reason= is missing")
    if isinstance(reason, Mapping):
        return dict(reason)
    if isinstance(reason, BaseException):
        return {"name": type(reason).__qualname__, "message": str(reason), "timestamp": iso_now(now)}
    if isinstance(reason, str):
        return {"name": "TaskExecutionError", "message": reason, "timestamp": iso_now(now)}
    raise ConfigurationError(f"reason must be a text, an exception or a dict, not {reason!r}.")


def _link_of(link: Any, headers: Any, params: Any) -> str | None:
    """Return the workflow run that a task is linked to: by the argument, else by headers, else by params.

    Raises:
        ConfigurationError: They name different ones, or one of them is no id.
    """
    sources = {
        "workflow_run_id=": link,
        "headers": headers.get(_LINK) if isinstance(headers, Mapping) else None,
        "params": params.get(_LINK) if isinstance(params, Mapping) else None,
    }
    named = {source: text_of(value, f"{_LINK} ({source})") for source, value in sources.items() if value is not None}
    if len(set(named.values())) > 1:
        told = ", ".join(f"{source} says {value}" for source, value in named.items())
        raise ConfigurationError(f"The sources of {_LINK} disagree: {told}. Name one workflow run.")
    return next(iter(named.values()), None)


def last_wait(waits: Sequence[Wait]) -> Wait | None:
    """Return the wait of an event that was resolved last."""
    over = [wait for wait in waits if wait.outcome is not None and wait.event is not None]
    return max(over, key=lambda wait: wait.resolved_at or 0, default=None)


def when(micros: int | None) -> datetime | None:
    """Return ledger time as an aware datetime."""
    return None if micros is None else to_datetime(micros)
