"""A fork strikes at any moment: what other threads were at must not hold up the child."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_LOOKED_AT = """
import os, signal, sys, threading
from milepost import step

is_child = False
has_begun = threading.Event()
may_go_on = threading.Event()

def look():
    if not is_child:
        has_begun.set()
        may_go_on.wait()
    return int

def number(n: "look()") -> "look()":
    return n

numbered = step(number)
thread = threading.Thread(target=lambda: numbered.parameters)
thread.start()
has_begun.wait()
pid = os.fork()
if pid == 0:
    is_child = True
    signal.alarm(20)
    os._exit(0 if (numbered.parameters[0].annotation, numbered.returns) == (int, int) else 1)
may_go_on.set()
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_looks_at_a_step_that_another_thread_was_looking_at():
    child = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _LOOKED_AT], timeout=60, check=False
    )
    assert child.returncode == 0
