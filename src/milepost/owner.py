"""Who this process is, and whether the process that holds a lease still lives.

An owner is text: ``PID@HOST#MACHINE-START``. MACHINE names one boot of one machine as seen from
one process namespace, START the process's start time, so that a reused process id is not taken
for its predecessor. A process on another machine cannot be looked at: only its lease tells.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["HAND", "current_owner", "describe_owner", "is_owner_gone"]

HAND: Final = "hand:"  # what owners begin with that claim by hand; the rest is the name they gave themselves

_OWNER: Final = re.compile(r"(?P<pid>\d+)@(?P<host>.*)#(?P<machine>[0-9a-f]+)-(?P<start>\d+)")


def current_owner() -> str:
    """Return the text under which this process holds leases."""
    return _owner(os.getpid())


@cache
def _owner(pid: int) -> str:  # by pid, so that a forked child is somebody else
    stat = _process_stat(pid)
    return f"{pid}@{socket.gethostname()}#{_machine()}-{stat[1] if stat else 0}"


def describe_owner(owner: str) -> str:
    """Return an owner in words for people.

    Example:
        >>> describe_owner("17@box#0a0a-5")
        'process 17 on box'
    """
    match = _OWNER.fullmatch(owner)
    if match is None:
        return f"a claim by hand of {owner.removeprefix(HAND)}" if owner.startswith(HAND) else owner
    return f"process {match['pid']} on {match['host']}"


def is_owner_gone(owner: str) -> bool:
    """Return whether the owner certainly no longer runs: it was on this machine, and is not there.

    False means "alive or out of sight": then the lease decides.
    """
    match = _OWNER.fullmatch(owner)
    if match is None or match["machine"] != _machine():
        return False
    pid, start = int(match["pid"]), int(match["start"])
    if sys.platform == "win32":
        return False  # there, os.kill(pid, 0) would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it is there, and somebody else's
    stat = _process_stat(pid)
    if stat is None:
        return False
    state, started = stat
    return state in ("Z", "X") or start not in (0, started)


@cache
def _machine() -> str:
    # Bytes: a codec is imported when first used, and a fork may leave a module's import lock taken for ever.
    parts = [socket.gethostname().encode()]
    for source in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
        try:
            parts.append(Path(source).read_bytes().strip())
        except OSError:
            continue
    try:
        parts.append(os.readlink(b"/proc/self/ns/pid"))  # process ids mean nothing outside it
    except OSError:
        pass
    return hashlib.blake2b(b"|".join(parts), digest_size=4).hexdigest()


def _process_stat(pid: int) -> tuple[str, int] | None:
    """Return (state, start in clock ticks since boot) of a process, where the system tells (Linux)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may contain anything
    return fields[0], int(fields[19])
