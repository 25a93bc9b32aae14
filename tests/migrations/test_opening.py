"""What opening a ledger does with every kind of path: a ledger, something else, or nothing at all."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from milepost import Dag, Ledger
from milepost.errors import LedgerUnreadable, NotALedger


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "content",
    [
        os.urandom(50_000),
        b"name,price\napple,1\n",
        b"SQLite format 3\x00",
        b"SQLite format 3\x00" + os.urandom(8_000),
    ],
    ids=["random bytes", "short text", "header alone", "header before random bytes"],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(
    tmp_path: Path, content: bytes, read_only: bool
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(content)
    with pytest.raises(NotALedger, match=r"data\.bin is not a Milepost ledger: the file is not an SQLite database"):
        Ledger.open(path, read_only=read_only)
    assert _files(tmp_path) == {"data.bin": content}


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("table", ["customers (name TEXT)", "schema_migrations (version TEXT)"])
def test_a_database_of_another_program_is_refused_and_left_as_it_was(
    tmp_path: Path, table: str, read_only: bool
) -> None:
    path = tmp_path / "app.db"
    other = sqlite3.connect(path)
    other.execute(f"CREATE TABLE {table}")
    other.execute("PRAGMA user_version = 7")
    other.commit()
    other.close()
    before = _files(tmp_path)
    with pytest.raises(NotALedger, match=f"a database with other tables \\({table.split(maxsplit=1)[0]}\\)"):
        Ledger.open(path, read_only=read_only)
    assert _files(tmp_path) == before


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "runs.db").touch()
    with Ledger.open(tmp_path / "runs.db") as ledger:
        assert ledger.list_runs() == []


def test_an_empty_file_cannot_be_read_as_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "runs.db").touch()
    with pytest.raises(NotALedger, match="it is empty"):
        Ledger.open(tmp_path / "runs.db", read_only=True)
    assert _files(tmp_path) == {"runs.db": b""}


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotALedger, match="it is a folder"):
        Ledger.open(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotALedger, match="it is not a regular file"):
        Ledger.open(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/runs.db", "the folder .*missing does not exist"),
        ("file.txt/runs.db", "Not a directory"),
        ("a\0b.db", "null byte"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_path_that_cannot_hold_a_file_is_refused_with_the_reason(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "file.txt").touch()
    with pytest.raises(LedgerUnreadable, match=reason):
        Ledger.open(f"{tmp_path}/{path}")


def test_a_missing_file_cannot_be_read_and_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnreadable, match="there is no such file"):
        Ledger.open(tmp_path / "runs.db", read_only=True)
    assert _files(tmp_path) == {}


@pytest.mark.parametrize("name", ["what?.db", "50%20.db", "a#b.db", "ünï.db", "with space.db", "\udcff.db"])
def test_any_file_name_is_taken_literally(tmp_path: Path, name: str) -> None:
    with Ledger.open(tmp_path / name) as ledger:
        assert ledger.list_runs() == []
        assert (tmp_path / name).is_file()


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="only Linux tells which locks a process holds")
def test_an_open_ledger_holds_its_lock_on_the_file_even_when_it_is_opened_a_second_time(tmp_path: Path) -> None:
    # Without that lock, another process that closes the ledger believes itself the last one and
    # deletes the WAL, and with it whatever this process commits from then on.
    path = tmp_path / "runs.db"

    def is_locked() -> bool:
        inode = f":{path.stat().st_ino} "
        mine = f" {os.getpid()} "
        return any(inode in line and mine in line for line in Path("/proc/locks").read_text().splitlines())

    with Ledger.open(path):
        assert is_locked()
        with Ledger.open(path, read_only=True), Ledger.open(path, durability="process"):
            assert is_locked()
        assert is_locked()


_OTHER_PROCESS = """
import sys
from milepost import Dag, Ledger
dag = Dag("other")
dag.node(sum, label="total", iterable=[1, 2])
with Ledger.open(sys.argv[1]) as ledger:
    dag.run(ledger=ledger, run_id="other")
"""


def test_what_is_committed_after_another_process_closed_the_ledger_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    dag = Dag("mine")
    dag.node(sum, label="total", iterable=[1, 2])
    with Ledger.open(path) as ledger:
        dag.run(ledger=ledger, run_id="before")
        subprocess.run([sys.executable, "-c", _OTHER_PROCESS, str(path)], check=True)
        dag.run(ledger=ledger, run_id="after")
    with Ledger.open(path, read_only=True) as ledger:
        assert {run.run_id for run in ledger.list_runs()} == {"before", "other", "after"}


# --- permissions -------------------------------------------------------------------------------

# Permissions do not bind root: the child gives it up first, after everything is imported.
_WITHOUT_RIGHTS = """
import os, sys
from milepost import Dag, Ledger
from milepost.errors import MilepostError
Ledger.open(":memory:").close()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    with Ledger.open(sys.argv[1], read_only=sys.argv[2] == "read") as ledger:
        print([run.run_id for run in ledger.list_runs()])
except MilepostError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Return a folder whose parents everybody may enter, holding a ledger with one run."""
    folder = Path(tempfile.mkdtemp(prefix="milepost-test-"))
    folder.chmod(0o755)
    dag = Dag("mine")
    dag.node(sum, label="total", iterable=[1, 2])
    with Ledger.open(folder / "runs.db") as ledger:
        dag.run(ledger=ledger, run_id="one")
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def _open_without_rights(path: Path, how: str) -> str:
    child = subprocess.run(
        [sys.executable, "-c", _WITHOUT_RIGHTS, str(path), how], capture_output=True, text=True, check=False
    )
    return child.stdout.strip() or child.stderr


@pytest.mark.parametrize("folder_mode", [0o777, 0o555])
def test_a_file_that_may_not_be_written_is_refused_for_writing_and_can_be_read(
    shared_folder: Path, folder_mode: int
) -> None:
    (shared_folder / "runs.db").chmod(0o444)
    shared_folder.chmod(folder_mode)
    answer = _open_without_rights(shared_folder / "runs.db", "write")
    assert answer.startswith("LedgerReadOnly ")
    assert "is read-only. Give this user write permission" in answer
    assert _open_without_rights(shared_folder / "runs.db", "read") == "['one']"


def test_a_file_that_may_be_written_in_a_folder_that_may_not_is_refused_for_writing_and_can_be_read(
    shared_folder: Path,
) -> None:
    (shared_folder / "runs.db").chmod(0o666)
    shared_folder.chmod(0o555)
    assert _open_without_rights(shared_folder / "runs.db", "write").startswith("LedgerReadOnly ")
    assert _open_without_rights(shared_folder / "runs.db", "read") == "['one']"


def test_no_ledger_is_made_in_a_folder_that_may_not_be_written(shared_folder: Path) -> None:
    shared_folder.chmod(0o555)
    assert _open_without_rights(shared_folder / "new.db", "write").startswith("LedgerReadOnly ")
    assert not (shared_folder / "new.db").exists()


def test_a_file_that_may_not_even_be_read_is_refused(shared_folder: Path) -> None:
    (shared_folder / "runs.db").chmod(0o000)
    for how in ("read", "write"):
        assert "permission denied" in _open_without_rights(shared_folder / "runs.db", how)
