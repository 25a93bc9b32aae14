"""Replay a Dag's runs: new runs that reuse what old ones have made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from typing import Any

from milepost.dag.face import Face, LedgerLike, options_of
from milepost.engine import ReplayPlan
from milepost.ledger import Ledger
from milepost.names import DEFAULT_QUEUE
from milepost.runtime.handle import RunHandle
from milepost.runtime.lifecycle import open_ledger
from milepost.runtime.outcome import FinishedRun
from milepost.runtime.progress import Progress
from milepost.runtime.replaying import Replay, headers_of, plan
from milepost.runtime.run import RunOptions, replay_graph, replay_graph_async
from milepost.runtime.submission import SubmitOptions, new_task

__all__ = ["Replaying"]


class Replaying(Face):
    """What a Dag does with runs that have been. Mixed into :class:`milepost.Dag`."""

    def plan_replay(
        self,
        run_id: str,
        nodes: Collection[str] = (),
        *,
        changed: bool = False,
        downstream: bool = True,
        allow_changes: bool = False,
        ledger: LedgerLike = None,
    ) -> ReplayPlan:
        """Return what :meth:`replay` with these arguments would run and why; nothing is written.

        Example:
            >>> from milepost import Dag, Ledger
            >>> dag = Dag("sum")
            >>> numbers = dag.node(lambda n: list(range(n)), label="numbers", n=4)
            >>> _ = dag.node(sum, label="total", iterable=numbers)
            >>> ledger = Ledger.open(":memory:")
            >>> run = dag.run(ledger=ledger)
            >>> for step in dag.plan_replay(run.run_id, ["total"], ledger=ledger).steps:
            ...     print(step.label, step.runs, step.reason)
            numbers False its output is reused
            total True it was chosen
        """
        if not isinstance(ledger, Ledger):
            with Ledger.open(ledger, read_only=True) as opened:
                return self._plan(opened, run_id, nodes, changed, downstream, allow_changes).plan
        return self._plan(ledger, run_id, nodes, changed, downstream, allow_changes).plan

    def replay(
        self,
        run_id: str,
        nodes: Collection[str] = (),
        *,
        changed: bool = False,
        downstream: bool = True,
        allow_changes: bool = False,
        ledger: LedgerLike = None,
        new_run_id: str | None = None,
        max_concurrency: int | None = None,
        executor: Executor | None = None,
        durability: str | None = None,
        tags: Mapping[str, Any] | None = None,
        target: str | None = None,
        on_start: Callable[[Progress], None] | None = None,
    ) -> FinishedRun:
        """Make a new run with the inputs of another one, and reuse what that has made.

        The chosen nodes run again, with everything downstream of them; so do nodes that the old run has no output
        of. The others are *skipped*: their outputs are copied.

        Args:
            run_id: The run that is replayed.
            nodes: Labels of nodes, or of elements of maps, that run again.
            changed: Choose by itself: nodes whose code (the source of the function, the options of the step), wiring
                or inputs are not what the run recorded.
            downstream: False: what depends on the chosen nodes keeps its old output.
            allow_changes: Replay with a graph that differs from the recorded one; ``changed`` does in any case.
            ledger: As for :meth:`Dag.run`.
            new_run_id: The id of the new run; a new UUIDv7 if left out.
            max_concurrency: As for :meth:`Dag.run`.
            executor: As for :meth:`Dag.run`.
            durability: As for :meth:`Dag.run`.
            tags: Plain JSON data kept with the new run; those of the old one if left out.
            target: As for :meth:`Dag.run`; that of the old run if left out.
            on_start: As for :meth:`Dag.run`.

        Raises:
            RunNotFound: There is no such run.
            ConfigurationError: A label is unknown.
            GraphChanged: The graph is not the one that the run was recorded with; the message says how.
            ValueNotRestorable: A stored output that is needed cannot be restored.

        Example:
            >>> from milepost import Dag, Ledger
            >>> dag = Dag("sum")
            >>> numbers = dag.node(lambda n: list(range(n)), label="numbers", n=4)
            >>> _ = dag.node(sum, label="total", iterable=numbers)
            >>> ledger = Ledger.open(":memory:")
            >>> first = dag.run(ledger=ledger)
            >>> again = dag.replay(first.run_id, ["total"], ledger=ledger)
            >>> {step.label: step.status.value for step in ledger.list_steps(again.run_id)}
            {'numbers': 'skipped', 'total': 'completed'}
        """
        opened = open_ledger(ledger, durability)
        replay = self._plan(opened, run_id, nodes, changed, downstream, allow_changes)
        options = options_of(RunOptions, locals(), ledger=opened, durability=None, run_id=new_run_id)
        return replay_graph(self._build().graph, replay, options)

    async def replay_async(
        self,
        run_id: str,
        nodes: Collection[str] = (),
        *,
        changed: bool = False,
        downstream: bool = True,
        allow_changes: bool = False,
        ledger: LedgerLike = None,
        new_run_id: str | None = None,
        max_concurrency: int | None = None,
        executor: Executor | None = None,
        durability: str | None = None,
        tags: Mapping[str, Any] | None = None,
        target: str | None = None,
        on_start: Callable[[Progress], None] | None = None,
    ) -> FinishedRun:
        """Do what :meth:`replay` does on the running event loop, without ever blocking it."""
        opened = await asyncio.to_thread(open_ledger, ledger, durability)
        replay = await asyncio.to_thread(self._plan, opened, run_id, nodes, changed, downstream, allow_changes)
        options = options_of(RunOptions, locals(), ledger=opened, durability=None, run_id=new_run_id)
        return await replay_graph_async(self._build().graph, replay, options)

    def submit_replay(
        self,
        run_id: str,
        nodes: Collection[str] = (),
        *,
        changed: bool = False,
        downstream: bool = True,
        allow_changes: bool = False,
        ledger: LedgerLike = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        new_run_id: str | None = None,
        created_by: str | None = None,
        conn: Any = None,
    ) -> RunHandle:
        """Do what :meth:`replay` does, but put the new run into a queue, for any worker that knows this Dag.

        The arguments mean what they mean in :meth:`replay` and in :meth:`Dag.submit`.
        """
        opened = open_ledger(ledger)
        replay = self._plan(opened, run_id, nodes, changed, downstream, allow_changes)
        payload = opened.get_payload(run_id)
        options = SubmitOptions(
            queue=queue, priority=priority, run_id=new_run_id, created_by=created_by, target=payload.target
        )
        task = new_task(opened, self._build().graph, {}, self.kind, options)
        task.inputs, task.tags, task.headers = payload.inputs, payload.tags, headers_of(replay)
        task.replay_of, task.correlation_id = run_id, replay.source.correlation_id
        made = opened.store.create_replay(task, run_id, replay.plan.labels, conn=conn)
        return RunHandle(opened, made.run_id, is_new=made.is_new)

    def _plan(
        self,
        ledger: Ledger,
        run_id: str,
        nodes: Collection[str],
        changed: bool,
        downstream: bool,
        allow_changes: bool,
    ) -> Replay:
        return plan(
            ledger,
            run_id,
            self._build().graph,
            nodes,
            changed=changed,
            downstream=downstream,
            allow_changes=allow_changes,
        )
