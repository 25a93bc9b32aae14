"""Which ledger a command means, and opening one that must be there already."""

from __future__ import annotations

import os

from milepost.cli.console import command
from milepost.cli.failures import NothingThere
from milepost.errors import ConfigurationError
from milepost.ledger import Ledger, default_ledger
from milepost.stores.postgres_address import hide_password

__all__ = ["ledger_words", "open_existing", "refuse_memory"]


def open_existing(url: str | None, *, read_only: bool = True, durability: str = "power") -> Ledger:
    """Open a ledger that exists; a command that looks, or goes on, never makes one.

    Raises:
        NothingThere: The file does not exist.
        StoreError: It cannot be opened, or is something else.
    """
    name = url if url is not None else default_ledger()
    refuse_memory(name)
    file = name.removeprefix("sqlite:///")
    if file and "://" not in file and not os.path.exists(file):
        where = "" if os.path.isabs(file) else f" in {os.getcwd()}"
        raise NothingThere(
            f"There is no ledger {name!r}{where}. Name one with --ledger, or make one: `{command('run', 'TARGET')}`."
        )
    return Ledger.open(name, read_only=read_only, durability=durability)


def refuse_memory(url: str | None) -> None:
    """Refuse a ledger in memory where others are to see what is written to it."""
    if (url if url is not None else default_ledger()) == ":memory:":
        raise ConfigurationError("A ledger in memory ends with its process. Name a file with --ledger.")


def ledger_words(url: str | None) -> list[str]:
    """Return the words of a command line that lead to this ledger again, without its password; none for the default."""
    return [] if url is None else ["--ledger", hide_password(url)]
