"""What a verb sees of a transaction: named statements, whatever the dialect."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast

__all__ = ["TASKS", "Transacting", "Transaction", "repeatable"]

TASKS: Final = "tasks"  # the topic that workers wait for

P = ParamSpec("P")
T = TypeVar("T")


class Transaction(Protocol):
    """Runs named statements inside one transaction."""

    def execute(self, statement: str, /, **parameters: Any) -> int:
        """Run a statement and return how many rows it changed."""
        ...

    def rows(self, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        ...

    def write_rows(self, statement: str, rows: Sequence[tuple[Any, ...]], /) -> int:
        """Run a statement that is bound from rows of its type, for each of them; return how many rows changed.

        No two rows for an UPDATE may name one row of its table.
        """
        ...

    def insert_rows(self, statement: str, rows: Sequence[tuple[Any, ...]], /) -> set[str]:
        """Run an INSERT that passes over what is there already; return the run ids of the rows that are new."""
        ...

    def lock(self, name: str, /) -> None:
        """Hold a lock of this name until the transaction ends, where writers do not exclude each other anyway."""
        ...

    def lock_table(self, name: str, /) -> None:
        """Keep other writers out of a table until the transaction ends, where they are not out anyway."""
        ...

    def notify(self, topic: str, /) -> None:
        """Wake those who wait for the topic, once the transaction is committed."""
        ...


def repeatable(verb: Callable[P, T]) -> Callable[P, T]:
    """Let a verb be done once more where the database was lost on the way.

    A commit whose answer was lost may have gone through, so only verbs that may be repeated bear this mark:
    each is guarded by what it expects, or finds what it did. Inside a caller's own transaction (``conn=``)
    nothing is repeated: that is the caller's decision.
    """

    @functools.wraps(verb)
    def perform(*args: P.args, **kwargs: P.kwargs) -> T:
        if kwargs.get("conn") is not None:
            return verb(*args, **kwargs)
        store: Any = args[0]
        return cast("T", store.patiently(lambda: verb(*args, **kwargs)))

    return perform


class Transacting:
    """What the groups of verbs ask of a dialect."""

    def transaction(self, conn: Any = None) -> AbstractContextManager[Transaction]:
        """Open a transaction; with ``conn``, join the caller's and neither begin nor commit it."""
        raise NotImplementedError

    def _rows(self, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a named statement outside any transaction and return its rows."""
        raise NotImplementedError(statement)

    def execute_alone(self, statement: str, /, *, lock: str | None = None, **parameters: Any) -> int:
        """Run one statement as a transaction of its own; return how many rows it changed.

        Args:
            statement: Its name.
            lock: Held meanwhile, where writers do not exclude each other anyway.
            parameters: What it is bound to.
        """
        with self.transaction() as tx:
            if lock is not None:
                tx.lock(lock)
            return tx.execute(statement, **parameters)

    def patiently(self, action: Callable[[], T]) -> T:
        """Perform work that may be repeated, again while the database is out of reach."""
        return action()
