"""A proxy in front of a PostgreSQL server that cuts the line when a test asks for it.

The interesting moment is between a commit and its answer: the proxy hands the client's last message on, waits
until the server has answered, and drops both ends without passing the answer on. The client cannot know whether
its transaction was committed. It was.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

__all__ = ["Proxy", "proxy"]

_NAME = ".s.PGSQL.5432"


class Proxy:
    """Passes bytes on between clients and the server, and cuts a line on request.

    Attributes:
        url: The ledger's URL through the proxy.
        cuts: How many lines were cut.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options = parse_qs(parts.query)
        self._server = _address(options.get("host", [parts.hostname or "localhost"])[0], parts.port)
        self._folder = tempfile.mkdtemp(prefix="milepost-proxy-")
        others = "&".join(part for part in parts.query.split("&") if not part.startswith("host="))
        user = parts.netloc.split("@")[0] + "@" if "@" in parts.netloc else ""
        self.url = f"{parts.scheme}://{user}{parts.path}?host={self._folder}&{others}"
        self.cuts = 0
        self._wanted: list[tuple[bytes, ...]] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(Path(self._folder) / _NAME))
        self._listener.listen(64)
        self._threads: list[threading.Thread] = []
        self._lines: set[socket.socket] = set()
        self._start(self._accept)

    def cut_after(self, *texts: bytes, times: int = 1) -> None:
        """Cut the next lines on which a client sends one of these (b"" is any), once the server has answered."""
        with self._lock:
            self._wanted += [texts] * times

    @property
    def is_armed(self) -> bool:
        """Whether a cut is still to come."""
        return bool(self._wanted)

    def close(self) -> None:
        """Cut everything and stop."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in list(self._lines):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        shutil.rmtree(self._folder)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            family, address = self._server
            server = socket.socket(family)
            try:
                server.connect(address)
            except OSError:
                server.close()
                client.close()
                continue
            self._lines |= {client, server}
            self._start(self._pass_on, client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if client in ready:
                    data = client.recv(1 << 16)
                    if not data:
                        return
                    is_last = self._takes(data)
                    server.sendall(data)
                    if is_last:
                        server.recv(1 << 16)  # the server has done it, and nobody will hear of that
                        self.cuts += 1
                        return
                if server in ready:
                    data = server.recv(1 << 16)
                    if not data:
                        return
                    client.sendall(data)
        except OSError:
            pass
        finally:
            self._lines -= {client, server}
            client.close()
            server.close()

    def _takes(self, data: bytes) -> bool:
        with self._lock:
            for wanted in self._wanted:
                if any(text in data for text in wanted):
                    self._wanted.remove(wanted)
                    return True
        return False


def _address(host: str, port: int | None) -> tuple[socket.AddressFamily, object]:
    if host.startswith("/"):
        return socket.AF_UNIX, str(Path(host) / _NAME)
    return socket.AF_INET, (host, port or 5432)


@contextmanager
def proxy(url: str) -> Iterator[Proxy]:
    """Open a proxy to a ledger's server for the time of the block."""
    opened = Proxy(url)
    try:
        yield opened
    finally:
        opened.close()
