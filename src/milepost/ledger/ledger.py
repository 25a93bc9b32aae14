"""Open a ledger, read it, keep it in order."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

from milepost.clock import Clock, SystemClock, to_micros
from milepost.engine import flatten
from milepost.errors import (
    ConfigurationError,
    LedgerReadOnly,
    LedgerUnreadable,
    RunNotFound,
    StepNotFound,
    ValueNotRestorable,
    did_you_mean,
)
from milepost.ledger.opening import migrate, open_store, path_of
from milepost.ledger.scheduling import Scheduling
from milepost.ledger.shared import SharedStore, share_store
from milepost.ledger.sharing import Sharing
from milepost.model import LATEST, Attempt, Checkpoint, Edge, Problem, Run, RunPayload, StepAttempt, Storage
from milepost.states import RunStatus
from milepost.store import FaultHook, RunFilter, Store
from milepost.stores.postgres_address import is_postgres
from milepost.values import content_hash, decode

__all__ = ["Ledger"]

DEFAULT_LEASE: Final = 30.0  # seconds
_DELETE_BATCH: Final = 100  # runs per transaction: long enough to be cheap, short enough to let others in


class Ledger(Sharing, Scheduling):
    """Where runs are recorded. Open one with :meth:`open`; it may be shared by all threads.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     ledger.list_runs()
        []
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock | None = None,
        lease: float = DEFAULT_LEASE,
        shared: SharedStore | None = None,
        full_url: str | None = None,
    ) -> None:
        """Put a ledger on an open store; users call :meth:`open`."""
        self.store = store
        self.full_url = full_url or store.url
        self.clock: Clock = clock or SystemClock()
        self.lease = lease
        shared = shared or SharedStore(store)
        self.commit = shared.committer.commit
        self.commit_many = shared.committer.commit_many
        self.commit_async = shared.committer.commit_async
        self._close = weakref.finalize(self, shared.give_back)

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str] | None = None,
        *,
        durability: str = "power",
        read_only: bool = False,
        lease: float = DEFAULT_LEASE,
        clock: Clock | None = None,
        fault: FaultHook | None = None,
    ) -> Ledger:
        """Open a ledger by path or URL, creating the file where there is none.

        In one process the same file is opened once: callers share it, and so its commits, and each
        closes its own ledger without closing it for the others. After a fork, the child opens its own.

        Args:
            url: A path, ``sqlite:///path`` or ``":memory:"``; None means the environment's
                ``MILEPOST_LEDGER``, else ``milepost.db`` in the working directory.
            durability: ``"power"``: a completed step survives power loss (synchronous=FULL).
                ``"process"``: it survives kill -9, and a power loss may take the last ones.
            read_only: Read only; the file must exist and is never changed.
            lease: Seconds after which a run whose owner fell silent may be taken over.
            clock: The source of time, for tests.
            fault: Called at named points of each commit, for crash tests.

        Raises:
            ConfigurationError: An argument has a value that cannot work.
            StoreError: The file cannot be opened, is something else, or is newer than this version.

        Example:
            >>> Ledger.open(":memory:", durability="process").lease
            30.0
        """
        if durability not in ("power", "process"):
            near = did_you_mean(str(durability), ["power", "process"])
            raise ConfigurationError(f"durability must be 'power' or 'process', not {durability!r}.{near}")
        if isinstance(lease, bool) or not isinstance(lease, (int, float)) or not lease > 0:
            raise ConfigurationError(f"lease must be more than 0 seconds, not {lease!r}.")
        path = path_of(url)
        options: dict[str, Any] = {"durability": durability, "read_only": read_only}
        if path == ":memory:" or clock is not None or fault is not None:
            return cls(open_store(path, fault=fault, **options), clock=clock, lease=lease, full_url=path)
        if not is_postgres(path):
            path = os.path.abspath(path)  # a later chdir must not change what is meant
        shared = share_store(path, lambda file: open_store(file, **options), (durability, read_only, lease))
        return cls(shared.store, lease=lease, shared=shared, full_url=path)

    @staticmethod
    def migrate(url: str | os.PathLike[str] | None = None, *, dry_run: bool = False) -> list[str]:
        """Bring a PostgreSQL ledger up to date, or make one, in one transaction; return the names of its migrations.

        A ledger in SQLite migrates by itself when it is opened: here, nothing happens to it. Safe to run
        twice, also at once.

        Args:
            url: As for :meth:`open`.
            dry_run: Change nothing; return what would be done.

        Raises:
            StoreError: The server cannot be reached or refuses, or the ledger is newer than this version.

        Example:
            >>> Ledger.migrate("runs.db")
            []
        """
        return migrate(path_of(url), dry_run=dry_run)

    @property
    def url(self) -> str:
        """The path or URL it was opened by."""
        return self.store.url

    def require_writable(self) -> None:
        """Refuse to go on where it was opened for reading only.

        Raises:
            LedgerReadOnly: It was.
        """
        if self.store.is_read_only:
            raise LedgerReadOnly(self.url, is_by_choice=True)

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed."""
        return self._close.alive

    def close(self) -> None:
        """Give the file back; a second call does nothing. A ledger that nobody holds closes itself."""
        self._close()

    def __enter__(self) -> Self:
        """Return the ledger; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    # --- runs --------------------------------------------------------------------------------

    def get_run(self, run_id: str) -> Run | None:
        """Return the run of this id, or None."""
        return self.store.get_run(run_id)

    def require_run(self, run_id: str) -> Run:
        """Return the run of this id.

        Raises:
            RunNotFound: There is none.
        """
        run = self.store.get_run(run_id)
        if run is None:
            raise RunNotFound(run_id, [r.run_id for r in self.store.list_runs(RunFilter(limit=100))])
        return run

    def find_run(self, text: str) -> Run:
        """Return the run that a person means: a full id, its unique beginning, or ``latest``.

        Raises:
            RunNotFound: Nothing matches.
            ConfigurationError: Several runs begin so.
        """
        if not isinstance(text, str):
            raise RunNotFound(text)
        run = self.store.get_run(text)
        if run is not None:
            return run
        if text == LATEST:
            newest = self.store.list_runs(RunFilter(is_top=True, limit=1))
            if newest:
                return newest[0]
        matches = self.store.find_run_ids(text, 4) if text else []
        if len(matches) == 1:
            return self.require_run(matches[0])
        if matches:
            shown = ", ".join(matches[:3]) + (", ..." if len(matches) > 3 else "")
            raise ConfigurationError(f"{text!r} is the beginning of several runs: {shown}. Write more of it.")
        raise RunNotFound(text, [r.run_id for r in self.store.list_runs(RunFilter(limit=100))])

    def list_runs(
        self,
        *,
        status: RunStatus | str | None = None,
        workflow: str | None = None,
        since: datetime | timedelta | None = None,
        parent_run_id: str | None = None,
        created_by: str | None = None,
        inner: bool = False,
        limit: int = 50,
        before: Run | None = None,
    ) -> list[Run]:
        """Return runs, newest first.

        Args:
            status: Only runs in this state.
            workflow: Only runs of this workflow.
            since: Only runs created at or after this moment, or within this span until now.
            parent_run_id: Only children of this run.
            created_by: Only runs that this one started.
            inner: Also runs inside other runs: those of their sub-DAGs.
            limit: At most this many.
            before: The last run of the page before, to get the next page.

        Raises:
            ConfigurationError: An argument has a value that cannot work.
        """
        moment = None
        if isinstance(since, timedelta):
            moment = self.clock.now() - since // timedelta(microseconds=1)
        elif isinstance(since, datetime) and since.tzinfo is not None:
            moment = to_micros(since)
        elif since is not None:
            raise ConfigurationError(
                f"since must be a timedelta or an aware datetime, such as datetime.now(UTC), not {since!r}."
            )
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ConfigurationError(f"limit must be a whole number of 1 or more, not {limit!r}.")
        return self.store.list_runs(
            RunFilter(
                status=_status(status),
                workflow=workflow,
                since=moment,
                parent_run_id=parent_run_id,
                created_by=created_by,
                is_top=not inner and parent_run_id is None,
                before=(before.created_at, before.run_id) if before else None,
                limit=limit,
            )
        )

    def get_payload(self, run_id: str) -> RunPayload:
        """Return the inputs, target and tags of a run as stored.

        Raises:
            RunNotFound: There is no such run.
        """
        payload = self.store.get_run_payload(run_id)
        if payload is None:
            raise RunNotFound(run_id)
        return payload

    def get_inputs(self, run_id: str) -> dict[str, Any]:
        """Return the inputs of a run by name, with their types.

        Raises:
            RunNotFound: There is no such run.
            ValueNotRestorable: A class they need is not loaded.
        """
        return dict(decode(self.get_payload(run_id).inputs))

    def get_tags(self, run_id: str) -> dict[str, Any]:
        """Return the tags of a run."""
        return dict(json.loads(self.get_payload(run_id).tags))

    def get_definition(self, run_id: str) -> str | None:
        """Return the graph that a run started with, as JSON text."""
        run = self.require_run(run_id)
        return None if run.hash is None else self.store.get_definition(run.hash)

    def list_attempts(self, run_id: str) -> list[Attempt]:
        """Return who executed a run, claim by claim."""
        return self.store.list_attempts(run_id)

    # --- steps -------------------------------------------------------------------------------

    def list_steps(self, run_id: str) -> list[StepAttempt]:
        """Return every attempt of every step in the order of their start, without payloads."""
        return self.store.list_steps(run_id)

    def get_step(self, run_id: str, label: str) -> list[StepAttempt]:
        """Return every attempt of one step with input and output as JSON text, oldest first."""
        return self.store.get_step(run_id, label)

    def list_edges(self, run_id: str) -> list[Edge]:
        """Return which step took whose output, in order of time."""
        return self.store.list_edges(run_id)

    def list_checkpoints(self, run_id: str) -> list[Checkpoint]:
        """Return what user code saved by name in a run."""
        return self.store.list_checkpoints(run_id)

    def get_output(self, run_id: str, label: str, *, known: Iterable[type] = ()) -> Any:
        """Return what a completed step made, with its type; for a map, the list of all elements.

        Args:
            run_id: The run.
            label: The step.
            known: Classes that the output may be made of, where their stored names do not lead to them
                any more: their file has another name now, or a function makes them.

        Raises:
            StepNotFound: The run has no completed step of this label.
            ValueNotRestorable: Its output was not kept (transient), or a class is not loaded.
        """
        found = self.store.get_output(run_id, label)
        if found is None:
            raise StepNotFound(run_id, label, {step.label for step in self.store.list_steps(run_id)})
        text, storage = found
        if storage == Storage.NONE:
            raise _not_kept(label)
        if storage == Storage.ELEMENTS:
            return self._get_elements(run_id, label, text, tuple(known))
        return None if text is None else decode(text, known)

    def _get_elements(self, run_id: str, label: str, keys: str | None, known: tuple[type, ...]) -> Any:
        outputs = {}
        for element, text, storage in self.store.list_element_outputs(run_id, label):
            if storage == Storage.NONE:
                raise _not_kept(element)
            outputs[element] = None if text is None else decode(text, known)
        shape = None if keys is None else decode(keys, known)
        if isinstance(shape, dict):  # one list of what the elements' lists hold
            names = shape["flat"]
            return flatten(
                outputs.get(f"{label}[{name!r}]") for name in (range(names) if isinstance(names, int) else names)
            )
        if isinstance(shape, int):  # some elements may have failed: None stands for what they would have made
            return [outputs.get(f"{label}[{index}]") for index in range(shape)]
        if shape is not None:  # a map over a dict keeps its keys, in their order
            return {key: outputs.get(f"{label}[{key!r}]") for key in shape}
        return [outputs[f"{label}[{index}]"] for index in range(len(outputs))]

    def get_result(self, run_id: str) -> Any:
        """Return what a run's final step made, or a dict by label where there are several.

        Raises:
            StepNotFound: A final step has not completed.
            ValueNotRestorable: An output was not kept (transient), or a class is not loaded.
        """
        definition = self.get_definition(run_id)
        nodes = json.loads(definition)["nodes"] if definition else []
        read = {upstream for node in nodes for upstream in node["upstream"]}
        outputs = {node["label"]: self.get_output(run_id, node["label"]) for node in nodes if node["label"] not in read}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    # --- keeping it in order -----------------------------------------------------------------

    def delete_runs(self, *, older_than: timedelta) -> int:
        """Delete finished runs that ended longer ago than this, in bounded batches; return how many.

        Everything that belongs to a run goes with it in the same transaction, so that a reused id
        never meets old results.
        """
        if not isinstance(older_than, timedelta):
            raise ConfigurationError(f"older_than must be a timedelta, such as timedelta(days=30), not {older_than!r}.")
        self.require_writable()
        before = self.clock.now() - older_than // timedelta(microseconds=1)
        deleted = 0
        while count := self.store.delete_runs(before, _DELETE_BATCH):
            deleted += count
        return deleted

    def check(self) -> Iterator[Problem]:
        """Yield what is wrong: the file, the ledger's invariants, every output against its hash."""
        yield from self.store.check()
        try:
            for run_id, label, attempt, output, expected in self.store.list_outputs():
                if expected is not None and content_hash(output) != expected:
                    yield Problem(
                        "output_changed",
                        f"{run_id} {label}",
                        f"the stored output of attempt {attempt} no longer has the hash it was stored with",
                        "Somebody changed the row, or the disk did. Start a new run to make the output again.",
                    )
        except LedgerUnreadable as error:
            yield Problem(
                "damaged", self.url, f"not every output could be read: {error.reason}", "See the finding above."
            )


def _not_kept(label: str) -> ValueNotRestorable:
    return ValueNotRestorable("transient", "$", f"step {label!r} is transient, so nothing was kept", "run it again")


def _status(status: RunStatus | str | None) -> RunStatus | None:
    if status is None:
        return None
    try:
        return RunStatus(status)
    except ValueError:
        known = [s.value for s in RunStatus]
        near = did_you_mean(str(status), known)
        raise ConfigurationError(f"{status!r} is not a run status ({', '.join(known)}).{near}") from None
