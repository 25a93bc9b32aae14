"""Roll a Dag's runs back: undo what their completed steps did."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

from milepost.dag.face import Face, LedgerLike, options_of
from milepost.engine import RollbackPlan
from milepost.runtime.progress import Progress
from milepost.runtime.rollback import roll_back, roll_back_async
from milepost.runtime.run import RunOptions

__all__ = ["RollingBack"]


class RollingBack(Face):
    """What a Dag does to undo runs. Mixed into :class:`milepost.Dag`."""

    def rollback(
        self,
        run_id: str,
        *,
        to: str | None = None,
        dry_run: bool = False,
        skip_missing: bool = False,
        ledger: LedgerLike = None,
        executor: Executor | None = None,
        durability: str | None = None,
        on_start: Callable[[Progress], None] | None = None,
    ) -> RollbackPlan:
        """Undo completed steps, the last one first, and return what was, or with ``dry_run`` would be, undone.

        Each step is undone by the function that its ``undo=`` names. Every undo is recorded as a step
        ``undo:<label>`` of the run, so that a rollback that was cut short goes on with what is left: by this
        method, by :meth:`resume` or by a worker, and whatever ``to`` says then. Afterwards the run is cancelled;
        :meth:`resume` runs the undone steps again. Steps that are ``pure``, waits, and steps whose output came from
        another run have nothing to undo.

        Args:
            run_id: The run: one that has ended, or whose process died.
            to: This step, and all that began before it, stay complete. None: undo all.
            dry_run: Only say what would be undone.
            skip_missing: Pass over steps without an undo; they count as undone.
            ledger: As for :meth:`run`.
            executor: As for :meth:`run`.
            durability: As for :meth:`run`.
            on_start: As for :meth:`run`.

        Raises:
            RunNotFound: There is no such run.
            StepNotFound: There is no step of the label ``to``.
            InvalidTransition: The step ``to`` has not completed, or the run waits in a queue.
            RollbackRefused: A completed step has no undo. Nothing was undone.
            RunBusy: Another live process executes the run.
            GraphChanged: This graph is not the one it started with.
            RunFailed: An undo failed: the rollback stopped there. Call it again to go on.

        Example:
            >>> from milepost import Dag, Ledger, step
            >>> shelf = []
            >>> def take_off(book, output):
            ...     shelf.remove(output)
            >>> @step(undo=take_off)
            ... def put(book: str) -> str:
            ...     shelf.append(book.upper())
            ...     return book.upper()
            >>> dag = Dag("shelf")
            >>> _ = dag.node(put)
            >>> ledger = Ledger.open(":memory:")
            >>> run = dag.run(book="emma", ledger=ledger)
            >>> shelf
            ['EMMA']
            >>> dag.rollback(run.run_id, ledger=ledger).undo
            ('put',)
            >>> shelf
            []
        """
        options = options_of(RunOptions, locals(), run_id=None)
        return roll_back(self.build(), run_id, options, to=to, dry_run=dry_run, skip_missing=skip_missing)

    async def rollback_async(
        self,
        run_id: str,
        *,
        to: str | None = None,
        dry_run: bool = False,
        skip_missing: bool = False,
        ledger: LedgerLike = None,
        executor: Executor | None = None,
        durability: str | None = None,
        on_start: Callable[[Progress], None] | None = None,
    ) -> RollbackPlan:
        """Do what :meth:`rollback` does on the running event loop, without ever blocking it."""
        options = options_of(RunOptions, locals(), run_id=None)
        return await roll_back_async(self.build(), run_id, options, to=to, dry_run=dry_run, skip_missing=skip_missing)
