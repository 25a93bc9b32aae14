"""Functions that come with Milepost for workflow files: each off until it is configured, and then only so far.

``http.request`` to hosts that are named, ``shell.run`` where it is enabled, ``sql.query`` on connections that
are named, ``file.read``, ``file.write`` and ``file.list`` under one folder.
"""

from __future__ import annotations

import http.client
import subprocess
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from milepost.dsl.functions import REGISTERED
from milepost.errors import ConfigurationError

__all__ = ["configure_builtins"]

_LARGEST: Final = 10 * 2**20  # bytes of a response or a file
_LONGEST: Final = 60.0  # seconds


def configure_builtins(
    *,
    http_hosts: Iterable[str] | None = None,
    shell: bool = False,
    sql: Mapping[str, Callable[[], Any]] | None = None,
    file_root: str | Path | None = None,
) -> None:
    """Turn built-in functions on, each as far as it is configured here; what is left out is off.

    Args:
        http_hosts: Hosts that ``http.request`` may ask: ``example.org``, ``localhost:8080``.
        shell: Whether ``shell.run`` may run commands.
        sql: Functions that open a DB-API connection, by the name that ``sql.query`` uses.
        file_root: The folder under which ``file.read``, ``file.write`` and ``file.list`` work.

    Example:
        >>> import tempfile
        >>> configure_builtins(file_root=tempfile.mkdtemp())
        >>> from milepost.dsl import resolve_function
        >>> resolve_function("file.write")("note.txt", "hello")
        5
        >>> configure_builtins()
    """
    for name in ("http.request", "shell.run", "sql.query", "file.read", "file.write", "file.list"):
        REGISTERED.pop(name, None)
    if http_hosts is not None:
        REGISTERED["http.request"] = _http(frozenset(http_hosts))
    if shell:
        REGISTERED["shell.run"] = _run
    if sql is not None:
        REGISTERED["sql.query"] = _sql(dict(sql))
    if file_root is not None:
        root = Path(file_root).resolve()
        REGISTERED["file.read"] = lambda path: _read(_under(root, path))
        REGISTERED["file.write"] = lambda path, text: _under(root, path).write_text(text, encoding="utf-8")
        REGISTERED["file.list"] = lambda path=".": sorted(found.name for found in _under(root, path).iterdir())


def _http(hosts: frozenset[str]) -> Callable[..., Any]:
    def request(
        url: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: str | None = None,
        timeout_seconds: float = _LONGEST,
    ) -> dict[str, Any]:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.netloc not in hosts:
            raise ConfigurationError(
                f"http.request may not ask {url!r}: configure_builtins(http_hosts=[...]) names hosts."
            )
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=timeout_seconds)
        try:
            path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()  # redirects are not followed: they may lead to another host
            data = response.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise ValueError(f"{url} answered with more than {_LARGEST:,} bytes")
            return {
                "status": response.status,
                "headers": dict(response.getheaders()),
                "body": data.decode("utf-8", "replace"),
            }
        finally:
            connection.close()

    return request


def _run(command: list[str] | str, timeout_seconds: float = _LONGEST) -> dict[str, Any]:
    """Run a command: a list of words as it is, a text by the shell."""
    done = subprocess.run(  # noqa: S603 - whoever enabled it wanted commands to be run
        command, shell=isinstance(command, str), capture_output=True, text=True, timeout=timeout_seconds, check=False
    )
    return {"exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def _sql(connections: Mapping[str, Callable[[], Any]]) -> Callable[..., Any]:
    def query(connection: str, statement: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
        if connection not in connections:
            raise ConfigurationError(
                f"sql.query knows no connection {connection!r}; configure_builtins(sql=...) names them."
            )
        opened = connections[connection]()
        try:
            cursor = opened.cursor()
            cursor.execute(statement, parameters or [])
            names = [column[0] for column in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []
            opened.commit()
            return rows
        finally:
            opened.close()

    return query


def _under(root: Path, path: str) -> Path:
    found = (root / path).resolve()
    if not found.is_relative_to(root):
        raise ConfigurationError(f"{path!r} leads out of the folder that configure_builtins(file_root=...) names.")
    return found


def _read(path: Path) -> str:
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path.name} has more than {_LARGEST:,} bytes")
    return path.read_text(encoding="utf-8")
