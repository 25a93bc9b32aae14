"""Where the states of a task's stages are kept: in the ledger, or in plain files."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Protocol

from milepost.errors import StoreError, TaskBusy
from milepost.ledger import Ledger
from milepost.owner import current_owner, describe_owner
from milepost.store import CheckpointWrite

__all__ = ["STATE", "FileStateIO", "LedgerStateIO", "StateIO"]

STATE: Final = "state"  # the name under which a stage's state stands among its checkpoints
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")


class StateIO(Protocol):
    """Where states are kept, as JSON texts by the names of their stages."""

    def describe(self) -> str:
        """Return where that is, for messages."""
        ...

    def load(self, task_id: str) -> dict[str, str]:
        """Return every stored state of a task."""
        ...

    def save(self, task_id: str, states: Mapping[str, str], *, lease_epoch: int, now: int) -> Sequence[CheckpointWrite]:
        """Keep states: have them durable by the return, or return what the ledger is to commit with the step itself."""
        ...

    def lock(self, task_id: str) -> AbstractContextManager[None]:
        """Keep other engines out while the block runs.

        Raises:
            TaskBusy: Another one is in.
        """
        ...


class LedgerStateIO:
    """States in the ledger, committed together with the ends of their stages.

    Example:
        >>> LedgerStateIO(Ledger.open(":memory:")).load("none")
        {}
    """

    def __init__(self, ledger: Ledger) -> None:
        """Keep states in this ledger."""
        self._ledger = ledger

    def describe(self) -> str:
        """Return the ledger's path or URL."""
        return f"the ledger {self._ledger.url}"

    def load(self, task_id: str) -> dict[str, str]:
        """Return every stored state of a task."""
        found = self._ledger.list_checkpoints(task_id)
        return {checkpoint.label: checkpoint.value for checkpoint in found if checkpoint.name == STATE}

    def save(self, task_id: str, states: Mapping[str, str], *, lease_epoch: int, now: int) -> Sequence[CheckpointWrite]:
        """Return the writes that ride with the step."""
        return [CheckpointWrite(task_id, name, STATE, text, lease_epoch, now) for name, text in states.items()]

    def lock(self, task_id: str) -> AbstractContextManager[None]:
        """Do nothing: the lease of the run keeps others out."""
        return contextlib.nullcontext()


class FileStateIO:
    """States in a directory: a folder for each task, in it one JSON file for each stage, and a lock file.

    Each file is replaced as a whole, and durable before the ledger hears that the stage has ended: after
    a crash between the two, the file is right.

    Args:
        directory: Where the tasks' folders are; created when first needed.

    Example:
        >>> FileStateIO("/nowhere").load("none")
        {}
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """Keep states below this directory."""
        self._directory = Path(directory)

    def describe(self) -> str:
        """Return the directory."""
        return f"the directory {self._directory}"

    def load(self, task_id: str) -> dict[str, str]:
        """Return every stored state of a task.

        Raises:
            StoreError: A file cannot be read.
        """
        folder = self._folder(task_id)
        states = {}
        try:
            for path in sorted(folder.glob("*.json")):
                text = path.read_text(encoding="utf-8")
                states[str(json.loads(text)["stage_name"])] = text
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StoreError(f"The states in {folder} cannot be read: {error}. Mend or remove the file.") from error
        return states

    def save(self, task_id: str, states: Mapping[str, str], *, lease_epoch: int, now: int) -> Sequence[CheckpointWrite]:
        """Replace the files of these stages; nothing is left for the ledger.

        Raises:
            StoreError: A file cannot be written.
        """
        folder = self._folder(task_id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in states.items():
                _replace(folder / f"{_safe(name)}.json", text)
            _sync(folder)
        except OSError as error:
            raise StoreError(f"The states of task {task_id} cannot be written to {folder}: {error}.") from error
        return ()

    @contextmanager
    def lock(self, task_id: str) -> Iterator[None]:
        """Hold the lock file; the system gives it up when the process dies."""
        folder = self._folder(task_id)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise TaskBusy(task_id, describe_owner(file.read()), f"it ends, as {folder / 'lock'} says") from None
            file.truncate(0)
            file.write(current_owner())
            file.flush()
            yield

    def _folder(self, task_id: str) -> Path:
        return self._directory / _safe(task_id)


def _safe(name: str) -> str:
    """Return a name as a file's: what had to be changed is told apart by a hash."""
    safe = _UNSAFE.sub("_", name)[:100]
    return safe if safe == name else f"{safe}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def _replace(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
