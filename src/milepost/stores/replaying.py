"""The verbs of replays, for every dialect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from milepost.store import NewRun, NewTask, StepInput, Submitted
from milepost.stores.batch import insert_runs
from milepost.stores.queueing import QueueVerbs
from milepost.stores.transaction import TASKS, Transaction, repeatable

__all__ = ["ReplayVerbs"]


class ReplayVerbs(QueueVerbs):
    """Begin a run with what another one has made."""

    @repeatable
    def create_replay(
        self, new: NewRun | NewTask, source: str, labels: Sequence[str], *, conn: Any = None
    ) -> Submitted:
        """Create a run, or put it into its queue, with steps of another run as skipped ones; all in one transaction."""
        with self.transaction(conn) as tx:
            made = self._insert_new(tx, new)
            if made.is_new and labels and not tx.rows("has_steps", run_id=new.run_id):
                tx.execute("copy_steps", run_id=new.run_id, source=source, texts=json.dumps(list(labels)), now=new.now)
            if isinstance(new, NewTask) and made.is_new:
                tx.notify(TASKS)
        return made

    def _insert_new(self, tx: Transaction, new: NewRun | NewTask) -> Submitted:
        if isinstance(new, NewTask):
            return self._insert_tasks(tx, [new])[0]
        outcomes: list[Exception | None] = [None]
        insert_runs(tx, [(0, new)], outcomes)
        if outcomes[0] is not None:
            raise outcomes[0]
        return Submitted(new.run_id, is_new=True)

    def list_inputs(self, run_id: str) -> list[StepInput]:
        """Return of each step but elements, which completed, where its arguments came from and who executed it."""
        return [StepInput(*row) for row in self._rows("list_inputs", run_id=run_id)]
